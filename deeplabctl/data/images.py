"""Read images and labels as numpy arrays, make large ones smaller, and write them.

Images are (H, W, 3) uint8 RGB, upright; labels are (H, W) uint8, a class id per pixel, 255 void. `as_image` is the one
place that takes an image in any form: a path, a Pillow image or an array. Large ones are worked on at a smaller size:
networks know objects at the sizes of their training. VOC's photos have 500 pixels, a phone's 4,000.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES, Color, class_colors, voc_palette
from deeplabctl.data.findings import IMAGE_VALUES, LABEL_COLORS, Finding, FindingError
from deeplabctl.data.image_files import DAMAGE, damaged, open_image, orientation
from deeplabctl.data.palettes import palette_of
from deeplabctl.errors import DataError
from deeplabctl.files import whole_file

_WIDE_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_TRANSPOSE = PIL.Image.Transpose
_TURNS = {
    2: _TRANSPOSE.FLIP_LEFT_RIGHT, 3: _TRANSPOSE.ROTATE_180, 4: _TRANSPOSE.FLIP_TOP_BOTTOM, 5: _TRANSPOSE.TRANSPOSE,
    6: _TRANSPOSE.ROTATE_270, 7: _TRANSPOSE.TRANSVERSE, 8: _TRANSPOSE.ROTATE_90,
}  # fmt: skip
_PHOTOMETRIC, _PLANAR, _BITS, _SUBFILE, _FORMAT, _MAX_SAMPLE = 262, 284, 258, 254, 339, 281  # tags of TIFF
_KNOWN = "unsigned values of 8 or 16 bits, or floats between 0 and 1"
_COLOR_CODE = np.array([1 << 16, 1 << 8, 1], np.int32)  # turns RGB into one number


def as_image(image: str | os.PathLike[str] | PIL.Image.Image | np.ndarray[Any, Any]) -> Image:
    """Return an image in any form as (H, W, 3) uint8 RGB.

    A path is read by `read_image`, and a Pillow image, at the frame where it stands, is converted by the same steps. An
    array, or a tensor, must be (H, W, 3) uint8 RGB or (H, W) uint8 grey; it is copied, as its owner may reuse it. What
    had to be assumed becomes Python's warnings. Raises DataError for anything else.
    """
    said: list[str] = []
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if path.is_dir():
            raise DataError(f"{path} is a folder: expected an image; give a list of its files")
        array = read_image(path, said.append)
    elif isinstance(image, PIL.Image.Image):
        name = getattr(image, "filename", "") or "the image"
        try:
            array = to_rgb(image, name, said.append)
        except DAMAGE as error:
            raise DataError(
                f"cannot read {name}: expected a complete image, got {damaged(error)}; replace it"
            ) from None
    elif hasattr(image, "__array__"):
        array = np.array(image)
    else:
        is_file = isinstance(image, bytes | bytearray | io.IOBase)
        fix = "open it by PIL.Image.open (bytes by io.BytesIO)" if is_file else "convert it first"
        raise DataError(
            f"expected an image as a path, a Pillow image or a numpy array, got {type(image).__name__}; {fix}"
        )
    for text in said:
        warnings.warn(text, stacklevel=2)
    return _check_array(array)


def _silent(text: str) -> None:
    """Say nothing."""


def read_image(path: str | Path, say: Callable[[str], object] = _silent) -> Image:
    """Read an image of any kind as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits are scaled to 8, transparent parts become white, CMYK and palettes are
    converted, and of several frames the first is taken. ``say`` gets a line on what had to be assumed. Raises
    DataError with the name of the file.
    """
    with open_image(Path(path)) as opened:
        return to_rgb(opened, str(path), lambda text: say(f"{path}: {text}"))


def read_working_image(path: Path, max_side: int) -> Image:
    """Read an image as `read_image` does, at its working size; of a large JPEG only as many pixels as that takes."""
    with open_image(path) as opened:
        if opened.format != "JPEG" or max(opened.size) <= max_side or not max_side:
            return shrink(to_rgb(opened, str(path), _silent), max_side)
        width, height = opened.size
        is_turned = orientation(opened) >= 5
        size = working_size((width, height) if is_turned else (height, width), max_side)
        height, width = size[::-1] if is_turned else size
        opened.draft(opened.mode, (2 * width, 2 * height))
        return resize_image(to_rgb(opened, str(path), _silent), size)


def decode_image(
    content: bytes, name: str, formats: tuple[str, ...] | None = None, say: Callable[[str], object] = _silent
) -> Image:
    """Return an image of any kind from the bytes of its file, as `read_image` does; ``name`` stands in its errors.

    Other formats than ``formats``, by Pillow's names, are not tried.
    """
    with open_image(Path(name), io.BytesIO(content), formats) as opened:
        return to_rgb(opened, name, lambda text: say(f"{name}: {text}"))


def memory_to_read(path: Path) -> int:
    """Return about how many bytes `read_image` takes for a file, from its header; 0 for one that cannot be read."""
    try:
        with open_image(path) as opened:
            return 4 * opened.width * opened.height
    except DataError:
        return 0


def to_rgb(image: PIL.Image.Image, name: str, say: Callable[[str], object]) -> Image:
    """Convert a Pillow image as `read_image` describes."""
    is_tiff, tags = image.format == "TIFF", getattr(image, "tag_v2", {})
    if (bits := max(tags.get(_BITS, (1,)))) > 8 and tags.get(_PLANAR) == 2 and len(tags[_BITS]) > 1:
        _refuse(name, "interleaved samples, or planes of 8 bits", f"separate planes of {bits} bits", "as RGB")
    if 2 in tags.get(_FORMAT, ()):
        _refuse(name, _KNOWN, f"signed values of {bits} bits", "scaled to 0 to 255")
    if several := _several(image):
        say(f"{several}, the first of which is taken")
    samples = str(getattr(image, "tile", ""))  # before loading
    image.load()
    turn = orientation(image)
    if turn > 1 and not is_tiff:  # Pillow turns those itself
        image = image.transpose(_TURNS[turn])
    is_black = False  # whether it has no other value; of wide colours, Pillow has dropped the lower bits
    if image.mode in _WIDE_GREY_MODES:
        samples += ";16" if image.mode != "F" else ""
        is_black = not np.asarray(image).any()
        image = _to_8_bits(image, name, samples, tags)
    if ";16" in samples and not is_black and (brightest := int(np.asarray(image.convert("RGB")).max())) <= 64:
        say(
            f"16-bit values that reach only {(brightest + 1) / 256:.1%} of their range: a dark image, or values of "
            "fewer bits, which must be scaled"
        )
    if image.has_transparency_data:
        foreground = image.convert("RGBA")
        if foreground.getchannel("A").getextrema() == (0, 0) and _has_colors(foreground):
            say("transparency that hides everything, which is ignored")  # of programs that do not use that band
            foreground.putalpha(255)
        elif is_tiff:
            _check_alpha(foreground, name, samples, say)
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", foreground.size, "white"), foreground)
    return np.asarray(image.convert("RGB"))


def _has_colors(image: PIL.Image.Image) -> bool:
    return any(low != high for low, high in image.convert("RGB").getextrema())  # type: ignore[misc]


def _refuse(name: str, expected: str, got: str, how: str) -> NoReturn:
    fix = f"save it {how} with 8 bits"
    raise FindingError(Finding(IMAGE_VALUES, Path(name), expected, got, fix, failed="cannot read"))


def _several(image: PIL.Image.Image) -> str:
    """Return "several frames" or "several pages" for a file that has those; nothing for one image.

    Pages of a TIFF that are smaller versions of the first, or its masks, do not count. Of a Pillow image that stands at
    another frame, its owner has chosen that one.
    """
    if not getattr(image, "is_animated", False) or image.tell():
        return ""
    if image.format != "TIFF":
        return "several frames"
    try:
        for number in range(100):
            image.seek(number)
            is_part = bool(getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & 5)
            if is_part == (number == 0):
                break
    except EOFError:  # there are no further ones
        return ""
    except DAMAGE:
        pass
    finally:
        image.seek(0)
    return "several pages"


def _to_8_bits(image: PIL.Image.Image, name: str, samples: str, tags: Mapping[int, Any]) -> PIL.Image.Image:
    """Scale a grey image of 10 to 16 bits, or of floats between 0 and 1, to 8 bits."""
    values = np.asarray(image).astype(np.float64)
    white = 1 if image.mode == "F" else 4095 if "I;12" in samples else 65535
    if white == 65535 and tags.get(_MAX_SAMPLE, ()) in [(1023,), (4095,), (16383,)]:  # others are what the image has
        white = tags[_MAX_SAMPLE][0]
    known = "I;32" not in samples  # integers that have no white
    if not (known and values.min(initial=0) >= 0 and values.max(initial=0) <= white):  # NaN is neither
        got = f"{'floats' if image.mode == 'F' else 'integers'} from {values.min():g} to {values.max():g}"
        _refuse(name, _KNOWN, got, "scaled to 0 to 255")
    scaled = np.rint(values * (255 / white)).astype(np.uint8)
    return PIL.Image.fromarray(255 - scaled if tags.get(_PHOTOMETRIC) == 0 else scaled)


def _check_alpha(image: PIL.Image.Image, name: str, samples: str, say: Callable[[str], object]) -> None:
    """Make an image (RGBA) opaque where its last band has values as an image has them, as near infrared does."""
    counts = image.getchannel("A").histogram()
    if counts[255] == sum(counts):
        return
    if counts[0] + counts[255] >= sum(counts) / 2:
        say("a last band that is taken as transparency: what it hides is white")
        return
    if "a'" in samples or "a;" in samples:  # the colours were multiplied by it
        _refuse(name, "bands of colours, or transparency", "a last band of neither", "without that band")
    say("a last band that is ignored, as its values are not those of transparency")
    image.putalpha(255)


def _check_array(array: np.ndarray[Any, Any]) -> Image:
    """Return (H, W, 3) of an array of that shape or of (H, W); raises DataError for another one."""
    if array.dtype == np.uint8 and array.size and array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    if array.dtype == np.uint8 and array.size and array.ndim == 3 and array.shape[2] == 3:
        return array
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        fix = "multiply by 255, round, and convert to uint8"
    elif array.dtype != np.uint8:
        fix = "convert the array to uint8, with values from 0 to 255"
    elif array.ndim == 3 and array.shape[2] == 4:
        fix = "drop the alpha channel, or give the PIL image"
    elif array.ndim == 3 and array.shape[2] == 1:
        fix = "give the two dimensions, array[..., 0]"
    elif array.ndim == 3 and array.shape[0] == 3:
        fix = "move the channels to the end, array.transpose(1, 2, 0)"
    elif array.ndim == 4:
        fix = "give several images as a list"
    else:
        fix = "give the pixels of one image"
    raise DataError(
        "expected an image of shape (H, W, 3), RGB, or (H, W), grey, and dtype uint8, got shape "
        f"{array.shape} and dtype {array.dtype}; {fix}"
    )


def read_label(path: str | Path) -> Label:
    """Read a label PNG as (H, W) uint8 class ids: palette PNGs by index, grey ones by value, of any number of bits.

    What is transparent does not count. Raises DataError for an image with colours instead of ids, for ids over 255, a
    JPEG, several frames, and for one that EXIF turns.
    """
    return read_label_and_palette(Path(path))[0]


def read_label_and_palette(path: Path) -> tuple[Label, str]:
    """Read a label as `read_label` does, and its palette for `Palettes`, which tells whether its indices are ids."""
    with open_image(path) as opened:
        if is_lossy(opened):
            raise FindingError(lossy_label(path))
        if opened.format == "GIF":
            got, fix = "a GIF, whose writers choose the order of its colours", "write its class ids as PNG"
            raise FindingError(Finding("label-palette", path, "a PNG of class ids", got, fix))
        check_label(opened, path)
        ids = stored_values(opened)
        if opened.mode == "LA":
            check_transparency(opened, path)
            ids = ids[..., 0]
        if opened.mode in _WIDE_GREY_MODES:
            return as_8_bits(ids, path), ""
        if opened.mode not in ("P", "L", "LA", "1"):
            expected, got = "one channel of class ids (palette or grey PNG)", f"{opened.mode} colours"
            fix = (
                "write each pixel's class id instead of its colour: deeplabctl data check with `fix` does it for VOC's "
                "colours and the set's palette PNGs, deeplabctl data convert with `palette` for any colours"
            )
            raise FindingError(Finding(LABEL_COLORS, path, expected, got, fix))
        return ids.astype(np.uint8), palette_of(opened)


def as_8_bits(values: np.ndarray[Any, Any], path: Path) -> Label:
    """Return the values of a label as uint8; raises DataError for others than whole numbers from 0 to 255."""
    if not np.array_equal(values, np.clip(np.rint(values), 0, 255)):
        low, high = values.min(), values.max()
        got = f"{low:g}" if low < 0 else f"{high:g}" if high > 255 else "fractions or NaN"
        raise FindingError(Finding("label-range", path, "values from 0 to 255", got, "write 8-bit labels"))
    return values.astype(np.uint8)


def check_label(label: PIL.Image.Image, path: Path) -> None:
    """Raise DataError for a label of several frames, and one that EXIF turns: some programs turn it, others do not.

    Also for several channels of 16 bits, of which Pillow drops those that ids have, and for signed values of 8 bits, of
    which it makes others.
    """
    if len(label.getbands()) > 1 and ";16" in str(getattr(label, "tile", "")):
        raise FindingError(Finding("label-range", path, "values of 8 bits", "16 bits", "write 8-bit labels"))
    if label.mode == "L" and 2 in getattr(label, "tag_v2", {}).get(_FORMAT, ()):
        raise FindingError(Finding("label-range", path, "values from 0 to 255", "signed ones", "write 8-bit labels"))
    if several := _several(label):
        raise FindingError(Finding("label-frames", path, "one label", several, "save the one that is meant as PNG"))
    if (turn := orientation(label)) > 1:
        expected, fix = "a label that is stored upright", "save it as its image is shown, without EXIF"
        raise FindingError(Finding("label-orientation", path, expected, f"EXIF orientation {turn}", fix))


def check_transparency(label: PIL.Image.Image, path: Path) -> None:
    """Raise DataError for a label with values that nobody sees: programs keep what was drawn below erased pixels.

    Below the transparent background of a drawing is black, or white that is nowhere else. A label that is black in all
    places, and transparent in some, says with this what nothing else in it does.
    """
    pixels = np.asarray(label.convert("RGBA")).reshape(-1, 4)
    seen, hidden = pixels[pixels[:, 3] > 0, :3], pixels[pixels[:, 3] == 0, :3]
    if hidden.any() and not (hidden.min() == 255 and not (seen == 255).all(1).any()):
        expected, got = "black below transparent pixels", f"other colours there, {len(hidden) / len(pixels):.2%} of all"
        fix = "save it without transparency, in the colours that are meant"
        raise FindingError(Finding("label-transparent", path, expected, got, fix))
    if len(seen) and len(hidden) and not seen.any():
        got = f"black in all pixels, {len(hidden) / len(pixels):.2%} of which are transparent"
        fix = "save it without transparency, in the values that are meant"
        raise FindingError(Finding("label-transparent", path, "values in the colours of a label", got, fix))


def is_lossy(image: PIL.Image.Image) -> bool:
    """Tell whether the compression of an opened file changes values, as JPEG's does, also in a TIFF, and WebP's can."""
    file = getattr(image, "fp", None)
    if image.format == "WEBP" and file is not None:
        return _is_lossy_webp(file)
    compression = image.info.get("compression")
    return image.format in ("JPEG", "MPO", "AVIF", "HEIF") or compression in ("jpeg", "tiff_jpeg", "webp")


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Tell whether the chunk of a WebP's pixels is lossy; a profile or the transparency may stand before it."""
    place = 12
    while True:
        file.seek(place)
        kind, length = file.read(4), file.read(4)
        if kind in (b"VP8 ", b"VP8L") or len(length) < 4:
            return kind == b"VP8 "
        place += 8 + int.from_bytes(length, "little") + length[0] % 2  # chunks have even lengths


