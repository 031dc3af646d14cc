"""Each kind of damage is found, with file and fix, and a training refuses the errors in the same words."""

import re

import dataset_damage as damage
import numpy as np
import pytest
from dataset_damage import label_file, list_file
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.data import inspection
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.labels import read_label, write_mask
from deeplabctl.errors import DataError
from deeplabctl.reporting import Advanced, Note, Started, silent
from deeplabctl.training.plan import plan_training


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set", train=6, val=3)


def check(root):
    return check_dataset(open_dataset(root), silent).findings


ERRORS = [  # damage, kind of finding, place, message (a regular expression)
    (damage.label_in_colors, "label-colors", "t1.png",
     "got RGB colours; write each pixel's class id instead of its colour"),
    (damage.label_in_unknown_colors, "label-colors", "v1.png", "with `palette` for any colours"),
    (damage.label_in_grey_levels, "label-grey-levels", "t1.png", r"turned into grey levels \(0, "),
    (damage.black_and_white_label, "label-binary", "t1.png", "write 1 for the object"),
    (damage.out_of_range, "label-range", "v1.png",
     "expected class ids 0 to 2, or 255 for void, got 37; correct the label"),
    (damage.too_few_names, "label-range", "t0.png", "class ids 0 to 1, or 255 for void, got 2; .*name all classes"),
    (damage.label_of_16_bits, "label-range", "t1.png", "expected values from 0 to 255, got 300; write 8-bit labels"),
    (damage.label_of_another_size, "label-size", "t1.png", "expected the size of its image t1.png, 80x60, got 80x61"),
    (damage.image_turned_by_exif, "label-rotated", "t1.png",
     "60x80, got 80x60, the size before EXIF orientation 6 turns t1.png"),
    (damage.label_as_jpeg, "label-lossy", "t1.png",
     "whose compression changes the ids at every border; create it again"),
    (damage.image_cut_off, "unreadable", "v1.png",
     "damaged or truncated .*; replace the file, or leave it out"),
    (damage.jpeg_cut_off, "unreadable", "t1.jpg", "damaged or truncated .*; replace the file"),
    (damage.label_cut_off, "unreadable", "t1.png", "damaged or truncated .*; replace the file"),
    (damage.label_as_gif, "label-palette", "t1.png",
     "got a GIF, whose writers choose the order of its colours; write its class ids"),
    (damage.image_linked_to_nothing, "unreadable", "t1.png", "got a link to gone.png, which does not exist; replace"),
    (damage.label_linked_to_nothing, "unreadable", "t1.png", "got a link to gone.png, which does not exist; replace"),
    (damage.empty_image, "unreadable", "t1.png", "got an empty file; replace the file"),
    (damage.web_page, "unreadable", "t1.png", "got other content; replace the file"),
    (damage.image_missing, "list-image", "train.txt:2", "no image for 't1': .*correct the list or add the file"),
    (damage.two_images_of_one_name, "image-twice", "train.txt:2",
     "several images for 't1': expected one, got t1.jpg, t1.png; keep only the right one"),
    (damage.two_labels_of_one_name, "label-twice", "train.txt:2",
     "several labels for 't1': expected one, got t1.PNG, t1.png; keep only"),
    (damage.label_missing, "list-label", "val.txt:2",
     "no label for 'v1': .*SegmentationClass/v1.png.*correct the list"),
    (damage.label_of_another_format, "list-label", "train.txt:2", "got t1.bmp; correct the list"),
    (damage.three_columns, "list-line", "train.txt:2", "got 3 columns: 'my photo t1'; rename files with spaces"),
    (damage.path_missing, "list-label", "val.txt:1", "the label .*gone.png does not exist"),
    (damage.empty_list, "list-empty", "val.txt", "got an empty list; write one image id per line"),
    (damage.list_without_text, "list-text", "train.txt", "got bytes that are not text; write the list again"),
    (damage.only_void_in_val, "split-void", "val.txt", "expected labelled pixels in val, got only void \\(255\\)"),
]  # fmt: skip


def test_good_data_set_has_no_findings(root):
    assert check(root) == []


