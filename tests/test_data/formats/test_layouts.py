"""Folders as other programs lay them out: splits, and masks and images whose names differ."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_coco, write_image, write_labelme, written_label
from PIL import Image

from deeplabctl.data.dataset import open_dataset
from deeplabctl.errors import DataError

LEFT = {"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 12, 0, 12]]}
CLASSES = ("background", "car", "tree")


def write_mask(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :8] = value
    Image.fromarray(mask).save(path)


def lists(written):
    return written.train, written.val, written.test


def test_roboflows_masks_have_their_classes_and_splits(tmp_path):
    """Images, masks that end in _mask, and _classes.csv, in one folder for each split."""
    for split, name in (("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d")):
        folder = tmp_path / "set" / split
        write_image(folder / f"{name}_jpg.rf.3f2a9c{name}.jpg", shade=ord(name))
        write_mask(folder / f"{name}_jpg.rf.3f2a9c{name}_mask.png", 2 if name == "b" else 1)
        (folder / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, leaf\n2, stem\n")
    written, notes = convert(tmp_path / "set", tmp_path / "out", val=None)
    assert written.classes == ("background", "leaf", "stem")
    assert lists(written) == (["a_jpg.rf.3f2a9ca", "b_jpg.rf.3f2a9cb"], ["c_jpg.rf.3f2a9cc"], ["d_jpg.rf.3f2a9cd"])
    assert written_label(tmp_path / "out", "b_jpg.rf.3f2a9cb")[0, [0, 8]].tolist() == [2, 0]
    assert open_dataset(tmp_path / "out").splits == ["test", "train", "val"]
    assert notes == [
        f"classes: {tmp_path / 'set' / 'valid' / '_classes.csv'}",
        "splits as in the source: train 2, val 1, test 1; use `val` for others",
    ]
    written, notes = convert(tmp_path / "set", tmp_path / "half", val=0.5)
    assert (len(written.train), len(written.val), written.test) == (1, 2, ["d_jpg.rf.3f2a9cd"])
    assert notes[1:] == ["splits in the source: train 2, val 1, test 1; test stays, and the others are split again"]
    (tmp_path / "set" / "test" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, stem\n2, leaf\n")
    with pytest.raises(DataError, match=r"_classes\.csv: expected the classes of .*_classes\.csv, got others"):
        convert(tmp_path / "set", tmp_path / "no")


@pytest.mark.parametrize(("masks", "images"), [("{}/masks", "{}/images"), ("masks/{}", "images/{}")])
def test_folders_of_images_without_masks_are_counted(tmp_path, masks, images):
    for place, name in (("north", "a"), ("north", "b"), ("south", "c"), ("south", "d"), ("west", "e")):
        write_image(tmp_path / "set" / images.format(place) / f"{name}.jpg", shade=ord(name))
        if place == "north":
            write_mask(tmp_path / "set" / masks.format(place) / f"{name}.png")
    source = tmp_path / "set" / "masks" if masks == "masks/{}" else tmp_path / "set"
    written, notes = convert(source, tmp_path / "out", classes=CLASSES)
    assert written.train == ["a", "b"]
    places = ", ".join(str(tmp_path / "set" / images.format(place)) for place in ("south", "west"))
    assert notes == [f"images in folders without any mask are left out: 3 ({places})"]


def test_a_data_set_keeps_its_own_lists(tmp_path):
    root = tmp_path / "set"
    for name in "abcdef":
        write_image(root / "JPEGImages" / f"{name}.jpg", shade=ord(name))
        write_mask(root / "SegmentationClass" / f"{name}.png")
    places = root / "ImageSets" / "Segmentation"
    places.mkdir(parents=True)
    (places / "Train.txt").write_text("a\r\nb\r\n")
    (places / "val.txt").write_text(
        "/JPEGImages/c.jpg /SegmentationClass/c.png\n/JPEGImages/d.jpg /SegmentationClassAug/d.png\n"
    )
    (places / "test.txt").write_text("e")
    (places / "trainval.txt").write_text("a\nb\nc\nd\n")
    (places / "val2.txt").write_text("a\n")  # of folds
    for number, source in enumerate((root, root / "SegmentationClass")):
        written, notes = convert(source, tmp_path / str(number), val=None, classes=CLASSES, rename={"tree": "bush"})
        assert lists(written) == (["a", "b"], ["c", "d"], ["e"])
        assert notes[0] == (
            f"masks that the lists in {places} do not name: 1 left out (f); lists of no known split are not read: "
            "trainval.txt, val2.txt"
        )
        assert notes[-1] == "splits as in the source: train 2, val 2, test 1; use `val` for others"
    written, notes = convert(root, tmp_path / "anew", val=0.25, classes=CLASSES)
    assert (len(written.train), len(written.val), written.test) == (3, 1, ["e"])
    (places / "val.txt").rename(places / "valid.txt")
    (places / "test.txt").write_text("a\ne")
    written, notes = convert(root, tmp_path / "valid", val=None, classes=CLASSES)
    assert lists(written) == (["b"], ["c", "d"], ["a", "e"])
    assert "masks in the lists of two splits: 1, taken for the last (a)" in notes
    for split in ("Train", "valid", "test"):
        (places / f"{split}.txt").write_text("x")
    with pytest.raises(DataError, match=r"masks that the lists in .* do not name: 6 left out .*; correct the lists"):
        convert(root, tmp_path / "out", val=None, classes=CLASSES)
    (places / "Train.txt").write_bytes(b"\xe9")
    with pytest.raises(DataError, match=r"cannot read .*Train\.txt: expected text in UTF-8"):
        convert(root, tmp_path / "out", val=None, classes=CLASSES)
    for path in places.iterdir():
        path.unlink()
    assert len(convert(root, tmp_path / "drawn", val=0.5, classes=CLASSES)[0].val) == 3


def test_roboflows_coco_files_of_splits_are_read_together(tmp_path):
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        write_coco(tmp_path / "set" / split, [LEFT], images=[f"{name}.jpg"])
        (tmp_path / "set" / split / "instances.json").rename(tmp_path / "set" / split / "_annotations.coco.json")
    written, _ = convert(tmp_path / "set", tmp_path / "out", val=None)
    assert lists(written) == (["a"], ["b"], ["c"])
    assert written.classes == ("background", "car", "tree")
    assert written.pixels == {0: 288, 1: 288}
    (tmp_path / "set" / "test").rename(tmp_path / "set" / "extra")
    write_image(tmp_path / "set" / "test" / "e.jpg")
    written, notes = convert(tmp_path / "set", tmp_path / "out", val=None, overwrite=True)
    assert lists(written) == (["a"], ["b"], [])
    assert f"{tmp_path / 'set' / 'test'}: no COCO's JSON in it, left out" in notes
    assert convert(tmp_path / "set", tmp_path / "out", val=None, format="coco", overwrite=True)[1] == notes
    others = "extra/_annotations.coco.json"
    assert f"other files of annotations in {tmp_path / 'set'}: 1 left out ({others})" in notes


def test_a_folder_of_one_split_and_instances_beside_other_files_of_coco_are_read(tmp_path):
    write_coco(tmp_path / "set" / "train", [LEFT])
    written, _ = convert(tmp_path / "set", tmp_path / "out", val=None)
    assert lists(written) == (["a"], [], [])
    (tmp_path / "coco").mkdir()
    write_coco(tmp_path / "coco", [LEFT]).rename(tmp_path / "coco" / "instances_train.json")
    stuff = write_coco(tmp_path / "coco", [])
    stuff.rename(tmp_path / "coco" / "stuff_train.json")
    written, _ = convert(tmp_path / "coco", tmp_path / "out", val=None, overwrite=True)
    assert written.pixels == {0: 96, 1: 96}


def test_cvats_coco_files_of_subsets_are_read_together(tmp_path):
    for subset, name in (("Train", "a"), ("Validation", "a")):
        write_coco(tmp_path / subset, [LEFT], images=[f"{subset}/{name}.jpg"])
        (tmp_path / "set" / "annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / subset / "instances.json").rename(tmp_path / "set" / "annotations" / f"instances_{subset}.json")
        write_image(tmp_path / "set" / "images" / subset / f"{name}.jpg", shade=len(subset))
    written, notes = convert(tmp_path / "set", tmp_path / "out", val=None)
    assert lists(written) == (["Train_a"], ["Validation_a"], [])
    assert notes == ["splits as in the source: train 1, val 1; use `val` for others"]
    for subset in ("Train", "Validation"):  # frames of a video have the same names in both
        path = tmp_path / "set" / "annotations" / f"instances_{subset}.json"
        path.write_text(path.read_text().replace(f"{subset}/", ""))
    written, _ = convert(tmp_path / "set", tmp_path / "out", val=None, overwrite=True)
    assert (len(written.train), len(written.val)) == (1, 1)
    (tmp_path / "set" / "annotations" / "instances_default.json").write_text(path.read_text())
    _, notes = convert(tmp_path / "set", tmp_path / "out", val=None, overwrite=True)
    others = "annotations/instances_default.json"
    assert f"other files of annotations in {tmp_path / 'set'}: 1 left out ({others})" in notes


def test_subsets_of_cvats_xml_are_splits(tmp_path):
    images = "".join(
        f'<image name="{name}.jpg" subset="{subset}" width="16" height="12">'
        '<box label="car" xtl="0" ytl="0" xbr="8" ybr="6"/></image>'
        for name, subset in (("a", "Train"), ("b", "Validation"))
    )
    for name in ("Train/a.jpg", "Validation/b.jpg"):
        write_image(tmp_path / "images" / name, shade=len(name))
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    written, _ = convert(tmp_path, tmp_path / "out", val=None)
    assert lists(written) == (["a"], ["b"], [])


def test_images_and_labels_may_have_folders_of_splits_in_them(tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("val", "a")):
        write_image(tmp_path / "set" / "images" / split / f"{name}.jpg", shade=len(split) + ord(name))
        write_mask(tmp_path / "set" / "labels" / split / f"{name}.png")
    for source in (tmp_path / "set", tmp_path / "set" / "labels"):
        written, _ = convert(source, tmp_path / "out", classes=CLASSES, val=None, overwrite=True)
        assert (len(written.train), len(written.val)) == (2, 1)
        assert written.val == ["val_a"]


def test_folders_of_splits_beside_others_are_said(tmp_path):
    for name in ("train/a", "train/b", "val/c", "train_extra/d"):
        write_image(tmp_path / "images" / f"{name}.jpg", shade=ord(name[-1]))
        write_mask(tmp_path / "masks" / f"{name}.png")
    written, notes = convert(tmp_path / "masks", tmp_path / "out", val=None, classes=CLASSES)
    assert len(written.train) == 3
    assert notes == [
        "folders named train, val are not taken as splits, as images are also in others: 1 of 4 (train_extra/d)"
    ]


def test_folders_of_labelmes_files_keep_their_splits_and_one_folder_alone_is_none(tmp_path):
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    for split in ("train", "test"):
        for name in "abcde":
            (tmp_path / "set" / split).mkdir(parents=True, exist_ok=True)
            write_labelme(tmp_path / "set" / split, [shape], name=name)
    written, _ = convert(tmp_path / "set", tmp_path / "out", val=None)
    assert (len(written.train), len(written.val), len(written.test)) == (4, 1, 5)
    written, _ = convert(tmp_path / "set" / "test", tmp_path / "alone", val=None)
    assert (len(written.train), len(written.val), len(written.test)) == (4, 1, 0)


def test_cityscapes_images_have_a_suffix_too(tmp_path):
    for split, city in (("train", "aachen"), ("val", "bonn")):
        stem = f"{split}/{city}/{city}_000000_000019"
        write_image(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", shade=len(city))
        write_mask(tmp_path / "gtFine" / f"{stem}_gtFine_labelIds.png", 1)
        write_mask(tmp_path / "gtFine" / f"{stem}_gtFine_instanceIds.png", 7)
        (tmp_path / "gtFine" / f"{stem}_gtFine_polygons.json").write_text(json.dumps({"imgWidth": 16, "objects": []}))
    settings = {"images": tmp_path / "leftImg8bit", "classes": CLASSES}
    message = "use `image_suffix=_leftImg8bit` and `mask_suffix=_gtFine_instanceIds`"
    with pytest.raises(DataError, match=message):
        convert(tmp_path / "gtFine", tmp_path / "out", **settings)
    settings |= {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"}
    written, notes = convert(tmp_path / "gtFine", tmp_path / "out", val=None, **settings)
    assert lists(written) == (["aachen_000000_000019"], ["bonn_000000_000019"], [])
    assert written.pixels == {0: 192, 1: 192}
    assert notes == ["splits as in the source: train 1, val 1; use `val` for others"]


def test_drives_names_are_understood_by_the_message(tmp_path):
    write_image(tmp_path / "images" / "21_training.tif")
    write_mask(tmp_path / "1st_manual" / "21_manual1.gif")
    with pytest.raises(DataError, match="use `image_suffix=_training` and `mask_suffix=_manual1`"):
        convert(tmp_path / "1st_manual", tmp_path / "out", images=tmp_path / "images", classes=CLASSES)
    settings = {"images": tmp_path / "images", "image_suffix": "_training", "mask_suffix": "_manual1"}
    written, _ = convert(tmp_path / "1st_manual", tmp_path / "out", classes=CLASSES, format="ids", **settings)
    assert written.train == ["21"]


def test_photo_and_mask_of_one_name_may_lie_in_one_folder(tmp_path):
    for name in ("a", "b", "c"):
        write_image(tmp_path / "x" / f"{name}.jpg", shade=ord(name))
        write_mask(tmp_path / "x" / f"{name}.png", 2)
    (tmp_path / "x" / "c.png").unlink()
    written, notes = convert(tmp_path / "x", tmp_path / "out", classes=CLASSES)
    assert written.train == ["a", "b"]
    assert written_label(tmp_path / "out", "b")[0, [0, 8]].tolist() == [2, 0]
    assert notes == [
        "masks are the PNG files beside images of the same name: 2",
        f"images without an annotation: 1 left out ({tmp_path / 'x' / 'c.jpg'})",
    ]
    write_image(tmp_path / "x" / "b.bmp")  # two images of one mask
    with pytest.raises(DataError, match=r"the name fits .*b\.bmp and .*b\.jpg"):
        raise DataError(convert(tmp_path / "x", tmp_path / "again", classes=CLASSES)[0].failed[0])


@pytest.mark.parametrize("suffix", ["", "_mask"])
@pytest.mark.parametrize("place", ["{}", "."])
def test_a_folder_of_masks_may_lie_in_that_of_the_images(tmp_path, monkeypatch, suffix, place):
    for name in ("a", "b"):
        write_image(tmp_path / "set" / f"{name}.jpg", shade=ord(name))
        write_mask(tmp_path / "set" / "masks" / f"{name}{suffix}.png")
    monkeypatch.chdir(tmp_path / "set")
    images = Path(place.format(tmp_path / "set"))
    written, notes = convert(images / "masks", tmp_path / "out", classes=CLASSES, images=images, mask_suffix=suffix)
    assert (written.train, notes) == (["a", "b"], [])
    assert written_label(tmp_path / "out", "b")[0, [0, 8]].tolist() == [1, 0]


def test_the_folder_of_the_images_may_be_given_by_its_whole_path(tmp_path, monkeypatch):
    for image, mask in (("images/a.png", "a.png"), ("b.jpg", "b.png")):
        root = tmp_path / image[0]
        write_image(root / image)
        write_mask(root / mask)
        monkeypatch.chdir(root)
        images = (root / image).parent
        written, notes = convert(Path(), tmp_path / f"{mask} out", classes=CLASSES, images=images)
        assert written.train == [mask[0]]
        beside = "masks are the PNG files beside images of the same name: 1"
        assert notes == ([beside] if images == root else [])
