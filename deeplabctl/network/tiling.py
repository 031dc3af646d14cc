"""Cut an image into tiles whose results, put together, are those of the whole image.

A result depends on the pixels within its row's reach only. A tile has that many more pixels on each side, and what its
own borders have changed is cut off. Means of the whole image are computed first. Tiles start at whole steps of the
largest stride, so that all poolings, and all enlargements of their results, fall on the same pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from deeplabctl.arrays import Float32
from deeplabctl.network.architecture import Architecture
from deeplabctl.network.ops import Field


@dataclass(frozen=True)
class Piece:
    """Hold the part of a side that a tile takes: pixels of the image, and the results that count."""

    first: int  # pixel
    last: int  # the pixel after the last one
    begin: int  # result
    end: int

    def own(self, stride: int) -> slice:
        """Return where the results that count are among the tile's own."""
        before = self.first // stride
        return slice(self.begin - before, self.end - before)


def pieces(length: int, results: int, field: Field, side: int) -> list[Piece]:
    """Split a side of an image of ``length`` pixels, which gives ``results`` values, into tiles.

    A tile has ``side`` pixels that count at most, and as many around as these see. Result i lies on pixel
    ``i * field.stride``. All tiles but those that end with the image have ``k * field.grid + 1`` pixels.
    """
    if length <= side:
        return [Piece(0, length, 0, results)]
    stride, grid, around = field.stride, field.grid, margin(field)
    each = grid // stride  # results in a step of the grid
    steps = -(-results // each)
    count = -(-steps // max(1, side // grid))
    bounds = [min(steps * number // count * each, results) for number in range(count + 1)]
    return [
        Piece(max(0, begin * stride - around), min(length, _up((end - 1) * stride, grid) + around + 1), begin, end)
        for begin, end in itertools.pairwise(bounds)
    ]


def margin(field: Field) -> int:
    """Return the pixels around a tile: its results' reach, in whole steps of the grid."""
    return _up(field.reach, field.grid)


def _up(number: int, step: int) -> int:
    """Return the next multiple of a step."""
    return -(-number // step) * step


def tiles(size: tuple[int, int], results: tuple[int, int], field: Field, side: int) -> Iterator[tuple[Piece, Piece]]:
    """Yield the pieces of height and width of every tile of an image, row by row; see `pieces`."""
    lines, columns = (pieces(*lengths, field, side) for lengths in zip(size, results, strict=True))
    return itertools.product(lines, columns)


def in_tiles(
    values: Callable[..., Float32], images: Float32, architecture: Architecture, field: Field, side: int
) -> Float32:
    """Return the logits (N, h, w, C) of images (N, H, W, 3) of padded sizes, computed tile by tile.

    ``values`` computes a tile, as `Engine.logits` does. ``field`` is that of the logits. Each mean of the whole image
    takes a pass of its own, before.
    """
    means: dict[str, Float32] = {}
    for name, row in architecture.image_means.items():
        own = architecture.fields[row]
        own = replace(own, reach=min(own.reach, field.reach))
        sums, count = [], 0
        for found, _ in _each_tile(partial(values, row=row, means=means), images, own, side):
            sums.append(found.sum((1, 2), np.float64, keepdims=True))
            count += found.shape[1] * found.shape[2]
        means[name] = np.asarray(sum(sums) / count, np.float32)
    whole = np.empty(0, np.float32)
    for found, (line, column) in _each_tile(partial(values, means=means), images, field, side):
        if not whole.size:
            whole = np.empty((len(images), *_results(images, field), found.shape[3]), np.float32)
        whole[:, line.begin : line.end, column.begin : column.end] = found
    return whole


def _results(images: Float32, field: Field) -> tuple[int, int]:
    height, width = images.shape[1:3]
    return (height - 1) // field.stride + 1, (width - 1) // field.stride + 1


def _each_tile(
    values: Callable[[Float32], Float32], images: Float32, field: Field, side: int
) -> Iterator[tuple[Float32, tuple[Piece, Piece]]]:
    """Yield the values (N, h, w, C) that count in each tile, and its pieces."""
    height, width = images.shape[1:3]
    for line, column in tiles((height, width), _results(images, field), field, side):
        tile = np.ascontiguousarray(images[:, line.first : line.last, column.first : column.last])
        yield values(tile)[:, line.own(field.stride), column.own(field.stride)], (line, column)
