"""Names of annotations find their own images, or none: never those of another folder."""

import json
import os
import unicodedata

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_coco, write_image, write_labelme, written_label
from closed_folder import closed
from PIL import Image

from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.formats.image_search import ImageSearch, files_below
from deeplabctl.errors import DataError

TREE = ("left/0.png", "right/0.png", "right/1.png", "deep/right/2.png", "3.png", "left/3.png")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("left/0.png", ["left/0.png"]),
        ("data/images/left/0.png", ["left/0.png"]),
        (r"..\images\right\0.png", ["right/0.png"]),
        (r"C:\photos\left\0.png", ["left/0.png"]),
        ("/home/me/set/right/1.png", ["right/1.png"]),
        ("https://host/right/1.png", ["right/1.png"]),
        ("1.png", ["right/1.png"]),  # the name says nothing of its folder, and there is only one
        ("right/2.png", ["deep/right/2.png"]),
        ("0.png", ["left/0.png", "right/0.png"]),
        ("left/1.png", []),  # only the other folder has it
        ("other/2.png", []),
        ("3.png", ["3.png"]),  # a name is a path
        ("x/3.png", ["3.png"]),
        ("x/left/3.png", ["left/3.png"]),
        ("./left/../right/0.png", ["right/0.png"]),
        ("gone.png", []), ("..", []), ("", []), ("a\0b", []), ("x" * 3000, []),
    ],
)  # fmt: skip
def test_name_finds_the_file_whose_folders_do_not_contradict_it(tmp_path, name, found):
    for file in TREE:
        write_image(tmp_path / file)
    assert [str(path.relative_to(tmp_path)) for path in ImageSearch([tmp_path]).find(name)] == found


def test_hidden_files_and_folders_that_are_linked_to_themselves_are_no_reason_to_stop(tmp_path):
    write_image(tmp_path / "left" / "a.png")
    write_image(tmp_path / ".trash" / "a.png")
    write_image(tmp_path / "__x" / "._a.png")
    (tmp_path / "left" / "again").symlink_to(tmp_path)
    assert ImageSearch([tmp_path]).find("a.png") == [tmp_path / "left" / "a.png"]


SHAPE = {"points": [[0, 0], [8, 0], [8, 6], [0, 6]]}


def _coco(root, names):
    write_coco(root, [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}], images=[])
    document = json.loads((root / "instances.json").read_text())
    square = document["annotations"].pop()
    for number, name in enumerate(names):
        document["images"].append({"id": number, "file_name": name, "height": 12, "width": 16})
        document["annotations"].append({**square, "image_id": number, "category_id": 1 + 2 * (number % 2)})
    (root / "instances.json").write_text(json.dumps(document))
    return root / "instances.json"


def _labelme(root, names):
    for number, name in enumerate(names):
        shape = {**SHAPE, "label": ("car", "tree")[number % 2]}
        write_labelme(root / "json", [shape], name=chr(ord("a") + number), imagePath=name)
        (root / "json" / f"{chr(ord('a') + number)}.jpg").unlink()
    return root / "json"


def _cvat(root, names):
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("car", "tree"))
    images = "".join(
        f'<image name="{name}" width="16" height="12">'
        f'<box label="{("car", "tree")[number % 2]}" xtl="0" ytl="0" xbr="8" ybr="6"/></image>'
        for number, name in enumerate(names)
    )
    (root / "annotations.xml").write_text(f"<annotations><labels>{labels}</labels>{images}</annotations>")
    return root / "annotations.xml"


@pytest.mark.parametrize("write", [_coco, _labelme, _cvat])
def test_same_names_in_two_folders_get_the_annotations_of_their_own(tmp_path, write):
    write_image(tmp_path / "photos" / "left" / "0.png", shade=1)
    write_image(tmp_path / "photos" / "right" / "0.png", shade=2)
    source = write(tmp_path, ["data/left/0.png", "data/right/0.png"])
    written, notes = convert(source, tmp_path / "out", images=tmp_path / "photos")
    assert len(written.train) == 2
    for name in written.train:
        image = (tmp_path / "out" / "JPEGImages" / f"{name}.png").read_bytes()
        side = "left" if image == (tmp_path / "photos" / "left" / "0.png").read_bytes() else "right"
        assert written_label(tmp_path / "out", name)[0, 0] == (1 if side == "left" else 2)
    assert any("2 images found in other folders than the annotations say: data/left/0.png is" in n for n in notes)


