"""Each kind of damage is found, with file and mend, and a training refuses the ruinous ones in the same words."""

import os
import re
import shutil

import numpy as np
import pytest
from making import make_dataset
from PIL import Image

from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_label, write_mask
from deeplabctl.errors import DataError
from deeplabctl.reporting import Advanced, Started, silent
from deeplabctl.training.plan import plan_training


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set", train=6, val=3)


def check(root):
    return check_dataset(open_dataset(root), silent).findings


def label_file(root, name):
    return root / "SegmentationClass" / f"{name}.png"


def image_file(root, name):
    return root / "JPEGImages" / f"{name}.png"


def list_file(root, split):
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def with_orientation(path, orientation, picture=None):
    """Store a picture with an EXIF orientation, its pixels as they are."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = picture or Image.open(path).copy()
    picture.save(path, exif=exif)


def colours(root):
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("RGB").save(label_file(root, "t1"))


def alien_colours(root):
    picture = Image.new("RGB", (80, 60), (1, 2, 3))
    picture.save(label_file(root, "v1"))


def grey_levels(root):
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("L").save(label_file(root, "t1"))


def black_and_white(root):
    Image.fromarray(((read_label(label_file(root, "t1")) > 0) * 255).astype(np.uint8)).save(label_file(root, "t1"))


def out_of_range(root):
    label = read_label(label_file(root, "v1"))
    label[5, 5] = 37
    write_mask(label_file(root, "v1"), label)


def too_few_names(root):
    for path in (root / "SegmentationClass").iterdir():
        write_mask(path, np.full((60, 80), 2 if path.stem == "t0" else 1, np.uint8))
    (root / "classes.txt").write_text("background\ndisc\n")


def sixteen_bits(root):
    Image.fromarray(np.full((60, 80), 300, np.uint16)).save(label_file(root, "t1"))


def another_size(root):
    write_mask(label_file(root, "t1"), np.zeros((61, 80), np.uint8))


def turned(root):
    with_orientation(image_file(root, "t1"), 6)


def label_as_jpeg(root):
    with Image.open(label_file(root, "t1")) as mask:
        picture = Image.fromarray(np.asarray(mask))
    picture.save(label_file(root, "t1"), format="JPEG")


def image_cut_off(root):
    whole = image_file(root, "v1").read_bytes()
    image_file(root, "v1").write_bytes(whole[: len(whole) // 2])


def jpeg_cut_off(root):
    image_file(root, "t1").unlink()
    path = root / "JPEGImages" / "t1.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-900])


def label_cut_off(root):
    whole = label_file(root, "t1").read_bytes()
    label_file(root, "t1").write_bytes(whole[: len(whole) - 40])


def empty_image(root):
    image_file(root, "t1").write_bytes(b"")


def web_page(root):
    label_file(root, "t1").write_bytes(b"<!DOCTYPE html>")


def image_missing(root):
    image_file(root, "t1").unlink()


def label_missing(root):
    label_file(root, "v1").unlink()


def label_of_another_format(root):
    label_file(root, "t1").rename(root / "SegmentationClass" / "t1.bmp")


def three_columns(root):
    list_file(root, "train").write_text("t0\nmy photo t1\n")


def path_missing(root):
    list_file(root, "val").write_text("/JPEGImages/v0.png /SegmentationClass/gone.png\n")


def empty_list(root):
    list_file(root, "val").write_text("\n")


def list_is_no_text(root):
    list_file(root, "train").write_bytes(b"\xff\xfe\x00t\x000")


def all_void(root):
    for name in ("v0", "v1", "v2"):
        write_mask(label_file(root, name), np.full((60, 80), 255, np.uint8))


RUINOUS = [  # damage, its kind, its place, what is said (a regular expression)
    (colours, "label-colours", "t1.png", "got RGB colours; write each pixel's class id instead of its colour"),
    (alien_colours, "label-colours", "v1.png", "data convert --palette for any"),
    (grey_levels, "label-grey-levels", "t1.png", r"turned into grey levels \(0, "),
    (black_and_white, "label-binary", "t1.png", "write 1 for the object"),
    (out_of_range, "label-range", "v1.png", "expected class ids 0 to 2, or 255 for void, got 37; mend the label"),
    (too_few_names, "label-range", "t0.png", "class ids 0 to 1, or 255 for void, got 2; .*name all classes"),
    (sixteen_bits, "label-range", "t1.png", "expected class ids up to 255, got 300; write 8-bit labels"),
    (another_size, "label-size", "t1.png", "expected the size of its image t1.png, 80x60, got 80x61"),
    (turned, "label-rotated", "t1.png", "60x80, got 80x60, the size before the EXIF orientation 6 turns t1.png"),
    (label_as_jpeg, "label-lossy", "t1.png", "whose compression changes the ids at every border; make it anew"),
    (image_cut_off, "unreadable", "v1.png", "damaged or cut off .*; replace the file, or take it off the lists"),
    (jpeg_cut_off, "unreadable", "t1.jpg", "damaged or cut off .*; replace the file"),
    (label_cut_off, "unreadable", "t1.png", "damaged or cut off .*; replace the file"),
    (empty_image, "unreadable", "t1.png", "got an empty file; replace the file"),
    (web_page, "unreadable", "t1.png", "got other content; replace the file"),
    (image_missing, "list-image", "train.txt:2", "no image for 't1': .*mend the list or add the file"),
    (label_missing, "list-label", "val.txt:2", "no label for 'v1': .*SegmentationClass/v1.png.*mend the list"),
    (label_of_another_format, "list-label", "train.txt:2", "got t1.bmp; mend the list"),
    (three_columns, "list-line", "train.txt:2", "got 3 columns: 'my photo t1'; names with spaces must be renamed"),
    (path_missing, "list-label", "val.txt:1", "the label .*gone.png does not exist"),
    (empty_list, "list-empty", "val.txt", "got an empty list; write one image id a line"),
    (list_is_no_text, "list-text", "train.txt", "got bytes that are no text; write the list anew"),
    (all_void, "split-void", "val.txt", "expected labelled pixels in val, got void \\(255\\) alone"),
]  # fmt: skip


def test_sound_set_has_no_findings(root):
    assert check(root) == []


@pytest.mark.parametrize(("spoil", "kind", "where", "said"), RUINOUS, ids=[row[0].__name__ for row in RUINOUS])
def test_ruinous_damage_is_found_and_a_training_refuses_it_with_the_same_words(root, spoil, kind, where, said):
    spoil(root)
    (finding,) = [finding for finding in check(root) if finding.ruinous]
    assert finding.kind == kind
    assert where in finding.text
    assert re.search(said, finding.text), finding.text
    assert "\n" not in finding.text
    words = "expected labelled pixels in val, got void (255) alone" if kind == "split-void" else finding.text
    assert words in finding.text
    with pytest.raises(DataError) as caught:
        plan_training("shapes", options={"data.root": str(root), "model.init": "random"})
    assert words in str(caught.value)


def windows_lines(root):
    list_file(root, "train").write_bytes(b"\xef\xbb\xbft0\r\nt1\r\nt2\r\nt3\r\nt4\r\nt5")


def leading_slashes(root):
    names = [f"/JPEGImages/v{n}.png /SegmentationClass/v{n}.png\n" for n in range(3)]
    list_file(root, "val").write_text("".join(names))


def same_content_in_both_splits(root):
    shutil.copy(image_file(root, "t4"), image_file(root, "v2"))
    shutil.copy(label_file(root, "t4"), label_file(root, "v2"))


def same_id_in_both_splits(root):
    list_file(root, "val").write_text("v0\nv1\nv2\nt3\n")


def id_twice(root):
    list_file(root, "train").write_text("t0\nt1\nt2\nt3\nt4\nt5\nt1\n")


def class_without_a_label(root):
    (root / "classes.txt").write_text("background\ndisc\nsquare\nunicorn\n")


def orientation_that_sizes_do_not_show(root):
    with_orientation(image_file(root, "t1"), 3)


def transparent_image(root):
    Image.new("RGBA", (80, 60), (1, 2, 3, 4)).save(image_file(root, "t1"))


def files_in_no_list(root):
    shutil.copy(image_file(root, "t1"), root / "JPEGImages" / "extra.png")


def two_images_of_a_name(root):
    Image.new("RGB", (80, 60)).save(root / "JPEGImages" / "t1.jpg")


def no_validation_list(root):
    list_file(root, "val").unlink()


NOTES = [
    (windows_lines, "list-format", "train.txt", "ends, a byte order mark, no line end after the last line"),
    (leading_slashes, "list-format", "val.txt", "got leading slashes"),
    (same_content_in_both_splits, "split-overlap", "v2.png", "got the content of t4.png of train; take it off one"),
    (same_id_in_both_splits, "split-overlap", "t3.png", "expected an image of val that is not in train"),
    (id_twice, "list-twice", "train.txt", "got t1.png again; take the repeated lines out"),
    (class_without_a_label, "class-absent", "classes.txt", "got none of 3 unicorn; it cannot be learnt"),
    (orientation_that_sizes_do_not_show, "image-orientation", "t1.png", "EXIF orientation 3.*look at it with data"),
    (transparent_image, "image-mode", "t1.png", "got mode RGBA; nothing, if that is right: transparent parts count as"),
    (files_in_no_list, "unlisted", "JPEGImages", "got 1 of 10 in none: extra.png; add their ids to a list"),
    (two_images_of_a_name, "image-twice", "t1.jpg", "remove one of them"),
    (no_validation_list, "split-missing", "val.txt", "expected a list val.txt, got the splits train alone"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "where", "said"), NOTES, ids=[row[0].__name__ for row in NOTES])
def test_oddities_are_noted_without_stopping_anything(root, spoil, kind, where, said):
    spoil(root)
    findings = check(root)
    assert not any(finding.ruinous for finding in findings)
    (finding,) = [finding for finding in findings if finding.kind == kind]
    assert finding.file.name == where
    assert re.search(said, finding.text), finding.text


def test_trainval_is_no_overlap_with_its_own_parts(root):
    list_file(root, "trainval").write_text(list_file(root, "train").read_text() + list_file(root, "val").read_text())
    list_file(root, "train_aug").write_text(list_file(root, "train").read_text())
    assert check(root) == []


def test_every_finding_is_told_not_only_the_first(root):
    colours(root)
    out_of_range(root)
    image_cut_off(root)
    windows_lines(root)
    kinds = [finding.kind for finding in check(root)]
    assert sorted(kinds[:3]) == ["label-colours", "label-range", "unreadable"]
    assert kinds[3:] == ["list-format"]


def test_check_opens_files_again_that_training_would_take_from_memory(root):
    plan_training("shapes", options={"data.root": str(root), "model.init": "random"})
    path = label_file(root, "t1")
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF  # a flipped bit on the disk: same size, same time
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [finding.kind for finding in check(root)] == ["unreadable"]


def test_progress_counts_every_sample_once(root):
    list_file(root, "trainval").write_text(list_file(root, "train").read_text() + list_file(root, "val").read_text())
    events = []
    verdict = check_dataset(open_dataset(root), events.append)
    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.total == sum(isinstance(event, Advanced) for event in events) == 9
    assert verdict.splits == {"train": 6, "val": 3, "trainval": 9}
    assert verdict.files == 18


def test_set_without_lists_is_refused(root):
    for split in ("train", "val"):
        list_file(root, split).unlink()
    with pytest.raises(DataError, match="expected lists in ImageSets/Segmentation"):
        check(root)
