"""Masks in colours, grey levels, class ids, or black and white become data sets."""

import struct
import zlib

import numpy as np
import pytest
from annotation_files import SIZE, convert, exif_orientation, write_image, written_label
from PIL import Image
from tiff_files import tiff

from deeplabctl.class_files import Palette, read_palette
from deeplabctl.classes import VOC_CLASSES, ClassNames, voc_palette
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.image_files import open_image
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import is_lossy, read_label
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent


@pytest.fixture
def halves():
    mask = np.zeros(SIZE, int)
    mask[:, 8:] = 1
    mask[:3] = 2
    return mask


def write_masks(tmp_path, values, mode=None):
    """Write images a and b with a mask of these values each."""
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.jpg", shade=ord(name))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = Image.fromarray(np.asarray(values, np.uint8))
        (mask.convert(mode) if mode else mask).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path / "masks"


def write_palette(tmp_path, text):
    (tmp_path / "palette.txt").write_text(text)
    return read_palette(tmp_path / "palette.txt")


def test_coloured_masks_become_ids_by_the_palette_file(tmp_path, halves):
    colors = np.array([[10, 20, 30], [128, 64, 128], [0, 0, 0]])
    source = write_masks(tmp_path, colors[halves])
    table = write_palette(tmp_path, "ground 10 20 30\nroad #804080\nvoid 0,0,0\n")
    written, _ = convert(source, tmp_path / "out", palette=table)
    assert written.classes == ("ground", "road")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.array([0, 1, 255])[halves])
    assert (tmp_path / "out" / "classes.txt").read_text() == "10 20 30 ground\n128 64 128 road\n"
    assert open_dataset(tmp_path / "out").classes.colors == ((10, 20, 30), (128, 64, 128))
    with Image.open(tmp_path / "out" / "SegmentationClass" / "a.png") as mask:
        assert mask.getpalette()[:6] == [10, 20, 30, 128, 64, 128]
    assert read_image(tmp_path / "out" / "JPEGImages" / "a.jpg").shape == (*SIZE, 3)
    assert open_dataset(tmp_path / "out").classes == ("ground", "road")
    assert check_dataset(open_dataset(tmp_path / "out"), silent).errors == 0


@pytest.mark.parametrize("names", [("background", "cat", "dog"), VOC_CLASSES])
def test_classes_with_colours_are_those_of_masks_in_colours(tmp_path, halves, names):
    """They are VOC's colours in another order."""
    colors = [*map(tuple, voc_palette()[: len(names)].tolist())]
    names = ClassNames(names, [colors[0], colors[2], colors[1], *colors[3:]])
    convert(write_masks(tmp_path, np.array(names.colors)[halves]), tmp_path / "out", classes=names)
    np.testing.assert_array_equal(written_label(tmp_path / "out"), halves)


def test_palette_pngs_are_read_by_colour_with_a_palette_and_by_index_without(tmp_path, halves):
    source = write_masks(tmp_path, halves)
    for path in source.iterdir():
        with Image.open(path) as mask:
            indexed = mask.convert("P")
        indexed.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
        indexed.putdata(halves.ravel().tolist())
        indexed.save(path)
    convert(source, tmp_path / "ids", classes=("x", "y", "z"))
    np.testing.assert_array_equal(written_label(tmp_path / "ids"), halves)
    convert(source, tmp_path / "colours", palette=write_palette(tmp_path, "red 200 0 0\nblack 0 0 0\ngrey 9 9 9\n"))
    np.testing.assert_array_equal(written_label(tmp_path / "colours"), np.array([1, 2, 0])[halves])


def test_grey_levels_become_ids_by_the_palette_file(tmp_path, halves):
    source = write_masks(tmp_path, np.array([0, 128, 255])[halves])
    convert(source, tmp_path / "out", palette=write_palette(tmp_path, "ground 0\nroad 128\nlake 255\n"))
    np.testing.assert_array_equal(written_label(tmp_path / "out"), halves)


