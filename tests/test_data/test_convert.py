"""Annotated images are written as a data set in VOC layout."""

import base64
import json
import re
import tracemalloc

import numpy as np
import pytest
from annotation_files import SIZE, convert, exif_orientation, write_coco, write_image, write_labelme, written_label
from PIL import Image
from surroundings import snapshot
from tiff_files import tiff

from deeplabctl.data.check import check_dataset
from deeplabctl.data.convert import write_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.formats import read_annotations
from deeplabctl.data.formats.annotations import AnnotatedImage, Annotations, ImportSettings
from deeplabctl.data.images import read_image
from deeplabctl.data.layout import make_layout
from deeplabctl.errors import DataError, OutputError
from deeplabctl.reporting import Note, silent


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


def test_images_of_a_source_for_validation_inside_the_other_are_left_out_of_train(tmp_path):
    for place, name in (("one", "a"), ("one", "b"), ("two", "a")):
        write_image(tmp_path / "x" / place / "images" / f"{name}.jpg", shade=ord(name) + len(place) + ord(place[0]))
        (tmp_path / "x" / place / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(*SIZE, dtype=np.uint8) * 255).save(tmp_path / "x" / place / "masks" / f"{name}.png")
    source, events = tmp_path / "x", []
    first, second = (read_annotations(path, ImportSettings(), silent) for path in (source, source / "two"))
    written = write_dataset(first, tmp_path / "out", events.append, val=second)
    assert (len(written.train), len(written.val)) == (2, 1)
    texts = [event.text for event in events if isinstance(event, Note)]
    assert f"left out of train, as {source / 'two'} has them: 1 image" in texts
    with pytest.raises(DataError, match=r"expected images for training that are not in .*, got none: 3 images in both"):
        write_dataset(first, tmp_path / "none", silent, val=first)


@pytest.mark.parametrize("inside", [False, True])  # whether an annotation has its image inside
def test_outlines_of_a_source_for_validation_inside_the_other_are_left_out_of_train(tmp_path, inside):
    source, events = write_splits(tmp_path / "x", train=3, valid=2), []
    if inside:
        for path in (source / "valid").glob("*.jpg"):
            document = json.loads(path.with_suffix(".json").read_text())
            document["imageData"] = base64.b64encode(path.read_bytes()).decode()
            path.with_suffix(".json").write_text(json.dumps(document))
            path.unlink()
    first, second = (read_annotations(path, ImportSettings(), silent) for path in (source, source / "valid"))
    written = write_dataset(first, tmp_path / "out", events.append, val=second)
    assert (written.train, written.val) == (["a", "b", "c"], ["d", "e"])
    texts = [event.text for event in events if isinstance(event, Note)]
    assert texts == [f"left out of train, as {source / 'valid'} has them: 2 images"]


def test_labels_of_two_photos_that_find_the_same_image_are_refused(tmp_path):
    for split, names in (("train", "abc"), ("val", "ab")):
        (tmp_path / split).mkdir()
        for name in names:
            write_image(tmp_path / "photos" / f"{name}.jpg", shade=ord(name))
            mask = np.zeros(SIZE, np.uint8)
            mask[: 4 if (split, name) == ("val", "b") else 6] = 255
            Image.fromarray(mask).save(tmp_path / split / f"{name}.png")
    settings = ImportSettings(images=tmp_path / "photos")
    first, second = (read_annotations(tmp_path / split, settings, silent) for split in ("train", "val"))
    expected = (
        f"{tmp_path / 'photos' / 'b.jpg'}: expected the same label in {tmp_path / 'train'} and {tmp_path / 'val'}, got "
        "different ones (1 such image); if `val_source` has photos of its own, convert it separately; otherwise remove "
        "the wrong labels"
    )
    with pytest.raises(DataError, match=re.escape(expected)):
        write_dataset(first, tmp_path / "out", silent, val=second)