def lossy_label(path: Path) -> Finding:
    """Return the finding of a label with such a compression."""
    got = "a JPEG or another lossy file, whose compression changes the ids at every border"
    return Finding("label-lossy", path, "a PNG of class ids", got, "create it again from its source and save it as PNG")


def stored_values(image: PIL.Image.Image) -> np.ndarray[Any, Any]:
    """Load a Pillow image and return its values as its file has them: of one channel (H, W), of others (H, W, C).

    Pillow spreads grey values of 2 and 4 bits over 0 to 255, as is right for brightness, and turns TIFFs round in which
    0 is white; here they stay 0 to 3 and 15.
    """
    tiles = getattr(image, "tile", [])[:1]  # there are none after loading
    raw_mode, is_turned = re.search(r"'L;([24]?)(I?)", str(tiles)), zero_is_white(image)
    image.load()
    values = np.asarray(image)
    if is_turned:
        return ~values
    if raw_mode is None:
        return values
    return (255 - values if raw_mode[2] else values) // {"2": 85, "4": 17, "": 1}[raw_mode[1]]


def zero_is_white(image: PIL.Image.Image) -> bool:
    """Tell whether an opened file is a TIFF of 1 bit in which 0 is white, as tifffile and scikit-image write masks."""
    return "'1;I'" in str(getattr(image, "tile", ""))


