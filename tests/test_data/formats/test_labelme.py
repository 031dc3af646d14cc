"""labelme's files become data sets, and labels become files that labelme reads."""

import base64
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from annotation_files import SIZE, convert, png_base64, write_image, write_labelme, written_label
from PIL import Image

from deeplabctl.data.convert import write_dataset
from deeplabctl.data.formats import read_annotations
from deeplabctl.data.formats.annotations import ImportSettings
from deeplabctl.data.formats.labelme import labelme_document
from deeplabctl.data.images import read_image
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent

LARGE = png_base64(np.ones((20, 20), bool))


def test_labelmes_shapes_are_drawn_in_their_order(tmp_path):
    part = np.array([[True, False], [True, True]])
    source = write_labelme(
        tmp_path / "x",
        [
            {"label": "wood", "shape_type": "polygon", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]},
            {"label": "lake", "shape_type": "rectangle", "points": [[6, 4], [2, 2]]},
            {"label": "moon", "shape_type": "circle", "points": [[12.5, 5.5], [14.5, 5.5]]},
            {"label": "lake", "shape_type": "mask", "points": [[10, 10], [11, 11]], "mask": png_base64(part)},
            {"label": "__ignore__", "shape_type": "polygon", "points": [[0, 10], [3, 10], [3, 12], [0, 12]]},
            {"label": "_background_", "shape_type": "polygon", "points": [[0, 0], [2, 0], [2, 1], [0, 1]]},
            {"label": "path", "shape_type": "linestrip", "points": [[0, 0], [9, 9]]},
        ],
    )
    written, notes = convert(source, tmp_path / "out")
    assert written.classes == ("background", "lake", "moon", "wood")  # in the order of the alphabet
    expected = np.zeros(SIZE, int)
    expected[:6, :8] = 3
    expected[2:4, 2:6] = 1
    y, x = np.mgrid[:12, :16]
    expected[(x - 12) ** 2 + (y - 5) ** 2 <= 4] = 2
    expected[10, 10] = expected[11, 10] = expected[11, 11] = 1
    expected[10:, :3] = 255
    expected[0, :2] = 0
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["lines, points and other shapes without an area: 1 skipped"]


def test_image_inside_of_labelmes_file_is_used_if_its_own_file_is_missing(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    source = write_labelme(tmp_path / "x", [shape], imageData=png_base64(values), imagePath="..\\gone\\a.jpg")
    convert(source, tmp_path / "out")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "JPEGImages" / "a.png"), values)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"label": "x", "shape_type": "cuboid", "points": [[1, 2], [3, 4]]},
            r"a\.json: shape 1 \(x\): expected a polygon",
        ),
        ({"label": "x", "shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "!!"}, r"a\.json: shape 1 \(x\)"),
        (
            {
                "label": "x",
                "shape_type": "mask",
                "points": [[1, 2], [3, 4]],
                "mask": png_base64(np.zeros((3, 3, 4), np.uint8)),
            },
            r"a\.json: shape 1 \(x\): expected the mask as a PNG of one channel, got RGBA",
        ),
        ({"label": "x", "shape_type": "polygon", "points": [[1, None]] * 3}, r"a\.json: shape 1 \(x\)"),
        ({"shape_type": "polygon"}, r"a\.json: expected labelme's shapes with labels, got one without 'label'"),
    ],
)
def test_damaged_labelme_shapes_are_named(tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        convert(write_labelme(tmp_path / "x", [shape]), tmp_path / "out", classes=("background", "x"))


def test_labelmes_background_is_the_class_background_in_every_case(tmp_path):
    shapes = [
        {"label": "_background_", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]},
        {"label": "lake", "points": [[8, 6], [16, 6], [16, 12], [8, 12]]},
    ]
    source = write_labelme(tmp_path / "x", shapes)
    written, _ = convert(source, tmp_path / "void", outside="void")
    assert written.classes == ("background", "lake")
    assert written.pixels == {0: 48, 1: 48, 255: 96}
    with pytest.raises(
        DataError, match=r"got others: 1 of _background_ .a.; .* `unknown=background` or `unknown=void`"
    ):
        convert(source, tmp_path / "others", classes=("wood", "lake"), outside="void")
    written, _ = convert(source, tmp_path / "others", classes=("wood", "lake"), outside="void", unknown="void")
    assert written.pixels == {1: 48, 255: 144}
    written, _ = convert(source, tmp_path / "last", classes=("lake", "background"))
    assert written.pixels == {0: 48, 1: 144}