def test_class_ids_stay_and_255_stays_void(tmp_path, halves):
    source = write_masks(tmp_path, np.array([0, 1, 255])[halves])
    convert(source, tmp_path / "out", classes=("ground", "road"))
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.array([0, 1, 255])[halves])


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_black_and_white_masks_become_two_classes(tmp_path, mode):
    mask = np.zeros(SIZE)
    mask[2:9, 3:7] = 255
    source = write_masks(tmp_path, mask, mode)
    written, _ = convert(source, tmp_path / "out", classes=("background", "cell"))
    assert written.classes == ("background", "cell")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), (mask > 0).astype(int))
    np.testing.assert_array_equal(written_label(tmp_path / "out", "b"), (mask > 0).astype(int))


def test_soft_borders_of_black_and_white_masks_are_cut_in_the_middle(tmp_path):
    source = write_masks(tmp_path, np.tile([0, 10, 127, 128, 200, 255, 255, 0], (12, 2)))
    _, notes = convert(source, tmp_path / "out", format="binary")
    assert written_label(tmp_path / "out")[0, :8].tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert notes == ["50.00% of the pixels are neither 0 nor 255 (10, 127, 128, 200): thresholded in the middle"]
    source = write_masks(tmp_path, np.tile([0, 1], (12, 8)))
    _, notes = convert(source, tmp_path / "out", format="binary", overwrite=True)
    assert notes == []
    assert written_label(tmp_path / "out")[0, :2].tolist() == [0, 1]


def test_vocs_colours_are_read_if_the_classes_are_named(tmp_path, halves):
    source = write_masks(tmp_path, np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]])[halves])
    convert(source, tmp_path / "out", classes=VOC_CLASSES)
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.array([0, 1, 255])[halves])


def test_cvats_masks_are_read_by_their_labelmap(tmp_path, halves):
    for name in "ab":
        write_image(tmp_path / "photos" / f"{name}.png", shade=ord(name))
        (tmp_path / "task" / "SegmentationClass").mkdir(parents=True, exist_ok=True)
        colors = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
        Image.fromarray(colors[halves]).save(tmp_path / "task" / "SegmentationClass" / f"{name}.png")
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,50,83::\ntree:51,221,255::\n"
    (tmp_path / "task" / "labelmap.txt").write_text(text)
    written, notes = convert(tmp_path / "task", tmp_path / "out", images=tmp_path / "photos")
    assert written.classes == ("background", "car", "tree")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), halves)
    assert any("labelmap.txt" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([0, 100, 200], {}, r"cannot tell what the 3 values of the masks mean \(0, 100, 200\); use `palette`"),
        ([0, 1, 2], {}, r"cannot tell what the 3 values of the masks mean.*`classes` if they are class ids"),
        (
            [0, 1, 7],
            {"classes": ("a", "b")},
            r"a\.png: expected class ids of the given classes, got 1 other .*7 \(25\.00%\); use `classes` to name",
        ),
        ([0, 255, 1], {"format": "colors"}, "expected a palette for masks in colours"),
        ([0, 255, 1], {"format": "binary", "classes": ("a", "b", "c")}, "expected 2 classes for black-and-white masks"),
        (
            [0, 1, 1],
            {"format": "ids", "classes": ("a", "b"), "palette": Palette(("a", "b"), ((0, 0, 0), (1, 2, 3)), ())},
            "`palette` has no effect with `format=ids`",
        ),
    ],
)
def test_values_that_can_be_meant_in_two_ways_are_refused_with_the_option_to_use(
    tmp_path, halves, values, settings, message
):
    source = write_masks(tmp_path, np.array(values)[halves])
    with pytest.raises(DataError, match=message):
        convert(source, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_colours_that_are_not_in_the_palette_are_named_or_become_void(tmp_path, halves):
    source = write_masks(tmp_path, np.array([[0, 0, 0], [9, 9, 9], [1, 2, 3]])[halves])
    table = write_palette(tmp_path, "ground 0 0 0\nroad 9 9 9\n")
    with pytest.raises(
        DataError, match=r"a\.png: expected values of the palette, got 1 other in all masks: 1 2 3 \(25"
    ):
        convert(source, tmp_path / "out", palette=table)
    _, notes = convert(source, tmp_path / "out", palette=table, unknown="void")
    assert notes[-1].endswith("got 1 other in all masks: 1 2 3 (25.00%), which become void")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.array([0, 1, 255])[halves])


