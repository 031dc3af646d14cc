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


def test_crowds_are_said_and_refused_where_most_annotations_are_crowds_unless_the_user_says_what_they_are(tmp_path):
    """Datumaro and supervision write masks of single objects as crowds."""
    square = {"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}  # 48 pixels
    crowd = {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [12, 16], "counts": [12 * 14, 24]}}
    source = write_coco(tmp_path, [square, crowd])
    written, notes = convert(source, tmp_path / "few")
    assert written.pixels == {0: 120, 2: 48, 255: 24}
    text = "1 of 2 annotations are crowds (iscrowd is 1): void; if they are masks of objects, as Datumaro (CVAT), "
    assert notes == [text + "darwin-py (V7), Encord and supervision write them, use `crowds=objects`"]
    source = write_coco(tmp_path, [square, crowd, crowd])
    with pytest.raises(
        DataError, match=r"cannot tell what 2 of 3 annotations are, .*`crowds=void` or `crowds=objects`"
    ):
        convert(source, tmp_path / "most")
    for crowds, value in (("void", 255), ("objects", 1)):
        written, notes = convert(source, tmp_path / crowds, crowds=crowds)
        assert (written.pixels, notes) == ({0: 120, 2: 48, value: 24}, [])


def test_cocos_classes_can_be_chosen_and_the_others_become_background(tmp_path):
    source = write_coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]},
            {"category_id": 1, "segmentation": [[8, 6, 16, 6, 16, 12, 8, 12]]},
            {"category_id": 1, "bbox": [1, 7, 3, 4], "segmentation": []},
        ],
    )
    with pytest.raises(DataError, match=r"outlines of background, car, got others: 1 of tree \(a\.jpg\); add these to"):
        convert(source, tmp_path / "out", classes=("background", "car"))
    written, notes = convert(source, tmp_path / "out", classes=("background", "car"), unknown="background")
    assert (written_label(tmp_path / "out") == 1).sum() == 48
    assert written.pixels == {0: 132, 1: 48, 255: 12}
    assert notes == [
        "outlines that are not of the classes become background: 1 of tree (a.jpg)",
        "1 of 3 annotations are boxes without an outline: void",
    ]
    convert(source, tmp_path / "void", outside="void")
    assert open_dataset(tmp_path / "void").classes == ("car", "tree")
    assert written_label(tmp_path / "void")[0, 15] == 255


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"category_id": 1, "bbox": [1, 2, 3]}, r"expected a box of x, y, width and height, got \[1, 2, 3\]"),
        ({"category_id": 1, "segmentation": {"size": [2, 2], "counts": [4]}}, "expected run lengths of 12x16 pixels"),
        ({"category_id": 1, "segmentation": {"size": [12, 16], "counts": [4]}}, "add up to 12x16 pixels, got 4"),
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4, 5]]}, "annotation 0 of a.jpg: expected pairs of coo"),
        ({"category_id": 1, "segmentation": [[1, None, 3, 4, 5, 6]]}, "expected pairs of coordinates, got 6 numbers"),
        ({"category_id": 1, "segmentation": np.eye(*SIZE, dtype=int).tolist()}, "expected coordinates in pixels, got"),
        ({"category_id": 1, "segmentation": [{"counts": []}]}, r"lists of coordinates or run lengths, got \[{'counts'"),
        ({"file_name": "a.png", "segments_info": []}, "panoptic annotations.* panoptic2semantic_segmentation"),
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
    with pytest.raises(DataError, match=r"instances\.json: expected JSON \(.*; export it again"):
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
    written, _ = convert(source, tmp_path / "last", classes=("car", "background"), unknown="background")
    assert written.pixels == {0: 48, 1: 144}  # the tree as well


