"""Annotated images are written as a data set in VOC layout."""

import numpy as np
import pytest
from annotation_files import SIZE, convert, exif_orientation, write_coco, write_image, write_labelme, written_label

from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_image
from deeplabctl.data.importing.convert import write_dataset
from deeplabctl.data.importing.formats import read_annotations
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent


def many(tmp_path, count=10):
    for number in range(count):
        shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
        write_labelme(tmp_path / "x", [shape], name=chr(ord("a") + number))
    return tmp_path / "x"


def test_share_for_validation_is_chosen_by_the_seed(tmp_path):
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


def test_validation_can_have_annotations_of_its_own(tmp_path):
    source = write_coco(tmp_path / "train", [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}])
    other = write_coco(tmp_path / "val", [{"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}], ["b.jpg"])
    first = read_annotations(source, ImportSettings(), silent)
    second = read_annotations(other, ImportSettings(classes=first.classes), silent)
    written = write_dataset(first, tmp_path / "out", silent, val=second)
    assert (written.train, written.val) == (["a"], ["b"])
    assert (written_label(tmp_path / "out", "a") == 1).sum() == (written_label(tmp_path / "out", "b") == 2).sum() == 48


def test_one_bad_image_is_named_and_the_others_are_converted(tmp_path):
    source = many(tmp_path, 4)
    (source / "b.jpg").write_bytes(b"")
    (source / "c.jpg").unlink()
    written, notes = convert(source, tmp_path / "out", val=0.5)
    assert len(written.failed) == 2
    assert sorted(written.train + written.val) == ["a", "d"]
    assert any("c.jpg: there is no such image; use `images`" in note for note in notes)
    (source / "a.jpg").unlink()
    (source / "d.jpg").unlink()
    with pytest.raises(DataError, match="none of 4 images could be converted"):
        convert(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_labels_with_only_void_and_background_are_left_out_of_the_lists(tmp_path):
    source = many(tmp_path, 3)
    write_labelme(source, [{"label": "__ignore__", "points": [[0, 0], [8, 0], [8, 6]]}], name="b")
    written, notes = convert(source, tmp_path / "out")
    assert written.train == ["a", "c"]
    assert "1 images have only background and void: left out of the lists" in notes
    assert check_dataset(open_dataset(tmp_path / "out"), silent).errors == 0


def test_annotations_on_the_stored_pixels_are_turned_like_their_images(tmp_path):
    source = write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]}])
    write_image(source / "a.jpg", exif=exif_orientation(6))
    convert(source, tmp_path / "out")
    expected = np.zeros(SIZE, int)
    expected[:6, :8] = 1
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.rot90(expected, -1))
    assert check_dataset(open_dataset(tmp_path / "out"), silent).errors == 0
    write_image(source / "a.jpg", size=(24, 32))
    with pytest.raises(DataError, match=r"a\.jpg: expected annotations of its size, 32x24, got 16x12"):
        convert(source, tmp_path / "other")


def test_names_with_spaces_folders_and_duplicates_become_ids_that_fit_into_lists(tmp_path):
    names = ("day 1/a b.jpg", "day 2/a b.jpg", "c.jpg", "c.png")
    source = write_coco(tmp_path, [], images=names)
    written, _ = convert(source, tmp_path / "out", outside="background")
    assert written.train == ["c", "c-2", "day_1_a_b", "day_2_a_b"]
    assert len(open_dataset(tmp_path / "out").samples("train")) == 4


def test_images_of_other_formats_become_pngs_and_jpegs_keep_their_bytes(tmp_path):
    source = write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    write_labelme(source, [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}], name="b", imagePath="b.bmp")
    write_image(source / "b.bmp")
    convert(source, tmp_path / "out")
    assert (tmp_path / "out" / "JPEGImages" / "a.jpg").read_bytes() == (source / "a.jpg").read_bytes()
    copied = read_image(tmp_path / "out" / "JPEGImages" / "b.png")
    np.testing.assert_array_equal(copied, read_image(source / "b.bmp"))
