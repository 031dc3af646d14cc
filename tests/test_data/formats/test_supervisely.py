"""Supervisely's projects become data sets, and labels become projects."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from annotation_files import SIZE, convert, png_base64, write_image, written_label
from PIL import Image

from deeplabctl.data.formats.supervisely import supervisely_document, supervisely_meta
from deeplabctl.errors import DataError

# From the documentation of Supervisely's Python package: a ring of 3x3 pixels.
RING = (
    "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44sKHhISMDuxpTYrr03F6g"
    "DIOnq5/LOqeEJgDM5ht6"
)


def bitmap(data, origin, title="lake"):
    return {"classTitle": title, "geometryType": "bitmap", "bitmap": {"data": data, "origin": list(origin)}}


def shape(kind, exterior, title="lake", interior=()):
    points = {"exterior": exterior, "interior": list(interior)}
    return {"classTitle": title, "geometryType": kind, "points": points, "bitmap": None}


def write_project(folder, objects, titles=("lake", "wood"), **more):
    """Write data sets with an image each, by the paths of images; returns the folder."""
    folder.mkdir()
    for name, entries in objects.items():
        dataset, file = name.rsplit("/", 1)
        write_image(folder / dataset / "img" / file, shade=len(name) + ord(file[0]))
        document = {"description": "", "tags": [], "size": {"height": 12, "width": 16}, "objects": entries}
        path = folder / dataset / "ann" / f"{file}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document | more))
    classes = [{"title": title, "shape": "any", "color": "#FF0000"} for title in titles]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return folder


@pytest.mark.parametrize("name", ["x", "ann"])  # the second is also the name of folders in projects
def test_bitmap_of_the_documentation_is_a_ring(tmp_path, name):
    project = write_project(tmp_path / name, {"ds/a.jpg": [bitmap(RING, (5, 2), "wood")]})
    written, _ = convert(project, tmp_path / "out")
    expected = np.zeros(SIZE, int)
    expected[2:5, 5:8] = 2
    expected[3, 6] = 0
    assert written.classes == ("background", "lake", "wood")  # as in meta.json
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)


def test_corners_of_whole_numbers_are_pixels_of_the_object_and_others_are_places(tmp_path):
    objects = [
        shape("rectangle", [[0, 0], [7, 5]]),
        shape("polygon", [[2, 1], [6, 1], [6, 4], [2, 4]], "wood", [[[3, 2], [5, 2], [5, 3], [3, 3]]]),
        shape("polygon", [[9.0, 6.0], [12.0, 6.0], [12.0, 9.5], [9.0, 9.5]], "wood"),
        shape("polyline", [[0, 0], [9, 9]]),
    ]
    _, notes = convert(write_project(tmp_path / "x", {"ds/a.jpg": objects}), tmp_path / "out")
    expected = np.zeros(SIZE, int)
    expected[0:6, 0:8] = 1
    expected[1:5, 2:7] = 2
    expected[2:4, 3:6] = 1
    expected[6:9, 9:12] = 2  # y up to 9.5 does not reach the centres of row 9, 9.5, as a bottom does not belong to it
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["lines, points and other shapes without an area: 1 skipped"]


def test_pixels_of_a_slanted_outline_belong_to_it(tmp_path):
    objects = [shape("polygon", [[0, 0], [6, 0], [0, 6]])]
    convert(write_project(tmp_path / "x", {"ds/a.jpg": objects}), tmp_path / "out")
    rows, columns = np.indices(SIZE)
    np.testing.assert_array_equal(written_label(tmp_path / "out"), (rows + columns <= 6).astype(int))


def test_outlines_are_filled_as_by_opencv(tmp_path):
    """The picture is that of cv2.fillPoly of OpenCV 4.10."""
    drawn = """
        .......#...#
        ......######
        .....####.#.
        ...####.....
        ..###.......
        .##........."""
    objects = [shape("polygon", [[3, 4], [11, 0], [10, 2], [7, 0], [1, 5]])]
    convert(write_project(tmp_path / "x", {"ds/a.jpg": objects}), tmp_path / "out")
    expected = [[int(pixel == "#") for pixel in row] for row in drawn.split()]
    np.testing.assert_array_equal(written_label(tmp_path / "out")[:6, :12], expected)


def test_bitmaps_may_be_plain_pngs_grey_or_with_alpha(tmp_path):
    mask = np.array([[True, False], [True, True]])
    shades = np.where(mask, 255, 0).astype(np.uint8)
    alpha = np.dstack([np.zeros((2, 2, 3), np.uint8), shades])
    packed = base64.b64encode(zlib.compress(base64.b64decode(png_base64(mask)))).decode()
    objects = [bitmap(png_base64(shades), (0, 0)), bitmap(png_base64(alpha), (4, 0)), bitmap(packed, (8, 10))]
    convert(write_project(tmp_path / "x", {"ds/a.jpg": objects}), tmp_path / "out")
    expected = np.zeros(SIZE, int)
    for top, left in ((0, 0), (0, 4), (10, 8)):
        expected[top : top + 2, left : left + 2] = mask
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)