def test_greys_that_are_not_in_a_palette_of_colours_are_named_as_colours(tmp_path, halves):
    source = write_masks(tmp_path, np.array([[60, 16, 152], [155, 155, 155]])[np.minimum(halves, 1)])
    table = write_palette(tmp_path, "building #3C1098\nroad #6EC1E4\n")
    with pytest.raises(DataError, match=r"got 1 other in all masks: #9B9B9B \(\d.*%\); use `palette` to name"):
        convert(source, tmp_path / "out", palette=table)


def test_photographs_and_jpegs_are_not_masks(tmp_path):
    write_masks(tmp_path, np.zeros(SIZE))
    write_image(tmp_path / "masks" / "a.png", size=(60, 60))
    with pytest.raises(DataError, match=r"a\.png: expected a mask.*more than 1,024 colours"):
        convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))


def test_masks_with_a_suffix_find_their_images_and_without_the_setting_the_error_guesses_it(tmp_path, halves):
    for name in "ab":
        write_image(tmp_path / "all" / f"{name}.jpg", shade=ord(name))
        Image.fromarray(halves.astype(np.uint8)).save(tmp_path / "all" / f"{name}_L.png")
    with pytest.raises(DataError, match="use `mask_suffix=_L`"):
        convert(tmp_path / "all", tmp_path / "out", classes=("x", "y", "z"))
    with pytest.raises(DataError, match=r"expected masks whose names end in _msk \(`mask_suffix`\), got none"):
        convert(tmp_path / "all", tmp_path / "out", classes=("x", "y", "z"), mask_suffix="_msk")
    written, _ = convert(tmp_path / "all", tmp_path / "out", classes=("x", "y", "z"), mask_suffix="_L")
    assert written.train == ["a", "b"]


def test_the_suffixes_of_several_kinds_of_masks_are_named(tmp_path):
    for name in ("IMG_1", "IMG_12"):
        write_image(tmp_path / f"{name}.jpg")
        for suffix in ("_instance", "_semantic", "_semantic_colored"):
            Image.new("L", SIZE[::-1]).save(tmp_path / f"{name}{suffix}.png")
    with pytest.raises(DataError, match=r"use `mask_suffix` to choose one of _instance, _semantic, _semantic_colored$"):
        convert(tmp_path, tmp_path / "out", classes=("x", "y"))


