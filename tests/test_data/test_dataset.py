"""Data sets are found, and the samples of their lists."""

import os
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data import dataset as module
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import lacks_label, name_or_path, open_dataset, spread_evenly
from deeplabctl.errors import DataError, OutputError
from deeplabctl.reporting import Note, silent


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set")


def list_file(root, split):
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def test_samples_are_found_in_the_order_of_the_list(root):
    dataset = open_dataset(root)
    assert dataset.classes == ("background", "disc", "square")
    assert dataset.splits == ["train", "val"]
    assert [sample.id for sample in dataset.samples("train")] == ["t0", "t1", "t2", "t3"]
    sample = dataset.samples("val")[1]
    assert sample.image == root / "JPEGImages" / "v1.png"
    assert sample.label == root / "SegmentationClass" / "v1.png"


def test_without_class_names_the_classes_are_vocs(root):
    (root / "classes.txt").unlink()
    events = []
    dataset = open_dataset(root, events.append)
    assert dataset.classes == VOC_CLASSES
    assert dataset.is_voc
    assert events == [Note(f"no classes.txt in {root}: using the 21 classes of VOC")]


def test_other_classes_are_not_taken_for_vocs(root):
    (root / "classes.txt").rename(root / "labelmap.txt")
    with pytest.raises(DataError, match=r"expected classes\.txt, got labelmap\.txt of CVAT's masks; convert"):
        open_dataset(root)
    (root / "classes.txt").symlink_to(root / "gone.txt")
    with pytest.raises(DataError, match=r"cannot read the class names .*No such file"):
        open_dataset(root)


@pytest.mark.parametrize(("name", "is_vocs"), [("2007_000027", True), ("2012_004331", True), ("2024_000027", False)])
def test_classes_are_not_said_of_vocs_own_images(root, name, is_vocs):
    (root / "classes.txt").unlink()
    for path in (root / "JPEGImages").iterdir():
        path.unlink()
    Image.new("RGB", (8, 8)).save(root / "JPEGImages" / f"{name}.jpg")
    events = []
    assert open_dataset(root, events.append).is_voc
    assert (events == []) == is_vocs


@pytest.mark.parametrize(
    "text",
    [
        "t0\r\nt1\r\n",
        "t0\nt1",
        "\ufefft0\n\nt1\n",
        "/JPEGImages/t0.png /SegmentationClass/t0.png\n/JPEGImages/t1.png /SegmentationClass/t1.png",
        "JPEGImages/t0.png SegmentationClass/t0.png\r\nJPEGImages/t1.png\tSegmentationClass/t1.png\r\n",
    ],
)
def test_lists_in_every_notation_read_the_same(root, text):
    list_file(root, "train").write_bytes(text.encode())
    samples = open_dataset(root).samples("train")
    assert [(sample.id, sample.label.name) for sample in samples] == [("t0", "t0.png"), ("t1", "t1.png")]


def write_pairs(root, *images):
    """Write small images under other folders, and a list of pairs of them with the labels t0, t1, ..."""
    for number, name in enumerate(images):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (number, 0, 0)).save(path)
    lines = (f"{name} SegmentationClass/t{number}.png\n" for number, name in enumerate(images))
    list_file(root, "train").write_text("".join(lines))


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (["a/x/1.png", "a/y/2.png"], ["1", "2"]),
        (["a/x/1.png", "a/y/1.png", "a/y/2.png"], ["x/1", "y/1", "y/2"]),
        (["a/1.png", "a/b/1.png"], ["1", "b/1"]),
        (["JPEGImages/t0.png", "new/t0.png"], ["JPEGImages/t0", "new/t0"]),
        (["x/1.jpg", "x/1.png"], ["1.jpg", "1.png"]),
        (["../outside/1.png", "x/1.png"], ["outside/1", "set/x/1"]),
        (["x/1.png", "x/1.png", "x/../x/1.png"], ["1", "1", "1"]),
    ],
)
def test_images_of_one_name_in_several_folders_have_different_ids(root, images, ids):
    write_pairs(root, *images)
    assert [sample.id for sample in open_dataset(root).samples("train")] == ids


def test_ids_and_pairs_in_one_list_have_different_ids(root):
    write_pairs(root, "x/t3.png")
    with list_file(root, "train").open("a") as file:
        file.write("t3\n")
    assert [sample.id for sample in open_dataset(root).samples("train")] == ["x/t3", "JPEGImages/t3"]


def test_folders_are_listed_once_however_many_labels_are_missing(root, monkeypatch):
    names = [f"n{number}" for number in range(200)]
    for name in names:
        Image.new("RGB", (8, 8)).save(root / "JPEGImages" / f"{name}.png")
    (root / "SegmentationClass" / "n7.tif").touch()
    list_file(root, "train").write_text("".join(f"{name}\n" for name in names))
    listed = []
    listdir = os.listdir
    monkeypatch.setattr("os.listdir", lambda folder: listed.append(folder) or listdir(folder))
    findings = list(open_dataset(root).entries("train"))
    assert [finding.kind for finding in findings] == ["list-label"] * 200
    assert findings[7].got == "n7.tif"
    assert len(listed) <= 4


