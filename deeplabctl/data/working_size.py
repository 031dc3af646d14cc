"""Work on large images at a smaller size: make them smaller for the network, and its scores as large as the image.

Networks know objects at the sizes of their training: VOC's photos have 500 pixels, a phone's 4,000.
"""

from __future__ import annotations

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Scores, Size

_ROWS = 512  # of a large image whose scores are compared at once


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
    height, width = working_size(label.shape, max_side)
    return np.asarray(PIL.Image.fromarray(label).resize((width, height), PIL.Image.Resampling.NEAREST))


def enlarge(scores: Scores, size: Size) -> Scores:
    """Return scores (h, w, C) between 0 and 1 in an image's size (H, W), bilinear between the centres of pixels."""
    channels = [_enlarged(scores[..., index], size) for index in range(scores.shape[-1])]
    return np.stack(channels, axis=-1)


def label_of(scores: Scores, size: Size) -> Label:
    """Return the label (H, W) uint8 that `enlarge` would give, without as much memory."""
    classes = scores.shape[-1]
    best = np.full(size, -1, np.float32)
    label = np.zeros(size, np.uint8)
    for index in range(classes):
        if scores[..., index].max() < 0.99 / classes:  # scores add up to 1: it is the largest nowhere, nor in between
            continue
        values = _enlarged(scores[..., index], size)
        for row in range(0, size[0], _ROWS):
            rows = np.s_[row : row + _ROWS]
            larger = values[rows] > best[rows]
            label[rows][larger] = index
            np.maximum(best[rows], values[rows], out=best[rows])
    return label


def _enlarged(values: Scores, size: Size) -> Scores:
    image = PIL.Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR))