def save_grey(path, values, bits):
    """Write a grey PNG of 1, 2, 4 or 8 bits a pixel, by hand: Pillow writes 8."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in np.asarray(values, np.uint8):
        numbers = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]
        rows += b"\0" + np.packbits(numbers.ravel()).tobytes()
    height, width = np.shape(values)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [(1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (4, 8), (8, 8)])
@pytest.mark.parametrize("palette", [None, "ground 0\nroad 1\nlake 2\nvoid 255\n"])
def test_values_of_few_bits_stay_as_they_are(tmp_path, halves, bits, palette):
    masks = {name: np.minimum(halves, 2 ** min(number, 2) - 1) for name, number in zip("ab", bits, strict=True)}
    for (name, mask), number in zip(masks.items(), bits, strict=True):
        write_image(tmp_path / "images" / f"{name}.jpg", shade=ord(name))
        save_grey(tmp_path / "masks" / f"{name}.png", mask, number)
        np.testing.assert_array_equal(read_label(tmp_path / "masks" / f"{name}.png"), mask)
    settings = {"palette": write_palette(tmp_path, palette)} if palette else {"classes": ("ground", "road", "lake")}
    convert(tmp_path / "masks", tmp_path / "out", **settings)
    for name, mask in masks.items():
        np.testing.assert_array_equal(written_label(tmp_path / "out", name), mask)


@pytest.mark.parametrize(("kind", "got"), [(np.int8, "signed ones"), (np.int16, "-1"), (np.int32, "-1")])
def test_values_below_0_are_refused(tmp_path, halves, kind, got):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.tif").write_bytes(tiff((halves - 1).astype(kind)))
    with pytest.raises(DataError, match=rf"a\.tif: expected values from 0 to 255, got {got}; write 8-bit labels"):
        convert(tmp_path / "masks", tmp_path / "out", classes=("x", "y", "z"))


@pytest.mark.parametrize("bands", [3, 4])
def test_colours_of_16_bits_are_refused(tmp_path, bands):
    """Pillow keeps the upper 8 bits only, which are 0 where a program wrote 0 to 255."""
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.tif").write_bytes(tiff(np.full((*SIZE, bands), 200, np.uint16)))
    table = write_palette(tmp_path, "x 0 0 0\ny 200 200 200\n")
    with pytest.raises(DataError, match=r"a\.tif: expected values of 8 bits, got 16 bits; write 8-bit labels"):
        convert(tmp_path / "masks", tmp_path / "out", palette=table)


@pytest.mark.parametrize("settings", [{}, {"format": "binary"}, {"palette": "ground 0\ncell 255\n"}])
def test_black_and_white_of_few_bits_is_black_and_white(tmp_path, settings):
    mask = np.zeros(SIZE, int)
    mask[2:9, 3:7] = 1
    write_image(tmp_path / "images" / "a.jpg")
    save_grey(tmp_path / "masks" / "a.png", mask, 1)
    if settings:
        write_image(tmp_path / "images" / "b.jpg")
        save_grey(tmp_path / "masks" / "b.png", 255 * mask, 8)
    if "palette" in settings:
        settings = {"palette": write_palette(tmp_path, settings["palette"])}
    convert(tmp_path / "masks", tmp_path / "out", **settings)
    for name in "ab" if settings else "a":
        np.testing.assert_array_equal(written_label(tmp_path / "out", name), mask)


def test_255_beside_masks_of_1_bit_is_void_or_the_object_only_if_that_is_said(tmp_path):
    mask = np.eye(*SIZE, dtype=int)
    for name, bits in (("a", 1), ("b", 8)):
        write_image(tmp_path / "images" / f"{name}.jpg", shade=bits)
        save_grey(tmp_path / "masks" / f"{name}.png", mask * (1 if bits == 1 else 255), bits)
    with pytest.raises(DataError, match="cannot tell what 255 means in masks of 8 bits beside others of 1 bit"):
        convert(tmp_path / "masks", tmp_path / "out", classes=("a", "b"))
    convert(tmp_path / "masks", tmp_path / "1", classes=("a", "b"), format="binary")
    np.testing.assert_array_equal(written_label(tmp_path / "1", "b"), mask)
    convert(tmp_path / "masks", tmp_path / "2", classes=("a", "b"), format="ids")
    np.testing.assert_array_equal(written_label(tmp_path / "2", "b"), 255 * mask)


def write_pair(tmp_path, name, mask):
    write_image(tmp_path / "images" / f"{name}.jpg", shade=ord(name[0]))
    (tmp_path / "masks").mkdir(exist_ok=True)
    return tmp_path / "masks", mask


@pytest.mark.parametrize("mode", ["P", "L"])
def test_gifs_are_masks(tmp_path, mode):
    mask = np.zeros(SIZE, np.uint8)
    mask[2:9, 3:7] = 1 if mode == "P" else 255
    image = Image.fromarray(mask)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255])
    source, _ = write_pair(tmp_path, "a", mask)
    image.save(source / "a.gif")
    written, _ = convert(source, tmp_path / "out")
    assert written.classes == ("background", "object")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), mask > 0)
    image.save(source / "a.gif", save_all=True, append_images=[Image.fromarray(255 - mask)])
    with pytest.raises(DataError, match=r"a\.gif: expected one label, got several frames"):
        convert(source, tmp_path / "other")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_masks_in_which_0_is_white_can_mean_two_things(tmp_path, suffix):
    """A palette of white and black, or a TIFF of 1 bit as tifffile and scikit-image write it."""
    mask = np.eye(*SIZE, dtype=np.uint8)
    source, _ = write_pair(tmp_path, "a", mask)
    if suffix == "png":
        image = Image.fromarray(mask)
        image.putpalette([255, 255, 255, 0, 0, 0])
        image.save(source / "a.png")
    else:
        (source / "a.tif").write_bytes(tiff(np.packbits(mask, axis=1), photometric=0, bits=1, t256=mask.shape[1]))
    with pytest.raises(DataError, match=r"in which 0 is white and 1 is black; use `format=ids`.*`format=binary`"):
        convert(source, tmp_path / "out", classes=("a", "b"))
    convert(source, tmp_path / "ids", classes=("a", "b"), format="ids")
    np.testing.assert_array_equal(written_label(tmp_path / "ids"), mask)
    convert(source, tmp_path / "binary", classes=("a", "b"), format="binary")
    np.testing.assert_array_equal(written_label(tmp_path / "binary"), 1 - mask)


def test_palette_of_one_colour_says_nothing(tmp_path, halves):
    """Pillow makes one of a TIFF's colours that were written with 8 of their 16 bits."""
    source, _ = write_pair(tmp_path, "a", halves)
    image = Image.fromarray(halves.astype(np.uint8))
    image.putpalette([0, 0, 0] * 256)
    image.save(source / "a.png")
    with pytest.raises(DataError, match=r"a\.png: expected a palette with the colours .*, got #000000 at all indices"):
        convert(source, tmp_path / "out", palette=write_palette(tmp_path, "x 0 0 0\ny 9 9 9\n"))


