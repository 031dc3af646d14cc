import io
import warnings
import zlib

import numpy as np
import pytest
from annotation_files import exif_orientation, write_image
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from png_files import blank_png, grey_png, png
from tiff_files import tiff

from deeplabctl.classes import VOC_CLASSES, voc_palette
from deeplabctl.data.images import as_image, decode_image, memory_to_read, read_image
from deeplabctl.data.labels import color_ids, decode_colors, mask_bytes, read_label, turn_upright, write_mask
from deeplabctl.errors import DataError, OutputError


@pytest.fixture
def picture():
    rows, columns = np.mgrid[:30, :50]
    return np.stack([rows * 8, columns * 5, 255 - rows * 4], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_read_exactly(tmp_path, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), picture)


def test_jpeg_reads_as_rgb(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture).mean() < 2


def test_grey_becomes_three_equal_channels(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(picture[..., :1], 3, 2))


@pytest.mark.parametrize(("suffix", "kind"), [("png", "<u2"), ("tiff", "<u2"), ("tiff", ">u2")])  # ImageJ's is the last
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix, kind):
    values = np.linspace(0, 65535, 1500).astype(kind).reshape(30, 50)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    read = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read[..., 1], np.rint(values / 257).astype(np.uint8))


def test_float_tiff_between_zero_and_one_is_scaled(tmp_path):
    Image.fromarray(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)).save(tmp_path / "a.tiff")
    read = read_image(tmp_path / "a.tiff")
    assert read.min() == 0
    assert read.max() == 255


def test_transparent_parts_become_white_and_opaque_ones_stay(tmp_path, picture):
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:10] = 0
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (read[:10] == 255).all()
    np.testing.assert_array_equal(read[10:], picture[10:])