@pytest.mark.parametrize(
    "entry",
    [
        {"segmentation": [[1, 2, None, 4, 5, 6]]}, {"segmentation": "x"},
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


OUTLINE = [[0, 0, 8, 0, 8, 6, 0, 6]]


def write_two(tmp_path, **changes):
    """Write a car in a.jpg and a tree in b.jpg; ``changes`` are those of the second annotation, image or category."""
    source = write_coco(tmp_path, [], images=("a.jpg", "b.jpg"))
    document = json.loads(source.read_text())
    document["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": OUTLINE},
        {"id": 2, "image_id": 8, "category_id": 3, "segmentation": OUTLINE, **changes.get("annotation", {})},
    ]
    document["images"][1] |= changes.get("image", {})
    document["categories"][0] |= changes.get("category", {})
    source.write_text(json.dumps(document))
    return source


@pytest.mark.parametrize(
    "changes",
    [
        {"annotation": {"image_id": "8"}}, {"annotation": {"image_id": 8.0}}, {"image": {"id": "8"}},
        {"annotation": {"category_id": "3"}}, {"category": {"id": "3"}},
        {"annotation": {"image_id": "b"}, "image": {"id": "b"}},
        {"annotation": {"id": 1}}, {"annotation": {"iscrowd": "0"}}, {"annotation": {"iscrowd": None}},
        {"annotation": {"iscrowd": False}}, {"annotation": {"area": "large"}}, {"annotation": {"area": None}},
        {"annotation": {"segmentation": OUTLINE[0]}},  # without the list around it
        {"annotation": {"segmentation": [[[0, 0], [8, 0], [8, 6], [0, 6]]]}},
        {"annotation": {"segmentation": [*OUTLINE, [1, 1, 3, 3], [2, 2], []]}},  # lines and points
    ],
)  # fmt: skip
def test_ids_and_outlines_in_another_notation_mean_the_same(tmp_path, changes):
    written, _ = convert(write_two(tmp_path, **changes), tmp_path / "out")
    assert written.train == ["a", "b"]
    assert written.pixels == {0: 288, 1: 48, 2: 48}
    assert written_label(tmp_path / "out", "b")[0, 0] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotation": {"image_id": 99}}, r"the image ids of the file, 7, 8, got 99 in 1 of them \(ids 2\)"),
        ({"annotation": {"image_id": "08"}}, r"the image ids of the file, 7, 8, got '08' in 1 of them"),
        ({"annotation": {"image_id": None}}, "expected a number or a string as id, got None"),
        ({"annotation": {"category_id": 7}}, r"the category ids of the file, 3, 1, got 7 in 1 of them \(ids 2\)"),
        ({"annotation": {"category_id": True}}, "expected a number or a string as id, got True"),
        ({"annotation": {"iscrowd": "yes"}}, "iscrowd of annotation 2: expected a whole number, got 'yes'"),
        ({"annotation": {"iscrowd": 2}}, "iscrowd of annotation 2: expected 0 or 1, got 2"),
        ({"annotation": {"iscrowd": 0.5}}, "iscrowd of annotation 2: expected a whole number, got 0.5"),
        ({"image": {"id": 7}}, "expected each image id once, got 7 for 'a.jpg' and for 'b.jpg'; if several files"),
        ({"image": {"id": "7"}}, "expected each image id once, got 7"),
        ({"category": {"id": 1}}, "expected each category id once, got 1 for 'tree' and for 'car'"),
        ({"category": {"name": None}}, "category 3: expected name as a string, got None"),
        ({"image": {"file_name": "a.jpg"}}, r"expected each image once, got 'a\.jpg' with ids 7 and 8"),
        ({"annotation": {"iscrowd": []}}, r"iscrowd of annotation 2: expected a whole number, got \[\]"),
    ],
)
def test_ids_that_do_not_fit_are_refused_with_the_ids(tmp_path, changes, message):
    with pytest.raises(DataError, match=rf"instances\.json: .*{message}|{message}"):
        convert(write_two(tmp_path, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("areas", [(1, 1000), (1000, 1), (0, 0), ("x", None)])
def test_smaller_object_lies_on_top_whatever_its_area_claims(tmp_path, areas):
    small = {"category_id": 3, "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]], "area": areas[0]}
    large = {"category_id": 1, "segmentation": OUTLINE, "area": areas[1]}
    for number, order in enumerate(([small, large], [large, small])):
        convert(write_coco(tmp_path, order), tmp_path / str(number))
        label = written_label(tmp_path / str(number))
        assert (label == 2).sum() == 4
        assert (label == 1).sum() == 44


@pytest.mark.parametrize("empty", [[], [[]], None, {}, ""])
def test_box_without_an_outline_is_void_below_all_objects(tmp_path, empty):
    box = {"category_id": 3, "segmentation": empty, "bbox": [4, 2, 8, 6]}
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": OUTLINE}, box])
    _, notes = convert(source, tmp_path / "out")
    expected = np.zeros(SIZE, int)
    expected[2:8, 4:12] = 255
    expected[:6, :8] = 1
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["1 of 2 annotations are boxes without an outline: void"]


def test_what_has_neither_area_nor_box_is_skipped_and_named(tmp_path):
    entries = [{"category_id": 1, "segmentation": OUTLINE}, {"category_id": 3, "segmentation": [[1, 1, 3, 3]]}]
    entries += [{"category_id": 3}, {"category_id": 3, "bbox": [0, 0, 0, 0]}, {"category_id": 3, "bbox": [4, 2, 8, 0]}]
    written, notes = convert(write_coco(tmp_path, entries), tmp_path / "out")
    assert written.pixels == {0: 144, 1: 48}
    assert notes == ["annotations without an area: 4 skipped (1, 2, 3, 4)"]


@pytest.mark.parametrize("name", ["void", "Ignore", "unlabeled"])
def test_category_named_void_is_void_unless_it_is_asked_for_as_a_class(tmp_path, name):
    source = write_two(tmp_path, category={"name": name})
    written, notes = convert(source, tmp_path / "a")
    assert written.classes == ("background", "car")
    assert written.pixels == {0: 144, 1: 48}  # b.jpg is in no list
    assert (written_label(tmp_path / "a", "b") == 255).sum() == 48
    assert f"outlines of {name!r} are void (255), as `classes` does not name it: 1" in notes
    written, _ = convert(source, tmp_path / "b", classes=("background", "car", name))
    assert written.pixels == {0: 288, 1: 48, 2: 48}


def test_category_that_only_groups_others_is_no_class(tmp_path):
    """Roboflow's category 0 has the project's name, is the supercategory of all others, and has no annotation."""
    source = write_two(tmp_path, category={"supercategory": "car"})
    assert convert(source, tmp_path / "used")[0].classes == ("background", "car", "tree")  # car has an annotation
    document = json.loads(source.read_text())
    del document["annotations"][0]
    source.write_text(json.dumps(document))
    written, notes = convert(source, tmp_path / "out")
    assert written.classes == ("background", "tree")
    assert "categories without annotations that only group others: 'car' left out" in notes
    assert convert(source, tmp_path / "named", classes=("background", "car", "tree"))[0].pixels == {0: 336, 2: 48}


def test_background_in_another_spelling_is_the_background(tmp_path):
    written, notes = convert(write_two(tmp_path, category={"name": "Background"}), tmp_path / "a")
    assert written.classes == ("background", "car")
    assert written.pixels == {0: 336, 1: 48}
    assert "outlines of 'Background' are the class background, as `classes` does not name it: 1" in notes
    written, _ = convert(write_two(tmp_path), tmp_path / "b", classes=("Background", "car", "tree"))
    assert written.pixels == {0: 288, 1: 48, 2: 48}


def test_classes_whose_names_hardly_differ_are_named(tmp_path):
    _, notes = convert(write_two(tmp_path, category={"name": "Car"}), tmp_path / "out")
    (note,) = notes
    assert note.startswith("'car' (1 outline: a.jpg) and 'Car' (1 outline: b.jpg) are different classes, although")


def test_outlines_of_other_classes_become_what_was_asked_for(tmp_path):
    source = write_two(tmp_path)
    written, _ = convert(source, tmp_path / "a", classes=("background", "tree"), unknown="background")
    assert written.pixels == {0: 336, 1: 48}
    written, _ = convert(source, tmp_path / "b", classes=("background", "tree"), unknown="void")
    assert written.pixels == {0: 144, 1: 48}  # a.jpg is in no list
    assert (written_label(tmp_path / "b", "a") == 255).sum() == 48
    with pytest.raises(DataError, match=r"class named background .*`unknown=void`"):
        convert(source, tmp_path / "c", classes=("a", "tree"), outside="void", unknown="background")


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize(
    "value", [None, 3, "x", [None], [[]], [{"id": []}], [{"id": 7, "name": 3, "category_id": "x"}]]
)
def test_document_of_other_values_is_refused(tmp_path, key, value):
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}])
    source.write_text(json.dumps(json.loads(source.read_text()) | {key: value}))
    with pytest.raises(DataError):
        convert(source, tmp_path / "out")