@pytest.mark.parametrize(("suffix", "options"), [
    ("jpg", {"quality": 90}), ("tif", {"compression": "jpeg"}), ("png", {"format": "JPEG"}),
    ("webp", {"quality": 60}),
])  # fmt: skip
def test_ids_and_colours_of_lossy_files_are_refused_everywhere(tmp_path, halves, suffix, options):
    source, _ = write_pair(tmp_path, "a", halves)
    Image.fromarray(halves.astype(np.uint8)).save(source / f"a.{suffix}", **options)
    table = write_palette(tmp_path, "".join(f"class{level} {level}\n" for level in range(100)))
    for settings in ({"classes": VOC_CLASSES}, {"palette": table}, {"palette": table, "unknown": "void"}):
        with pytest.raises(DataError, match=r"a\.\w+: expected a PNG of class ids, got a JPEG"):
            convert(source, tmp_path / "out", **settings)
    with pytest.raises(DataError, match=r"a\.\w+: expected a PNG of class ids, got a JPEG"):
        read_label(source / f"a.{suffix}")


@pytest.mark.parametrize("lossless", [True, False])
def test_compression_of_a_webp_is_seen_behind_its_profile(tmp_path, halves, lossless):
    profile = bytes(np.random.default_rng(0).integers(0, 256, 9001, np.uint8))
    path = tmp_path / "a.webp"
    Image.fromarray(halves.astype(np.uint8)).convert("RGB").save(path, lossless=lossless, icc_profile=profile)
    assert path.read_bytes().find(b"VP8L" if lossless else b"VP8 ") > 9000
    with open_image(path) as opened:
        assert is_lossy(opened) != lossless


def test_jpegs_of_black_and_white_are_cut_in_the_middle_if_that_is_said(tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 16:48] = 255
    source, _ = write_pair(tmp_path, "a", mask)
    write_image(tmp_path / "images" / "a.jpg", size=mask.shape)
    Image.fromarray(mask).save(source / "a.jpg", quality=80)
    convert(source, tmp_path / "out", format="binary")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), mask > 0)


def test_one_damaged_mask_fails_alone_and_hidden_files_are_none(tmp_path, halves):
    source = write_masks(tmp_path, halves)
    for name in ("._a.png", ".DS_Store", "~$b.png"):
        (source / name).write_bytes(b"\0\5\x16\7")
    (source / "b.png").write_bytes(b"\x89PNG")
    written, _ = convert(source, tmp_path / "out", classes=("x", "y", "z"))
    assert written.train == ["a"]
    assert len(written.failed) == 1
    assert "b.png" in written.failed[0]


def test_other_values_become_the_background_if_that_is_asked_for(tmp_path, halves):
    source = write_masks(tmp_path, np.array([0, 1, 7])[halves])
    convert(source, tmp_path / "out", classes=("background", "car"), unknown="background")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.array([0, 1, 0])[halves])


