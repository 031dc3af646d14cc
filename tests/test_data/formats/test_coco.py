"""COCO's instances become data sets; run lengths and segments are those of pycocotools."""

import json

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_coco, written_label

from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.formats.coco import decode_runs, encode_runs, segments
from deeplabctl.data.formats.outlines import fill_runs, run_lengths
from deeplabctl.errors import DataError


def test_cocos_polygons_runs_and_crowds_are_drawn_smaller_ones_on_top(tmp_path):
    source = write_coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [[2, 1, 4, 1, 4, 3, 2, 3], [5, 1, 6, 1, 6, 2, 5, 2]]},  # 5 pixels
            {"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]], "area": 48.0},
            {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [12, 16], "counts": [0, 12 * 10, 12 * 6]}},
            {"category_id": 3, "segmentation": {"size": [12, 16], "counts": "X5<<"}, "area": 1},  # 168, 12, 12
        ],
    )
    written, _ = convert(source, tmp_path / "out")
    assert written.classes == ("background", "car", "tree")  # in the order of their ids
    expected = np.zeros(SIZE, int)
    expected[:, :10] = 255  # the crowd, below all
    expected[:6, :8] = 1
    expected[1:3, 2:4] = expected[1, 5] = 2
    expected[:, 14] = 2
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)


def test_cocos_classes_can_be_chosen_and_the_others_become_background(tmp_path):
    source = write_coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]},
            {"category_id": 1, "segmentation": [[8, 6, 16, 6, 16, 12, 8, 12]]},
            {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": []},
        ],
    )
    written, notes = convert(source, tmp_path / "out", classes=("background", "car"))
    assert (written_label(tmp_path / "out") == 1).sum() == 48
    assert written.pixels == {0: 144, 1: 48}
    assert notes == [
        "outlines of tree become background: not among the classes",
        "1 of 3 annotations are boxes without an outline: skipped",
    ]
    convert(source, tmp_path / "void", outside="void")
    assert open_dataset(tmp_path / "void").classes == ("car", "tree")
    assert written_label(tmp_path / "void")[0, 15] == 255


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4]]}, "annotation 0 of a.jpg: expected a polygon of at least 3"),
        ({"category_id": 1, "segmentation": {"size": [2, 2], "counts": [4]}}, "expected run lengths of 12x16 pixels"),
        ({"category_id": 1, "segmentation": {"size": [12, 16], "counts": [4]}}, "add up to 12x16 pixels, got 4"),
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4, 5]]}, "annotation 0 of a.jpg"),
        ({"category_id": 99, "segmentation": [[1, 2, 3, 4, 5, 6]]}, "without 99"),
    ],
)
def test_damaged_coco_entries_are_named(tmp_path, entry, message):
    source = write_coco(tmp_path, [entry])
    with pytest.raises(DataError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_json_is_named(tmp_path):
    source = write_coco(tmp_path, [])
    source.write_text("{")
    with pytest.raises(DataError, match=r"instances\.json: expected JSON"):
        convert(source, tmp_path / "out")


def test_images_are_found_in_subfolders_of_the_given_folder(tmp_path):
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}])
    (tmp_path / "data").mkdir()
    (tmp_path / "images").rename(tmp_path / "data" / "train2017")
    written, _ = convert(source, tmp_path / "out", images=tmp_path / "data")
    assert written.train == ["a"]


def test_pixels_in_no_outline_are_background_whatever_its_id_and_never_another_class(tmp_path):
    source = write_coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]},
            {"category_id": 1, "segmentation": [[8, 6, 16, 6, 16, 12, 8, 12]]},
        ],
    )
    with pytest.raises(
        DataError, match="expected a class named background for pixels outside all outlines, got car, tree"
    ):
        convert(source, tmp_path / "out", classes=("car", "tree"))
    convert(source, tmp_path / "void", classes=("car", "tree"), outside="void")
    assert written_label(tmp_path / "void")[0, 15] == 255
    written, notes = convert(source, tmp_path / "last", classes=("car", "background"))
    assert written.pixels == {0: 48, 1: 144}  # the tree as well
    assert "outlines of tree become background: not among the classes" in notes