def test_training_prefers_augmented_labels_and_validation_vocs(root):
    augmented = root / "SegmentationClassAug"
    augmented.mkdir()
    for name in ("t0", "v0"):
        (root / "SegmentationClass" / f"{name}.png").rename(augmented / f"{name}.png")
    (augmented / "t1.png").write_bytes((augmented / "t0.png").read_bytes())
    (augmented / "v1.png").write_bytes((augmented / "v0.png").read_bytes())
    dataset = open_dataset(root)
    folders = {sample.id: sample.label.parent.name for split in ("train", "val") for sample in dataset.samples(split)}
    assert folders == {
        "t0": "SegmentationClassAug", "t1": "SegmentationClassAug", "t2": "SegmentationClass",
        "t3": "SegmentationClass", "v0": "SegmentationClassAug", "v1": "SegmentationClass",
    }  # fmt: skip


def test_augmented_split_is_the_default_if_there_is_one(root):
    assert open_dataset(root).training_split == "train"
    list_file(root, "train_aug").write_text("t0\n")
    assert open_dataset(root).training_split == "train_aug"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t0\nt9\n", r"train\.txt:2: no image for 't9'.*JPEGImages.*correct the list"),
        ("t0 t1 t2\n", r"train\.txt:1: expected an image id, or an image and a label path, got 3 columns"),
        ("JPEGImages/t0.png SegmentationClass/zz.png", r"train\.txt:1: the label .*zz\.png does not exist"),
        ("\n\n", r"train\.txt: expected one sample per line, got an empty list"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", r"train\.txt: expected a text file"),
    ],
)
def test_broken_list_is_named_with_its_line(root, text, message):
    list_file(root, "train").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(root).samples("train")
    assert "\n" not in str(caught.value)


def test_missing_label_is_named_with_its_expected_path(root):
    (root / "SegmentationClass" / "t1.png").unlink()
    with pytest.raises(DataError, match=r"train\.txt:2: no label for 't1'.*SegmentationClass/t1\.png"):
        open_dataset(root).samples("train")


def test_hidden_files_are_neither_lists_nor_images(root):
    for name in ("ImageSets/Segmentation/._train.txt", "JPEGImages/._t0.png", "SegmentationClass/._t0.png"):
        (root / name).write_bytes(b"\0\5\x16\7")
    dataset = open_dataset(root)
    assert dataset.splits == ["train", "val"]
    assert len(dataset.samples("train")) == 4


@pytest.mark.parametrize(("in_list", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_letters_of_ids_are_the_same(root, in_list, on_disk):
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder / "t0.png").rename(root / folder / f"{unicodedata.normalize(on_disk, 'Brücke')}.png")
    list_file(root, "train").write_text(unicodedata.normalize(in_list, "Brücke"))
    (sample,) = open_dataset(root).samples("train")
    assert sample.image.is_file()
    assert sample.label.is_file()


def test_paths_of_windows_in_a_list_are_paths(root):
    list_file(root, "train").write_text("JPEGImages\\t0.png SegmentationClass\\t0.png\r\n")
    assert open_dataset(root).samples("train")[0].label == root / "SegmentationClass" / "t0.png"


def test_two_images_of_one_id_are_refused(root):
    (root / "JPEGImages" / "t1.jpg").write_bytes((root / "JPEGImages" / "t1.png").read_bytes())
    with pytest.raises(DataError, match=r"train\.txt:2: several images for 't1': expected one, got t1\.jpg, t1\.png"):
        open_dataset(root).samples("train")


def test_list_that_is_a_link_to_nothing_is_named_with_its_target(root):
    list_file(root, "val").unlink()
    list_file(root, "val").symlink_to("../lists/val.txt")
    with pytest.raises(DataError, match=r"val\.txt: expected a list, got a link to \.\./lists/val\.txt, which is miss"):
        open_dataset(root).samples("val")


def test_unknown_split_is_refused_with_a_guess(root):
    with pytest.raises(DataError, match="did you mean 'train'"):
        open_dataset(root).samples("trian")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_names_that_no_file_can_have_are_not_there(root, name):
    with pytest.raises(DataError, match="has no split"):
        open_dataset(root).samples(name)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(root / name)


@pytest.mark.parametrize("part", ["", "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_folder_that_the_user_may_not_read_is_named(root, monkeypatch, part):
    closed = root / part
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed)
    with pytest.raises(DataError, match=rf"expected folders that this user may read, got {closed}; change its perm"):
        open_dataset(root)


def test_folders_that_are_not_data_sets_are_refused(tmp_path, root):
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data set https://a\.org/set: expected a folder, got an address; download it"):
        open_dataset("https://a.org/set")
    with pytest.raises(DataError, match="expected the folder JPEGImages"):
        open_dataset(root / "JPEGImages")
    (tmp_path / "VOCdevkit").mkdir()
    root.rename(tmp_path / "VOCdevkit" / "VOC2012")
    with pytest.raises(DataError, match=r"did you mean .*VOCdevkit/VOC2012"):
        open_dataset(tmp_path)


def test_items_are_spread_evenly():
    assert spread_evenly(range(10), 4) == [0, 2, 5, 7]
    assert spread_evenly(range(3), 8) == [0, 1, 2]


def test_folder_with_the_name_of_the_built_in_set_is_not_taken_unsaid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "shapes")
    monkeypatch.setattr(module, "user_cache", lambda: tmp_path / "cache")
    make_dataset(tmp_path / "cache" / "shapes-v1" / "shapes")
    events = []
    assert open_dataset("shapes", events.append).root == tmp_path / "cache" / "shapes-v1" / "shapes"
    text = "data set: the built-in shapes; the folder of that name is `data=./shapes`"
    assert events == [Note(text, warning=True)]
    for other in ("./shapes", Path("shapes")):
        assert open_dataset(other, events.append).root.resolve() == tmp_path / "shapes"
    (tmp_path / "shapes").rename(tmp_path / "other")
    events.clear()
    open_dataset("shapes", events.append)
    assert events == []


def test_user_without_a_home_can_use_a_data_set_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "user_cache", lambda: None)
    dataset = open_dataset(str(make_dataset(tmp_path / "set")), [].append)
    assert name_or_path(dataset) == str(tmp_path / "set")
    with pytest.raises(OutputError, match=r"expected a home folder to draw it in, got none; set \$HOME"):
        open_dataset("shapes", [].append)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("spelling", ["NFC", "NFD"])
