"""A fixed copy has fixes that need no guess, and the source keeps its bytes."""

import numpy as np
import pytest
from dataset_files import make_dataset
from PIL import Image
from png_files import blank_png

from deeplabctl.classes import VOC_CLASSES, ClassNames, voc_grey_ids
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.fixing import write_fixed_copy
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import color_ids, read_label, write_mask
from deeplabctl.data.layout import write_class_names
from deeplabctl.errors import DataError, OutputError
from deeplabctl.reporting import silent


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set", train=5, val=2)


def fix(root, out, **options):
    dataset = open_dataset(root)
    done = write_fixed_copy(dataset, check_dataset(dataset, silent), out, silent, **{"overwrite": False} | options)
    return {str(file): what for file, what in done}


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def label_file(root, name):
    return root / "SegmentationClass" / f"{name}.png"


def test_colours_grey_levels_turned_labels_and_lists_are_fixed_in_the_copy_only(root, tmp_path):
    labels = {name: read_label(label_file(root, name)) for name in ("t0", "t1", "t2")}
    with Image.open(label_file(root, "t0")) as mask:
        mask.convert("RGB").save(label_file(root, "t0"))
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("L").save(label_file(root, "t1"))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "JPEGImages" / "t2.png") as picture:
        picture.save(root / "JPEGImages" / "t2.png", exif=exif)
    listing = root / "ImageSets" / "Segmentation" / "train.txt"
    listing.write_bytes(b"/JPEGImages/t0.png /SegmentationClass/t0.png\r\nt1\r\nt2\r\n\r\nt3\r\nt4")
    before = files(root)

    done = fix(root, tmp_path / "copy")
    assert set(done) == {
        "SegmentationClass/t0.png", "SegmentationClass/t1.png", "SegmentationClass/t2.png",
        "ImageSets/Segmentation/train.txt",
    }  # fmt: skip
    assert files(root) == before
    copy = tmp_path / "copy"
    np.testing.assert_array_equal(read_label(label_file(copy, "t0")), labels["t0"])
    np.testing.assert_array_equal(read_label(label_file(copy, "t1")), labels["t1"])
    np.testing.assert_array_equal(read_label(label_file(copy, "t2")), np.rot90(labels["t2"], -1))  # EXIF 6: clockwise
    assert read_image(copy / "JPEGImages" / "t2.png").shape[:2] == read_label(label_file(copy, "t2")).shape
    fixed_list = copy / "ImageSets" / "Segmentation" / "train.txt"
    assert fixed_list.read_bytes() == b"JPEGImages/t0.png SegmentationClass/t0.png\nt1\nt2\nt3\nt4\n"
    assert check_dataset(open_dataset(copy), silent).findings == []
    assert {name: content for name, content in files(copy).items() if name not in done} == {
        name: content for name, content in before.items() if name not in done
    }


def test_label_of_two_turned_images_is_turned_once(root, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("t0", "t1"):
        with Image.open(root / "JPEGImages" / f"{name}.png") as picture:
            picture.save(root / "JPEGImages" / f"{name}.png", exif=exif)
    lines = "".join(f"JPEGImages/{name}.png SegmentationClass/t0.png\n" for name in ("t0", "t1"))
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(lines)
    fix(root, tmp_path / "copy")
    turned = np.rot90(read_label(label_file(root, "t0")), -1)
    np.testing.assert_array_equal(read_label(label_file(tmp_path / "copy", "t0")), turned)


def test_colours_of_the_sets_own_palette_become_ids(root, tmp_path):
    colors = [(70, 70, 70), (1, 200, 3), (128, 64, 128)]
    for path in (root / "SegmentationClass").iterdir():
        with Image.open(path) as mask:
            own = mask.copy()
        own.putpalette([value for color in colors for value in color] + [5] * 759)  # void has (5, 5, 5)
        own.save(path)
    before = read_label(label_file(root, "t1"))
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("RGB").save(label_file(root, "t1"))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "JPEGImages" / "t2.png") as picture:
        picture.save(root / "JPEGImages" / "t2.png", exif=exif)
    assert {*fix(root, tmp_path / "copy")} == {"SegmentationClass/t1.png", "SegmentationClass/t2.png"}
    np.testing.assert_array_equal(read_label(label_file(tmp_path / "copy", "t1")), before)
    assert check_dataset(open_dataset(tmp_path / "copy"), silent).errors == 0  # fixed labels have the palette of others