def test_large_sets_with_images_inside_are_not_held_in_memory(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    more = {"imageData": png_base64(values), "other": "x" * (1 << 20)}
    for number in range(40):
        write_labelme(tmp_path / "x", [shape], name=f"a{number}", imagePath="gone.jpg", **more)
    tracemalloc.start()
    annotations = read_annotations(tmp_path / "x", ImportSettings(), silent)
    held = tracemalloc.get_traced_memory()[0]
    write_dataset(annotations, tmp_path / "out", silent, val=0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 1 << 20
    assert peak < 32 << 20


@pytest.mark.parametrize(
    "more",
    [
        {"imageHeight": "x"}, {"imageHeight": 10**9, "imageWidth": 10**9}, {"imageData": "!", "imagePath": "gone.jpg"},
        {"shapes": [{"label": "x", "points": [[1e308, 0], [8, -1e308], [8, 6]]}]},
        {"imageHeight": None, "shapes": [{"label": "x", "points": [[0, 0], [20, 0], [20, 6]]}]},
        {"shapes": [{"label": "x", "shape_type": ["a"], "points": [[0, 0], [8, 0], [8, 6]]}]},
        {"shapes": [{"label": "x", "shape_type": "circle", "points": [[0, 0], [8, float("inf")]]}]},
        {"shapes": [{"label": "x", "shape_type": "mask", "points": [[0, 0], [8, 8]], "mask": LARGE}]},
    ],
)  # fmt: skip
def test_one_odd_file_fails_alone(tmp_path, more):
    source = write_labelme(tmp_path / "x", [{"label": "x", "points": [[0, 0], [8, 0], [8, 6]]}])
    write_labelme(source, [{"label": "x", "points": [[0, 0], [8, 0], [8, 6]]}], name="b")
    (source / "b.json").write_text(json.dumps(json.loads((source / "b.json").read_text()) | more))
    written, _ = convert(source, tmp_path / "out")
    assert written.train == ["a"]
    assert len(written.failed) == 1
    assert "b" in written.failed[0]


SQUARE = [[0, 0], [8, 0], [8, 6], [0, 6]]


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral", "oriented_rectangle", "polygon", None])
def test_shapes_of_four_corners_are_polygons(tmp_path, kind):
    source = write_labelme(tmp_path / "x", [{"label": "car", "shape_type": kind, "points": SQUARE, "direction": 0.5}])
    assert convert(source, tmp_path / "out")[0].pixels == {0: 144, 1: 48}


def test_one_shape_without_an_area_costs_no_other(tmp_path):
    shapes = [{"label": "car", "points": SQUARE}, {"label": "tree", "points": [[1, 1], [3, 3]]}]
    written, notes = convert(write_labelme(tmp_path / "x", shapes), tmp_path / "out")
    assert written.classes == ("background", "car")
    assert written.pixels == {0: 144, 1: 48}
    assert notes == ["lines, points and other shapes without an area: 1 skipped"]


@pytest.mark.parametrize(
    "more",
    [
        {"shapes": [{"label": None, "points": SQUARE}]}, {"shapes": [{"label": " ", "points": SQUARE}]},
        {"shapes": [{"label": ["a"], "points": SQUARE}]}, {"shapes": [{"points": SQUARE}]}, {"shapes": None},
        {"shapes": [None]}, "{", "", "\0",
    ],
)  # fmt: skip
def test_one_file_that_is_damaged_fails_alone(tmp_path, more):
    source = write_labelme(tmp_path / "x", [{"label": "car", "points": SQUARE}], name="b")
    write_labelme(source, [{"label": "car", "points": SQUARE}])
    path = source / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more) if isinstance(more, dict) else more)
    written, _ = convert(source, tmp_path / "out")
    assert written.train == ["b"]
    assert written.classes == ("background", "car")
    assert len(written.failed) == 1
    assert "a.json" in written.failed[0]


