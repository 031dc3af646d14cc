"""Read images as numpy arrays, (H, W, 3) uint8 RGB, upright, and make large ones smaller.

`as_image` is the one place that takes an image in any form: a path, a Pillow image or an array. Large ones are worked
on at a smaller size: networks know objects at the sizes of their training. VOC's photos have 500 pixels, a phone's
4,000.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Size
from deeplabctl.data.findings import IMAGE_VALUES, Finding, FindingError
from deeplabctl.data.image_files import DAMAGE, damaged, open_image, orientation
from deeplabctl.errors import DataError

WIDE_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's, of more than 8 bits
_TRANSPOSE = PIL.Image.Transpose
TURNS = {  # by EXIF orientation
    2: _TRANSPOSE.FLIP_LEFT_RIGHT, 3: _TRANSPOSE.ROTATE_180, 4: _TRANSPOSE.FLIP_TOP_BOTTOM, 5: _TRANSPOSE.TRANSPOSE,
    6: _TRANSPOSE.ROTATE_270, 7: _TRANSPOSE.TRANSVERSE, 8: _TRANSPOSE.ROTATE_90,
}  # fmt: skip
_PHOTOMETRIC, _PLANAR, _BITS, _SUBFILE, SAMPLE_FORMAT, _MAX_SAMPLE = 262, 284, 258, 254, 339, 281  # tags of TIFF
_KNOWN = "unsigned values of 8 or 16 bits, or floats between 0 and 1"


def as_image(image: str | os.PathLike[str] | PIL.Image.Image | np.ndarray[Any, Any], name: str = "the image") -> Image:
    """Return an image in any form as (H, W, 3) uint8 RGB.

    A path is read by `read_image`, and a Pillow image, at the frame where it stands, is converted by the same steps. An
    array, or a tensor, must be (H, W, 3) uint8 RGB or (H, W) uint8 grey; it is copied, as its owner may reuse it. What
    had to be assumed becomes Python's warnings. Raises DataError for anything else. Messages have the path or ``name``.
    """
    said: list[str] = []
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if not os.fspath(image):
            raise DataError(f"{name}: expected the path of an image, got an empty one")
        if path.is_dir():
            raise DataError(f"{path} is a folder: expected an image; give a list of its files")
        array = read_image(path, said.append)
    elif isinstance(image, PIL.Image.Image):
        name = getattr(image, "filename", "") or name
        try:
            array = to_rgb(image, name, lambda text: said.append(f"{name}: {text}"))
        except DAMAGE as error:
            raise DataError(
                f"cannot read {name}: expected a complete image, got {damaged(error)}; replace it"
            ) from None
    elif hasattr(image, "__array__"):
        array = np.array(image)
    else:
        is_file = isinstance(image, bytes | bytearray | io.IOBase)
        fix = "open it by PIL.Image.open (bytes by io.BytesIO)" if is_file else "convert it first"
        got = type(image).__name__
        raise DataError(f"{name}: expected an image as a path, a Pillow image or a numpy array, got {got}; {fix}")
    for text in said:
        warnings.warn(text, stacklevel=2)
    return _check_array(array, name)


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
    if 2 in tags.get(SAMPLE_FORMAT, ()):
        _refuse(name, _KNOWN, f"signed values of {bits} bits", "scaled to 0 to 255")
    if several := several_frames(image):
        say(f"{several}, the first of which is taken")
    samples = str(getattr(image, "tile", ""))  # before loading
    image.load()
    turn = orientation(image)
    if turn > 1 and not is_tiff:  # Pillow turns those itself
        image = image.transpose(TURNS[turn])
    is_black = False  # whether it has no other value; of wide colours, Pillow has dropped the lower bits
    if image.mode in WIDE_GREY_MODES:
        samples += ";16" if image.mode != "F" else ""
        values, hidden = np.asarray(image), image.info.get("transparency")
        is_black = not values.any()
        image = _to_8_bits(image, name, samples, tags)
        if isinstance(hidden, int):  # of a PNG: the value that is transparent
            image.putalpha(PIL.Image.fromarray((values != hidden).astype(np.uint8) * 255))
    elif ";16" in samples and isinstance(hidden := image.info.get("transparency"), tuple):
        say("a transparent colour of 16 bits, of which only the upper 8 are compared")
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in hidden)
    if ";16" in samples and not is_black and (brightest := int(np.asarray(image.convert("RGB")).max())) <= 64:
        say(
            f"16-bit values that reach only {(brightest + 1) / 256:.1%} of their range: a dark image, or values of "
            "fewer bits, which must be scaled"
        )
    if image.has_transparency_data:
        foreground = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow has no such step
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


def several_frames(image: PIL.Image.Image) -> str:
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


def _check_array(array: np.ndarray[Any, Any], name: str) -> Image:
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
        f"{name}: expected an image of shape (H, W, 3), RGB, or (H, W), grey, and dtype uint8, got shape "
        f"{array.shape} and dtype {array.dtype}; {fix}"
    )


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
