"""Work on large images at a smaller size: make them smaller for the network, and its scores as large as the image.

Networks know objects at the sizes of their training: VOC's photos have 500 pixels, a phone's 4,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

from deeplabctl.arrays import Floats, Image, Label, Scores, Size

_TILE = 128  # pixels of the sides of what is enlarged at once: it stays in a processor's cache


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
    large = np.empty((*size, scores.shape[-1]), np.float32)
    for tile, rows, columns in _tiles(scores.shape[:2], size):
        large[tile] = _interpolated(scores, rows, columns)
    return large


def label_of(scores: Scores, size: Size) -> Label:
    """Return the label (H, W) uint8 that `enlarge` would give, in a fraction of the time and of the memory.

    A score between four pixels is neither above the highest nor below the lowest of theirs. So few classes can be the
    largest there, mostly one, and only these are enlarged.
    """
    lowest = _of_four(np.minimum, scores).max(-1, keepdims=True)
    possible = _of_four(np.maximum, scores) >= lowest
    label = np.empty(size, np.uint8)
    for tile, rows, columns in _tiles(scores.shape[:2], size):
        here = possible[rows.first[0] : rows.first[-1] + 1, columns.first[0] : columns.first[-1] + 1]
        classes = np.flatnonzero(here.any((0, 1)))
        label[tile] = classes[0]
        if len(classes) > 1:
            best = _interpolated(scores[..., classes[0], None], rows, columns)
            for index in classes[1:]:
                values = _interpolated(scores[..., index, None], rows, columns)
                label[tile][(values > best)[..., 0]] = index
                best = np.maximum(best, values)
    return label


class _Places(NamedTuple):
    """Say between which two pixels of a smaller image each pixel of a larger one lies, in one direction."""

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    share: Floats  # of the second

    def within(self, part: slice) -> _Places:
        """Return the places of a part of the larger image."""
        return _Places(self.first[part], self.second[part], self.share[part])


def _places(small: int, large: int) -> _Places:
    center = (np.arange(large) + 0.5) * (small / large) - 0.5
    first = np.clip(np.floor(center).astype(np.intp), 0, small - 1)
    return _Places(first, np.minimum(first + 1, small - 1), np.clip(center - first, 0.0, 1.0))


def _tiles(small: Size, large: Size) -> Iterator[tuple[tuple[slice, slice], _Places, _Places]]:
    """Yield parts of the larger image, and the places of their rows and columns."""
    rows, columns = (_places(*sides) for sides in zip(small, large, strict=True))
    for top in range(0, large[0], _TILE):
        for left in range(0, large[1], _TILE):
            down, across = slice(top, top + _TILE), slice(left, left + _TILE)
            yield (down, across), rows.within(down), columns.within(across)


def _interpolated(scores: Scores, rows: _Places, columns: _Places) -> Scores:
    """Return scores (h, w, C) at these places: across, then down, rounded to float32 after each."""
    top, left = rows.first[0], columns.first[0]
    part = scores[top : rows.second[-1] + 1, left : columns.second[-1] + 1].astype(np.float64)
    share = columns.share[:, None]
    across = part[:, columns.first - left] * (1 - share) + part[:, columns.second - left] * share
    across = across.astype(np.float32)
    share = rows.share[:, None, None]
    both: Floats = across[rows.first - top] * (1 - share) + across[rows.second - top] * share
    return both.astype(np.float32)


def _of_four(choose: Callable[[Scores, Scores], Scores], scores: Scores) -> Scores:
    """Return the lowest or highest score of each pixel, its right and lower neighbour, and the one between these."""
    across = choose(scores, np.concatenate([scores[:, 1:], scores[:, -1:]], axis=1))
    return choose(across, np.concatenate([across[1:], across[-1:]]))
