"""Read images and labels as numpy arrays, and write them.

Images are (H, W, 3) uint8 RGB, upright; labels are (H, W) uint8, a class id per pixel, 255 void. `as_image` is the one
place that takes an image in any form: a path, a Pillow image or an array.
"""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageOps, UnidentifiedImageError

from deeplabctl.arrays import Image, Label
from deeplabctl.classes import IGNORE_LABEL, Color, voc_palette
from deeplabctl.data.findings import LABEL_COLORS, Finding, FindingError
from deeplabctl.errors import DataError
from deeplabctl.files import whole_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_WIDE_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
# What Pillow raises for damaged content; RuntimeError by its reader of AVIF.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, RuntimeError, struct.error)
_FIX_UNREADABLE = "replace the file, or leave it out"
_COLOR_CODE = np.array([1 << 16, 1 << 8, 1])  # turns RGB into one number


def as_image(image: str | Path | PIL.Image.Image | np.ndarray[Any, Any]) -> Image:
    """Return an image in any form as (H, W, 3) uint8 RGB.

    A path is read by `read_image`, and a Pillow image is converted by the same steps. An array must be (H, W, 3) uint8
    RGB, which is returned without a copy, or (H, W) uint8 grey. Raises DataError for anything else.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, PIL.Image.Image):
        name = getattr(image, "filename", "") or "the image"
        try:
            return _check_array(_to_rgb(image, name))
        except _DAMAGE as error:
            raise DataError(f"cannot read {name}: expected a whole image, got {_damaged(error)}; replace it") from None
    if isinstance(image, np.ndarray):
        return _check_array(image)
    raise DataError(
        f"expected an image as a path, a Pillow image or a numpy array, got {type(image).__name__}; convert it first"
    )


def read_image(path: Path) -> Image:
    """Read an image of any kind as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits are scaled to 8, transparent parts become white, CMYK and palettes are
    converted, and of several frames the first is taken. Raises DataError with the name of the file.
    """
    with open_image(path) as opened:
        return _to_rgb(opened, str(path))


def decode_image(content: bytes, name: str, formats: tuple[str, ...] | None = None) -> Image:
    """Return an image of any kind from the bytes of its file, as `read_image` does; ``name`` stands in its errors.

    Other formats than ``formats``, by Pillow's names, are not tried.
    """
    with open_image(Path(name), io.BytesIO(content), formats) as opened:
        return _to_rgb(opened, name)


def memory_to_read(path: Path) -> int:
    """Return about how many bytes `read_image` takes for a file, from its header; 0 for one that cannot be read."""
    try:
        with open_image(path) as opened:
            return 4 * opened.width * opened.height
    except DataError:
        return 0


def _to_rgb(image: PIL.Image.Image, name: str) -> Image:
    """Convert a Pillow image as `read_image` describes."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in _WIDE_GREY_MODES:
        image = _to_8_bits(image, name)
    if image.has_transparency_data:
        foreground = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", foreground.size, "white"), foreground)
    return np.asarray(image.convert("RGB"))