@pytest.mark.parametrize(
    "entry",
    [
        {"area": "large"}, {"area": [1]}, {"segmentation": [[1, 2, None, 4, 5, 6]]}, {"segmentation": "x"},
        {"segmentation": {"size": [12, 16], "counts": [1e308]}}, {"segmentation": {"size": 3, "counts": []}},
        {"segmentation": [[0, 0, 1e308, 0, 8, -1e308]]}, {"segmentation": {"size": [12, 16], "counts": None}},
        {"segmentation": [[[[1, 2, 3]]]]}, {"segmentation": 7}, {"segmentation": {"size": [12, 16], "counts": {}}},
    ],
)  # fmt: skip
def test_one_odd_object_lets_only_its_image_fail(tmp_path, entry):
    square = {"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}
    source = write_coco(tmp_path, [square | entry, {**square, "image_id": 8}], images=("a.jpg", "b.jpg"))
    written, _ = convert(source, tmp_path / "out")
    assert written.train == ["b"]
    assert len(written.failed) == 1
    assert "annotation 0 of a.jpg: " in written.failed[0]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize(
    "value", [None, 3, "x", [None], [[]], [{"id": []}], [{"id": 7, "name": 3, "category_id": "x"}]]
)
def test_document_of_other_values_is_refused(tmp_path, key, value):
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}])
    source.write_text(json.dumps(json.loads(source.read_text()) | {key: value}))
    with pytest.raises(DataError):
        convert(source, tmp_path / "out")


@pytest.fixture
def pycocotools():
    return pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


of_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def masks():
    rng = np.random.default_rng(4)
    yield np.zeros((3, 4), bool)
    yield np.ones((3, 4), bool)
    yield np.array([[True]])
    for height, width in ((1, 9), (9, 1), (40, 30), (300, 500)):
        yield rng.random((height, width)) < 0.5
        yield np.add.outer(np.arange(height), np.arange(width)) % 97 < 60  # long runs, large differences


@of_pycocotools
@pytest.mark.parametrize("mask", list(masks()), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_run_lengths_are_those_of_pycocotools(mask, pycocotools):
    text = encode_runs(run_lengths(mask))
    encoded = pycocotools.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert text.encode() == encoded["counts"]
    assert decode_runs(text) == run_lengths(mask)
    np.testing.assert_array_equal(fill_runs(decode_runs(text), mask.shape, by_columns=True), mask)


def test_run_lengths_of_a_small_mask():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # by columns: 0 0, 1 0, 1 1
    assert run_lengths(mask) == [2, 1, 1, 2]
    assert run_lengths(~mask) == [0, 2, 1, 1, 2]


@of_pycocotools
def test_segments_have_areas_and_boxes_of_pycocotools(pycocotools):
    label = np.random.default_rng(0).integers(0, 4, (31, 17)).astype(np.uint8)
    label[label == 3] = 255
    found = segments(label, ("background", "a", "b"))
    assert [segment["class_id"] for segment in found] == [1, 2]  # neither the background nor void
    for segment in found:
        runs = {**segment["segmentation"], "counts": segment["segmentation"]["counts"].encode()}
        np.testing.assert_array_equal(pycocotools.decode(runs), label == segment["class_id"])
        assert segment["area"] == pycocotools.area(runs)
        assert segment["bbox"] == pycocotools.toBbox(runs).tolist()


def test_class_0_of_another_name_is_a_segment():
    label = np.zeros((4, 4), np.uint8)
    assert [segment["class_id"] for segment in segments(label, ("sky", "road"))] == [0]
    assert segments(label, ("background", "road")) == []
    json.dumps(segments(label, ("sky", "road")))