def test_letters_may_be_composed_in_the_list_and_decomposed_on_the_disk(root, spelling, columns):
    other = {"NFC": "NFD", "NFD": "NFC"}[spelling]
    image, label = (unicodedata.normalize(form, "Br\u00fccke") for form in (spelling, other))
    shutil.move(root / "JPEGImages" / "t0.png", root / "JPEGImages" / f"{image}.png")
    shutil.move(root / "SegmentationClass" / "t0.png", root / "SegmentationClass" / f"{label}.png")
    line = label if columns == 1 else f"JPEGImages/{label}.png SegmentationClass/{image}.png"
    list_file(root, "train").write_text(f"{line}\n", "utf-8")
    (sample,) = open_dataset(root).samples("train")
    assert (sample.image.stem, sample.label.stem) == (image, label)
    assert sample.image.is_file()
    assert sample.label.is_file()


def test_what_other_programs_leave_is_no_part_of_a_set(root):
    for folder, name in (("JPEGImages", "._t0.png"), ("SegmentationClass", "._t0.png"), ("JPEGImages", "~$t0.jpg")):
        (root / folder / name).write_bytes(b"Mac OS X")
    for name in ("._train.txt", ".#val.txt", "~$val.txt"):
        (root / "ImageSets" / "Segmentation" / name).write_bytes(b"Mac OS X")
    os.mkfifo(root / "ImageSets" / "Segmentation" / "pipe.txt")
    (root / "ImageSets" / "Segmentation" / ".#train.txt").symlink_to("user@host.1234")  # of Emacs: a lock
    assert open_dataset(root).splits == ["train", "val"]
    assert [finding.text for finding in check_dataset(open_dataset(root), silent).findings] == []


def test_pipe_and_heic_are_no_images_of_a_set(root):
    (root / "JPEGImages" / "t0.png").unlink()
    os.mkfifo(root / "JPEGImages" / "t0.png")
    with pytest.raises(DataError, match=r"no image for 't0': expected .*, got none"):
        open_dataset(root).samples("train")
    (root / "JPEGImages" / "t0.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image for 't0': expected .*, got t0\.heic"):
        open_dataset(root).samples("train")


def test_folder_of_annotations_is_answered_by_the_command_that_converts_it(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=rf"convert annotations with: deeplabctl data convert {tmp_path} --out"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("photo.jpg", "choose the folder of a data set"),
        ("a.json", "convert annotations with: deeplabctl data convert {} --out SET"),
        ("a.yml", "convert annotations with: deeplabctl data convert {} --out SET"),
        ("a.YAML", "convert annotations with: deeplabctl data convert {} --out SET"),
    ],
)
def test_a_file_is_not_a_data_set(tmp_path, name, fix):
    path = tmp_path / name
    path.touch()
    expected = f"data set {path}: expected a folder in VOC layout, got a file; {fix.format(path)}"
    with pytest.raises(DataError, match=re.escape(expected)):
        open_dataset(path)


def test_a_device_is_not_a_data_set():
    with pytest.raises(DataError, match=f"{os.devnull}: expected a folder in VOC layout, got a pipe or a device"):
        open_dataset(os.devnull)


@pytest.mark.parametrize(
    ("line", "lacks"),
    [("t0", True), ("t1", False), ("t9", False), ("JPEGImages/t0.png SegmentationClass/t0.png", False)],
)
def test_only_an_image_that_its_id_names_lacks_a_label(root, line, lacks):
    (root / "SegmentationClass" / "t0.png").unlink()
    list_file(root, "test").write_text(f"{line}\n")
    assert list(map(lacks_label, open_dataset(root).entries("test"))) == [lacks]
