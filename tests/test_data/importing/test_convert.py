"""Masks and outlines of other programs become data sets."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from deeplabctl.classes import VOC_CLASSES, read_palette
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_image, read_label
from deeplabctl.data.importing.convert import Meaning, class_names, read_annotations, write_dataset
from deeplabctl.errors import DataError
from deeplabctl.reporting import Note, silent

SIZE = (12, 16)  # height, width


def picture(path, *, size=SIZE, shade=90, exif=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(shade).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(values).save(path, **({"exif": exif} if exif else {}))
    return path


def turned_by(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def convert(source, out, *, val=0.0, seed=0, overwrite=False, **meaning):
    events = []
    annotations = read_annotations(source, Meaning(**meaning), events.append)
    done = write_dataset(annotations, out, events.append, val=val, seed=seed, overwrite=overwrite)
    return done, [event.text for event in events if isinstance(event, Note)]


def label(out, name="a"):
    return read_label(out / "SegmentationClass" / f"{name}.png")


# --- masks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def halves():
    mask = np.zeros(SIZE, int)
    mask[:, 8:] = 1
    mask[:3] = 2
    return mask


def masks(tmp_path, values, mode=None):
    """Write pictures a and b with a mask of these values each."""
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.jpg", shade=ord(name))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = Image.fromarray(np.asarray(values, np.uint8))
        (mask.convert(mode) if mode else mask).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path / "masks"


def palette(tmp_path, text):
    (tmp_path / "palette.txt").write_text(text)
    return read_palette(tmp_path / "palette.txt")


def test_coloured_masks_become_ids_by_the_palette_file(tmp_path, halves):
    colours = np.array([[10, 20, 30], [128, 64, 128], [0, 0, 0]])
    source = masks(tmp_path, colours[halves])
    table = palette(tmp_path, "ground 10 20 30\nroad #804080\nvoid 0,0,0\n")
    done, _ = convert(source, tmp_path / "out", palette=table)
    assert done.classes == ("ground", "road")
    np.testing.assert_array_equal(label(tmp_path / "out"), np.array([0, 1, 255])[halves])
    assert (tmp_path / "out" / "classes.txt").read_text() == "ground\nroad\n"
    assert read_image(tmp_path / "out" / "JPEGImages" / "a.jpg").shape == (*SIZE, 3)
    assert open_dataset(tmp_path / "out").classes == ("ground", "road")
    assert check_dataset(open_dataset(tmp_path / "out"), silent).ruinous == 0


def test_palette_pngs_are_read_by_colour_with_a_palette_and_by_index_without(tmp_path, halves):
    source = masks(tmp_path, halves)
    for path in source.iterdir():
        with Image.open(path) as mask:
            indexed = mask.convert("P")
        indexed.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
        indexed.putdata(halves.ravel().tolist())
        indexed.save(path)
    convert(source, tmp_path / "ids", classes=("x", "y", "z"))
    np.testing.assert_array_equal(label(tmp_path / "ids"), halves)
    convert(source, tmp_path / "colours", palette=palette(tmp_path, "red 200 0 0\nblack 0 0 0\ngrey 9 9 9\n"))
    np.testing.assert_array_equal(label(tmp_path / "colours"), np.array([1, 2, 0])[halves])


def test_grey_levels_become_ids_by_the_palette_file(tmp_path, halves):
    source = masks(tmp_path, np.array([0, 128, 255])[halves])
    convert(source, tmp_path / "out", palette=palette(tmp_path, "ground 0\nroad 128\nlake 255\n"))
    np.testing.assert_array_equal(label(tmp_path / "out"), halves)


def test_class_ids_stay_and_255_stays_void(tmp_path, halves):
    source = masks(tmp_path, np.array([0, 1, 255])[halves])
    convert(source, tmp_path / "out", classes=("ground", "road"))
    np.testing.assert_array_equal(label(tmp_path / "out"), np.array([0, 1, 255])[halves])


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_black_and_white_masks_become_two_classes(tmp_path, mode):
    mask = np.zeros(SIZE)
    mask[2:9, 3:7] = 255
    source = masks(tmp_path, mask, mode)
    done, _ = convert(source, tmp_path / "out", classes=("background", "cell"))
    assert done.classes == ("background", "cell")
    np.testing.assert_array_equal(label(tmp_path / "out"), (mask > 0).astype(int))
    np.testing.assert_array_equal(label(tmp_path / "out", "b"), (mask > 0).astype(int))


def test_soft_borders_of_black_and_white_masks_are_cut_in_the_middle(tmp_path):
    source = masks(tmp_path, np.tile([0, 10, 127, 128, 200, 255, 255, 0], (12, 2)))
    convert(source, tmp_path / "out", format="binary")
    assert label(tmp_path / "out")[0, :8].tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    source = masks(tmp_path, np.tile([0, 1], (12, 8)))
    convert(source, tmp_path / "out", format="binary", overwrite=True)
    assert label(tmp_path / "out")[0, :2].tolist() == [0, 1]


def test_vocs_colours_are_read_where_the_classes_are_named(tmp_path, halves):
    source = masks(tmp_path, np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]])[halves])
    convert(source, tmp_path / "out", classes=VOC_CLASSES)
    np.testing.assert_array_equal(label(tmp_path / "out"), np.array([0, 1, 255])[halves])


def test_cvats_masks_are_read_by_their_labelmap(tmp_path, halves):
    for name in "ab":
        picture(tmp_path / "pictures" / f"{name}.png", shade=ord(name))
        (tmp_path / "task" / "SegmentationClass").mkdir(parents=True, exist_ok=True)
        colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
        Image.fromarray(colours[halves]).save(tmp_path / "task" / "SegmentationClass" / f"{name}.png")
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,50,83::\ntree:51,221,255::\n"
    (tmp_path / "task" / "labelmap.txt").write_text(text)
    done, notes = convert(tmp_path / "task", tmp_path / "out", pictures=tmp_path / "pictures")
    assert done.classes == ("background", "car", "tree")
    np.testing.assert_array_equal(label(tmp_path / "out"), halves)
    assert any("labelmap.txt" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "meaning", "said"),
    [
        ([0, 100, 200], {}, r"told what the masks' values mean, got 3 of them \(0, 100, 200\); give --palette FILE"),
        ([0, 1, 2], {}, r"told what the masks' values mean.*--classes if they are class ids"),
        (
            [0, 1, 7],
            {"classes": ("a", "b")},
            r"a\.png: expected class ids of the --classes, got 1 others.*7 \(25\.00%\)",
        ),
        ([0, 255, 1], {"format": "colors"}, "expected a palette for masks in colours"),
        ([0, 255, 1], {"format": "binary", "classes": ("a", "b", "c")}, "expected 2 classes for masks in black and"),
    ],
)
def test_what_can_be_meant_in_two_ways_is_asked_for(tmp_path, halves, values, meaning, said):
    source = masks(tmp_path, np.array(values)[halves])
    with pytest.raises(DataError, match=said):
        convert(source, tmp_path / "out", **meaning)
    assert not (tmp_path / "out").exists()


def test_colours_that_the_palette_has_not_are_named_or_made_void(tmp_path, halves):
    source = masks(tmp_path, np.array([[0, 0, 0], [9, 9, 9], [1, 2, 3]])[halves])
    table = palette(tmp_path, "ground 0 0 0\nroad 9 9 9\n")
    with pytest.raises(
        DataError, match=r"a\.png: expected values of the palette, got 1 others in all masks: 1 2 3 \(25"
    ):
        convert(source, tmp_path / "out", palette=table)
    convert(source, tmp_path / "out", palette=table, unknown_void=True)
    np.testing.assert_array_equal(label(tmp_path / "out"), np.array([0, 1, 255])[halves])


def test_photographs_and_jpegs_are_no_masks(tmp_path):
    masks(tmp_path, np.zeros(SIZE))
    picture(tmp_path / "masks" / "a.png", size=(60, 60))
    with pytest.raises(DataError, match=r"a\.png: expected a mask.*more than 1,024 colours"):
        convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))


def test_masks_with_a_suffix_find_their_pictures_and_without_the_option_it_is_guessed_in_words(tmp_path, halves):
    for name in "ab":
        picture(tmp_path / "all" / f"{name}.jpg", shade=ord(name))
        Image.fromarray(halves.astype(np.uint8)).save(tmp_path / "all" / f"{name}_L.png")
    with pytest.raises(DataError, match="give --mask-suffix _L"):
        convert(tmp_path / "all", tmp_path / "out", classes=("x", "y", "z"))
    done, _ = convert(tmp_path / "all", tmp_path / "out", classes=("x", "y", "z"), mask_suffix="_L")
    assert done.train == ["a", "b"]


# --- COCO --------------------------------------------------------------------------------------------------------


def coco(tmp_path, annotations, images=("a.jpg",)):
    for name in images:
        picture(tmp_path / "images" / name, shade=len(name))
    document = {
        "images": [
            {"id": number + 7, "file_name": name, "height": 12, "width": 16} for number, name in enumerate(images)
        ],
        "categories": [{"id": 3, "name": "tree"}, {"id": 1, "name": "car"}],
        "annotations": [{"id": number, "image_id": 7, **entry} for number, entry in enumerate(annotations)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return tmp_path / "instances.json"


def test_cocos_polygons_runs_and_crowds_are_drawn_small_on_large(tmp_path):
    source = coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [[2, 1, 4, 1, 4, 3, 2, 3], [5, 1, 6, 1, 6, 2, 5, 2]]},  # 5 pixels
            {"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]], "area": 48.0},
            {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [12, 16], "counts": [0, 12 * 10, 12 * 6]}},
            {"category_id": 3, "segmentation": {"size": [12, 16], "counts": "X5<<"}, "area": 1},  # 168, 12, 12
        ],
    )
    done, _ = convert(source, tmp_path / "out")
    assert done.classes == ("background", "car", "tree")  # in the order of their ids
    expected = np.zeros(SIZE, int)
    expected[:, :10] = 255  # the crowd, below all
    expected[:6, :8] = 1
    expected[1:3, 2:4] = expected[1, 5] = 2
    expected[:, 14] = 2
    np.testing.assert_array_equal(label(tmp_path / "out"), expected)


def test_cocos_classes_can_be_chosen_and_the_rest_is_background(tmp_path):
    source = coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]},
            {"category_id": 1, "segmentation": [[8, 6, 16, 6, 16, 12, 8, 12]]},
            {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": []},
        ],
    )
    done, notes = convert(source, tmp_path / "out", classes=("background", "car"))
    assert (label(tmp_path / "out") == 1).sum() == 48
    assert done.pixels == {0: 144, 1: 48}
    assert notes == [
        "outlines of tree are left as background: not among the classes",
        "1 of 3 annotations are boxes without an outline: left out",
    ]
    convert(source, tmp_path / "void", outside=255)
    assert open_dataset(tmp_path / "void").classes == ("car", "tree")
    assert label(tmp_path / "void")[0, 15] == 255


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4]]}, "annotation 0 of a.jpg: expected a polygon of at least 3"),
        ({"category_id": 1, "segmentation": {"size": [2, 2], "counts": [4]}}, "expected run lengths of 12x16 pixels"),
        ({"category_id": 1, "segmentation": {"size": [12, 16], "counts": [4]}}, "expected run lengths of 12x16 pixels"),
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4, 5]]}, "annotation 0 of a.jpg"),
        ({"category_id": 99, "segmentation": [[1, 2, 3, 4, 5, 6]]}, "without 99"),
        ({"category_id": 1, "image_id": None, "segmentation": "x"}, "none of 1 pictures|nothing but"),
    ],
)
def test_damaged_coco_entries_are_named(tmp_path, entry, said):
    source = coco(tmp_path, [entry])
    if "image_id" in entry:
        source.write_text("{")
        said = "expected JSON"
    with pytest.raises(DataError, match=said):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- labelme -----------------------------------------------------------------------------------------------------


def labelme(folder, shapes, name="a", **more):
    if "imageData" not in more:
        picture(folder / f"{name}.jpg", shade=ord(name))
    folder.mkdir(exist_ok=True)
    document = {
        "version": "5.5.0", "flags": {}, "imagePath": f"{name}.jpg", "imageData": None, "imageHeight": 12,
        "imageWidth": 16, "shapes": [{"group_id": None, "flags": {}, **shape} for shape in shapes],
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(document | more))
    return folder


def png64(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_labelmes_shapes_are_drawn_in_their_order(tmp_path):
    part = np.array([[True, False], [True, True]])
    source = labelme(
        tmp_path / "x",
        [
            {"label": "wood", "shape_type": "polygon", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]},
            {"label": "lake", "shape_type": "rectangle", "points": [[6, 4], [2, 2]]},
            {"label": "moon", "shape_type": "circle", "points": [[12.5, 5.5], [14.5, 5.5]]},
            {"label": "lake", "shape_type": "mask", "points": [[10, 10], [11, 11]], "mask": png64(part)},
            {"label": "__ignore__", "shape_type": "polygon", "points": [[0, 10], [3, 10], [3, 12], [0, 12]]},
            {"label": "_background_", "shape_type": "polygon", "points": [[0, 0], [2, 0], [2, 1], [0, 1]]},
            {"label": "path", "shape_type": "linestrip", "points": [[0, 0], [9, 9]]},
        ],
    )
    done, notes = convert(source, tmp_path / "out")
    assert done.classes == ("background", "lake", "moon", "wood")  # in the order of the alphabet
    expected = np.zeros(SIZE, int)
    expected[:6, :8] = 3
    expected[2:4, 2:6] = 1
    y, x = np.mgrid[:12, :16]
    expected[(x - 12) ** 2 + (y - 5) ** 2 <= 4] = 2
    expected[10, 10] = expected[11, 10] = expected[11, 11] = 1
    expected[10:, :3] = 255
    expected[0, :2] = 0
    np.testing.assert_array_equal(label(tmp_path / "out"), expected)
    assert notes == ["1 lines and points have no area: left out"]


def test_picture_inside_of_labelmes_file_is_taken_where_the_file_is_gone(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    source = labelme(tmp_path / "x", [shape], imageData=png64(values), imagePath="..\\gone\\a.jpg")
    convert(source, tmp_path / "out")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "JPEGImages" / "a.png"), values)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            {"label": "x", "shape_type": "polygon", "points": [[1, 2], [3, 4]]},
            r"a\.json: shape 1 \(x\): expected a polygon",
        ),
        ({"label": "x", "shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "!!"}, r"a\.json: shape 1 \(x\)"),
        ({"label": "x", "shape_type": "polygon", "points": [[1, None]] * 3}, r"a\.json: shape 1 \(x\)"),
        ({"shape_type": "polygon"}, r"a\.json: expected labelme's shapes with labels, got one without 'label'"),
    ],
)
def test_damaged_labelme_shapes_are_named(tmp_path, shape, said):
    with pytest.raises(DataError, match=said):
        convert(labelme(tmp_path / "x", [shape]), tmp_path / "out", classes=("background", "x"))


# --- CVAT --------------------------------------------------------------------------------------------------------

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
 <meta><task><labels><label><name>road</name></label><label><name>car</name></label></labels></task></meta>
 <image id="0" name="day 1/a.jpg" width="16" height="12">
  <mask label="car" rle="2,3,1" left="1" top="9" width="3" height="2" z_order="5"></mask>
  <polygon label="road" points="0.00,6.00;16.00,6.00;16.00,12.00;0.00,12.00" z_order="0"></polygon>
  <box label="car" xtl="2" ytl="1" xbr="6" ybr="3" z_order="1"></box>
  <ellipse label="car" cx="12.5" cy="3.5" rx="2" ry="1" z_order="1"></ellipse>
  <points label="car" points="1,2"></points>
 </image>
 <image id="1" name="b.jpg" width="16" height="12"><polygon label="road" points="0,0;9,0;9,9" z_order="0"/></image>
</annotations>"""


