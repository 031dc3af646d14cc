"""Read pictures and labels as numpy arrays and write masks.

Images are (H, W, 3) uint8 RGB, upright; labels are (H, W) uint8, a class id a pixel, 255 void.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from deeplabctl.classes import voc_palette
from deeplabctl.data.findings import Finding, FoundError
from deeplabctl.errors import DataError
from deeplabctl.files import whole_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_EXIF_ORIENTATION = 0x0112
_WIDE_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_REPLACE = "replace the file, or take it off the lists"


@dataclass(frozen=True)
class ImageFacts:
    """Hold what an image file contains: upright size, EXIF orientation, Pillow's mode, and a hash of the bytes."""

    height: int
    width: int
    orientation: int  # 1 to 8, as in EXIF; 1 is upright
    mode: str
    digest: str

    @property
    def stored_size(self) -> tuple[int, int]:
        """Return (height, width) before EXIF turns the picture."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture of any kind as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits are scaled to 8, transparent parts come out white, CMYK and palettes are
    converted, and of several frames the first is taken. Raises DataError, which names the file.
    """
    with opened(path) as image:
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
    with opened(path) as image:
        turned = image.getexif().get(_EXIF_ORIENTATION) in (5, 6, 7, 8)
        return image.size if turned else (image.size[1], image.size[0])


def inspect_image(path: Path) -> ImageFacts:
    """Read a picture to its last byte, without keeping its pixels; raises DataError for a damaged one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with opened(path, io.BytesIO(content)) as image:
        facts = (image.size, image.mode)  # before a draft changes them
        image.draft("RGB", (image.width // 8, image.height // 8))  # JPEG: all the bytes, an eighth of the pixels
        image.load()
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    (width, height), mode = facts
    if orientation >= 5:
        width, height = height, width
    return ImageFacts(height, width, orientation, mode, hashlib.blake2b(content, digest_size=16).hexdigest())


def upright(label: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn a label that was drawn on the stored pixels as EXIF's orientation turns the picture."""
    if orientation >= 5:
        label = label.T  # 5: mirrored at the main diagonal; 6, 7 and 8 turn or mirror it further
    if orientation in (2, 3, 6, 7):
        label = label[:, ::-1]
    if orientation in (3, 4, 7, 8):
        label = label[::-1]
    return np.ascontiguousarray(label)


def read_label(path: Path) -> npt.NDArray[np.uint8]:
    """Read a label PNG as (H, W) uint8 class ids: palette PNGs by index, grey ones by value.

    Raises DataError for a picture with colours instead of ids, for ids over 255, and for a JPEG.
    """
    with opened(path) as image:
        if image.format == "JPEG":
            raise FoundError(
                Finding(
                    "label-lossy",
                    path,
                    "a PNG of class ids",
                    "a JPEG, whose compression changes the ids at every border",
                    "make it anew from its source and save it as PNG",
                )
            )
        image.load()
        if image.mode in _WIDE_GREY_MODES:
            ids = np.asarray(image)
            if ids.min() < 0 or ids.max() > 255:
                got = f"{ids.max():.0f}" if ids.max() > 255 else f"{ids.min():.0f}"
                raise FoundError(Finding("label-range", path, "class ids up to 255", got, "write 8-bit labels"))
            return ids.astype(np.uint8)
        if image.mode not in ("P", "L", "1"):
            raise FoundError(
                Finding(
                    "label-colours",
                    path,
                    "one channel of class ids (palette or grey PNG)",
                    f"{image.mode} colours",
                    "write each pixel's class id instead of its colour: data check --fix does it for VOC's colours and "
                    "those of the set's palette PNGs, data convert --palette for any",
                )
            )
        return np.array(image, dtype=np.uint8)


def write_mask(path: Path, label: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) uint8 class ids as an 8-bit palette PNG in VOC's colours, whole or not at all."""
    with whole_file(path) as temporary:
        mask_picture(label).save(temporary, format="PNG")


def mask_picture(label: npt.NDArray[np.uint8]) -> Image.Image:
    """Return (H, W) uint8 class ids as a palette picture in VOC's colours."""
    image = Image.fromarray(label)
    image.putpalette(voc_palette().tobytes())  # turns mode L into P, the values stay
    return image


def write_picture(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the suffix names, whole or not at all."""
    with whole_file(path) as temporary:
        Image.fromarray(image).save(temporary)


@contextmanager
def opened(path: Path, content: io.BytesIO | None = None) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong with its bytes is a DataError in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
            with Image.open(content or path) as image:
                yield image
    except UnidentifiedImageError:
        known = "a picture of a known format (JPEG, PNG, WebP, BMP, TIFF)"
        got = "other content" if os.path.getsize(path) else "an empty file"  # noqa: PTH202
        raise FoundError(Finding("unreadable", path, known, got, _REPLACE, failed="cannot read")) from None
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file") from None
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        damaged = f"one that is damaged or cut off ({reason})"
        raise FoundError(
            Finding("unreadable", path, "a whole picture", damaged, _REPLACE, failed="cannot read")
        ) from None


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