def _to_8_bits(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Scale a grey image of 16 bits, or of floats between 0 and 1, to 8 bits."""
    values = np.asarray(image).astype(np.float64)
    largest = values.max(initial=0)
    if image.mode == "F" and largest <= 1:
        scale = 255.0
    elif largest <= 65535:
        scale = 255 / 65535
    else:
        raise DataError(
            f"cannot read {name}: expected grey values up to 65535, got {largest:.0f}; save it with 8 or 16 bits"
        )
    return PIL.Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _check_array(array: np.ndarray[Any, Any]) -> Image:
    """Return (H, W, 3) of an array of that shape or of (H, W); raises DataError for another one."""
    if array.dtype == np.uint8 and array.size and array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    if array.dtype == np.uint8 and array.size and array.ndim == 3 and array.shape[2] == 3:
        return array
    if array.dtype != np.uint8:
        fix = "convert the array to values from 0 to 255"
    elif array.ndim == 3 and array.shape[2] == 4:
        fix = "drop the alpha channel, or give the PIL image"
    else:
        fix = "give several images as a list"
    raise DataError(
        "expected an image of shape (H, W, 3), RGB, or (H, W), grey, and dtype uint8, got shape "
        f"{array.shape} and dtype {array.dtype}; {fix}"
    )


def read_label(path: Path) -> Label:
    """Read a label PNG as (H, W) uint8 class ids: palette PNGs by index, grey ones by value, of any number of bits.

    Raises DataError for an image with colours instead of ids, for ids over 255, and for a JPEG.
    """
    with open_image(path) as opened:
        if is_lossy(opened):
            raise FindingError(lossy_label(path))
        ids = stored_values(opened)
        if opened.mode in _WIDE_GREY_MODES:
            if ids.min() < 0 or ids.max() > 255:
                got = f"{ids.max():.0f}" if ids.max() > 255 else f"{ids.min():.0f}"
                raise FindingError(Finding("label-range", path, "class ids up to 255", got, "write 8-bit labels"))
            return ids.astype(np.uint8)
        if opened.mode not in ("P", "L", "1"):
            raise FindingError(
                Finding(
                    LABEL_COLORS,
                    path,
                    "one channel of class ids (palette or grey PNG)",
                    f"{opened.mode} colours",
                    "write each pixel's class id instead of its colour: deeplabctl data check with `fix` does it "
                    "for VOC's colours and the set's palette PNGs, deeplabctl data convert with `palette` for any "
                    "colours",
                )
            )
        return ids.astype(np.uint8)


def is_lossy(image: PIL.Image.Image) -> bool:
    """Tell whether the compression of an opened file changes values, as JPEG's does, also in a TIFF, and WebP's can."""
    file = getattr(image, "fp", None)
    if image.format == "WEBP" and file is not None:
        file.seek(0)
        return b"VP8 " in file.read(4096)
    return image.format in ("JPEG", "MPO", "AVIF") or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def lossy_label(path: Path) -> Finding:
    """Return the finding of a label with such a compression."""
    got, fix = (
        "a JPEG, whose compression changes the ids at every border",
        "create it again from its source and save it",
    )
    return Finding("label-lossy", path, "a PNG of class ids", got, f"{fix} as PNG")


def stored_values(image: PIL.Image.Image) -> np.ndarray[Any, Any]:
    """Load a Pillow image and return its values as its file has them: of one channel (H, W), of others (H, W, C).

    Pillow spreads grey values of 2 and 4 bits over 0 to 255, as is right for brightness; here they stay 0 to 3 and 15.
    """
    tiles = getattr(image, "tile", [])[:1]  # there are none after loading
    raw_modes = re.findall(r"'(L;[24])", str(tiles))
    image.load()
    values = np.asarray(image)
    return values // {"L;2": 85, "L;4": 17}[raw_modes[0]] if raw_modes else values


def turn_upright(label: Label, orientation: int) -> Label:
    """Turn a label that was drawn on the stored pixels of an image as its EXIF orientation turns the image."""
    if orientation >= 5:
        label = label.T  # 5: mirrored at the main diagonal; 6, 7 and 8 turn or mirror it further
    if orientation in (2, 3, 6, 7):
        label = label[:, ::-1]
    if orientation in (3, 4, 7, 8):
        label = label[::-1]
    return np.ascontiguousarray(label)


@dataclass(frozen=True)
class DecodedMask:
    """Hold class ids (H, W), void for unknown colours, and the number of pixels of each unknown colour."""

    label: Label
    unknown: dict[Color, int]


def decode_colors(mask: Image, ids: Mapping[Color, int]) -> DecodedMask:
    """Turn a mask in colours, (H, W, 3) uint8 RGB, into class ids; only exact colours of the table count."""
    codes = np.array(list(ids)) @ _COLOR_CODE
    order = np.argsort(codes)
    pixels = mask @ _COLOR_CODE
    places = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    known = codes[order][places] == pixels
    label = np.array(list(ids.values()), np.uint8)[order][places]
    label[~known] = IGNORE_LABEL
    others, counts = np.unique(pixels[~known], return_counts=True)
    unknown = {
        (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255): int(count)
        for code, count in zip(others, counts, strict=True)
    }
    return DecodedMask(label, unknown)


def voc_color_ids(num_classes: int) -> dict[Color, int]:
    """Return the class id of each of VOC's colours, including void's."""
    colors = voc_palette().tolist()
    return {tuple(colors[index]): index for index in (*range(num_classes), IGNORE_LABEL)}


def write_mask(path: Path, label: Label) -> None:
    """Write (H, W) uint8 class ids as an 8-bit palette PNG in VOC's colours, whole or not at all."""
    with whole_file(path) as temporary:
        mask_image(label).save(temporary, format="PNG")


def mask_bytes(label: Label) -> bytes:
    """Return (H, W) uint8 class ids as the content of the file that `write_mask` writes."""
    content = io.BytesIO()
    mask_image(label).save(content, format="PNG")
    return content.getvalue()


def mask_image(label: Label) -> PIL.Image.Image:
    """Return (H, W) uint8 class ids as a Pillow image of mode P with VOC's palette."""
    mask = PIL.Image.fromarray(label)
    mask.putpalette(voc_palette().tobytes())  # turns mode L into P, the values stay
    return mask


def write_image(path: Path, image: Image) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the suffix names, whole or not at all."""
    with whole_file(path) as temporary:
        PIL.Image.fromarray(image).save(temporary)


@contextmanager
def open_image(
    path: Path, content: io.BytesIO | None = None, formats: tuple[str, ...] | None = None
) -> Iterator[PIL.Image.Image]:
    """Open an image file with Pillow, or its ``content``; of any format, or of those that are named as Pillow does.

    Raises DataError in one line for damaged content, for more pixels than Pillow's limit against files that would fill
    the memory (``PIL.Image.MAX_IMAGE_PIXELS``, twice), and for a file that the system refuses to read.
    """
    try:
        # Pillow's remarks on unusual but readable files. Not catch_warnings, which threads leave behind for each other.
        warnings.filterwarnings("ignore", module=r"PIL\.|deeplabctl\.data\.images")
        with PIL.Image.open(content or path, formats=formats) as opened:
            yield opened
    except UnidentifiedImageError:
        known = "an image of a known format (JPEG, PNG, WebP, BMP, TIFF)"
        size = os.path.getsize(path) if content is None else content.getbuffer().nbytes  # noqa: PTH202
        got = "other content" if size else "an empty file"
        raise FindingError(Finding("unreadable", path, known, got, _FIX_UNREADABLE, failed="cannot read")) from None
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file") from None
    except PIL.Image.DecompressionBombError as error:
        raise FindingError(_too_large(path, error)) from None
    except _DAMAGE as error:
        expected, got = "a whole image", _damaged(error)
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # of the system, not of Pillow
            expected, got = "a file", repr(error.strerror)
        raise FindingError(Finding("unreadable", path, expected, got, _FIX_UNREADABLE, failed="cannot read")) from None


def _too_large(path: Path, error: Exception) -> Finding:
    """Return the finding of an image with more pixels than Pillow reads, whose number its error tells."""
    count = re.search(r"(\d+) pixels", str(error))
    most, got = f"{2 * (PIL.Image.MAX_IMAGE_PIXELS or 0):,}", f"{int(count[1]):,}" if count else "more"
    fix = "scale it down, or cut it into smaller ones"
    return Finding("too-large", path, f"at most {most} pixels", got, fix, failed="cannot read")


def _damaged(error: Exception) -> str:
    """Describe what Pillow has found instead of a whole image."""
    return f"one that is damaged or cut off ({error})"