def test_cvats_shapes_lie_on_one_another_by_z_order(tmp_path):
    picture(tmp_path / "task" / "images" / "day 1" / "a.jpg")
    picture(tmp_path / "task" / "images" / "b.jpg")
    (tmp_path / "task" / "annotations.xml").write_text(CVAT)
    done, notes = convert(tmp_path / "task", tmp_path / "out")
    assert done.classes == ("background", "road", "car")  # as in the task
    expected = np.zeros(SIZE, int)
    expected[6:] = 1
    expected[1:3, 2:6] = 2
    expected[3, 10:15] = expected[2, 12] = expected[4, 12] = 2
    expected[9, 3] = expected[10, 1] = expected[10, 2] = 2  # 0 0 1 / 1 1 0 from (1, 9)
    np.testing.assert_array_equal(label(tmp_path / "out"), expected)
    assert notes == ["1 lines, points, tags, cuboids and skeletons have no outline: left out"]
    assert done.train == ["a", "b"]


def test_cvats_videos_and_other_xml_are_refused_with_what_to_export(tmp_path):
    path = tmp_path / "annotations.xml"
    for text, said in (
        ("<annotations><track id='0'/></annotations>", "tracks of a video; export the task as"),
        ("<annotation><object/></annotation>", "<annotation> without images"),
        ("<annotations>", "expected CVAT's XML"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            convert(path, tmp_path / "out")


# --- what is written -----------------------------------------------------------------------------------------------


def many(tmp_path, count=10):
    for number in range(count):
        shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
        labelme(tmp_path / "x", [shape], name=chr(ord("a") + number))
    return tmp_path / "x"


def test_share_to_validate_is_drawn_by_the_seed_and_the_same_every_time(tmp_path):
    source = many(tmp_path)
    first, _ = convert(source, tmp_path / "1", val=0.3)
    again, _ = convert(source, tmp_path / "2", val=0.3)
    other, _ = convert(source, tmp_path / "3", val=0.3, seed=1)
    assert len(first.val) == 3
    assert sorted(first.train + first.val) == [chr(ord("a") + n) for n in range(10)]
    assert (first.train, first.val) == (again.train, again.val)
    assert first.val != other.val
    assert open_dataset(tmp_path / "1").splits == ["train", "val"]
    assert [sample.id for sample in open_dataset(tmp_path / "1").samples("val")] == first.val
    none, _ = convert(source, tmp_path / "4", val=0.0)
    assert open_dataset(tmp_path / "4").splits == ["train"]
    assert len(none.train) == 10


def test_annotations_of_their_own_can_be_validated(tmp_path):
    source = coco(tmp_path / "train", [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}])
    other = coco(tmp_path / "val", [{"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}], ["b.jpg"])
    first = read_annotations(source, Meaning(), silent)
    second = read_annotations(other, Meaning(classes=first.classes), silent)
    done = write_dataset(first, tmp_path / "out", silent, val=second)
    assert (done.train, done.val) == (["a"], ["b"])
    assert (label(tmp_path / "out", "a") == 1).sum() == (label(tmp_path / "out", "b") == 2).sum() == 48


def test_pictures_are_found_in_folders_of_the_folder_that_is_named(tmp_path):
    source = coco(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}])
    (tmp_path / "data").mkdir()
    (tmp_path / "images").rename(tmp_path / "data" / "train2017")
    done, _ = convert(source, tmp_path / "out", pictures=tmp_path / "data")
    assert done.train == ["a"]


def test_one_bad_picture_is_named_and_the_others_are_finished(tmp_path):
    source = many(tmp_path, 4)
    (source / "b.jpg").write_bytes(b"")
    (source / "c.jpg").unlink()
    done, notes = convert(source, tmp_path / "out", val=0.5)
    assert len(done.failed) == 2
    assert sorted(done.train + done.val) == ["a", "d"]
    assert any("c.jpg: there is no such picture; give --images" in note for note in notes)
    (source / "a.jpg").unlink()
    (source / "d.jpg").unlink()
    with pytest.raises(DataError, match="none of 4 pictures could be converted"):
        convert(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_labels_of_void_and_background_alone_are_left_off_the_lists(tmp_path):
    source = many(tmp_path, 3)
    labelme(source, [{"label": "__ignore__", "points": [[0, 0], [8, 0], [8, 6]]}], name="b")
    done, notes = convert(source, tmp_path / "out")
    assert done.train == ["a", "c"]
    assert "1 pictures have nothing but background and void: left off the lists" in notes
    assert check_dataset(open_dataset(tmp_path / "out"), silent).ruinous == 0


def test_annotations_on_the_stored_pixels_are_turned_with_their_pictures(tmp_path):
    source = labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]}])
    picture(source / "a.jpg", exif=turned_by(6))
    convert(source, tmp_path / "out")
    expected = np.zeros(SIZE, int)
    expected[:6, :8] = 1
    np.testing.assert_array_equal(label(tmp_path / "out"), np.rot90(expected, -1))
    assert check_dataset(open_dataset(tmp_path / "out"), silent).ruinous == 0
    picture(source / "a.jpg", size=(24, 32))
    with pytest.raises(DataError, match=r"a\.jpg: expected annotations of its size, 32x24, got 16x12"):
        convert(source, tmp_path / "other")


