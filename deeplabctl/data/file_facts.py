"""Read an image or label file to its last byte, and keep what a check needs to know of it instead of its pixels."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from deeplabctl.arrays import Label
from deeplabctl.data.images import open_picture, read_label
from deeplabctl.errors import DataError

_EXIF_ORIENTATION = 0x0112


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
        """Return (height, width) before EXIF turns the image."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


@dataclass(frozen=True)
class LabelFacts:
    """Hold what a label file contains: its size and the number of pixels of each value."""

    height: int
    width: int
    pixels: dict[int, int]


def inspect_image(path: Path) -> ImageFacts:
    """Read an image file completely; raises DataError if it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with open_picture(path, io.BytesIO(content)) as picture:
        (width, height), mode = picture.size, picture.mode  # before a draft changes them
        picture.draft("RGB", (max(1, width // 8), max(1, height // 8)))  # JPEG: all the bytes, fewer pixels
        picture.load()
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    if orientation >= 5:
        width, height = height, width
    return ImageFacts(height, width, orientation, mode, hashlib.blake2b(content, digest_size=16).hexdigest())


def inspect_label(path: Path) -> LabelFacts:
    """Read a label file and count its values; raises DataError as `read_label` does."""
    label = read_label(path)
    return LabelFacts(label.shape[0], label.shape[1], count_values(label))


def count_values(label: Label) -> dict[int, int]:
    """Return the number of pixels of each value that a label (H, W) uint8 has."""
    counts = PIL.Image.fromarray(label).histogram()
    return {value: count for value, count in enumerate(counts) if count}