def test_hidden_files_of_macos_and_of_editors_are_no_annotations(tmp_path):
    source = write_labelme(tmp_path / "x", [{"label": "car", "points": SQUARE}])
    for name in ("._a.json", "~$a.json", ".#a.json"):
        (source / name).write_bytes(b"\0\5\x16\7")
    assert convert(source, tmp_path / "out")[0].train == ["a"]


@pytest.mark.parametrize("name", ["../other/a.jpg", "..\\other\\a.jpg"])
def test_image_beside_the_file_is_not_taken_for_another_that_it_names(tmp_path, name):
    source = write_labelme(tmp_path / "x", [{"label": "car", "points": SQUARE}], imagePath=name)
    assert convert(source, tmp_path / "1")[0].train == ["a"]  # the other folder is gone
    write_image(tmp_path / "other" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.json: the name fits .*other.a\.jpg and .*x/a\.jpg; use `images`"):
        convert(source, tmp_path / "2")
    assert convert(source, tmp_path / "3", images=tmp_path / "other")[0].train == ["a"]


def encoded(values, form):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_image_inside_must_be_the_one_beside_the_file(tmp_path, form):
    values = np.zeros((40, 60, 3), np.uint8)
    values[10:30, 10:40] = 200
    size = {"imageHeight": 40, "imageWidth": 60, "imagePath": "a.png"}
    source = write_labelme(
        tmp_path / "x", [{"label": "car", "points": SQUARE}], imageData=encoded(values, form), **size
    )
    Image.fromarray(values).save(source / "a.png")
    assert convert(source, tmp_path / "same")[0].train == ["a"]
    Image.fromarray(np.roll(values, 9, axis=1)).save(source / "a.png")
    with pytest.raises(DataError, match=r"a\.json: expected the image inside it \(imageData\) to be .*a\.png, got a"):
        convert(source, tmp_path / "other")


def test_document_that_names_itself_as_its_image_has_it_inside(tmp_path):
    """As labelme's examples/tutorial/apc2016_obj3.json does."""
    values = np.full((*SIZE, 3), 7, np.uint8)
    shape = {"label": "shelf", "line_color": None, "fill_color": None, "points": SQUARE}
    source = write_labelme(tmp_path / "x", [shape], imageData=encoded(values, "PNG"), imagePath="a.json")
    assert convert(source, tmp_path / "out")[0].train == ["a"]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "JPEGImages" / "a.png"), values)


CLASSES = ("background", "car", "tree")


def hollow_label():
    """Return a label with a car that has a hole of background and a tree in it, and a tree at the frame."""
    label = np.zeros((40, 50), np.uint8)
    label[5:30, 5:35] = 1
    label[10:25, 10:30] = 0
    label[14:20, 14:22] = 2
    label[32:, 40:] = 2
    return label


def test_document_has_what_labelme_reads(tmp_path):
    document = labelme_document(hollow_label(), CLASSES, tmp_path / "photos" / "a.jpg", tmp_path / "out")
    assert document["imagePath"] == "../photos/a.jpg"
    assert (document["imageHeight"], document["imageWidth"], document["imageData"]) == (40, 50, None)
    assert [shape["label"] for shape in document["shapes"]] == ["car", "_background_", "tree", "tree"]
    assert {shape["shape_type"] for shape in document["shapes"]} == {"polygon"}
    assert all(len(point) == 2 for shape in document["shapes"] for point in shape["points"])
    assert {"version", "flags"} <= document.keys()
    json.dumps(document)