def turn_upright(label: Label, orientation: int) -> Label:
    """Turn a label that was drawn on the stored pixels of an image as its EXIF orientation turns the image."""
    turn = _TURNS.get(orientation)
    return label if turn is None else np.asarray(PIL.Image.fromarray(label).transpose(turn))


def decode_colors(mask: Image, ids: Mapping[Color, int]) -> tuple[Label, Mask]:
    """Turn a mask in colours, (H, W, 3) uint8 RGB, into class ids (H, W), void where a colour is not in the table.

    Also returns where it is.
    """
    codes = np.array(list(ids), np.int32) @ _COLOR_CODE
    order = np.argsort(codes)
    pixels = mask @ _COLOR_CODE
    places = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    known = codes[order][places] == pixels
    label = np.array(list(ids.values()), np.uint8)[order][places]
    label[~known] = IGNORE_LABEL
    return label, known


def color_ids(classes: Sequence[str]) -> dict[Color, int]:
    """Return the class id of each class's colour, which is VOC's if the classes have none, and of VOC's void."""
    colors = (class_colors(classes) if getattr(classes, "colors", ()) else voc_palette()).tolist()
    return {tuple(colors[index]): index for index in (IGNORE_LABEL, *range(len(classes)))}


def working_size(size: Size, max_side: int) -> Size:
    """Return the size (H, W) at which an image of ``size`` is worked on; ``max_side`` 0 stands for its own."""
    longest = max(size)
    if not 0 < max_side < longest:
        return size
    height, width = (max(1, round(side * max_side / longest)) for side in size)
    return height, width