@pytest.mark.parametrize("write", [_coco, _labelme, _cvat])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0.png"], r"the name fits .*left/0\.png and .*right/0\.png; use `images`"),
        (["left/1.png"], "there is no such image; use `images`"),
        (["a/2.png", "b/2.png"], r"2\.png: expected one label for each image, got those of "),
    ],
)
def test_names_of_no_or_of_two_images_are_refused(tmp_path, write, names, message):
    for name in ("left/0.png", "right/0.png", "right/1.png", "2.png"):
        write_image(tmp_path / "photos" / name)
    with pytest.raises(DataError, match=message):
        convert(write(tmp_path, names), tmp_path / "out", images=tmp_path / "photos")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [_coco, _labelme, _cvat])
def test_folder_of_images_that_is_none_is_named(tmp_path, write):
    write_image(tmp_path / "photos" / "0.png")
    source = write(tmp_path, ["photos/0.png"])
    with pytest.raises(DataError, match=r"`images=.*fotos`: expected a folder, got none; name the folder of"):
        convert(source, tmp_path / "out", images=tmp_path / "fotos")
    with pytest.raises(DataError, match=r"`images=.*0\.png`: expected a folder, got a file"):
        convert(source, tmp_path / "out", images=tmp_path / "photos" / "0.png")


@pytest.mark.parametrize("write", [_coco, _labelme, _cvat])
@pytest.mark.parametrize(("in_file", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_letters_are_the_same(tmp_path, write, in_file, on_disk):
    write_image(tmp_path / "photos" / unicodedata.normalize(on_disk, "Brücke.png"))
    source = write(tmp_path, [unicodedata.normalize(in_file, "Brücke.png")])
    written, _ = convert(source, tmp_path / "out", images=tmp_path / "photos")
    assert not written.failed
    assert len(open_dataset(tmp_path / "out").samples("train")) == 1


@pytest.mark.skipif(os.sep == "\\", reason="names of files have no backslash on Windows")
@pytest.mark.parametrize("name", ["left/0.png", "left\\0.png"])
def test_backslashes_in_names_of_files_separate_folders(tmp_path, name):
    write_image(tmp_path / "left\\0.png")  # as a zip of Windows is unpacked elsewhere
    assert ImageSearch([tmp_path]).find(name) == [tmp_path / "left\\0.png"]


def _write_masks(root, names, suffix=""):
    for number, name in enumerate(names):
        mask = np.full(SIZE, number % 2, np.uint8)
        path = root / "masks" / f"{name}{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def test_suffixes_in_capitals_are_the_same_unless_a_file_has_the_very_name(tmp_path):
    for name in ("left/0.JPG", "left/1.JPG", "right/1.jpg"):
        write_image(tmp_path / name)
    search = ImageSearch([tmp_path])
    assert search.find("0.jpg") == [tmp_path / "left" / "0.JPG"]
    assert search.find("1.jpg") == [tmp_path / "right" / "1.jpg"]
    assert search.find("1.Jpg") == [tmp_path / "left" / "1.JPG", tmp_path / "right" / "1.jpg"]


def test_masks_in_subfolders_belong_to_the_images_of_the_same_folders(tmp_path):
    for name in ("left/0.png", "right/0.jpg", "1.png"):
        write_image(tmp_path / "images" / name)
    _write_masks(tmp_path, ["left/0", "right/0", "up/0"])
    written, notes = convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))
    assert written.train == ["left_0", "right_0"]
    assert written_label(tmp_path / "out", "left_0")[0, 0] == 0
    assert written_label(tmp_path / "out", "right_0")[0, 0] == 1
    assert notes == [
        "1 mask has no image: skipped (0.png)",
        f"images in folders without any mask are left out: 1 ({tmp_path / 'images'})",
    ]