def write_splits(folder, letters="abcdefghi", **counts):
    """Write images with annotations in a folder for each split; returns the folder."""
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    names = iter(letters)
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        for _ in range(count):
            write_labelme(folder / split, [shape], name=next(names))
    return folder


def test_images_for_test_stay_where_the_others_are_split_anew(tmp_path):
    source = write_splits(tmp_path / "x", train=4, valid=2, test=3)
    written, notes = convert(source, tmp_path / "1", val=0.25)
    assert (len(written.train), len(written.val), written.test) == (4, 2, ["g", "h", "i"])
    assert notes == ["splits in the source: train 4, val 2, test 3; test stays, and the others are split again"]
    own, events = read_annotations(write_splits(tmp_path / "own", "yz", train=2), ImportSettings(), silent), []
    written = write_dataset(read_annotations(source, ImportSettings(), silent), tmp_path / "2", events.append, val=own)
    assert (len(written.train), written.val, written.test) == (6, ["y", "z"], ["g", "h", "i"])
    texts = [event.text for event in events if isinstance(event, Note)]
    assert texts[0] == "splits in the source: train 4, val 2, test 3; test stays, and the others are for training"


def test_source_without_images_for_training_is_split_only_where_that_is_asked_for(tmp_path):
    names = [*(f"valid/{name}.jpg" for name in "abcd"), *(f"test/{name}.jpg" for name in "efg")]
    source = write_coco(tmp_path / "x", [SQUARE], names)
    refused = r"json: expected images for training, got only val 4, test 3; use `val=0\.2` to split them again, which"
    with pytest.raises(DataError, match=refused):
        convert(source, tmp_path / "out", val=None)
    assert not (tmp_path / "out").exists()
    written, notes = convert(source, tmp_path / "out", val=0.25)
    assert (len(written.train), len(written.val), written.test) == (3, 1, ["e", "f", "g"])
    assert notes[0] == "splits in the source: val 4, test 3; test stays, and the others are split again"
    source = write_coco(tmp_path / "y", [SQUARE], names[4:])
    with pytest.raises(DataError, match=r"got only test 3; use `val=0\.2` to split them again$"):
        convert(source, tmp_path / "all", val=None)
    written, notes = convert(source, tmp_path / "all", val=0.25)
    assert (len(written.train), len(written.val), written.test) == (2, 1, [])
    assert notes[0] == "splits in the source: test 3; all are split again"


def test_share_in_place_of_a_sources_val_that_has_no_labels_is_said(tmp_path):
    source = write_splits(tmp_path / "x", train=3)
    (source / "val").mkdir()
    write_labelme(source / "val", [{"label": "ignore", "points": [[0, 0], [16, 0], [16, 12], [0, 12]]}], name="d")
    written, notes = convert(source, tmp_path / "out", val=None)
    assert (len(written.train), len(written.val)) == (2, 1)
    assert notes[-1] == "no image that the source has for val can be scored: val is a share of those for train instead"


def test_seed_that_chooses_nothing_is_refused(tmp_path):
    source = write_splits(tmp_path / "x", train=3, val=1)
    refused = "`seed` has no effect: .*{} says which images are for validation; remove it, or use `val` for a share"
    with pytest.raises(DataError, match=refused.format("x")):
        convert(source, tmp_path / "out", val=None, seed=0)
    own = read_annotations(many(tmp_path / "own", 2), ImportSettings(), silent)
    with pytest.raises(DataError, match=refused.format("own/x")):
        write_dataset(read_annotations(source, ImportSettings(), silent), tmp_path / "out", silent, val=own, seed=1)
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", val=0.5, seed=1)
    convert(write_splits(tmp_path / "y", train=3, test=1), tmp_path / "drawn", val=None, seed=1)


def test_images_of_validation_and_test_that_are_trained_on_are_named_by_their_content(tmp_path):
    source = write_splits(tmp_path / "x", train=3, val=2, test=1)
    for copy, image in (("val/d", "train/b"), ("test/f", "train/c")):
        (source / f"{copy}.jpg").write_bytes((source / f"{image}.jpg").read_bytes())
    _, notes = convert(source, tmp_path / "out", val=None)
    assert notes[1:] == [
        "images of val that are in train, too: 1 of 2 (d is b); a score on val is not fair",
        "images of test that are in train, too: 1 of 1 (f is c); a score on test is not fair",
    ]


