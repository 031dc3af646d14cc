"""COCO's instances become data sets."""

import json

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_coco, written_label

from deeplabctl.data.dataset import open_dataset
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
    with pytest.raises(DataError, match="expected a class named background for what lies in no outline, got car, tree"):
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