def test_grey_with_alpha_and_transparent_palettes_read(tmp_path, picture):
    grey = np.dstack([picture[..., 0], np.full(picture.shape[:2], 255, np.uint8)])
    Image.fromarray(grey).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png")[..., 2], picture[..., 0])
    palette = Image.fromarray(picture[..., 0] // 64).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "p.png", transparency=0)
    read = read_image(tmp_path / "p.png")
    assert (read[0, 0] == 255).all()
    np.testing.assert_array_equal(read[-1, 0], [100, 110, 120])


def test_cmyk_jpeg_keeps_its_colours(tmp_path, picture):
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, picture, orientation):
    upright = Image.fromarray(picture)
    # What a camera stores for a scene that looks like ``picture``: the inverse of what the tag asks viewers to do.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", "known format [(]JPEG, PNG, WebP, BMP, TIFF, AVIF[)]"),
        (b"", "known format"),
        (None, "no such file"),
    ],
)
def test_other_content_than_an_image_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_image_is_an_error_not_half_an_image(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or truncated"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("read", [read_image, read_label])
def test_sound_image_of_too_many_pixels_is_not_called_damaged(tmp_path, read):
    (tmp_path / "a.png").write_bytes(blank_png(20000, 20000))
    message = (
        r"a\.png: expected at most 178,956,970 pixels, got 400,000,000; scale it down, or cut it into smaller ones"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.png")


def test_image_of_many_pixels_is_read_without_a_warning(tmp_path):
    (tmp_path / "a.png").write_bytes(blank_png(10000, 9000))
    assert read_label(tmp_path / "a.png").shape == (9000, 10000)


def test_what_the_system_refuses_is_not_called_damaged(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*a\.png: .*got 'Is a directory'"):
        read_image(tmp_path / "a.png")


def test_mask_is_a_palette_png_with_class_ids_in_vocs_colours(tmp_path):
    label = np.array([[0, 1, 2], [15, 20, 255]], np.uint8)
    write_mask(tmp_path / "deep" / "mask.png", label)
    with Image.open(tmp_path / "deep" / "mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), label)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), voc_palette()[label])
    np.testing.assert_array_equal(read_label(tmp_path / "deep" / "mask.png"), label)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mask.png"]


def test_grey_labels_are_read_by_value_and_narrow_palettes_by_index(tmp_path):
    label = np.array([[0, 1, 2, 3] * 4] * 3, np.uint8)
    Image.fromarray(label).save(tmp_path / "l.png")
    np.testing.assert_array_equal(read_label(tmp_path / "l.png"), label)
    narrow = Image.fromarray(label).convert("P")
    narrow.putpalette([0, 0, 0, 9, 9, 9, 7, 7, 7, 1, 1, 1])
    narrow.save(tmp_path / "p.png", bits=2)
    np.testing.assert_array_equal(read_label(tmp_path / "p.png"), label)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_labels_of_few_bits_have_the_values_of_the_file_and_images_their_brightness(tmp_path, bits):
    values = [[index % 2**bits for index in range(19)], [(3 * index) % 2**bits for index in range(19)]]
    (tmp_path / "l.png").write_bytes(grey_png(values, bits))
    assert read_label(tmp_path / "l.png").tolist() == values
    brightness = np.array(values) * (255 // (2**bits - 1))
    np.testing.assert_array_equal(read_image(tmp_path / "l.png")[..., 0], brightness)


def test_coloured_label_is_refused_with_a_fix(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "l.png")
    with pytest.raises(DataError, match="class id instead of its colour"):
        read_label(tmp_path / "l.png")


def test_mask_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_mask(tmp_path / "file" / "mask.png", np.zeros((2, 2), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_turn_as_pillow_turns_their_images(orientation):
    label = np.arange(15, dtype=np.uint8).reshape(3, 5)
    picture = Image.fromarray(label)
    picture.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(turn_upright(label, orientation), np.asarray(ImageOps.exif_transpose(picture)))


def test_as_image_reads_paths_as_text_or_path(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(as_image(tmp_path / "a.png"), picture)
    np.testing.assert_array_equal(as_image(str(tmp_path / "a.png")), picture)
    with pytest.raises(DataError, match="there is no such file"):
        as_image(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("make", "pixel"),
    [
        (lambda: Image.new("L", (1, 1), 7), (7, 7, 7)),
        (lambda: Image.new("1", (1, 1), 1), (255, 255, 255)),
        (lambda: Image.fromarray(np.full((1, 1), 0x8080, np.uint16)), (128, 128, 128)),
        (lambda: Image.fromarray(np.full((1, 1), 0.2, np.float32)), (51, 51, 51)),
        (lambda: Image.new("RGBA", (1, 1), (10, 20, 30, 0)), (255, 255, 255)),
        (lambda: Image.new("RGBA", (1, 1), (0, 100, 200, 51)), (204, 224, 244)),  # a fifth of it, the rest white
        (lambda: Image.new("LA", (1, 1), (9, 255)), (9, 9, 9)),
        (lambda: Image.new("CMYK", (1, 1), (255, 0, 0, 0)), (0, 255, 255)),
        (lambda: Image.new("LA", (1, 1), (100, 51)).convert("La"), (224, 224, 224)),
    ],
    ids=[
        "grey",
        "black and white",
        "16 bits",
        "float",
        "transparent",
        "half transparent",
        "grey with alpha",
        "CMYK",
        "multiplied",
    ],
)
def test_as_image_converts_pillow_images_like_files(make, pixel):
    converted = as_image(make())
    assert (converted.shape, converted.dtype) == ((1, 1, 3), np.uint8)
    assert tuple(converted[0, 0].tolist()) == pixel


def test_as_image_reads_palettes_by_colour_and_turns_by_exif():
    picture = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.getexif()[0x0112] = 6  # to be shown turned clockwise: the row becomes a column, from top to bottom
    assert as_image(picture).tolist() == [[[10, 20, 30]], [[40, 50, 60]], [[40, 50, 60]]]


@pytest.mark.parametrize("format_", ["tiff", "gif", "png"])
@pytest.mark.filterwarnings("error")
def test_as_image_takes_the_frame_at_which_a_pillow_image_stands(tmp_path, format_):
    first, *others = (Image.new("RGB", (4, 4), (level,) * 3) for level in (10, 20, 30))
    first.save(tmp_path / f"a.{format_}", save_all=True, append_images=others)
    with Image.open(tmp_path / f"a.{format_}") as opened:
        opened.seek(1)
        assert as_image(opened).max() == 20
        assert opened.tell() == 1


@pytest.mark.parametrize("text", ["landscape", "6"])
def test_text_named_orientation_in_a_png_turns_nothing(picture, text):
    info = PngInfo()
    info.add_text("orientation", text)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", pnginfo=info)
    np.testing.assert_array_equal(as_image(Image.open(content)), picture)


def test_as_image_names_a_damaged_pillow_image(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:-100])
    with (
        Image.open(tmp_path / "a.jpg") as damaged,
        pytest.raises(DataError, match=r"cannot read .*a\.jpg: expected a complete image, got one that is damaged"),
    ):
        as_image(damaged)


def test_images_and_labels_are_read_from_paths_as_text_too(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    write_mask(tmp_path / "label.png", picture[..., 0])
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), picture)
    np.testing.assert_array_equal(read_label(str(tmp_path / "label.png")), picture[..., 0])
    with pytest.raises(DataError, match=r"b\.png: there is no such file"):
        read_label(str(tmp_path / "b.png"))


def test_as_image_copies_rgb_arrays_and_repeats_grey(picture):
    reused = picture.copy()
    image = as_image(reused)
    reused[:] = 0
    np.testing.assert_array_equal(image, picture)
    assert as_image(np.array([[1, 2]], np.uint8)).tolist() == [[[1, 1, 1], [2, 2, 2]]]


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.zeros((4, 5, 3)), r"shape \(4, 5, 3\) and dtype float64"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \(3, 4, 5\) and dtype uint8"),
        (np.zeros((4, 5, 4), np.uint8), r"shape \(4, 5, 4\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"shape \(1, 4, 5, 3\)"),
        (np.zeros((0, 5), np.uint8), r"shape \(0, 5\)"),
        (np.zeros((4, 5), bool), r"shape \(4, 5\) and dtype bool"),
        (np.full((4, 5, 3), 9), r"shape \(4, 5, 3\) and dtype int64; convert the array to uint8"),
        (np.zeros(60, np.uint8), r"shape \(60,\) and dtype uint8; give the pixels of one image"),
        ([[1, 2]], "list"),
        (b"GIF", r"bytes; open it by PIL\.Image\.open"),
        (io.BytesIO(), r"BytesIO; open it by PIL\.Image\.open"),
    ],
)
def test_as_image_refuses_other_arrays_in_one_line_with_shape_and_dtype(array, got):
    with pytest.raises(DataError, match=f"expected an image .*got {got}") as caught:
        as_image(array)
    assert "\n" not in str(caught.value)


def test_content_is_decoded_and_encoded_as_the_files_are(tmp_path):
    write_image(tmp_path / "a.jpg", exif=exif_orientation(6))
    content = (tmp_path / "a.jpg").read_bytes()
    np.testing.assert_array_equal(decode_image(content, "stdin"), read_image(tmp_path / "a.jpg"))
    with pytest.raises(DataError, match="cannot read stdin: expected a complete image"):
        decode_image(content[:-200], "stdin")
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_mask(tmp_path / "a.png", label)
    assert mask_bytes(label) == (tmp_path / "a.png").read_bytes()


def test_memory_to_read_comes_from_the_header(tmp_path):
    Image.new("1", (3000, 2000)).save(tmp_path / "a.png")
    assert memory_to_read(tmp_path / "a.png") >= 3 * 3000 * 2000
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    assert memory_to_read(tmp_path / "a.png") >= 3 * 3000 * 2000  # the rest is not looked at
    (tmp_path / "a.png").write_bytes(b"text")
    assert memory_to_read(tmp_path / "a.png") == 0


def test_vocs_colours_are_those_that_its_own_masks_have():
    # From VOC's development kit: VOClabelcolormap.
    ids = color_ids(VOC_CLASSES)
    expected = {(0, 0, 0): 0, (128, 0, 0): 1, (192, 128, 128): 15, (0, 64, 128): 20, (224, 224, 192): 255}
    assert {color: ids[color] for color in expected} == expected
    assert len(ids) == 22


def test_colours_become_ids_and_unknown_ones_void():
    rgb = np.array([[[1, 2, 3], [9, 9, 9], [1, 2, 4]], [[9, 9, 9], [255, 255, 255], [1, 2, 4]]], np.uint8)
    label, known = decode_colors(rgb, {(9, 9, 9): 5, (1, 2, 3): 0})
    np.testing.assert_array_equal(label, [[0, 5, 255], [5, 255, 255]])
    np.testing.assert_array_equal(known, [[True, True, False], [True, False, False]])


RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
RGB[0, :2] = [[0] * 3, [255] * 3]
GREY = RGB[..., 0]
WIDE, WIDE_GREY = RGB.astype(np.uint16) * 257, GREY.astype(np.uint16) * 257
INFRARED = np.dstack([RGB, np.random.default_rng(1).integers(1, 255, GREY.shape)]).astype(np.uint8)


def read_tiff(path, content):
    """Return the image, and what was said of it."""
    path.write_bytes(content)
    said = []
    return read_image(path, said.append), [text.removeprefix(f"{path}: ") for text in said]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff(RGB, planar=2), RGB),
        (tiff(WIDE), RGB),
        (tiff(WIDE_GREY), GREY),
        (tiff(WIDE_GREY >> 4, bits=12), GREY),
        (tiff(WIDE_GREY >> 4, t281=4095), GREY),
        (tiff(65535 - WIDE_GREY, photometric=0), GREY),
        (tiff(1 - (GREY / 255).astype(np.float32), photometric=0), GREY),
        (tiff(0 * WIDE_GREY), 0 * GREY),
        (tiff(INFRARED, t338=0), RGB),
        (tiff(np.dstack([RGB, 0 * GREY + 255]), t338=2), RGB),
        (tiff(RGB, RGB[:10, :15], t254=(0, 1)), RGB),
    ],
    ids=[
        "planes", "16 bits", "16 bits of grey", "12 bits", "12 of 16 bits", "16 bits, 0 is white", "floats, 0 is white",
        "black", "a band without a meaning", "opaque", "a smaller version",
    ],
)  # fmt: skip
def test_tiff_that_means_one_thing_is_read_without_a_word(tmp_path, content, expected):
    read, said = read_tiff(tmp_path / "a.tif", content)
    difference = read.astype(int) - (expected if expected.ndim == 3 else expected[..., None])
    assert (np.abs(difference).max(), said) == (0, [])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (tiff(WIDE_GREY >> 2), "16-bit values that reach only 25.4% of their range: a dark image, or values of fewer"),
        (tiff(WIDE_GREY >> 4, t281=4000), "16-bit values that reach only 6.6% of their range"),
        (tiff(WIDE_GREY >> 4), "16-bit values that reach only 6.6% of their range"),
        (tiff(WIDE >> 6), "16-bit values that reach only 1.6% of their range"),
        (tiff(GREY.astype(np.uint16) // 4), "16-bit values that reach only 0.4% of their range"),
        (tiff(RGB.astype(np.uint16)), "16-bit values that reach only 0.4% of their range"),
        (tiff(RGB, RGB), "several pages, the first of which is taken"),
        (tiff(RGB[:9], RGB, t254=(1, 0)), "several pages, the first of which is taken"),
        (tiff(INFRARED, t338=2), "a last band that is ignored, as its values are not those of transparency"),
        (tiff(np.dstack([RGB, (np.mgrid[:20, :30][1] > 9) * 255]).astype(np.uint8), t338=2),
         "a last band that is taken as transparency"),
    ],
    ids=[
        "14 bits", "another maximum", "12 bits", "10 bits", "6 bits", "8 bits", "pages", "a smaller version first",
        "near infrared", "transparency",
    ],
)  # fmt: skip
def test_tiff_that_can_mean_two_things_is_read_with_a_note(tmp_path, content, text):
    _, (said,) = read_tiff(tmp_path / "a.tif", content)
    assert said.startswith(text)


def test_near_infrared_is_not_transparency(tmp_path):
    for content in (tiff(INFRARED, t338=2), tiff(INFRARED), tiff(INFRARED, t338=2, planar=2)):
        np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", content)[0], RGB)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (tiff(WIDE, planar=2), "separate planes of 16 bits"),
        (tiff(GREY.astype(np.float32)), "floats from 0 to 255"),
        (tiff(GREY.astype(np.float32) / 127.5 - 1), "floats from -1 to 1"),
        (tiff(np.where(GREY < 9, np.nan, GREY / 255).astype(np.float32)), "floats from nan to nan"),
        (tiff(GREY.astype(np.int16) - 128), "signed values of 16 bits"),
        (tiff(GREY.astype(np.int32)), "signed values of 32 bits"),
        (tiff((GREY >> 1).astype(np.int8)), "signed values of 8 bits"),
        (tiff(GREY.astype(np.uint32)), "integers from 0 to 255"),
        (tiff(INFRARED, t338=1), "a last band of neither"),
    ],
)
def test_tiff_of_an_unknown_range_is_refused(tmp_path, content, got):
    with pytest.raises(DataError, match=f"cannot read .*a.tif: expected .*, got {got}"):
        read_tiff(tmp_path / "a.tif", content)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken_with_a_note(tmp_path, format_):
    first, second = (Image.new("RGB", (8, 6), color) for color in ("black", "white"))
    first.save(tmp_path / "a", format_, save_all=True, append_images=[second])
    read, said = read_tiff(tmp_path / "a", (tmp_path / "a").read_bytes())
    assert (read.max(), said) == (0, ["several frames, the first of which is taken"])


