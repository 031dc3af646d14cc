"""Interpolate scores and logits bilinearly, in numpy; and find their label without writing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32, Floats, Label, Size

_TILE = 128  # pixels of the sides of what is interpolated at once: it stays in a processor's cache


class Places(NamedTuple):
    """Say between which two pixels of a smaller image each pixel of a larger one lies, in one direction."""

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    share: npt.NDArray[np.floating]  # of the second

    def within(self, part: slice) -> Places:
        """Return the places of a part of the larger image."""
        return Places(self.first[part], self.second[part], self.share[part])

    def shares(self) -> Float32:
        """Return the matrix (pixels, smaller pixels from the first place on) that interpolates by a product."""
        found = np.zeros((len(self.share), self.second[-1] + 1 - self.first[0]), np.float32)
        pixels = np.arange(len(found))
        found[pixels, self.second - self.first[0]] = self.share
        found[pixels, self.first - self.first[0]] += 1 - self.share
        return found


class Rule(NamedTuple):
    """Say where the pixels of a larger image lie in a smaller one, and how values (h, w, C) are rounded on the way."""

    places: Callable[[int, int], Places]
    interpolate: Callable[[Float32, Places, Places], Float32]


def _between_centres(small: int, large: int) -> Places:
    center = (np.arange(large) + 0.5) * (small / large) - 0.5
    first = np.clip(np.floor(center).astype(np.intp), 0, small - 1)
    return Places(first, np.minimum(first + 1, small - 1), np.clip(center - first, 0.0, 1.0))


def _across_first(values: Float32, rows: Places, columns: Places) -> Float32:
    top, left = rows.first[0], columns.first[0]
    part = values[top : rows.second[-1] + 1, left : columns.second[-1] + 1].astype(np.float64)
    share = columns.share[:, None]
    across = part[:, columns.first - left] * (1 - share) + part[:, columns.second - left] * share
    across = across.astype(np.float32)
    share = rows.share[:, None, None]
    both: Floats = across[rows.first - top] * (1 - share) + across[rows.second - top] * share
    return both.astype(np.float32)


def _between_corners(small: int, large: int) -> Places:
    step = np.float32(small - 1) / np.float32(large - 1) if large > 1 else np.float32(0)
    return _float32_places(step * np.arange(large, dtype=np.float32), small)


def _between_half_pixels(small: int, large: int) -> Places:
    step = np.float32(small) / np.float32(large)
    at = step * (np.arange(large, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    return _float32_places(np.maximum(at, np.float32(0)), small)


def _float32_places(at: Float32, small: int) -> Places:
    first = np.minimum(at.astype(np.intp), small - 1)
    return Places(first, np.minimum(first + 1, small - 1), at - first.astype(np.float32))


def _down_first(values: Float32, rows: Places, columns: Places) -> Float32:
    top, left = rows.first[0], columns.first[0]
    part = values[top : rows.second[-1] + 1, left : columns.second[-1] + 1]
    down = _lerp(part[rows.first - top], part[rows.second - top], rows.share[:, None, None])
    return _lerp(down[:, columns.first - left], down[:, columns.second - left], columns.share[:, None])


def _lerp(start: Float32, end: Float32, share: npt.NDArray[np.floating]) -> Float32:
    """Return what lies at a share of the way from start to end, rounded once, as fused multiply-adds do."""
    return (start + share.astype(np.float64) * (end - start)).astype(np.float32)


PILLOW = Rule(_between_centres, _across_first)
CORNERS = Rule(_between_corners, _down_first)  # those of both sizes coincide: Caffe's INTERP
HALF_PIXELS = Rule(_between_half_pixels, _down_first)  # the borders of both do: torchvision


def enlarge(values: Float32, size: Size, rule: Rule = PILLOW, crop: Size | None = None) -> Float32:
    """Return values (h, w, C) in a size (H, W), cropped at bottom and right."""
    large = np.empty((*(crop or size), values.shape[-1]), np.float32)
    for tile, rows, columns in _tiles(values.shape[:2], size, rule, crop):
        large[tile] = rule.interpolate(values, rows, columns)
    return large


def label_of(values: Float32, size: Size, rule: Rule = PILLOW, crop: Size | None = None) -> Label:
    """Return the label (H, W) uint8 that `enlarge` would give, in a fraction of the time and of the memory.

    A value between four pixels is neither above the highest nor below the lowest of theirs, but for rounding. So few
    classes can be the largest there, mostly one, and only these are enlarged.
    """
    lowest = _of_four(np.minimum, values).max(-1, keepdims=True)
    possible = ~(_of_four(np.maximum, values) < lowest - 4 * np.spacing(np.abs(lowest)))  # NaN may be
    label = np.empty(crop or size, np.uint8)
    for tile, rows, columns in _tiles(values.shape[:2], size, rule, crop):
        here = possible[rows.first[0] : rows.first[-1] + 1, columns.first[0] : columns.first[-1] + 1]
        classes = np.flatnonzero(here.any((0, 1)))
        label[tile] = classes[0]
        if len(classes) == 1:
            continue
        found = _products(values, classes, rows, columns)
        best, second = _largest_two(found)
        if not (best - second).min() > 24 * np.spacing(np.abs(found).max()):  # the rule's rounding decides; or NaN
            found = np.stack([rule.interpolate(values[..., index, None], rows, columns)[..., 0] for index in classes])
            best = found.max(0)
        for index, scores in zip(classes[::-1].astype(np.uint8), found[::-1], strict=True):  # the first of equal ones
            np.copyto(label[tile], index, where=scores == best)
    return label


def _products(values: Float32, classes: npt.NDArray[np.intp], rows: Places, columns: Places) -> Float32:
    """Return some channels (K, H, W) interpolated by products of matrices, which round otherwise than a rule."""
    part = values[rows.first[0] : rows.second[-1] + 1, columns.first[0] : columns.second[-1] + 1]
    down, across = rows.shares(), columns.shares()
    found: Float32 = down @ (np.ascontiguousarray(part[..., classes].transpose(2, 0, 1)) @ across.T)
    return found


def _largest_two(scores: Float32) -> tuple[Float32, Float32]:
    """Return the largest and the second largest (H, W) of scores (K, H, W)."""
    best, second = np.maximum(scores[0], scores[1]), np.minimum(scores[0], scores[1])
    for other in scores[2:]:
        np.maximum(second, np.minimum(best, other), out=second)
        np.maximum(best, other, out=best)
    return best, second


def _tiles(
    small: Size, large: Size, rule: Rule, crop: Size | None
) -> Iterator[tuple[tuple[slice, slice], Places, Places]]:
    """Yield parts of the larger image, and the places of their rows and columns."""
    height, width = crop or large
    rows, columns = (rule.places(*sides) for sides in zip(small, large, strict=True))
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            down, across = slice(top, min(top + _TILE, height)), slice(left, min(left + _TILE, width))
            yield (down, across), rows.within(down), columns.within(across)


def _of_four(choose: Callable[[Float32, Float32], Float32], values: Float32) -> Float32:
    """Return the lowest or highest value of each pixel, its right and lower neighbour, and the one between these."""
    across = choose(values, np.concatenate([values[:, 1:], values[:, -1:]], axis=1))
    return choose(across, np.concatenate([across[1:], across[-1:]]))
