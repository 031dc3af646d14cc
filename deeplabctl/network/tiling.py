"""Cut an image into tiles whose results, put together, are those of the whole image.

A result depends on the pixels within its row's reach only. A tile has so many more pixels on each side, and what its
own borders have changed is cut off. Tiles start at whole steps of the stride, so that all poolings fall on the same
pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from deeplabctl.network.layers import ARCHITECTURES
from deeplabctl.network.rows import INPUT, Conv, Pool, Row, Zoom, fold


@dataclass(frozen=True)
class Field:
    """Hold which pixels of the image a value of a row sees: value i those from ``i * stride - reach`` to + reach."""

    stride: int
    reach: int


def fields(architecture: str) -> dict[str, Field]:
    """Return the field of every row of an architecture's table of prediction, by name; the image's is ``data``."""

    def see(row: Row, inputs: list[Field]) -> Field:
        stride, reach = inputs[0].stride, max(field.reach for field in inputs)
        if isinstance(row, Conv):
            return Field(stride * row.stride, reach + row.pad * stride)
        if isinstance(row, Pool):
            return Field(stride * row.stride, reach + stride)
        if isinstance(row, Zoom):
            return Field(stride // row.factor, reach + stride)
        return Field(stride, reach)

    found = fold(ARCHITECTURES[architecture].prediction_rows, Field(1, 0), see)
    assert found[INPUT].reach == 0
    return found


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
    """Split a side of an image of ``length`` pixels into tiles of about ``side`` pixels, of which ``results`` come.

    Result i lies on pixel ``i * field.stride``. All tiles but the last have ``k * stride + 1`` pixels.
    """
    stride = field.stride
    around = -(-field.reach // stride) * stride
    share = max(1, (side - 1 - 2 * around) // stride)
    count = 1 if length <= side else -(-results // share)
    bounds = [results * number // count for number in range(count + 1)]
    return [
        Piece(max(0, begin * stride - around), min(length, (end - 1) * stride + around + 1), begin, end)
        if count > 1
        else Piece(0, length, 0, results)
        for begin, end in itertools.pairwise(bounds)
    ]


def tiles(size: tuple[int, int], results: tuple[int, int], field: Field, side: int) -> Iterator[tuple[Piece, Piece]]:
    """Yield the pieces of height and width of every tile of an image, row by row; see `pieces`."""
    lines, columns = (pieces(*lengths, field, side) for lengths in zip(size, results, strict=True))
    yield from ((line, column) for line in lines for column in columns)
