"""Compute the sizes that an image takes on its way through the network.

Source: Caffe's INTERP layer with zoom factor 8.
"""

from __future__ import annotations

from collections.abc import Sequence

from deeplabctl.network.layers import OUTPUT_STRIDE

PAPER_SIZE = 513  # the test size of the original prototxt: VOC images (at most 500 pixels) are padded to it


def upsampled_size(cells: int) -> int:
    """Return the size after upsampling by 8 with aligned corners: cell i lies on pixel 8i."""
    return OUTPUT_STRIDE * (cells - 1) + 1


def scaled_size(size: int, scale: float) -> int:
    """Return the size that a side of 8k + 1 pixels takes at a scale: the 8k + 1 nearest to ``(size - 1) * scale + 1``.

    The corners of the image, of the scaled image and of its logits coincide then. 513 becomes 385 at scale 0.75 and 257
    at 0.5, as in the original nets (INTERP layers with zoom factor 3 and shrink factors 4 and 2).
    """
    return upsampled_size(round((size - 1) * scale / OUTPUT_STRIDE) + 1)


def tight_size(size: int) -> int:
    """Return the smallest 8k + 1 that is at least ``size``."""
    return -(-(size - 1) // OUTPUT_STRIDE) * OUTPUT_STRIDE + 1


def padded_size(size: int, pad: str) -> int:
    """Return the size to which prediction pads an image with zeros, at the bottom and right.

    ``pad`` is "paper" (513; a larger image to the next 8k + 1) or "tight" (the next 8k + 1).
    """
    return PAPER_SIZE if pad == "paper" and size <= PAPER_SIZE else tight_size(size)


def is_crop_size(size: int, step: int = OUTPUT_STRIDE) -> bool:
    """Tell whether a crop is 8k + 1, so that pixel 8i of the label lies on cell i of the logits.

    ``step`` takes the place of 8 for a network of several scales, see `crop_step`.
    """
    return size >= step + 1 and size % step == 1


def crop_step(scales: Sequence[float]) -> int:
    """Return the smallest m for which a crop of mk + 1 is 8j + 1 at every scale: 32 for scales 1, 0.75 and 0.5."""
    steps = range(OUTPUT_STRIDE, 100 * OUTPUT_STRIDE, OUTPUT_STRIDE)
    return next(step for step in steps if all((step * scale) % OUTPUT_STRIDE == 0 for scale in scales))