def test_names_with_blanks_folders_and_doubles_become_ids_that_lists_can_hold(tmp_path):
    names = ("day 1/a b.jpg", "day 2/a b.jpg", "c.jpg", "c.png")
    source = coco(tmp_path, [], images=names)
    done, _ = convert(source, tmp_path / "out", outside=0)
    assert done.train == ["c", "c-2", "day_1_a_b", "day_2_a_b"]
    assert len(open_dataset(tmp_path / "out").samples("train")) == 4


def test_pictures_of_other_formats_become_pngs_and_jpegs_keep_their_bytes(tmp_path):
    source = labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    labelme(source, [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}], name="b", imagePath="b.bmp")
    picture(source / "b.bmp")
    convert(source, tmp_path / "out")
    assert (tmp_path / "out" / "JPEGImages" / "a.jpg").read_bytes() == (source / "a.jpg").read_bytes()
    copied = read_image(tmp_path / "out" / "JPEGImages" / "b.png")
    np.testing.assert_array_equal(copied, read_image(source / "b.bmp"))


def test_what_is_no_annotation_is_said(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"x\.zip: expected a folder of masks.*unpack it"):
        convert(tmp_path / "x.zip", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="named after their pictures, got no picture in this folder"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="expected labelme's JSON files"):
        convert(tmp_path / "empty", tmp_path / "out", format="labelme")
    with pytest.raises(DataError, match="expected one file of COCO instances, got none"):
        convert(tmp_path / "empty", tmp_path / "out", format="coco")


def test_classes_are_named_in_a_file_in_a_row_or_as_voc(tmp_path):
    (tmp_path / "c.txt").write_text("a\nb c\n")
    assert class_names(str(tmp_path / "c.txt")) == ("a", "b c")
    assert class_names("a, b c,d") == ("a", "b c", "d")
    assert class_names("voc") == VOC_CLASSES
    for text in ("a", "a,a", "gone.txt"):
        with pytest.raises(DataError, match="expected a file with a name a line, or 2 to 255 different names"):
            class_names(text)