def test_colours_below_transparent_pixels_are_no_classes(tmp_path, halves):
    colors = np.array([[0, 0, 0, 0], [128, 64, 128, 255], [0, 0, 142, 255]])[halves]
    table = write_palette(tmp_path, "background 0 0 0\nroad 128 64 128\ncar 0 0 142\n")
    convert(write_masks(tmp_path, colors), tmp_path / "out", palette=table)
    np.testing.assert_array_equal(written_label(tmp_path / "out"), halves)
    white = write_palette(tmp_path, "background 255 255 255\nroad 128 64 128\ncar 0 0 142\n")
    colors[halves == 0, :3] = 255
    convert(write_masks(tmp_path, colors), tmp_path / "white", palette=white)
    np.testing.assert_array_equal(written_label(tmp_path / "white"), halves)
    colors[halves == 2, 3] = 0  # erased
    with pytest.raises(
        DataError, match=r"a\.png: expected black below transparent pixels, got other colours there, 62\.50%"
    ):
        convert(write_masks(tmp_path, colors), tmp_path / "erased", palette=white)


def test_ids_and_white_that_are_transparent_are_refused(tmp_path, halves):
    ids = np.stack([halves, np.where(halves == 2, 0, 255)], axis=-1)
    drawn = np.where(halves[..., None] == 1, [255, 255, 255, 255], [255, 255, 255, 0])
    for values, classes in ((ids, "abc"), (drawn, "ab")):
        with pytest.raises(DataError, match="expected black below transparent pixels"):
            convert(write_masks(tmp_path, values), tmp_path / "out", classes=tuple(classes))


def test_masks_that_only_transparency_shows_are_refused(tmp_path, halves):
    cut_out = np.stack([0 * halves] * 3 + [np.where(halves == 1, 255, 0)], axis=-1)
    with pytest.raises(DataError, match=r"a\.png: expected values in the colours of a label, got black in all pixels"):
        convert(write_masks(tmp_path, cut_out), tmp_path / "out", classes=("background", "cell"))


def test_one_mask_that_cannot_be_read_does_not_stop_the_others(tmp_path, halves):
    source = write_masks(tmp_path, halves)
    write_image(tmp_path / "images" / "c.png")
    (source / "b.png").unlink()
    (source / "b.png").symlink_to("nowhere.png")
    Image.fromarray(halves.astype(np.uint8)).save(source / "c.png", save_all=True, append_images=[Image.new("L", SIZE)])
    written, notes = convert(source, tmp_path / "out", classes=("a", "b", "c"))
    assert (written.train, len(written.failed)) == (["a"], 2)
    assert any("b.png: expected a file, got a link to nowhere.png" in note for note in notes)
    assert any("c.png: expected one label, got several frames" in note for note in notes)


def test_colours_beside_class_ids_are_refused_whatever_unknown_values_become(tmp_path, halves):
    source = write_masks(tmp_path, halves)
    Image.fromarray(voc_palette()[halves]).save(source / "b.png")
    with pytest.raises(
        DataError, match=r"or colours in all, got 1 in a\.png and 128 0 0 in b\.png; convert them separately"
    ):
        convert(source, tmp_path / "out", classes=VOC_CLASSES, unknown="void")


def test_images_of_other_formats_are_counted(tmp_path, halves):
    source = write_masks(tmp_path, halves)
    for name in ("b.DNG", "c.gif", "d.gif"):
        (tmp_path / "images" / name).write_bytes(b"")
    _, notes = convert(source, tmp_path / "out", classes=("a", "b", "c"))
    assert notes == ["images of other formats are left out: 1 .dng, 2 .gif; convert them to JPEG or PNG"]


def test_classes_of_a_palette_whose_names_hardly_differ_are_said(tmp_path, halves):
    source = write_masks(tmp_path, np.array([[0, 215, 255], [0, 0, 0], [9, 9, 9]])[halves])
    table = write_palette(tmp_path, "Background 0 215 255\nbackground 0 0 0\nbone 9 9 9\n")
    _, notes = convert(source, tmp_path / "out", palette=table)
    assert any("'Background' and 'background' are different classes" in str(note) for note in notes)


@pytest.mark.parametrize("order", [[0, 255], [255, 0]])
@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_gif_masks_are_read_by_their_colours(tmp_path, mode, order):
    mask = np.zeros(SIZE, np.uint8)
    mask[2:7, 3:9] = 255
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    write_image(tmp_path / "images" / "a.jpg")
    if mode == "P":
        image = Image.fromarray((mask != order[0]).astype(np.uint8))
        image.putpalette([level for level in order for _ in range(3)])
    else:
        image = Image.fromarray(mask).convert(mode)
    image.save(tmp_path / "masks" / "a_mask.gif")
    convert(tmp_path / "masks", tmp_path / "out", images=tmp_path / "images", mask_suffix="_mask")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), mask // 255)


