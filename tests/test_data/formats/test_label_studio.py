"""Label Studio's tasks become data sets, and labels become tasks."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_image, written_label

from deeplabctl.data.formats.label_studio import (
    label_studio_file,
    label_studio_result,
    label_studio_settings,
    pack,
    unpack,
)
from deeplabctl.errors import DataError

# From Label Studio's own test of its converter: 18 values, and their bytes.
VALUES = [1, 1, 1, 1, 2, 3, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4, 4, 4]
PACKED = [0, 0, 0, 18, 57, 27, 252, 96, 32, 1, 0, 6, 0, 40, 0, 192, 3, 128, 17, 56, 32]


def region(kind, value, label="lake", number="r1", **more):
    return {
        "id": number, "type": f"{kind}labels", "from_name": "label", "to_name": "image", "original_width": 16,
        "original_height": 12, "image_rotation": 0, "value": {**value, f"{kind}labels": [label]}, **more,
    }  # fmt: skip


HALF = region("polygon", {"points": [[0, 0], [50, 0], [50, 100], [0, 100]], "closed": True})  # columns 0 to 7


def task(*results, name="a.jpg", number=1, **more):
    return {"id": number, "data": {"image": name}, "annotations": [{"result": list(results)}], **more}


def write_tasks(folder, *tasks):
    """Write tasks and their images a.jpg and b.jpg; returns the JSON file."""
    for name in ("a", "b"):
        write_image(folder / "images" / f"{name}.jpg", shade=ord(name))
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def test_packed_values_are_those_of_label_studio():
    assert unpack(bytes(PACKED), 18).tolist() == VALUES
    for damaged in (PACKED[:-3], PACKED[:7], []):
        with pytest.raises(DataError, match=r"truncated or too long|expected 18 values of 8 bits"):
            unpack(bytes(damaged), 18)
    with pytest.raises(DataError, match="expected 20 values of 8 bits, four for each pixel of the image, got 18 of 8"):
        unpack(bytes(PACKED), 20)


def test_mask_is_packed_as_runs_of_four_bytes_a_pixel():
    # 24 values, of 8 bits, lengths of 3, 4, 8 and 16 bits; 1 00 111 and 0: eight times 0; 1 01 1111 and 255: sixteen
    bits = (
        "0" * 27 + "11000" + "00111" + "0010001101111111" + "1" + "00" + "111" + "0" * 8 + "1" + "01" + "1111" + "1" * 8
    )
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    mask = np.array([[False, False, True], [True, True, True]])
    assert pack(mask) == packed
    assert unpack(bytes(packed), 24).tolist() == [0] * 8 + [255] * 16
    large = np.random.default_rng(0).random((150, 300)) < 0.01
    large[40:100] = True  # a run of more than 65,536 values
    np.testing.assert_array_equal(unpack(bytes(pack(large)), 180_000).reshape(150, 300, 4)[..., 3] > 0, large)


def test_regions_are_percent_of_the_size_and_the_later_lies_on_top(tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[10:, 3] = True
    results = (
        HALF,
        region("rectangle", {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0}, "wood", "r2"),
        region("rectangle", {"x": 75, "y": 0, "width": 50, "height": 25, "rotation": 90}, "rock", "r3"),
        region("ellipse", {"x": 78.125, "y": 950 / 12, "radiusX": 13, "radiusY": 9}, "moon", "r4"),
        region("brush", {"format": "rle", "rle": pack(mask)}, "rock", "r5"),
        region("keypoint", {"x": 1, "y": 1, "width": 1}, number="r6"),
        region("polygon", {"points": [[0, 0], [9, 9], [99, 0]], "closed": False}, number="r7"),
        {"id": "c", "type": "choices", "value": {"choices": ["sharp"]}, "from_name": "c", "to_name": "image"},
    )
    written, notes = convert(write_tasks(tmp_path, task(*results)), tmp_path / "out")
    assert written.classes == ("background", "lake", "moon", "rock", "wood")
    expected = np.zeros(SIZE, int)
    expected[:, :8] = 1
    expected[6:9, 4:12] = 4  # 4 and 6, 8 wide and 3 high
    expected[:8, 9:12] = 3  # at (12, 0), turned about this corner: its width points down, its height to the left
    expected[9, 10:15] = expected[8, 12] = expected[10, 12] = 2  # at (12.5, 9.5), radii 2.08 and 1.08
    expected[10:, 3] = 3
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == [
        "lines, points and other shapes without an area: 2 skipped",
        f"images without an annotation: 1 left out ({tmp_path / 'images' / 'b.jpg'})",
    ]


def test_label_may_stand_in_a_result_of_its_own(tmp_path):
    shape = {"points": [[0, 0], [50, 0], [50, 100], [0, 100]]}
    plain = {**region("polygon", {}), "type": "polygon", "value": shape}
    label = {**plain, "type": "labels", "from_name": "names", "value": {**shape, "labels": ["wood"]}}
    for order in ((plain, label), (label, plain)):
        written, _ = convert(write_tasks(tmp_path, task(*order)), tmp_path / "out", overwrite=True)
        assert written.classes == ("background", "wood")
        assert written.pixels == {0: 96, 1: 96}


BRUSH = {"format": "rle", "rle": pack(np.ones((6, 8), bool))}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([region("polygon", {"points": [[0, 0], [50, 0], [50, 99]]}, image_rotation=90)], "not turned in Label Studio"),
        ([region("brush", BRUSH)], r"region r1: expected 768 values of 8 bits, four for each pixel .*, got 192 of 8"),
        ([region("brush", {"format": "rle", "rle": 10**9})], "region r1: 'int' object is not iterable"),
        ([HALF, region("brush", BRUSH, number="2", original_width=8, original_height=6)], "regions of one size of the"),
        ([region("brush", BRUSH, original_width=8, original_height=6)], "expected annotations of its size, 16x12, got"),
        ([region("polygon", {"points": [[0, 0], [500, 400], [900, 300]]})], "expected places from 0 to 1 of the image"),
        ([{**HALF, "value": {**HALF["value"], "polygonlabels": ["a", "b"]}}], "expected one label, got a, b"),
        ([HALF, {**HALF, "type": "labels", "value": {"labels": ["tile"]}}], "expected one label, got lake, tile"),
        ([{**HALF, "value": {"points": HALF["value"]["points"]}}], "region r1: expected one label, got none"),
        ([region("bitmask", {"imageDataURL": "data:"})], "got a bitmask"),
        ([HALF, region("rectangle", {"x": 1, "y": 1, "width": 9, "height": 9})], "r1: expected one shape and one"),
        ([region("rectangle", {"x": 1, "y": 1, "width": 200, "height": 9})], "expected percent of the image's width"),
        ([region("ellipse", {"x": 50, "y": 50, "radiusX": 9, "radiusY": 150})], "expected percent of the image's"),
        ([region("rectangle", {"x": 1, "y": 1})], "region r1: expected 'width', got none"),
        ([{**HALF, "item_index": 1}], "expected regions of one image"),
        ([{"value": {}}], "expected 'type', got none"),
    ],
)  # fmt: skip
def test_odd_regions_fail_alone(tmp_path, results, message):
    written, _ = convert(write_tasks(tmp_path, task(*results), task(HALF, name="b.jpg", number=2)), tmp_path / "out")
    assert written.train == ["b"]
    (failed,) = written.failed
    with pytest.raises(DataError, match=message):
        raise DataError(failed)


def annotations(*results, **more):
    return [{"result": [result], **extra} for result, extra in zip(results, more.get("extra", [{}] * 9), strict=False)]


WOOD = region("polygon", {"points": [[0, 0], [50, 0], [50, 100], [0, 100]]}, "wood")


def test_several_annotations_of_a_task_are_refused_unless_one_is_the_ground_truth(tmp_path):
    tasks = [task(name="a.jpg") | {"annotations": annotations(HALF, WOOD)}, task(HALF, name="b.jpg", number=2)]
    written, _ = convert(write_tasks(tmp_path, *tasks), tmp_path / "1")
    (failed,) = written.failed
    assert "task 1: expected one annotation, got 2; make one of them the ground truth" in failed
    tasks[0]["annotations"] = annotations(HALF, WOOD, extra=[{}, {"ground_truth": True}])
    written, notes = convert(write_tasks(tmp_path, *tasks), tmp_path / "2")
    assert written_label(tmp_path / "2", "a")[0, 0] == 2
    assert written.classes == ("background", "lake", "wood")
    assert notes == ["tasks with several annotations: 1, using those that are the ground truth"]
    tasks[0]["annotations"] = annotations(HALF, WOOD, extra=[{"was_cancelled": True}, {}])
    written, notes = convert(write_tasks(tmp_path, *tasks), tmp_path / "3")
    assert (len(written.train), notes) == (2, [])


def test_predictions_count_only_where_nobody_annotated_anything(tmp_path):
    predicted = task(number=1) | {"annotations": [], "predictions": annotations(WOOD)}
    written, notes = convert(write_tasks(tmp_path, predicted, task(HALF, name="b.jpg", number=2)), tmp_path / "1")
    assert (written.train, written.classes) == (["b"], ("background", "lake"))
    assert "tasks without an annotation: 1 left out (a.jpg)" in notes
    written, notes = convert(write_tasks(tmp_path, predicted), tmp_path / "2")
    assert written.train == ["a"]
    assert "no task is annotated: using the predictions of 1 task" in notes


@pytest.mark.parametrize(
    "data",
    [
        {"image": "/data/upload/3/0f5a2b1c-b.jpg"},
        {"photo": "/data/upload/b.jpg", "text": "a red boat"},
        {"image": "/data/local-files/?d=my%20photos/images/b.jpg&x=1"},
        {"image": "s3://bucket/images/b.jpg"},
        {"image": "https://host/images/b.jpg?signature=a/b.png"},
        {"image": "/image2"},
        {"image": "C:\\photos\\images\\b.jpg"},
    ],
)
def test_image_is_found_by_the_address_in_the_task(tmp_path, data):
    uploaded = {"file_upload": "0f5a2b1c-b.jpg" if data == {"image": "/image2"} else None}
    written, _ = convert(write_tasks(tmp_path, task(HALF) | {"data": data} | uploaded), tmp_path / "out")
    (name,) = written.train
    assert name.endswith("b")
    copy = tmp_path / "out" / "JPEGImages" / f"{name}.jpg"
    assert copy.read_bytes() == (tmp_path / "images" / "b.jpg").read_bytes()


def test_tasks_of_no_image_several_images_and_the_short_export_are_refused(tmp_path):
    for data, got in (({"text": "a"}, "none"), ({"left": "a.jpg", "right": "b.jpg"}, "a.jpg, b.jpg")):
        with pytest.raises(DataError, match=f"task 1: expected one image in the data of the task, got {got}"):
            convert(write_tasks(tmp_path, task(HALF) | {"data": data}), tmp_path / "out")
    short = {"image": "a.jpg", "id": 1, "label": [], "annotator": 1, "annotation_id": 1}
    with pytest.raises(DataError, match="got JSON-MIN; export the project as JSON"):
        convert(write_tasks(tmp_path, short), tmp_path / "out")


@pytest.mark.parametrize("names", [("background", "car", "tree"), ("sky", "car", '<tree> & "co"')])
def test_tasks_are_read_back_as_the_same_labels(tmp_path, names):
    labels = {"a": np.random.default_rng(0).choice([0, 1, 2], SIZE).astype(np.uint8), "b": np.ones(SIZE, np.uint8)}
    paths = [write_image(tmp_path / "my photos" / f"{name}.jpg", shade=ord(name)) for name in labels]
    with label_studio_file(tmp_path / "labelstudio.json", names, paths) as add:
        for path, label in zip(paths, labels.values(), strict=True):
            add(path, label.shape, label_studio_result(label, names))
    settings = ElementTree.fromstring(label_studio_settings(names))
    assert [label.get("value") for label in settings.iter("Label")] == [*names]
    more = {"outside": "void", "classes": names} if names[0] == "sky" else {}
    written, _ = convert(tmp_path / "labelstudio.json", tmp_path / "out", images=tmp_path / "my photos", **more)
    assert written.classes == names
    for name, label in labels.items():
        np.testing.assert_array_equal(written_label(tmp_path / "out", name), label)
