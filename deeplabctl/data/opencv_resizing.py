"""Resize images and labels as the second paper's data layer does: by OpenCV's INTER_LINEAR and INTER_NEAREST."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Image, Label

_BITS = 11  # of the weights of the neighbours, which OpenCV takes as integers


def rescale_as_opencv(image: Image, label: Label, scale: float) -> tuple[Image, Label]:
    """Resize an image (H, W, 3) and its label to ``scale`` times their size, rounded down.

    Bilinear between the two nearest pixel centres, also where the image becomes smaller, in OpenCV's fixed-point
    arithmetic; the label takes pixel ``floor(i * H / H')``.
    """
    sizes = [max(1, int(side * scale)) for side in label.shape]
    if sizes == list(label.shape):
        return image, label
    (above, below, upper, lower), (left, right, near, far) = map(_neighbours, label.shape, sizes)
    columns = image[:, left].astype(np.int64) * near[:, None] + image[:, right].astype(np.int64) * far[:, None]
    columns >>= 4
    rows = (columns[above] * upper[:, None, None] >> 16) + (columns[below] * lower[:, None, None] >> 16)
    nearest = [np.arange(after) * before // after for before, after in zip(label.shape, sizes, strict=True)]
    return ((rows + 2) >> 2).astype(np.uint8), label[np.ix_(*nearest)]


def _neighbours(before: int, after: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the two pixels that each new one lies between, and their weights."""
    centre = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32).clip(0, before - 1)
    first = centre.astype(int)
    share = centre - first
    weights = (np.rint(part * 2**_BITS).astype(np.int64) for part in (1 - share, share))
    return first, np.minimum(first + 1, before - 1), *weights
