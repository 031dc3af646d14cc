"""Set up the two kernels for an image as one filter: the gaussian kernel's lattice, then the bilateral kernel's."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.crf.compiling import kernel
from deeplabctl.crf.lattice import HALF, ROW, ZERO, Floats, Ints, build_lattice
from deeplabctl.crf.params import CrfParams

GAUSSIAN = 3  # vertices around a pixel in the gaussian kernel's lattice, of (x, y)
ALL = 9  # and with those in the bilateral kernel's, of (x, y, r, g, b)
TILE = 16  # pixels go tile by tile, which keeps the vertices in use in the cache
BITS = np.float32(1 / math.log(2))  # messages are logarithms to base 2, which is what the steps work with
LITTLE = np.float32(1e-20)  # the original's, against dividing by 0


class Filter(NamedTuple):
    """Hold what passes messages between N pixels.

    Vertices and weights (N, 9) of the pixels in an array of ``size`` rows; the factors (N, 2) of the kernels' messages;
    the chains that the blur follows from row to row, closed by a 0.
    """

    vertices: Ints
    weights: Floats
    factors: Floats
    chains: Ints
    size: int


def build_filter(image: npt.NDArray[np.uint8], order: Ints, params: CrfParams) -> Filter:
    """Build the filter of an image (H, W, 3) uint8 RGB for its pixels in an order, with the kernels' weights."""
    count = len(order)
    points = np.zeros((5, count + (count % 4 > 0)), np.float32)  # the original fills up with 0, which adds vertices
    points[1, :count], points[0, :count] = np.divmod(order, np.int32(image.shape[1]))
    points[2:, :count] = image.reshape(-1, 3)[order].T
    scales = np.array([params.bi_xy_std] * 2 + [params.bi_rgb_std] * 3, np.float32)
    vertices = np.empty((points.shape[1], ALL), np.int32)
    weights = np.empty((points.shape[1], ALL), np.float32)
    first, last = slice(GAUSSIAN), slice(GAUSSIAN, ALL)
    near, size = build_lattice(points[:2] / np.float32(params.pos_xy_std), vertices[:, first], weights[:, first], 0)
    alike, size = build_lattice(points / scales[:, None], vertices[:, last], weights[:, last], size)
    chains = np.concatenate([near, alike, np.zeros(1, np.int32)])
    vertices, weights = vertices[:count], weights[:count]
    masses = filter_ones(vertices, weights, chains, size) + LITTLE  # the lattice's own gain, 1 / (1 + 2**-d), cancels
    factors = np.array([params.pos_w, params.bi_w], np.float32) * BITS
    if params.normalization == "symmetric":
        norms = 1 / np.sqrt(masses)
        weights[:, first] *= norms[:, :1]
        weights[:, last] *= norms[:, 1:]
        return Filter(vertices, weights, np.tile(factors, (count, 1)), chains, size)
    return Filter(vertices, weights, factors / masses, chains, size)


@functools.lru_cache(maxsize=16)
def tiled_order(height: int, width: int) -> Ints:
    """Return the flat indices of an image's pixels, tile by tile."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    return np.argsort(y // TILE * width + x // TILE, kind="stable").astype(np.int32)


@kernel
def filter_ones(vertices: Ints, weights: Floats, chains: Ints, size: int) -> Floats:
    """Return (N, 2) what each kernel makes of an image of ones."""
    values = np.zeros(size, np.float32)
    for n in range(len(vertices)):
        for j in range(ALL):
            values[np.uint32(vertices[n, j])] += weights[n, j]
    before = ZERO
    for t in range(len(chains) - 1):
        row = np.uint32(chains[t] & ROW)
        after = ZERO if chains[t] < 0 else values[np.uint32(chains[t + 1] & ROW)]
        value = values[row]
        values[row] = value + HALF * (before + after)
        before = ZERO if chains[t] < 0 else value
    ones = np.zeros((len(vertices), 2), np.float32)
    for n in range(len(vertices)):
        for j in range(ALL):
            ones[n, int(j >= GAUSSIAN)] += weights[n, j] * values[np.uint32(vertices[n, j])]
    return ones