def test_entries_of_another_kind_are_named(tmp_path):
    source = write_two(tmp_path)
    source.write_text(json.dumps(json.loads(source.read_text()) | {"annotations": {"0": {"id": 1}}}))
    with pytest.raises(
        DataError, match=r"instances\.json: expected annotations as a list of objects with keys, got {'0'"
    ):
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


SQUARE, SMALL = [0, 0, 8, 0, 8, 6, 0, 6], [10, 8, 12, 8, 12, 10, 10, 10]


@pytest.mark.parametrize(
    ("outline", "pixels"),
    [
        ([[0, 0], [8, 0], [8, 6], [0, 6]], 48),
        ([[[0, 0], [8, 0], [8, 6], [0, 6]]], 48),
        ([[SQUARE]], 48),
        ([[SQUARE, SMALL]], 52),  # two polygons, not one with a line between them
        ([[[0, 0], [8, 0], [8, 6], [0, 6]], [[10, 8], [12, 8], [12, 10], [10, 10]]], 52),
        ([SQUARE, [3, 3], [[5, 5]]], 48),
    ],
)
def test_lists_of_points_and_nested_lists_are_polygons(tmp_path, outline, pixels):
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": outline}])
    assert convert(source, tmp_path / "out")[0].pixels == {0: 192 - pixels, 1: pixels}
