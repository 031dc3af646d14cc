"""Set up the two kernels for an image as one filter: the gaussian kernel's lattice, then the bilateral kernel's."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from deeplabctl.arrays import Float32, Image, Int32
from deeplabctl.crf.lattice import HALF, ROW, ZERO, build_lattice
from deeplabctl.crf.params import CrfParams
from deeplabctl.jit import kernel

GAUSSIAN_VERTICES = 3  # around a pixel in the gaussian kernel's lattice, of (x, y)
ALL_VERTICES = 9  # with those in the bilateral kernel's lattice, of (x, y, r, g, b)
TILE = 16  # pixels go tile by tile, which keeps the vertices in use in the cache
LOG2_E = np.float32(1 / math.log(2))  # turns messages into logarithms to base 2, which the steps work with
EPSILON = np.float32(1e-20)  # the original's, against dividing by 0


class Filter(NamedTuple):
    """Hold the lattices of both kernels over N pixels, as one array of ``size`` rows of values.

    The pixels' vertices, which are rows, and their weights (N, 9); the factors (N, 2) of the kernels' messages; the
    chains that the blur follows from row to row, closed by a 0.
    """

    vertices: Int32
    weights: Float32
    factors: Float32
    chains: Int32
    size: int


def build_filter(image: Image, order: Int32, params: CrfParams) -> Filter:
    """Build the filter of an image for its pixels in an order, with the kernels' weights and normalization."""
    count = len(order)
    points = np.zeros((5, count + (count % 4 > 0)), np.float32)  # the original fills up with 0, which adds vertices
    points[1, :count], points[0, :count] = np.divmod(order, np.int32(image.shape[1]))
    points[2:, :count] = image.reshape(-1, 3)[order].T
    scales = np.array([params.bi_xy_std] * 2 + [params.bi_rgb_std] * 3, np.float32)
    vertices = np.empty((points.shape[1], ALL_VERTICES), np.int32)
    weights = np.empty((points.shape[1], ALL_VERTICES), np.float32)
    first, last = slice(GAUSSIAN_VERTICES), slice(GAUSSIAN_VERTICES, ALL_VERTICES)
    gaussian, size = build_lattice(points[:2] / np.float32(params.pos_xy_std), vertices[:, first], weights[:, first], 0)
    bilateral, size = build_lattice(points / scales[:, None], vertices[:, last], weights[:, last], size)
    chains = np.concatenate([gaussian, bilateral, np.zeros(1, np.int32)])
    vertices, weights = vertices[:count], weights[:count]
    norms = filter_ones(vertices, weights, chains, size) + EPSILON  # the lattice's own gain, 1 / (1 + 2**-d), cancels
    factors = np.array([params.pos_w, params.bi_w], np.float32) * LOG2_E
    if params.normalization == "symmetric":
        roots = 1 / np.sqrt(norms)
        weights[:, first] *= roots[:, :1]
        weights[:, last] *= roots[:, 1:]
        return Filter(vertices, weights, np.tile(factors, (count, 1)), chains, size)
    return Filter(vertices, weights, factors / norms, chains, size)


@functools.lru_cache(maxsize=16)
def tiled_order(height: int, width: int) -> Int32:
    """Return the flat indices of an image's pixels, tile by tile."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    return np.argsort(y // TILE * width + x // TILE, kind="stable").astype(np.int32)


@kernel
def filter_ones(vertices: Int32, weights: Float32, chains: Int32, size: int) -> Float32:
    """Filter an image of ones with each kernel: splat, blur and slice it; returns (N, 2)."""
    values = np.zeros(size, np.float32)
    for n in range(len(vertices)):
        for j in range(ALL_VERTICES):
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
        for j in range(ALL_VERTICES):
            ones[n, int(j >= GAUSSIAN_VERTICES)] += weights[n, j] * values[np.uint32(vertices[n, j])]
    return ones