def test_mask_that_exif_turns_is_refused(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "masks" / "a.png", exif=exif_orientation(6))
    with pytest.raises(DataError, match="expected a label that is stored upright, got EXIF orientation 6"):
        convert(tmp_path / "masks", tmp_path / "out", images=tmp_path / "images", classes=("a", "b"))


def test_hidden_files_are_no_masks_or_images(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "._a.png").write_bytes(b"Mac OS X")
    write_image(tmp_path / "images" / "a.png")
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "masks" / "a.png")
    written, _ = convert(tmp_path / "masks", tmp_path / "out", images=tmp_path / "images", classes=("a", "b"))
    assert written.train == ["a"]


def test_folders_of_masks_beside_folders_of_images_are_read_together(tmp_path):
    for shade, place in enumerate(("Tile 1", "Tile 2", "far/Tile 1")):
        write_image(tmp_path / "set" / place / "images" / "a.jpg", shade=shade)
        (tmp_path / "set" / place / "masks").mkdir()
        values = np.full(SIZE, shade, np.uint8)
        Image.fromarray(values).save(tmp_path / "set" / place / "masks" / "a.png")
    convert(tmp_path / "set", tmp_path / "out", classes=("x", "y", "z"))
    found = {path.stem: int(read_label(path)[0, 0]) for path in (tmp_path / "out" / "SegmentationClass").iterdir()}
    assert found == {"Tile_1_a": 0, "Tile_2_a": 1, "far_Tile_1_a": 2}
    for place in ("Tile 1", "Tile 2", "far/Tile 1"):
        name = f"{place}/a.jpg".replace(" ", "_").replace("/", "_")
        source = tmp_path / "set" / place / "images" / "a.jpg"
        assert (tmp_path / "out" / "JPEGImages" / name).read_bytes() == source.read_bytes()
    (tmp_path / "set" / "Tile 2" / "overlays").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "set" / "Tile 2" / "overlays" / "a.png")
    with pytest.raises(DataError, match="expected one folder of masks beside images, got masks, overlays"):
        convert(tmp_path / "set", tmp_path / "other", classes=("x", "y", "z"))


@pytest.mark.parametrize("images", [None, "images"])
def test_masks_of_one_class_each_are_refused_in_one_line(tmp_path, images):
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.jpg", shade=ord(name))
        for kind in ("car", "road"):
            (tmp_path / "masks" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "masks" / kind / f"{name}.png")
    source, images = (tmp_path, None) if images is None else (tmp_path / "masks", tmp_path / "images")
    with pytest.raises(DataError, match=r"got several for all of them: (masks/)?car/a\.png and (masks/)?road/a\.png"):
        convert(source, tmp_path / "out", images=images, classes=("background", "object"))


def test_folder_of_images_and_folder_of_masks_are_read_without_a_note(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "masks" / "a.png")
    written, notes = convert(tmp_path, tmp_path / "out", classes=("a", "b"))
    assert (written.train, notes) == (["a"], [])


def test_masks_of_other_names_than_their_images_are_refused_with_one_of_each(tmp_path):
    for name in ("x", "y"):
        write_image(tmp_path / "set" / name / "images" / f"{name}.png", shade=ord(name))
        (tmp_path / "set" / name / "masks").mkdir()
        Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "set" / name / "masks" / f"1{name}.png")
    with pytest.raises(DataError, match=r"named after their images, got 1x\.png and x\.png, for example; rename them"):
        convert(tmp_path / "set", tmp_path / "out", classes=("a", "b"))


def test_vocs_numbers_of_objects_are_no_class_ids(tmp_path):
    write_image(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "SegmentationObject").mkdir()
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "SegmentationObject" / "a.png")
    with pytest.raises(DataError, match="got VOC's numbers of objects; choose SegmentationClass beside it"):
        convert(tmp_path / "SegmentationObject", tmp_path / "out", classes=("a", "b"))
