"""Read pictures and labels as numpy arrays and write masks.

Images are (H, W, 3) uint8 RGB, upright; labels are (H, W) uint8, a class id a pixel, 255 void.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from deeplabctl.atomic import whole_file
from deeplabctl.classes import voc_palette
from deeplabctl.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_EXIF_ORIENTATION = 0x0112
_WIDE_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture of any kind as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits are scaled to 8, transparent parts come out white, CMYK and palettes are
    converted, and of several frames the first is taken. Raises DataError, which names the file.
    """
    with _opened(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _WIDE_GREY_MODES:
            upright = _eight_bits(upright, path)
        if upright.has_transparency_data:
            coloured = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
        return np.asarray(upright.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright picture from the file's header alone."""
    with _opened(path) as image:
        turned = image.getexif().get(_EXIF_ORIENTATION) in (5, 6, 7, 8)
        return image.size if turned else (image.size[1], image.size[0])


def read_label(path: Path) -> npt.NDArray[np.uint8]:
    """Read a label PNG as (H, W) uint8 class ids: palette PNGs by index, grey ones by value.

    Raises DataError for a picture with colours instead of ids, and for ids over 255.
    """
    with _opened(path) as image:
        image.load()
        if image.mode in _WIDE_GREY_MODES:
            ids = np.asarray(image)
            if ids.min() < 0 or ids.max() > 255:
                raise DataError(f"label {path}: expected class ids up to 255, got {ids.max()}; write 8-bit labels")
            return ids.astype(np.uint8)
        if image.mode not in ("P", "L", "1"):
            raise DataError(
                f"label {path}: expected one channel of class ids (palette or grey PNG), got {image.mode} colours; "
                "write each pixel's class id instead of its colour"
            )
        return np.array(image, dtype=np.uint8)


def write_mask(path: Path, label: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) uint8 class ids as an 8-bit palette PNG in VOC's colours, whole or not at all."""
    image = Image.fromarray(label)
    image.putpalette(voc_palette().tobytes())  # turns mode L into P, the values stay
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG")


def write_picture(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the suffix names, whole or not at all."""
    with whole_file(path) as temporary:
        Image.fromarray(image).save(temporary)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong with its bytes is a DataError in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError:
        raise DataError(
            f"cannot read {path}: it is not a picture of a known format (JPEG, PNG, WebP, BMP, TIFF)"
        ) from None
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file") from None
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read {path}: {reason}; the file is damaged or cut off") from None


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Scale a grey picture of 16 bits, or of floats between 0 and 1, to 8 bits."""
    values = np.asarray(image).astype(np.float64)
    largest = values.max(initial=0)
    if image.mode == "F" and largest <= 1:
        scale = 255.0
    elif largest <= 65535:
        scale = 255 / 65535
    else:
        raise DataError(
            f"cannot read {path}: expected grey values up to 65535, got {largest:.0f}; save it with 8 or 16 bits"
        )
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