def shrink(image: Image, max_side: int) -> Image:
    """Return an image (H, W, 3) at its working size: the mean of all pixels that a new one covers, weighted."""
    return resize_image(image, working_size(image.shape[:2], max_side))


def resize_image(image: Image, size: Size) -> Image:
    """Return an image in another size (H, W)."""
    if size == image.shape[:2]:
        return image
    return np.asarray(PIL.Image.fromarray(image).resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR))


def shrink_label(label: Label, max_side: int) -> Label:
    """Return a label (H, W) at its working size, by the nearest pixel."""
    return resize_label(label, working_size(label.shape, max_side))


def resize_label(label: Label, size: Size) -> Label:
    """Return a label in another size (H, W), by the nearest pixel."""
    return np.asarray(PIL.Image.fromarray(label).resize((size[1], size[0]), PIL.Image.Resampling.NEAREST))


def count_values(label: Label) -> dict[int, int]:
    """Return the number of pixels of each value that a label (H, W) uint8 has."""
    counts = PIL.Image.fromarray(label).histogram()
    return {value: count for value, count in enumerate(counts) if count}


def write_mask(path: Path, label: Label, classes: Sequence[str] = VOC_CLASSES) -> None:
    """Write (H, W) uint8 class ids as an 8-bit palette PNG in the colours of the classes, whole or not at all."""
    with whole_file(path) as temporary:
        mask_image(label, classes).save(temporary, format="PNG")


def mask_bytes(label: Label, classes: Sequence[str] = VOC_CLASSES) -> bytes:
    """Return (H, W) uint8 class ids as the content of the file that `write_mask` writes."""
    content = io.BytesIO()
    mask_image(label, classes).save(content, format="PNG")
    return content.getvalue()


def mask_image(label: Label, classes: Sequence[str] = VOC_CLASSES) -> PIL.Image.Image:
    """Return (H, W) uint8 class ids as a Pillow image of mode P, whose palette has the colours of the classes."""
    mask = PIL.Image.fromarray(label)
    mask.putpalette(class_colors(classes).tobytes())  # turns mode L into P, the values stay
    return mask