HUGE = base64.b64encode(zlib.compress(b"\x89PNG" + bytes(1 << 26))).decode()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (bitmap("!!", (0, 0)), r"a\.jpg\.json: object 1 \(lake\)"),
        (bitmap(base64.b64encode(b"no zlib").decode(), (0, 0)), r"object 1 \(lake\): .* decompressing data"),
        (bitmap(RING, (0.5, 0)), r"object 1 \(lake\): expected a whole number"),
        (bitmap(RING, (90, 0)), r"object 1 \(lake\): expected an outline in the image of 16x12 pixels"),
        (bitmap(png_base64(np.ones((20, 20), bool)), (0, 0)), r"a bitmap inside the image, got one of 20x20"),
        (bitmap(HUGE, (0, 0)), r"object 1 \(lake\)"),
        (shape("alpha_mask", []), "expected a bitmap, a polygon or a rectangle, got 'alpha_mask'"),
        (shape("polygon", [[0, 0], [10**8, 0], [0, 10**8]]), "expected an outline in the image of 16x12 pixels"),
        (shape("polygon", [[0, 0], ["x", 0], [0, 1]]), r"object 1 \(lake\)"),
        ({"geometryType": "polygon"}, "expected 'classTitle', got none"),
    ],
)  # fmt: skip
def test_odd_objects_fail_alone(tmp_path, entry, message):
    good = shape("rectangle", [[0, 0], [7, 5]])
    source = write_project(tmp_path / "x", {"ds/a.jpg": [entry], "ds/b.jpg": [good]})
    written, _ = convert(source, tmp_path / "out")
    assert written.train == ["b"]
    (failed,) = written.failed
    with pytest.raises(DataError, match=message):
        raise DataError(failed)


def test_annotations_of_another_size_are_refused(tmp_path):
    source = write_project(tmp_path / "x", {"ds/a.jpg": [bitmap(RING, (0, 0))]}, size={"height": 24, "width": 32})
    with pytest.raises(DataError, match=r"a\.jpg: expected annotations of its size, 16x12, got 32x24"):
        convert(source, tmp_path / "out")


def test_images_are_those_of_their_data_set(tmp_path):
    objects = {"one/a.jpg": [shape("rectangle", [[0, 0], [7, 5]])], "two/a.jpg": [shape("rectangle", [[0, 0], [3, 5]])]}
    source = write_project(tmp_path / "x", objects)
    (source / "two" / "ann" / "a.jpg.json").rename(source / "two" / "ann" / "a.json")  # as of older exports
    written, notes = convert(source / "meta.json", tmp_path / "out")
    assert (written.train, notes) == (["one_a", "two_a"], [])
    assert [(written_label(tmp_path / "out", name) == 1).sum() for name in written.train] == [48, 24]
    for name in ("one", "two"):
        (source / name / "img").rename(tmp_path / f"{name}-img")
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}-img").rename(tmp_path / "photos" / name)
    written, _ = convert(source, tmp_path / "again", images=tmp_path / "photos")
    assert written.train == ["one_a", "two_a"]


def test_images_of_the_only_data_set_may_lie_in_any_folder(tmp_path):
    source = write_project(tmp_path / "x", {"dataset/a.jpg": [shape("rectangle", [[0, 0], [7, 5]])]})
    (source / "dataset" / "img").rename(tmp_path / "photos")
    (tmp_path / "photos" / "lakes").mkdir()
    (tmp_path / "photos" / "a.jpg").rename(tmp_path / "photos" / "lakes" / "a.jpg")
    written, notes = convert(source, tmp_path / "out", images=tmp_path / "photos")
    assert (written.train, notes) == (["a"], [])


def test_project_without_annotations_or_classes_is_refused(tmp_path):
    source = write_project(tmp_path / "x", {})
    with pytest.raises(DataError, match="expected folders named ann with JSON files, got none"):
        convert(source, tmp_path / "out")
    with pytest.raises(DataError, match="expected folders named ann"):
        convert(tmp_path, tmp_path / "out", format="supervisely")


@pytest.mark.parametrize("names", [("background", "car", "tree"), ("sky", "car", "tree")])
def test_documents_are_read_back_as_the_same_label(tmp_path, names):
    label = np.random.default_rng(0).choice([0, 1, 2], SIZE).astype(np.uint8)
    label[:3] = label[:, :4] = 0
    source = write_project(tmp_path / "x", {"dataset/a.jpg": []})
    (source / "dataset" / "ann" / "a.jpg.json").write_text(json.dumps(supervisely_document(label, names)))
    (source / "meta.json").write_text(json.dumps(supervisely_meta(names)))
    written, _ = convert(source, tmp_path / "out", **({"outside": "void"} if names[0] == "sky" else {}))
    assert written.classes == names
    np.testing.assert_array_equal(written_label(tmp_path / "out"), label)


def test_written_bitmap_is_a_palette_png_whose_first_colour_is_transparent():
    document = supervisely_document(np.eye(3, dtype=np.uint8), ("background", "line"))
    (entry,) = document["objects"]
    png = zlib.decompress(base64.b64decode(entry["bitmap"]["data"]))
    with Image.open(io.BytesIO(png)) as image:  # as the ring of the documentation
        assert (image.mode, image.size, image.info["transparency"]) == ("P", (3, 3), 0)
        assert image.getpalette()[:6] == [0, 0, 0, 255, 255, 255]