def test_large_photos_are_written_smaller_with_their_labels(tmp_path):
    source = tmp_path / "x"
    write_labelme(source, [{"label": "lake", "points": [[0, 0], [400, 0], [400, 600], [0, 600]]}], name="a")
    write_labelme(source, [{"label": "lake", "points": [[0, 0], [4, 0], [4, 6], [0, 6]]}], name="b")
    document = json.loads((source / "a.json").read_text()) | {"imageHeight": 600, "imageWidth": 800}
    (source / "a.json").write_text(json.dumps(document | {"imageData": None}))
    photo = np.zeros((600, 800, 3), np.uint8)
    photo[:, :400] = 200
    Image.fromarray(photo).save(source / "a.jpg", quality=95)
    before = (source / "b.jpg").read_bytes()
    convert(source, tmp_path / "out", max_side=64)
    small = read_image(tmp_path / "out" / "JPEGImages" / "a.jpg")
    assert small.shape == (48, 64, 3)
    assert (small[:, :30] > 190).all()
    assert (small[:, 34:] < 10).all()
    expected = np.repeat([[1] * 32 + [0] * 32], 48, 0)
    assert np.abs(written_label(tmp_path / "out").astype(int) - expected)[:, [*range(31), *range(33, 64)]].max() == 0
    assert (tmp_path / "out" / "JPEGImages" / "b.jpg").read_bytes() == before  # small ones stay as they are


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
    counts = sum(np.bincount(written_label(tmp_path / "out", name).ravel(), minlength=256) for name in "ac")
    assert written.pixels == {value: count for value, count in enumerate(counts) if count}
    assert "images with only background and void: 1 left out of the lists (b)" in notes
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


def test_annotations_of_no_image_are_refused(tmp_path):
    source = write_coco(tmp_path, [], images=())
    with pytest.raises(DataError, match=r"instances\.json: expected annotated images, got none; export"):
        convert(source, tmp_path / "out")


def test_images_of_other_formats_become_pngs_and_jpegs_keep_their_bytes(tmp_path):
    source = write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    write_labelme(source, [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}], name="b", imagePath="b.bmp")
    write_image(source / "b.bmp")
    convert(source, tmp_path / "out")
    assert (tmp_path / "out" / "JPEGImages" / "a.jpg").read_bytes() == (source / "a.jpg").read_bytes()
    copied = read_image(tmp_path / "out" / "JPEGImages" / "b.png")
    np.testing.assert_array_equal(copied, read_image(source / "b.bmp"))


SQUARE = {"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}


def _read_masks(root):
    Image.fromarray(np.eye(*SIZE, dtype=np.uint8)).save(root / "set" / "SegmentationClass" / "a.png")
    write_image(root / "photos" / "a.png")
    settings = ImportSettings(classes=("background", "car"), images=root / "photos")
    return root / "set" / "SegmentationClass", settings


def _read_images(root):
    write_image(root / "set" / "JPEGImages" / "a.jpg")
    write_coco(root, [SQUARE])
    return root / "instances.json", ImportSettings(images=root / "set" / "JPEGImages")


def _read_a_link(root):
    """Name an image in another folder that is a link to one in the set."""
    write_image(root / "set" / "JPEGImages" / "b.jpg")
    source = write_labelme(root / "x", [{"label": "car", "points": [[0, 0], [8, 0], [8, 6]]}])
    (source / "a.jpg").unlink()
    (source / "a.jpg").symlink_to(root / "set" / "JPEGImages" / "b.jpg")
    return source, ImportSettings()


@pytest.mark.parametrize("read", [_read_masks, _read_images, _read_a_link])
@pytest.mark.parametrize("as_validation", [False, True])
def test_nothing_that_is_read_is_ever_replaced(tmp_path, read, as_validation):
    out = tmp_path / "set"
    make_layout(out)
    annotations = read_annotations(*read(tmp_path), silent)
    val = 0.2
    if as_validation:
        other = write_coco(tmp_path / "apart", [SQUARE])
        annotations, val = read_annotations(other, ImportSettings(), silent), annotations
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="expected a folder outside what is read"):
        write_dataset(annotations, out, silent, val=val, overwrite=True)
    assert not before.changes(snapshot(tmp_path))