def test_grey_label_with_alpha_is_read_unless_values_are_hidden_or_cut(tmp_path):
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    alpha = np.array([[0, 255], [255, 255]], np.uint8)
    Image.fromarray(np.dstack([ids, alpha])).save(tmp_path / "l.png")
    np.testing.assert_array_equal(read_label(tmp_path / "l.png"), ids)
    Image.fromarray(np.dstack([ids, 255 - alpha])).save(tmp_path / "l.png")
    with pytest.raises(DataError, match=r"expected black below transparent pixels, got other colours there, 75\.00%"):
        read_label(tmp_path / "l.png")
    (tmp_path / "l.png").write_bytes(png(np.dstack([ids, alpha]).astype(">u2"), color_type=4))
    with pytest.raises(DataError, match="expected values of 8 bits, got 16 bits"):
        read_label(tmp_path / "l.png")


@pytest.mark.parametrize("color_type", [0, 2, 4, 6])
def test_twelve_bits_in_a_png_of_sixteen_are_said(tmp_path, color_type):
    values = np.repeat(np.array([[[0], [4095]]]), {0: 1, 2: 3, 4: 2, 6: 4}[color_type], 2).astype(">u2")
    _, said = read_tiff(tmp_path / "a.png", png(values, color_type))
    assert said[0].startswith("16-bit values that reach only 6.")


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_label_of_several_frames_is_refused(tmp_path, format_):
    first, second = (Image.new("L", (8, 6), value) for value in (1, 2))
    first.save(tmp_path / "l.png", format_, save_all=True, append_images=[second])
    with pytest.raises(DataError, match="expected one label, got several"):
        read_label(tmp_path / "l.png")


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_image_of_colours_that_are_all_transparent_is_not_white(tmp_path, format_):
    Image.fromarray(np.dstack([RGB, np.zeros_like(GREY)])).save(tmp_path / "a", format_)
    read, said = read_tiff(tmp_path / "a", (tmp_path / "a").read_bytes())
    assert said == ["transparency that hides everything, which is ignored"]
    np.testing.assert_array_equal(read, RGB)
    Image.new("RGBA", (8, 6)).save(tmp_path / "a", "PNG")
    assert read_image(tmp_path / "a").min() == 255