@pytest.mark.parametrize("link", ["out", "photos"])
def test_document_in_a_linked_folder_leads_to_the_image(tmp_path, link):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / link).symlink_to(tmp_path / "far" / "away")
    image, folder = tmp_path / "photos" / "a.jpg", tmp_path / "out"
    write_image(image)
    folder.mkdir(exist_ok=True)
    document = labelme_document(hollow_label(), CLASSES, image, folder)
    assert (folder / document["imagePath"]).samefile(image)


def test_class_0_of_another_name_has_shapes():
    label = np.zeros((6, 6), np.uint8)
    label[:3] = 255
    document = labelme_document(label, ("sky", "road"), Path("a.jpg"), Path())
    assert sorted(shape["label"] for shape in document["shapes"]) == ["__ignore__", "sky"]


@pytest.mark.parametrize("tolerance", [0, 0.75])
def test_converter_reads_the_label_again(tmp_path, tolerance):
    labels = {"a": hollow_label(), "b": hollow_label()[::-1].copy()}
    (tmp_path / "out").mkdir()
    for name, label in labels.items():
        image = write_image(tmp_path / "photos" / f"{name}.jpg", size=label.shape)
        document = labelme_document(label, CLASSES, image, tmp_path / "out", tolerance)
        (tmp_path / "out" / f"{name}.json").write_text(json.dumps(document))
    written, _ = convert(tmp_path / "out", tmp_path / "set", images=tmp_path / "photos", classes=CLASSES)
    assert not written.failed
    for name, label in labels.items():
        agreement = (written_label(tmp_path / "set", name) == label).mean()
        assert agreement == 1 if tolerance == 0 else agreement > 0.99


def test_masks_have_the_size_between_their_points(tmp_path):
    shape = {"label": "lake", "shape_type": "mask", "mask": png_base64(np.ones((3, 4), bool))}
    source = write_labelme(tmp_path / "x", [shape | {"points": [[1, 2], [4, 4]]}])
    assert convert(source, tmp_path / "out")[0].pixels == {0: 180, 1: 12}
    for points, message in (([[1, 2], [8, 8]], "between its points, 8x7, got 4x3"), ([[0, 0], [1, 1]], "2x2, got 4x3")):
        with pytest.raises(DataError, match=message):
            convert(write_labelme(tmp_path / "x", [shape | {"points": points}]), tmp_path / "other")
    with pytest.raises(DataError, match="expected the mask as a PNG in base64, got None"):
        convert(write_labelme(tmp_path / "x", [shape | {"points": [[1, 2], [4, 4]], "mask": None}]), tmp_path / "none")


def test_indices_of_a_masks_palette_count_as_in_labelme(tmp_path):
    mask = Image.fromarray(np.eye(3, dtype=np.uint8))
    mask.putpalette([255, 255, 255, 0, 0, 0])
    shape = {"label": "lake", "shape_type": "mask", "mask": png_base64(mask), "points": [[1, 2], [3, 4]]}
    convert(write_labelme(tmp_path / "x", [shape]), tmp_path / "out")
    np.testing.assert_array_equal(written_label(tmp_path / "out")[2:5, 1:4], np.eye(3))


def test_documents_in_folders_below_are_said_to_be_left_out(tmp_path):
    shape = {"label": "car", "points": [[0, 0], [8, 0], [8, 6]]}
    source = write_labelme(tmp_path / "x", [shape])
    for name in ("b", "c"):
        write_labelme(source / "second", [shape], name=name)
    written, notes = convert(source, tmp_path / "out")
    assert written.train == ["a"]
    assert f"other files of annotations in {source}: 2 left out (second/b.json, second/c.json)" in notes
