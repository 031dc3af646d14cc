"""Work on large images at a smaller size: make them smaller for the network.

Networks know objects at the sizes of their training: VOC's photos have 500 pixels, a phone's 4,000.
"""

from __future__ import annotations

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Size


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