@pytest.mark.parametrize(("spoil", "kind", "where", "message"), ERRORS, ids=[row[0].__name__ for row in ERRORS])
def test_errors_are_found_and_a_training_refuses_them_with_the_same_words(root, spoil, kind, where, message):
    spoil(root)
    (finding,) = [finding for finding in check(root) if finding.severity == "error"]
    assert finding.kind == kind
    assert where in finding.text
    assert re.search(message, finding.text), finding.text
    assert "\n" not in finding.text
    words = "expected labelled pixels in val, got only void (255)" if kind == "split-void" else finding.text
    assert words in finding.text
    with pytest.raises(DataError) as caught:
        plan_training("shapes", options={"data.root": str(root), "model.init": "random"})
    assert words in str(caught.value)


NOTES = [
    (damage.windows_lines, "list-format", "train.txt", "ends, a byte order mark, no line end after the last line"),
    (damage.leading_slashes, "list-format", "val.txt", "val.txt: leading slashes; it can be read"),
    (damage.same_content_in_both_splits, "split-overlap", "v2.png",
     "got the content of t4.png of train; remove it from one"),
    (damage.same_id_in_both_splits, "split-overlap", "t3.png", "expected an image of val that is not in train"),
    (damage.id_twice, "list-twice", "train.txt", "got t1.png more than once; remove the repeated lines"),
    (damage.class_without_a_label, "class-absent", "set",
     "got no label with 3 unicorn; they cannot be learned"),
    (damage.orientation_that_sizes_do_not_show, "image-orientation", "t1.png",
     "EXIF orientation 3.*look at it with deeplabctl"),
    (damage.transparent_image, "image-mode", "t1.png", "the image has mode RGBA; transparent parts become white"),
    (damage.unlisted_image, "unlisted", "JPEGImages", "1 of 10 files in no list: extra.png; they are not used"),
    (damage.no_validation_list, "split-missing", "val.txt", "this list, got only train.txt; write it, or"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "where", "message"), NOTES, ids=[row[0].__name__ for row in NOTES])
def test_notes_stop_nothing(root, spoil, kind, where, message):
    spoil(root)
    findings = check(root)
    assert not any(finding.severity == "error" for finding in findings)
    (finding,) = [finding for finding in findings if finding.kind == kind]
    assert finding.file.name == where
    assert re.search(message, finding.text), finding.text


def _same_list(root):
    list_file(root, "val").write_text(list_file(root, "train").read_text())


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (_same_list, [], "6 of 6 images to validate are trained on, too (t0.png, t1.png, t2.png, ...)"),
        (None, ["data.split=val"], "3 of 3 images to validate are trained on, too (v0.png, v1.png, v2.png)"),
        (None, ["data.val_split=train"], "6 of 6 images to validate are trained on, too (t0.png, t1.png, t2.png, ...)"),
        (damage.same_content_in_both_splits, [], "1 of 3 images to validate are trained on, too (v2.png is t4.png)"),
    ],
)
def test_training_warns_of_images_that_are_also_validated(root, spoil, settings, message):
    events = []
    options = {"data.root": str(root), "model.init": "random"}
    plan_training("shapes", options=options, report=events.append)
    assert not [event for event in events if isinstance(event, Note) and event.warning]
    if spoil:
        spoil(root)
    plan_training("shapes", settings, options, report=events.append)
    assert [event.text for event in events if isinstance(event, Note) and event.warning] == [
        f"{message}; their mIoU is not a fair score"
    ]


def test_classes_that_only_validation_has_cannot_be_learned(root):
    (root / "classes.txt").write_text("background\ndisc\nsquare\nstar\nunicorn\n")
    label = read_label(label_file(root, "v0"))
    label[:4] = 3
    write_mask(label_file(root, "v0"), label)
    (finding,) = check(root)
    expected = f"{root}: expected each class in at least one label of train, got no label with 3 star, 4 unicorn; "
    assert (finding.kind, finding.severity) == ("class-absent", "note")
    assert finding.text == (
        f"{expected}they cannot be learned, and where labels have them (3 star) they count as 0 in the mIoU"
    )
    events = []
    plan_training("shapes", options={"data.root": str(root), "model.init": "random"}, report=events.append)
    assert finding.text in [event.text for event in events if isinstance(event, Note)]
    list_file(root, "train").rename(list_file(root, "val2"))  # no split to train on: all labels count
    assert [finding.text.partition("got ")[2] for finding in check(root) if finding.kind == "class-absent"] == [
        "no label with 4 unicorn; they cannot be learned; check that classes.txt has the names of these labels"
    ]