def test_classes_are_read_back_as_the_annotations_have_them(tmp_path):
    source = write_labelme(tmp_path / "x", [{"label": "#1 ship", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]}])
    write_labelme(source, [{"label": "lane 1 2 3", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]}], name="b")
    written, _ = convert(source, tmp_path / "out")
    assert open_dataset(tmp_path / "out").classes == written.classes == ("background", "#1 ship", "lane 1 2 3")
    write_labelme(source, [{"label": "car ", "points": [[0, 0], [8, 0], [8, 6]]}], name="c")
    with pytest.raises(DataError, match=r"'car ': expected a name that a line of classes\.txt can hold"):
        convert(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("height", "width"),
    [
        ("x", 16), ([], 16), (12.5, 16), (True, 16), (-12, 16), (0, 0), (200_000, 200_000), (10**30, 16), (1e308, 16),
        (float("nan"), 16), (float("inf"), 16), (12, {}),
    ],
)  # fmt: skip
def test_one_image_of_an_odd_size_fails_alone_and_takes_no_memory(tmp_path, height, width):
    source = write_coco(tmp_path / "x", [SQUARE, {**SQUARE, "image_id": 8}], images=("a.jpg", "b.jpg"))
    document = json.loads(source.read_text())
    document["images"][0] |= {"height": height, "width": width}
    source.write_text(json.dumps(document))
    tracemalloc.start()
    written, _ = convert(source, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written.train == ["b"]
    assert len(written.failed) == 1
    assert "a.jpg" in written.failed[0]
    assert peak < 20 << 20


def test_size_that_annotations_do_not_give_is_the_images(tmp_path):
    source = write_coco(tmp_path / "x", [SQUARE])
    document = json.loads(source.read_text())
    document["images"][0] |= {"height": None, "width": 16.0}
    source.write_text(json.dumps(document))
    assert convert(source, tmp_path / "out")[0].train == ["a"]


@pytest.mark.parametrize("name", ["{}/secret.png", "../../{}/secret.png", "//{}/secret.png", "..\\..\\{}\\secret.png"])
def test_names_that_lead_out_of_the_folder_copy_nothing(tmp_path, name):
    write_image(tmp_path / "outside" / "secret.png")
    inside = name.format(tmp_path / "outside" if name.startswith("{") else "outside")
    source = write_coco(tmp_path / "a" / "b", [SQUARE])
    document = json.loads(source.read_text())
    document["images"][0]["file_name"] = inside
    source.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"secret\.png: there is no such image"):
        convert(source, tmp_path / "out")
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    with pytest.raises(DataError, match=r"secret\.png: there is no such image"):
        convert(write_labelme(tmp_path / "a" / "x", [shape], imagePath=inside), tmp_path / "out")
    write_image(tmp_path / "a" / "b" / "images" / "secret.png", shade=5)  # of this name in the folder
    convert(source, tmp_path / "out")
    copied = (tmp_path / "out" / "JPEGImages" / "secret.png").read_bytes()
    assert copied == (tmp_path / "a" / "b" / "images" / "secret.png").read_bytes()