@pytest.mark.parametrize(
    ("values", "hidden", "said"),
    [
        ([[[0x1234], [0x4321]]], (0x1234,), []),
        ([[[0x12FF] * 3, [0x4321] * 3]], (0x1234,) * 3, ["a transparent colour of"]),
    ],
)
def test_transparent_value_of_sixteen_bits_is_white(tmp_path, values, hidden, said):
    content = png(np.array(values, ">u2"), 0 if len(hidden) == 1 else 2)
    chunk = b"tRNS" + np.array(hidden, ">u2").tobytes()
    chunk = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    read, notes = read_tiff(tmp_path / "a.png", content[:33] + chunk + content[33:])
    assert read[0, :, 0].tolist() == [255, 0x43]
    assert [note[: len(text)] for note, text in zip(notes, said, strict=True)] == said


def test_as_image_warns_of_what_it_assumes(tmp_path):
    with pytest.warns(UserWarning, match=r"^images\[2\]: 16-bit values that reach only"):
        as_image(Image.fromarray(np.full((1, 1), 99, np.uint16)), "images[2]")
    (tmp_path / "a.tif").write_bytes(tiff(RGB, RGB))
    with pytest.warns(UserWarning, match="several pages"):
        as_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (tiff(np.array([[1, 2.5]], np.float32)), "fractions"),
        (tiff(np.array([[1, np.nan]], np.float32)), "fractions or NaN"),
        (tiff(np.array([[1, -1]], np.int16)), "-1"),
        (tiff(GREY, t274=3), "EXIF orientation 3"),
    ],
)
def test_label_without_class_ids_or_turned_by_exif_is_refused(tmp_path, content, got):
    (tmp_path / "l.tif").write_bytes(content)
    with pytest.raises(DataError, match=got):
        read_label(tmp_path / "l.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_label_in_which_0_is_white_has_the_ids_of_the_file(tmp_path, kind):
    (tmp_path / "l.tif").write_bytes(tiff(np.array([[0, 1, 20]], kind), photometric=0))
    assert read_label(tmp_path / "l.tif").tolist() == [[0, 1, 20]]


def test_reading_an_image_does_not_show_the_warnings_of_others_again(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        read_image(tmp_path / "a.png")
        for _ in range(3):
            warnings.warn("of the user's program", stacklevel=1)
            read_image(tmp_path / "a.png")
    assert len(shown) == 1