def test_test_split_without_labels_is_a_note_as_no_training_reads_it(root):
    for name in ("x0", "x1"):
        Image.new("RGB", (80, 60)).save(root / "JPEGImages" / f"{name}.png")
    list_file(root, "test").write_text("x0\nx1\n")
    (finding,) = [finding for finding in check(root) if finding.file == list_file(root, "test")]
    assert (finding.kind, finding.severity) == ("split-unlabelled", "note")
    assert "test.txt: none of the 2 images of test has a label; they can be segmented, but not scored" in finding.text
    Image.new("RGB", (80, 60)).save(root / "JPEGImages" / "x1.jpg")
    kinds = [finding.kind for finding in check(root) if finding.file == list_file(root, "test")]
    assert kinds == ["list-label", "image-twice"]
    list_file(root, "test").write_text("x0\nx0\nv0\n")  # some have labels
    assert [finding.severity for finding in check(root) if finding.kind == "list-label"] == ["error"] * 2
    with pytest.raises(DataError, match="no label for 'x0'"):
        open_dataset(root).samples("test")


def test_trainval_may_overlap_with_its_own_parts(root):
    list_file(root, "trainval").write_text(list_file(root, "train").read_text() + list_file(root, "val").read_text())
    list_file(root, "train_aug").write_text(list_file(root, "train").read_text())
    assert check(root) == []


def test_all_findings_are_listed_errors_first(root):
    damage.label_in_colors(root)
    damage.out_of_range(root)
    damage.image_cut_off(root)
    damage.windows_lines(root)
    kinds = [finding.kind for finding in check(root)]
    assert sorted(kinds[:3]) == ["label-colors", "label-range", "unreadable"]
    assert kinds[3:] == ["list-format"]


def test_check_opens_files_again_that_a_training_would_not(root, monkeypatch):
    monkeypatch.setattr(inspection, "_stamp", lambda path: [0])  # as of a bit that the disk has flipped
    for _ in range(2):
        plan_training("shapes", options={"data.root": str(root), "model.init": "random"})
        label_file(root, "t1").write_bytes(b"damaged")
    assert [finding.kind for finding in check(root)] == ["unreadable"]


def test_progress_counts_every_sample_once(root):
    list_file(root, "trainval").write_text(list_file(root, "train").read_text() + list_file(root, "val").read_text())
    events = []
    verdict = check_dataset(open_dataset(root), events.append)
    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.total == sum(isinstance(event, Advanced) for event in events) == 9
    assert verdict.splits == {"train": 6, "val": 3, "trainval": 9}
    assert verdict.files == 18


def test_classes_to_train_on_are_counted_although_another_list_gives_their_images_other_names(root):
    for name in ("t0", "v0"):  # of one name in two folders: in a list of both they are x/t0 and x/v0
        for folder in ("JPEGImages", "SegmentationClass"):
            (root / folder / name).mkdir()
            (root / folder / f"{name}.png").rename(root / folder / name / "1.png")
    write_mask(root / "SegmentationClass" / "t0" / "1.png", np.zeros((60, 80), np.uint8))
    lines = [f"JPEGImages/{name}/1.png SegmentationClass/{name}/1.png\n" for name in ("t0", "v0")]
    for split, text in (("train", lines[0]), ("val", lines[1]), ("trainval", "".join(lines))):
        list_file(root, split).write_text(text)
    absent = next(finding for finding in check(root) if finding.kind == "class-absent")
    assert absent.expected == "each class in at least one label of train"
    assert absent.got == "no label with 1 disc, 2 square"


def test_set_without_lists_is_refused(root):
    for split in ("train", "val"):
        list_file(root, split).unlink()
    with pytest.raises(DataError, match="expected lists in ImageSets/Segmentation"):
        check(root)


def test_test_split_whose_list_names_labels_that_do_not_exist_is_an_error(root):
    list_file(root, "test").write_text("/JPEGImages/v0.png /SegmentationClass/no.png\n")
    found = [(finding.kind, finding.severity) for finding in check(root) if finding.file == list_file(root, "test")]
    assert found == [("list-label", "error")]


def test_size_at_which_large_photos_are_worked_on_is_said(tmp_path):
    root = make_dataset(tmp_path / "large", train=3, val=1, size=(900, 1200))
    (finding,) = check(root)  # the square covers 22 x 26 pixels: 16 x 16 of them need 16 / sqrt(572) of 1,200
    assert (finding.kind, finding.severity) == ("image-large", "note")
    expected = "JPEGImages: 3 of 3 images to train on have more than 1,024 pixels a side, mostly 1,200; the recipe own "
    assert expected in finding.text
    assert "computes them at a size of 803 pixels (data.max_side), as the smallest objects need it" in finding.text
