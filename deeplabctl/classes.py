"""Hold the class names, the void label and the colours of classes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import DataError

IGNORE_LABEL = 255  # void: not trained on, not scored

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@cache
def voc_palette() -> npt.NDArray[np.uint8]:
    """Return VOC's colour map, (256, 3) uint8 RGB: the bits of the id, spread over the three channels from the top."""
    ids = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    colors.setflags(write=False)
    return colors


@cache
def voc_grey_levels(num_classes: int) -> frozenset[int]:
    """Return the luminances of the palette colours of the classes and of void.

    They are what a palette label turns into when a program reads it as a grey picture (0, 38, 75, 113, ... 220), with a
    unit to each side for programs that round otherwise.
    """
    ids = [*range(1, num_classes), IGNORE_LABEL]
    luminance = voc_palette()[ids].astype(float) @ (0.299, 0.587, 0.114)
    levels = {0}
    for value in luminance:
        levels |= {int(np.floor(value)), int(np.ceil(value))}
    return frozenset(levels)


def read_classes(path: Path) -> tuple[str, ...]:
    """Read a ``classes.txt``: one name a line, the first is class 0; empty lines and ``#`` comments are skipped."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the class names {path}: {error}; expected a text file, a name a line") from None
    names = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not 2 <= len(names) <= IGNORE_LABEL:
        raise DataError(f"{path}: expected 2 to {IGNORE_LABEL} class names, one a line, got {len(names)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: the class {twice[0]!r} stands there more than once; give each class one line")
    return names
