"""Labels and images are checked, and unchanged files are not opened again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dataset_damage import with_orientation
from dataset_files import make_dataset
from PIL import Image
from tiff_files import tiff

from deeplabctl.data import inspection
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.inspection import InspectionCache, check_samples, inspect_image
from deeplabctl.data.labels import read_label, write_mask
from deeplabctl.errors import DataError
from deeplabctl.reporting import Note, silent


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set")


def check(root):
    dataset = open_dataset(root)
    return check_samples(dataset, dataset.samples("train"), silent)


def label_path(root, name="t2"):
    return root / "SegmentationClass" / f"{name}.png"


def test_good_labels_pass_and_are_counted(root):
    facts = check(root)
    label = read_label(label_path(root, "t0"))
    assert (facts[0].height, facts[0].width) == (60, 80)
    assert facts[0].pixels == {int(v): int((label == v).sum()) for v in np.unique(label)}


def test_value_out_of_range_names_file_value_and_fix(root):
    label = read_label(label_path(root))
    label[5, 5] = 37
    write_mask(label_path(root), label)
    with pytest.raises(DataError, match=r"t2\.png: expected class ids 0 to 2, or 255 for void, got 37; correct"):
        check(root)


def test_grey_copy_of_a_palette_label_is_recognized(root):
    with Image.open(label_path(root)) as palette:
        palette.convert("L").save(label_path(root))
    with pytest.raises(DataError, match=r"t2\.png: a palette's colours turned into grey levels \(0, .*220\)"):
        check(root)


def test_binary_mask_is_recognized(root):
    label = read_label(label_path(root))
    Image.fromarray(((label > 0) * 255).astype(np.uint8)).save(label_path(root))
    with pytest.raises(DataError, match=r"t2\.png: a 0/255 mask, but 255 means void.*write 1 for the object"):
        check(root)


def test_coloured_label_and_unreadable_label_are_named(root):
    with Image.open(label_path(root)) as palette:
        palette.convert("RGB").save(label_path(root))
    with pytest.raises(DataError, match=r"t2\.png: expected one channel of class ids"):
        check(root)
    label_path(root).write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot read .*t2\.png"):
        check(root)


def test_label_of_another_size_than_its_image_is_refused(root):
    write_mask(label_path(root), np.zeros((80, 60), np.uint8))
    with pytest.raises(DataError, match=r"t2\.png: expected the size of its image t2\.png, 80x60, got 60x80"):
        check(root)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (1, 50), (50, 3), (8, 1), (9, 17)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_of_any_size_can_be_inspected(tmp_path, size, suffix):
    Image.new("RGB", size).save(tmp_path / f"a.{suffix}")
    facts = inspect_image(tmp_path / f"a.{suffix}")
    assert (facts.width, facts.height) == size


def test_unchanged_labels_are_not_opened_again_and_changed_ones_are(root, monkeypatch):
    first = check(root)
    opened = []
    original = inspection.inspect_label
    monkeypatch.setattr(inspection, "inspect_label", lambda path: opened.append(path.name) or original(path))
    assert check(root) == first
    assert opened == []
    label = read_label(label_path(root))
    label[:] = 1
    write_mask(label_path(root), label)
    assert check(root)[2].pixels == {1: 4800}
    assert opened == ["t2.png"]


def test_label_that_was_replaced_by_one_of_the_same_size_and_date_is_opened_again(root):
    label, sizes = np.zeros((60, 80), np.uint8), set()
    for value in (1, 2):
        label[9:30, 9:30] = value
        Image.fromarray(label).save(label_path(root), compress_level=0)
        os.utime(label_path(root), (0, 0))  # as archives with one date for all files leave it
        sizes.add(label_path(root).stat().st_size)
        assert check(root)[2].pixels == {0: 4359, value: 441}
    assert len(sizes) == 1


def test_damaged_cache_is_replaced(root):
    first = check(root)
    path = InspectionCache(root).path
    stored = json.loads(path.read_text())
    for damaged in ([7], {"format": 1}, {**stored, "files": "x"}, {**stored, "files": [1]}):
        path.write_text(json.dumps(damaged))
        assert check(root) == first
    path.write_text(json.dumps({"format": 1})[:-4])
    assert check(root) == first


@pytest.mark.parametrize(
    "facts",
    [
        None, [60], [60, "x", {}, "", [], ""], [60, 80, {"a": 1}, "", [], ""], [60, 80, 7, "", [], ""],
        [1e999, 80, {}, "", [], ""], [60, 80, {"0": 4800}, "VOC", [], ""], [60, 80, {"0": 4800}, "0000", [], ""],
    ],
)  # fmt: skip
def test_damaged_entry_of_the_cache_is_read_again(root, facts):
    first = check(root)
    path = InspectionCache(root).path
    stored = json.loads(path.read_text())
    for key, text in stored["files"].items():
        stored["files"][key] = json.dumps([json.loads(text)[0], facts])
    path.write_text(json.dumps(stored))
    assert check(root) == first


def test_wrong_labels_are_refused_again_from_the_cache(root):
    write_mask(label_path(root), np.full((60, 80), 9, np.uint8))
    for _ in range(2):
        with pytest.raises(DataError, match="got 9"):
            check(root)


def test_data_set_whose_name_is_not_utf8_is_remembered_as_any_other(tmp_path, monkeypatch):
    root = make_dataset(tmp_path / os.fsdecode(b"set \xff"))
    first = check(root)
    assert InspectionCache(root).path.exists()
    monkeypatch.setattr(inspection, "inspect_label", None)
    assert check(root) == first


def test_user_without_a_home_checks_a_data_set_each_time(root, monkeypatch):
    monkeypatch.setattr(inspection, "user_cache", lambda: None)
    assert check(root) == check(root)
    assert not Path("~").exists()


def notes(root):
    dataset, events = open_dataset(root), []
    check_samples(dataset, dataset.samples("train"), events.append)
    return [event.text for event in events if isinstance(event, Note)]


@pytest.mark.parametrize(("orientation", "size"), [(3, (60, 80)), (2, (60, 80)), (6, (60, 60))])
def test_training_says_where_sizes_do_not_show_whether_a_label_was_drawn_upright(tmp_path, orientation, size):
    root = make_dataset(tmp_path / "set", size=size)
    assert notes(root) == []
    with_orientation(root / "JPEGImages" / "t1.png", orientation)
    (said,) = notes(root)
    assert f"EXIF orientation {orientation}, and the sizes do not show" in said
    with_orientation(root / "JPEGImages" / "t3.png", orientation)
    (said,) = notes(root)
    assert said.endswith("(so are 1 others: t3.png)")


def test_training_says_what_was_assumed_of_values(root):
    image = np.asarray(Image.open(root / "JPEGImages" / "t1.png"))
    (root / "JPEGImages" / "t1.png").write_bytes(tiff(image.astype(np.uint16)))
    for _ in range(2):  # the second time from the cache
        (said,) = notes(root)
        assert "t1.png: 16-bit values that reach only" in said
    (root / "JPEGImages" / "t1.png").write_bytes(tiff(image.astype(np.int16)))
    with pytest.raises(DataError, match=r"t1\.png: .*got signed values|t1\.png: .*got a TIFF of other samples"):
        check(root)
