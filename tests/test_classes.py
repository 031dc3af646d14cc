"""Class names and palettes from files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabctl.class_files import format_classes, parse_class_names, read_classes, read_palette
from deeplabctl.classes import (
    VOC_CLASSES,
    ClassNames,
    class_colors,
    distinct_colors,
    renamed_classes,
    voc_grey_ids,
    voc_palette,
)
from deeplabctl.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "ground 0 0 0\nroad 128 64 128\nstreet lamp 9 8 7\n",
        "ground,0,0,0\r\nroad, 128, 64, 128\r\nstreet lamp,9,8,7",
        "# CVAT: label:color_rgb:parts:actions\nground:0,0,0::\nroad:128,64,128::\nstreet lamp:9,8,7::\n",
        "0 0 0\tground\n128 64 128\t\troad\n9 8 7\tstreet lamp\n",
        "#ours\n#000000 ground\n#804080\troad\n9 8 7 street lamp\n",
        "ground #000000\nroad = #804080\nstreet lamp: #090807\n",
        "ground #000000FF\nroad #804080ff\nstreet lamp #090807FF\n",
        '0 0 0 0 0 0 0 "ground"\n1 128 64 128 0.5 1 1 "road"\n2 9 8 7 1 1 1 "street lamp"\n',  # ITK-SNAP
    ],
)
def test_palettes_in_every_notation_read_the_same(tmp_path, text):
    (tmp_path / "p.txt").write_bytes(text.encode())
    palette = read_palette(tmp_path / "p.txt")
    assert palette.names == ("ground", "road", "street lamp")
    assert palette.colors == ((0, 0, 0), (128, 64, 128), (9, 8, 7))
    assert read_classes(tmp_path / "p.txt") == palette.names


def test_a_single_number_is_a_grey_level_in_a_palette_and_part_of_the_name_in_a_list_of_names(tmp_path):
    (tmp_path / "p.txt").write_text("zone 1\nzone 2\n")
    assert read_classes(tmp_path / "p.txt") == ("zone 1", "zone 2")
    (tmp_path / "p.txt").write_text("a 1\nb 2\n")
    assert read_palette(tmp_path / "p.txt").colors == ((1, 1, 1), (2, 2, 2))


def test_void_is_not_a_class(tmp_path):
    (tmp_path / "p.txt").write_text("a 1 1 1\nVoid 0 0 0\nb 2 2 2\nunlabeled 3 3 3\n")
    palette = read_palette(tmp_path / "p.txt")
    assert palette.ids() == {(1, 1, 1): 0, (2, 2, 2): 1, (0, 0, 0): 255, (3, 3, 3): 255}
    (tmp_path / "p.txt").write_text("a 1 1 1\nb 2 2 2\nVoid 0 0 0\nunlabeled 3 3 3\n")
    assert read_classes(tmp_path / "p.txt") == ("a", "b")
    (tmp_path / "p.txt").write_text("a\nvoid\n")  # without a colour it is a class
    assert read_classes(tmp_path / "p.txt") == ("a", "void")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3\nroad\n", r"p\.txt:2: expected a name and a colour .*got 'road'"),
        ("a 1 2 3\nb 1 2 300\n", r"p\.txt:2: expected a name and a colour"),
        ("# x\na 1 2 3\nb 1 2 3\n", r"p\.txt:3: expected different colours for 'b' and 'a', got \(1, 2, 3\) for both"),
        ("a 1 2 3\na 1 2 4\n", "expected each class once, got 'a' more than once"),
        ("a 1 2 3\n", "expected 2 to 255 class names"),
    ],
)
def test_broken_palettes_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_palette(tmp_path / "p.txt")
    with pytest.raises(DataError, match="cannot read the palette"):
        read_palette(tmp_path / "gone.txt")


def test_palette_is_vocs():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, color in known.items():
        assert tuple(voc_palette()[index]) == color
    assert len({tuple(color) for color in voc_palette().tolist()}) == 256


def test_grey_levels_are_those_that_programs_turn_palette_labels_into():
    assert {0, 38, 75, 113, 52, 147, 220} <= voc_grey_ids(21).keys()
    assert not {1, 10, 255} & voc_grey_ids(21).keys()


def test_grey_levels_are_those_that_pillow_makes_of_vocs_colours():
    ids = voc_grey_ids(11)
    for index in (*range(11), 255):
        color = tuple(voc_palette()[index].tolist())
        assert ids[Image.new("RGB", (1, 1), color).convert("L").getpixel((0, 0))] == {index}


def test_classes_are_named_in_a_file_in_a_text_or_as_voc(tmp_path):
    (tmp_path / "c.txt").write_text("a\nb c\n")
    assert parse_class_names(str(tmp_path / "c.txt")) == ("a", "b c")
    assert parse_class_names("a, b c,d") == ("a", "b c", "d")
    assert parse_class_names("voc") == VOC_CLASSES
    assert parse_class_names("a,b,") == ("a", "b")
    for text in ("a", "a,a", "gone.txt", "a,,b", ",a,b"):
        with pytest.raises(DataError, match="expected voc, a file with one name per line, or 2 to 255 different names"):
            parse_class_names(text)


def test_more_names_than_a_path_may_have_characters_are_names():
    names = tuple(f"class number {index}" for index in range(254))
    assert parse_class_names(",".join(names)) == names
    with pytest.raises(DataError, match=r"expected voc, a file .* or 2 to 255 different names"):
        parse_class_names("x" * 5000)
    with pytest.raises(DataError, match="expected voc, a file"):
        parse_class_names("a\0b")


def test_class_names_may_have_spaces_and_comments_but_no_duplicates(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("# ours\nback ground\r\n\n traffic light \n")
    assert read_classes(path) == ("back ground", "traffic light")
    path.write_text("a\nb\na\n")
    with pytest.raises(DataError, match="got 'a' more than once"):
        read_classes(path)
    path.write_text("only\n")
    with pytest.raises(DataError, match="expected 2 to 255 class names"):
        read_classes(path)


def test_class_names_are_read_back_as_they_were_written(tmp_path):
    names = (
        "#1 ship", "lane 1 2 3", "1 2 3 lane", "sky #0080ff", "void", "void 1 2 3", "\ufeffcar", "crème  brûlée", "a,b",
        "background", "x" * 300, "# 4 5 6", "7",
    )  # fmt: skip
    (tmp_path / "classes.txt").write_text(format_classes(names, tmp_path), "utf-8")
    assert read_classes(tmp_path / "classes.txt") == names
    assert format_classes(["background", "traffic light"], tmp_path) == "background\ntraffic light\n"


@pytest.mark.parametrize("name", ["", " ", "car ", "\tcar", "a\nb", "a\u2028b", "half \ud800"])
def test_class_names_that_no_line_can_hold_are_refused(name):
    with pytest.raises(
        DataError, match=r"labels\.json: class 1, .*: expected a name that a line of classes\.txt can hold"
    ):
        format_classes(["background", name], Path("labels.json"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "Pixel Value, Class\n0, background\n1, leaf\n2, stem\n"),  # Roboflow's
        ("a.csv", "name,r,g,b\nbackground,0,0,0\nleaf,128,0,0\nstem,0, 128,0\n"),  # the Semantic Segmentation Suite's
        ("a.csv", '"Name","R","G","B"\r\n"background",0,0,0\r\n"leaf",128,0,0\r\n"stem",0,128,0\r\n'),
        ("a.csv", "\ufeffclass_id;class_name\n0;background\n1;leaf\n2;stem\n"),
        ("a.csv", "label,name\n0,background\n1,leaf\n2,stem\n"),
        ("a.csv", 'id,name,color\n0,background,#000000\n1,leaf,#800000\n2,stem,"(0, 128, 0)"\n'),
        ("a.csv", "class_name,class_color\nbackground,0 0 0\nleaf,128 0 0\nstem,0 128 0\n"),  # V7's
        ("a.csv", "name\nbackground\nleaf\nstem\n"),
        ("a.csv", "background\nleaf\nstem\n"),
        ("a.csv", "0,background\n1,leaf\n2,stem\n"),
        ("a.csv", "background,0\nleaf,1\nstem,2\n"),
        ("a.csv", "id,name\n2,stem\n0,background\n1,leaf\n255,void\n"),
        ("a.csv", "name,r,g,b\nbackground,0,0,0\nleaf,128,0,0\nstem,0, 128,0\nvoid,9,9,9\n"),
        ("a.csv", "sep=;\nname;r;g;b\nbackground;0;0;0\nleaf;128;0;0\nstem;0;128;0\n"),  # Excel's
        ("a.csv", "color,name\n#000000,background\n#800000,leaf\n#008000,stem\n"),
        ("a.tsv", "name\tr\tg\tb\nbackground\t0\t0\t0\nleaf\t128\t0\t0\nstem\t0\t128\t0\n"),
        ("a.txt", "id,name\n0,background\n1,leaf\n2,stem\n"),
        ("a.txt", "0: background\n1: leaf\n2: stem\n"),
        ("a.txt", "0  background\n1  leaf\n2  stem\n"),  # Coral's
        ("a.txt", "2 stem\n0 background\n1 leaf\n"),
        ("a.txt", "0 background\n1 leaf\n2 stem\n255 void\n"),
        ("a.txt", "-1 unlabeled\n0 background\n2 stem\n1 leaf\n"),
        ("a.txt", "0|background\n2|stem\n1|leaf\n"),
        ("a.txt", "(0) background\n(2) stem\n(1) leaf\n"),
        ("a.txt", "0 - background\n2 - stem\n1 - leaf\n"),
        ("a.txt", "0 = background\n1 = leaf\n2 = stem\n"),
        ("a.txt", "  # names\nbackground\n  # of plants\nleaf\nstem\n"),
        ("a.txt", "0,background,0,0,0\n1,leaf,128,0,0\n2,stem,0,128,0\n"),
        ("a.csv", "0,background,0,0,0\n1,leaf,128,0,0\n2,stem,0,128,0\n"),
        ("a.txt", "0\tbackground\t#000000\n2\tstem\t#008000\n1\tleaf\t#800000\n"),
        ("a.csv", "id,name,r,g,b\n2,stem,0,128,0\n0,background,0,0,0\n1,leaf,128,0,0\n"),
    ],
)
def test_class_names_of_tables_are_those_of_their_ids(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == ("background", "leaf", "stem")
    if "128" in text or "#00" in text:
        assert read_palette(tmp_path / name).colors == ((0, 0, 0), (128, 0, 0), (0, 128, 0))


@pytest.mark.parametrize(
    "text", ["0_a\n1_b\n", "1-lane\n2-lane\n3-lane\n", "0.5m\n1.5m\n", "#facade 1\nroof\nwall\n", "#201906 v\na\nb\n"]
)
def test_numbers_in_names_and_comments_like_colours_change_no_names(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert read_classes(tmp_path / "a.txt") == tuple(line for line in text.splitlines() if line[0] != "#")


def test_a_column_of_colours_may_have_grey_levels(tmp_path):
    (tmp_path / "a.csv").write_text("class_name,class_color\n__background__,0\nleaf,127\nstem,255\n")  # V7's
    palette = read_palette(tmp_path / "a.csv")
    assert palette.names == ("__background__", "leaf", "stem")
    assert palette.colors == ((0, 0, 0), (127, 127, 127), (255, 255, 255))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "1,leaf\n2,stem\n", r"a\.csv:1: expected the class ids 0 to 1, each once, got 1 for 'leaf'"),
        ("a.csv", "id,name\n0,a\n1,b\n1,c\n", r"a\.csv:4: expected the class ids 0 to 2, each once, got 1 for 'c'"),
        ("a.csv", "Klasse,rot\na,0\nb,1\n", r"a\.csv:1: expected columns of names, ids and colours, or a header"),
        ("a.csv", "class,label\na,b\nc,d\n", r"a\.csv:1: expected columns of names"),
        ("a.csv", "0\n1\n2\n", r"a\.csv:1: expected columns of names"),
        ("a.csv", "name,r,g,b\na,1,2,3\nb,1,2\n", r"a\.csv:3: expected 4 columns, got 'b,1,2'"),
        ("a.csv", "id,name\n0,a, or b\n1,c\n", r"a\.csv:2: expected 2 columns, got '0,a, or b'"),
        ("a.csv", "name,id,color\na,1\nb,0\n", r"a\.csv:2: expected 3 columns, got 'a,1'"),
        ("a.csv", "name,r,g,b\na,1,2,3\nb,1,2,x\n", r"a\.csv:3: expected a name, with its id and colour"),
        ("a.csv", "id,name\n0,a\nx,b\n", r"a\.csv:3: expected a class id, got 'x'"),
        ("a.txt", "name\na\nb\n", r"a\.txt:1: expected the name of class 0, got 'name', which may be a header"),
        ("a.txt", "name r g b\na 0 0 0\nb 1 1 1\n", r"a\.txt:1: .* got 'name r g b', which may be a header"),
        ("a.txt", "Label_Name\na\nb\n", r"a\.txt:1: .* got 'Label_Name', which may be a header"),
        ("a.txt", "class_id class_name\n0 a\n1 b\n", r"a\.txt:1: .* got 'class_id class_name', which may be a header"),
        ("a.txt", "id,name,above\n0,a,x\n1,b,x\n", r"a\.txt:1: .* got 'id,name,above', which may be a header"),
        ("a.txt", "Nummer Klasse\n0 a\n1 b\n", r"a\.txt:1: .* got 'Nummer Klasse', which may be a header"),
        ("a.txt", "3\na\nb\nc\n", r"a\.txt:1: .* got '3', which may be a header"),
        ("a.txt", "2 road\n1 tree\n3 sky\n", r"a\.txt:1: .* got '2 road', which counts from 1"),
        ("a.txt", "1 wall\n2 building\n3 sky\n", r"a\.txt:1: .* got '1 wall', which counts from 1"),
        ("a.txt", "0 wall\n2 sky\n", r"a\.txt:2: expected the class ids 0 to 1, each once, got 2 for 'sky'"),
        ("a.txt", "road 1\nsky 2\nbackground 0\n", r"a\.txt:1: .* got 'road 1', whose number may be its id"),
        ("a.txt", "background,0\nroad,1\nvoid,255\n", r"a\.txt:1: .* got 'background,0', whose number may be its id"),
        ("a.txt", "tree (0)\nroad (2)\ncar (1)\n", r"a\.txt:1: .* got 'tree \(0\)', whose number may be its id"),
        ("a.txt", "Klasse\nroad_1\ntree_0\n", r"a\.txt:2: .* got 'road_1', whose number may be its id"),
        ("a.txt", "0_tree\n2_road\n1_car\n", r"a\.txt:1: .* got '0_tree', whose number may be its id"),
        ("a.csv", "road = 1\ntree = 0\n", r"a\.csv:1: .* got 'road = 1', whose number may be its id"),
        ("a.txt", "wall: 1\ndoor: 2\nsky: 3\n", r"a\.txt:1: .* got 'wall: 1', whose number may be its id"),
        ("a.txt", "0 0 0 a\n300 0 0 b\n", r"a\.txt:2: expected a colour of numbers up to 255, got \(300, 0, 0\)"),
        ("a.csv", "a,0,0,0\nb,256,0,0\n", r"a\.csv:2: expected a colour of numbers up to 255"),
        ("a.txt", "# 3D Slicer\n0 a 0 0 0 0\n1 b 9 8 7 255\n", r"a\.txt:2: .* got four: '0 a 0 0"),
        ("a.txt", "a,0,0,0,255\nb,9,8,7,255\n", r"a\.txt:1: expected a name and the three numbers .* got four"),
        ("a.txt", "0 0 0 0 a\n1 9 8 7 b\n", r"a\.txt:1: .* got four: '0 0 0 0 a'"),
        ("a.txt", "0 0 0 255 a\n9 8 7 255 b\n", r"a\.txt:1: .* got four: '0 0 0 255 a'"),
        ("a.csv", "name,r,g,b\nroad,1,2,3\nVoid,0,0,0\ncar,4,5,6\n", r"a\.csv:3: expected 'Void' after all classes"),
        ("a.json", '{"void": [0, 0, 0], "road": [1, 2, 3], "car": [4, 5, 6]}', r"a\.json:1: expected 'void' after"),
    ],
)
def test_tables_that_may_shift_the_names_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_classes(tmp_path / name)


@pytest.mark.parametrize(
    "names",
    [
        ("background", "3d-print", "1 lane"),
        ("background", "1 lane", "2 lanes"),
        ("class 1", "class 3", "class 2"),
        ("category_1", "category_2"),
        ("0-1 m", "1-2 m", "2-3 m"),
        ("building, edifice", "Zone #101"),
    ],
)
def test_names_with_numbers_and_signs_are_names(tmp_path, names):
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert read_classes(tmp_path / "classes.txt") == names


@pytest.mark.parametrize(
    "names",
    [
        ("name", "x"),
        ("5 x", "0 b", "1 c"),
        ("a_1", "b_0", "c_2"),
        ("x", "label"),
        ("1 a", "2 b", "3 c"),
        ("0: a", "1: b"),
        ("id,name", "x"),
        ("0 a", "1 b"),
        ("1 a", "0 b"),
        ("0 a", "2 b"),
        ("grade 0", "grade 1", "grade 2"),
        ("area 1", "zone 2"),
        ("road 1", "background 0"),
        ("lane 1 2 300", "x"),
        ("a 1 2 3 4", "b 5 6 7 8"),
        ("label", "void", "x"),  # of which void would be no class if it had a colour
        ("name", ",x"),
    ],
)
def test_names_that_look_like_a_table_are_read_back(tmp_path, names):
    (tmp_path / "classes.txt").write_text(format_classes(names, tmp_path))
    assert read_classes(tmp_path / "classes.txt") == names


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path: ../set\nnc: 3\nnames: ['road', 'tree', 'car']\n", 3),  # Ultralytics' data.yaml
        ("names:\n  0: road\n  1: tree\n", 1),
        ("classes:\n- road\n- tree\n", 1),
        ('{"categories": ["road", "tree"]}', 1),
        ('{"road": [0, 0, 256], "tree": [1, 2, 3]}', 1),
        ('{"road": [0, 0], "tree": [1, 2]}', 1),
        ('{"road": [1, 2, 3],', 1),
        ("item {\n  id: 1\n  name: 'road'\n}\n", 1),  # TensorFlow's label_map.pbtxt
        ("<annotation>\nroad\n", 1),
        ("Idx\tRatio\tName\n1\t0.15\twall\n2\t0.1\tbuilding, edifice\n", 1),  # ADE20K's objectInfo150.txt
        ("sky\nroad rgb(128, 64, 128)\n", 2),
        ("GIMP Palette\nName: mine\n0 0 0\tsky\n1 2 3\troad\n", 1),
        ("# QGIS\nINTERPOLATION:EXACT\n0,0,0,0,255,sky\n", 2),
        ("sky 0.0 0.0 0.0\nroad 0.5 0.25 0.5\n", 1),
        ("sky #0080ff\nroad #804080 # asphalt\n", 2),
        ("sky #09f\nroad #000\n", 1),
        ('"sky",\n"road"\n', 1),
        ("'sky'\n'road'\n", 1),
    ],
)
def test_settings_of_programs_are_no_lists_of_names(tmp_path, text, line):
    (tmp_path / "names").write_text(text)
    with pytest.raises(DataError, match=rf"names:{line}: expected one class name per line, got what may be JSON, YAML"):
        read_classes(tmp_path / "names")


COLORS = ((0, 0, 0), (128, 64, 128))


@pytest.mark.parametrize(
    ("text", "colors"),
    [
        ('{"1": "road",\n "0": "sky"}', ()),  # Transformers' id2label.json
        ('{"road": 1, "sky": 0}', ()),  # its label2id
        ('["sky", "road"]', ()),
        ('{"sky": [0, 0, 0], "road": [128, 64, 128]}', COLORS),
        ('{"sky": "#000000", "road": "#804080", "void": [255, 255, 255]}', COLORS),
    ],
)
def test_names_in_json_are_read_with_their_colours(tmp_path, text, colors):
    path = tmp_path / "classes.json"
    path.write_text(text)
    classes = read_classes(path)
    assert (classes, classes.colors) == (("sky", "road"), colors)
    if colors:
        palette = read_palette(path)
        assert (palette.names, palette.colors) == (("sky", "road"), colors)
        assert palette.void == (((255, 255, 255),) if "void" in text else ())


def test_names_with_brackets_and_colons_are_written_so_that_they_are_read(tmp_path):
    names = ("cell [dead]", "a: b", "{x}", "ends:", "- minus", "<tag>")
    (tmp_path / "classes.txt").write_text(format_classes(names, tmp_path))
    assert read_classes(tmp_path / "classes.txt") == names


def test_default_colours_can_be_told_apart_and_seen_on_white_and_on_black():
    colors = distinct_colors()
    assert len({tuple(color) for color in colors.tolist()}) == 256
    assert not {tuple(color) for color in colors[:255].tolist()} & {tuple(color) for color in voc_palette().tolist()}
    shares = colors[:255] / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    assert (1.05 / (luminance + 0.05)).min() > 1.6  # WCAG's contrast to white
    assert ((luminance + 0.05) / 0.05).min() > 3  # and to black
    first = colors[:12].astype(int)
    apart = np.abs(first[:, None] - first[None]).sum(-1)[~np.eye(12, dtype=bool)]
    assert apart.min() > 100


def test_colours_of_a_palette_are_kept_and_written(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("sky 70 130 180\nroad #804080\ntree 2 107 142 35\nvoid 0 0 0\n")
    names = read_classes(path)
    assert names == ("sky", "road", "tree 2")
    assert names.colors == ((70, 130, 180), (128, 64, 128), (107, 142, 35))
    np.testing.assert_array_equal(class_colors(names)[:3], names.colors)
    np.testing.assert_array_equal(class_colors(names)[255], voc_palette()[255])
    path.write_text(format_classes(names, path))
    assert (read_classes(path), read_classes(path).colors) == (names, names.colors)
    (tmp_path / "classes.csv").write_text("id,name,r,g,b\n1,road,1,2,3\n0,sky,4,5,6\n")
    assert read_classes(tmp_path / "classes.csv").colors == ((4, 5, 6), (1, 2, 3))


@pytest.mark.parametrize("text", ["sky\nroad 1 2 3\n", "sky 0 0 0\nroad 7 7 7\n"])
def test_some_colours_only_or_grey_levels_of_masks_are_no_palette(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    assert read_classes(tmp_path / "classes.txt").colors == ()


def test_voc_keeps_its_colours_and_a_first_background_is_black():
    np.testing.assert_array_equal(class_colors(VOC_CLASSES), voc_palette())
    assert class_colors(("background", "car"))[0].tolist() == [0, 0, 0]
    assert class_colors(("road", "car"))[0].max() > 100


def test_renamed_classes_keep_their_colours():
    names = ClassNames(("sky", "car", "truck", "tree"), ((1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 1, 2)))
    found = renamed_classes(names, {"car": "vehicle", "truck": "vehicle"})
    assert (found, found.colors) == (("sky", "vehicle", "tree"), ((1, 2, 3), (4, 5, 6), (0, 1, 2)))
    assert renamed_classes(("a", "b"), {"b": "a"}).colors == ()


def test_parts_and_actions_of_cvats_labelmap_are_no_part_of_names(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0:head,tail:run\ndog:0,9,0::sit\n")
    assert read_classes(path) == ("background", "cat", "dog")
    palette = read_palette(path)
    assert palette.names == ("background", "cat", "dog")
    assert palette.colors == ((0, 0, 0), (128, 0, 0), (0, 9, 0))
