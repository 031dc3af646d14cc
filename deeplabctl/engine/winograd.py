"""Compute 3x3 convolutions with few multiplications: F(m x m, 3 x 3) of Winograd, and the tiles that cover an image.

Sources: Lavin and Gray 2016 (arXiv 1509.09308) for the algorithm; Toom and Cook's construction, as in Blahut, Fast
Algorithms for Signal Processing, chapter 5, for the matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from deeplabctl.arrays import Floats, Int64

KERNEL_SIZE = 3  # side

# Besides infinity. For F(4), the usual 0, +-1, +-2 have four times the error.
_POINTS = {
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
    6: tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))),
}
TILES = tuple(_POINTS)  # sides m, in pixels of the result


@functools.cache
def matrices(m: int) -> tuple[Floats, Floats, Floats]:
    """Return A (m, n), B (n, n) and G (n, 3), n = m + 2, of a tile's result A [(G k G') * (B d B')] A'.

    ``k`` is the kernel, ``d`` the n x n pixels around the tile. The rows of B have whole signs so that pairs of them,
    for a point and its negative, share terms.
    """
    points, n = _POINTS[m], m + KERNEL_SIZE - 1
    a, b, g = np.zeros((m, n)), np.zeros((n, n)), np.zeros((n, KERNEL_SIZE))
    for j, point in enumerate(points):
        others = [other for other in points if other != point]
        divisor = functools.reduce(lambda x, y: x * y, (point - other for other in others))
        sign = -1 if divisor < 0 else 1
        b[j, : n - 1] = [sign * float(value) for value in _polynomial(others)]
        g[j] = [sign * float(point**k / divisor) for k in range(KERNEL_SIZE)]
        a[:, j] = [float(point**i) for i in range(m)]
    b[n - 1] = [float(value) for value in _polynomial(points)]
    g[n - 1, KERNEL_SIZE - 1] = a[m - 1, n - 1] = 1
    return a, b, g


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of all x - root, of the lowest power first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found


def tile_starts(length: int, dilation: int, m: int) -> Int64:
    """Return where the inputs of the tiles start along a side of an image; one pixel step before their results.

    A dilation d makes d interleaved images of every d-th pixel, each of which has tiles of its own.
    """
    return np.array(
        [
            first + dilation * (m * i - 1)
            for first in range(min(dilation, length))
            for i in range(-(-len(range(first, length, dilation)) // m))
        ],
        np.int64,
    )


def multiplications(height: int, width: int, dilation: int, m: int) -> int:
    """Return the multiplications for each channel and output that the tiles of an image take."""
    return (m + KERNEL_SIZE - 1) ** 2 * len(tile_starts(height, dilation, m)) * len(tile_starts(width, dilation, m))