def test_any_name_becomes_an_id_that_a_list_and_a_file_system_can_hold(tmp_path):
    names = [
        "//srv/x/a.jpg",
        "/y/a.jpg",
        "..",
        "",
        "\ud800",
        "é" * 300,
        ".hidden.jpg",
        "a\x00\x1b\x85b",
        "...",
        "a\u2028b.jpg",
        "~$lock.jpg",
    ]
    drawn = np.zeros(SIZE, np.uint8)
    drawn[0, 0] = 1
    path = write_image(tmp_path / "a.png")
    images = [AnnotatedImage(name, path, lambda size: drawn) for name in names]
    written = write_dataset(Annotations(("background", "car"), images), tmp_path / "out", silent, val=0.0)
    assert not written.failed
    ids = ["srv_x_a", "y_a", "image", "image-2", "image-3", "é" * 100, "hidden", "a_b", "image-4", "a_b-2", "lock"]
    assert sorted(written.train) == sorted(ids)
    assert [sample.id for sample in open_dataset(tmp_path / "out").samples("train")] == sorted(ids)


def test_ids_differ_in_more_than_case(tmp_path):
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    for name in ("A", "a"):
        write_labelme(tmp_path / "x", [shape], name=name)
    assert sorted(convert(tmp_path / "x", tmp_path / "out")[0].train) == ["A", "a-2"]


def test_images_that_exif_turns_without_a_change_of_size_are_named(tmp_path):
    source = many(tmp_path, 4)
    write_image(source / "b.jpg", exif=exif_orientation(3))
    _, notes = convert(source, tmp_path / "out")
    (note,) = notes
    assert note.startswith(
        "images turned by EXIF, without a size that says whether their labels are: 1 (b); they are taken as"
    )
    write_image(source / "c.jpg", size=SIZE, exif=exif_orientation(6))  # whose label has the size before the turn
    _, notes = convert(source, tmp_path / "out2")
    assert "as drawn after the turn, although others were drawn before it" in notes[0]


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_labels_of_tiffs_are_turned_with_them(tmp_path, orientation):
    source = many(tmp_path, 1)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:6, :8] = 200  # where the object is, in the stored pixels
    (source / "a.jpg").write_bytes(tiff(pixels, t274=orientation))
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6], [0, 6]], "shape_type": "polygon"}
    document = json.loads((source / "a.json").read_text()) | {"shapes": [shape]}
    (source / "a.json").write_text(json.dumps(document))
    convert(source, tmp_path / "out")
    image, label = read_image(tmp_path / "out" / "JPEGImages" / "a.png"), written_label(tmp_path / "out")
    assert image.shape[:2] == label.shape == (SIZE if orientation == 1 else SIZE[::-1])
    np.testing.assert_array_equal(label == 1, image[..., 0] == 200)


def test_conversion_says_what_was_assumed_of_an_image(tmp_path):
    source = many(tmp_path, 1)
    page = np.zeros((*SIZE, 3), np.uint8)
    (source / "a.jpg").write_bytes(tiff(page, page))
    assert convert(source, tmp_path / "out")[1] == ["a: several pages, the first of which is taken"]


def test_several_images_of_which_the_same_was_assumed_are_one_line(tmp_path):
    source = many(tmp_path, 3)
    page = np.zeros((*SIZE, 3), np.uint8)
    for shade, name in enumerate("abc"):
        (source / f"{name}.jpg").write_bytes(tiff(page + np.uint8(shade), page))
    assert convert(source, tmp_path / "out")[1] == [
        "a (and 2 others: b, c): several pages, the first of which is taken"
    ]


def test_a_turned_image_whose_size_the_annotations_do_not_say_is_named(tmp_path):
    source = many(tmp_path, 1)
    write_image(source / "a.jpg", exif=exif_orientation(6))
    document = json.loads((source / "a.json").read_text())
    (source / "a.json").write_text(json.dumps(document | {"imageHeight": None, "imageWidth": None}))
    (note,) = convert(source, tmp_path / "out")[1]
    assert note.startswith("images turned by EXIF, without a size that says whether their labels are: 1 (a);")


def test_new_names_that_are_renamed_themselves_are_refused(tmp_path):
    with pytest.raises(DataError, match="`rename`: expected new names that are not renamed themselves, got lake"):
        convert(many(tmp_path, 1), tmp_path / "out", rename={"lake": "sea", "pond": "lake"})