def test_masks_in_folders_below_others_are_left_out_and_counted(tmp_path):
    write_image(tmp_path / "images" / "0.png")
    _write_masks(tmp_path, ["0", "previews/0", "previews/1"])
    written, notes = convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))
    assert written.train == ["0"]
    assert notes == [f"files in folders below {tmp_path / 'masks'}: 2 left out"]


def test_photo_and_drawn_annotation_of_one_name_are_not_told_apart(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        write_image(tmp_path / "images" / name)
    _write_masks(tmp_path, ["a", "b"])
    written, _ = convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))
    assert written.train == ["b"]
    assert len(written.failed) == 1
    assert "a.png: the name fits" in written.failed[0]


def test_two_masks_of_one_image_are_refused(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    _write_masks(tmp_path, ["a"])
    Image.fromarray(np.eye(*SIZE, dtype=np.uint8)).save(tmp_path / "masks" / "a.bmp")
    with pytest.raises(DataError, match=r"one mask for each image, got several for all of them: a\.bmp and a\.png"):
        convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))


@pytest.mark.parametrize("folder", ["images/Train", "images"])
def test_cvats_subsets_are_folders_of_a_project_and_say_nothing_in_a_task(tmp_path, folder):
    source = _cvat(tmp_path, ["0.png"])
    source.write_text(source.read_text().replace('name="0.png"', 'name="0.png" subset="Train"'))
    write_image(tmp_path / folder / "0.png")
    assert convert(source, tmp_path / "out")[0].train == ["0"]
    (tmp_path / folder / "0.png").unlink()
    write_image(tmp_path / "images" / "Test" / "0.png")
    with pytest.raises(DataError, match="there is no such image"):
        convert(source, tmp_path / "other")


def test_images_beside_the_annotations_come_before_those_of_the_folder_above(tmp_path):
    for name in ("images/0.png", "train/images/0.png", "images/1.png"):
        write_image(tmp_path / name)
    search = ImageSearch.beside(tmp_path / "train" / "instances.json", None)
    assert search.find("0.png") == [tmp_path / "train" / "images" / "0.png"]
    assert search.find("1.png") == [tmp_path / "images" / "1.png"]
    write_image(tmp_path / "train" / "0.png")
    assert len(ImageSearch.beside(tmp_path / "train" / "instances.json", None).find("0.png")) == 2


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("up/a%20b.png", "a b.png"),
        ("c%3Ad.png", "c:d.png"),
        ("e%20f.png", "e%20f.png"),
        ("/data/local-files/?d=a%20b.png", "a b.png"),
        ("20240101-c:d.png", None),  # a date, and no prefix of Label Studio's uploads
    ],
)
@pytest.mark.parametrize("by_stem", [False, True])
def test_names_of_urls_and_of_label_studios_local_files_are_found(tmp_path, name, found, by_stem):
    for file in ("a b.png", "c:d.png", "e%20f.png", "e f.png"):
        write_image(tmp_path / file)
    search = ImageSearch([tmp_path], by_stem=by_stem)
    assert search.find(name.removesuffix(".png") if by_stem else name) == ([tmp_path / found] if found else [])


def test_the_query_of_a_url_is_no_part_of_the_name(tmp_path):
    write_image(tmp_path / "a b.png")
    write_image(tmp_path / "c?d.png")
    search = ImageSearch([tmp_path])
    assert search.find("https://host/a%20b.png?key=x/y.png") == [tmp_path / "a b.png"]
    assert search.find("c?d.png") == [tmp_path / "c?d.png"]
    assert search.find("a b.png?d") == []


def test_names_of_urls_find_no_other_files(tmp_path):
    write_image(tmp_path / "images" / "a b.png")
    search = ImageSearch([tmp_path / "images"])
    assert search.find("gone%20.png") == []
    assert ImageSearch.beside(tmp_path / "json" / "a.json", None).find("a%20b.png") == [tmp_path / "images" / "a b.png"]


def test_folder_that_may_not_be_read_is_refused(tmp_path):
    """Half of a set would else be converted without the other half."""
    write_image(tmp_path / "a.png")
    with closed(tmp_path), pytest.raises(DataError, match=r"cannot read the folder .*: Permission denied; change its"):
        files_below(tmp_path)
    assert files_below(tmp_path / "gone") == []