def test_colours_of_the_list_of_classes_become_ids(root, tmp_path):
    """They are VOC's in another order, and no label has a palette."""
    names = open_dataset(root).classes
    colors = [(0, 0, 0), (0, 128, 0), (128, 0, 0)][: len(names)]
    write_class_names(root, ClassNames(names, colors))
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(read_label(path)).save(path)
    before = np.minimum(read_label(label_file(root, "t1")), len(names) - 1)
    Image.fromarray(np.array(colors, np.uint8)[before]).save(label_file(root, "t1"))
    fix(root, tmp_path / "copy")
    np.testing.assert_array_equal(read_label(label_file(tmp_path / "copy", "t1")), before)


def test_what_would_need_a_guess_stays_as_it_is(root, tmp_path):
    Image.new("RGB", (80, 60), (1, 2, 3)).save(label_file(root, "t0"))
    Image.new("RGB", (80, 60), (128, 128, 0)).save(label_file(root, "t3"))  # VOC's class 3, of which there is none here
    Image.new("RGBA", (80, 60), (128, 0, 0, 0)).save(label_file(root, "t4"))  # class 1, erased
    Image.fromarray(np.where(np.arange(4800).reshape(60, 80) % 2, 255, 0).astype(np.uint8)).save(label_file(root, "t1"))
    label = read_label(label_file(root, "t2"))
    label[0, 0] = 99
    write_mask(label_file(root, "t2"), label)
    before = files(root)
    assert fix(root, tmp_path / "copy") == {}
    assert files(tmp_path / "copy") == before


def test_grey_levels_that_two_classes_share_are_not_fixed(root, tmp_path):
    assert voc_grey_ids(21)[38] == {1, 16}  # aeroplane and potted plant: 128 * 0.299 = 64 * 0.587 = 38
    (root / "classes.txt").unlink()  # VOC's 21
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("L").save(label_file(root, "t1"))
    assert fix(root, tmp_path / "copy") == {}


def test_label_of_too_many_pixels_is_left_to_the_check(root, tmp_path):
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("RGB").save(label_file(root, "t1"))
    label_file(root, "t0").write_bytes(blank_png(20000, 20000))
    assert list(fix(root, tmp_path / "copy")) == ["SegmentationClass/t1.png"]


def test_link_to_nothing_is_named_as_what_cannot_be_read(root, tmp_path):
    (root / "JPEGImages" / "t9.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"cannot read .*t9\.png: expected a file, got a link to gone\.png, which does"):
        fix(root, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_copy_is_whole_or_not_there_and_nothing_is_overwritten(root, tmp_path, monkeypatch):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not an empty folder"):
        fix(root, tmp_path / "copy")
    with pytest.raises(OutputError, match="expected a data set in VOC layout to replace"):
        fix(root, tmp_path / "copy", overwrite=True)
    with pytest.raises(OutputError, match="outside the data set"):
        fix(root, root / "copy")
    fix(root, tmp_path / "other")
    fix(root, tmp_path / "other", overwrite=True)
    monkeypatch.setattr("deeplabctl.data.fixing._fix_list", lambda *_: 1 / 0)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(b"v0\r\nv1")
    with pytest.raises(ZeroDivisionError):
        fix(root, tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "other", "set"]


def test_classes_of_one_colour_are_refused_where_colours_are_ids():
    classes = ClassNames(("background", "road", "sky"), ((0, 0, 0), (1, 2, 3), (1, 2, 3)))
    with pytest.raises(DataError, match="expected different colours for 'road' and 'sky', got \\(1, 2, 3\\) for both"):
        color_ids(classes)
    assert color_ids(VOC_CLASSES)[224, 224, 192] == 255
