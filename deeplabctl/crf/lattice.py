"""Build the CRF's filter of an image from permutohedral lattices, vertex for vertex those of the original dense CRF.

A filter holds two lattices (Adams, Baek and Davis 2010): the gaussian kernel's, then the bilateral kernel's.

A vertex is a key of at most 63 bits: d coordinates, each divided by d + 1, in fields of 60 // d bits, at most 23, and
above them 1 plus the remainder that they share. One step along a lattice axis adds a constant to the key. Vertices are
numbered as the points find them. Everything is rounded as in the original (float32, no fused products, ties to even): a
point in another simplex would add vertices, and the blur carries values to them even if no point splats onto them.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from deeplabctl.arrays import Float32, Image, Int32, Int64
from deeplabctl.crf.params import CrfParams
from deeplabctl.jit import kernel

BLOCK = 256  # points that are embedded at once
END = np.int32(-(2**31))  # the sign bit marks the last vertex of a chain
ROW = np.int32(2**31 - 1)
FIBONACCI = np.int64(0x9E3779B97F4A7C15 - 2**64)  # 2**64 over the golden ratio: a multiplicative hash
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)

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


def tiled_order(height: int, width: int) -> Int32:
    """Return the flat indices of an image's pixels, tile by tile."""
    indices = np.arange(height * width, dtype=np.int32).reshape(height, width)
    corners = itertools.product(range(0, height, TILE), range(0, width, TILE))
    return np.concatenate([indices[y : y + TILE, x : x + TILE].ravel() for y, x in corners])


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


class Table(NamedTuple):
    """Hold a hash table of vertices: slots (2**n,) with a vertex or -1, the key of each vertex, and 64 - n."""

    slots: Int32
    keys: Int64
    shift: np.uint64


def build_lattice(points: Float32, vertices: Int32, weights: Float32, first: int) -> tuple[Int32, int]:
    """Embed points (d, N) in a lattice, and write their vertices and barycentric weights, both (N, d + 1).

    Points are in units of the kernel's standard deviation, none below 0; vertices are numbered from ``first`` on.
    Returns the blur's chains (see `build_chains`) and the number after the last vertex. Raises ValueError for points
    too far out for a key.
    """
    d = len(points)
    bits = min(60 // d, 23)  # float32 holds d + 1 times as much, and its digits for the ranks
    spread = float(np.float32(np.sqrt(2 / 3) * (d + 1)))  # makes the standard deviation of the blur 1
    scales = np.array([spread / np.sqrt((i + 1) * (i + 2)) for i in range(d)], np.float32)
    fields = np.int64(1) << np.arange(0, bits * d, bits, dtype=np.int64)
    remainder = 1 << bits * d
    steps = np.append(remainder - fields, remainder)
    scaled = points * scales[:, None]
    ends = scaled.max(1)
    if not max(ends.sum(), (ends * range(1, d + 1)).max()) / (d + 1) + 2 < 1 << (bits - 1):
        raise ValueError("CRF: a standard deviation is too small for an image of this size")
    table, size = embed(scaled, steps, fields, vertices, weights, first)
    return build_chains(table, size, steps, (d + 1) * remainder - int(fields.sum()), first), first + size


@kernel
def embed(
    points: Float32, steps: Int64, fields: Int64, vertices: Int32, weights: Float32, first: int
) -> tuple[Table, int]:
    """Write the vertices and weights of points; return the vertices' table and their number."""
    d, count = points.shape
    elevated = np.zeros((d + 1, BLOCK), np.float32)
    offsets = np.empty((d + 1, BLOCK), np.float32)
    coordinates = np.empty((d + 1, BLOCK), np.int32)
    ranks = np.empty((d + 1, BLOCK), np.int32)
    ordered = np.empty(d + 1, np.float32)
    order = np.empty(d + 1, np.int64)
    bias = steps[d] // fields[d - 1] // 2
    table = empty_table(12)
    size = 0
    last_key: Any = 0
    last_code: Any = 0
    for begin in range(0, count, BLOCK):
        width = min(BLOCK, count - begin)
        elevate(points, begin, width, elevated)
        find_simplices(elevated, offsets, coordinates, ranks)
        for x in range(width):
            n = begin + x
            for i in range(d + 1):
                position = d - ranks[i, x]
                ordered[position] = offsets[i, x]
                order[position] = i
            weights[n, 0] = ordered[0] + (ONE - ordered[d])
            key, code = steps[d], 0
            for i in range(d):
                weights[n, i + 1] = ordered[i + 1] - ordered[i]
                key += (coordinates[i, x] + bias) * fields[i]
                code = code * 8 + order[i]
            if key == last_key and code == last_code:
                for i in range(d + 1):
                    vertices[n, i] = vertices[n - 1, i]
                continue
            last_key, last_code = key, code
            if size + d + 1 > len(table.keys):
                table = larger_table(table, size)
            for i in range(d + 1):
                slot = find(table, key)
                if table.slots[slot] < 0:
                    table.slots[slot] = size
                    table.keys[size] = key
                    size += 1
                vertices[n, i] = first + table.slots[slot]
                key += steps[order[i]]
    return table, size


@kernel
def elevate(points: Float32, begin: int, width: int, elevated: Float32) -> None:
    """Put a block of points (d, width) onto the plane of d + 1 coordinates that sum to 0."""
    total = elevated[0]
    total.fill(ZERO)
    for j in range(len(points), 0, -1):
        factor = np.float32(j)
        for x in range(width):
            point = points[j - 1, begin + x]
            elevated[j, x] = total[x] - factor * point
            total[x] += point


@kernel
def find_simplices(elevated: Float32, offsets: Float32, coordinates: Int32, ranks: Int32) -> None:
    """Find for each point the nearest vertex of remainder 0, and its offsets from there with their ranks.

    Coordinates and offsets are in units of d + 1; all arrays are (d + 1, BLOCK).
    """
    d = len(elevated) - 1
    whole = np.float32(d + 1)
    inverse = ONE / whole
    excess = np.zeros(BLOCK, np.int32)
    for i in range(d + 1):
        for x in range(BLOCK):
            rounded = np.rint(inverse * elevated[i, x])
            coordinates[i, x] = np.int32(rounded)
            excess[x] += np.int32(rounded)
            offsets[i, x] = elevated[i, x] - rounded * whole
            ranks[i, x] = 0
    for i in range(d):
        for j in range(i + 1, d + 1):
            for x in range(BLOCK):
                behind = np.int32(offsets[i, x] < offsets[j, x])
                ranks[i, x] += behind
                ranks[j, x] += np.int32(1) - behind
    for i in range(d + 1):
        for x in range(BLOCK):
            rank = ranks[i, x] + excess[x]
            shift = np.int32(rank < 0) - np.int32(rank > d)
            ranks[i, x] = rank + shift * np.int32(d + 1)
            coordinates[i, x] += shift
            offsets[i, x] = (elevated[i, x] - np.float32(coordinates[i, x]) * whole) * inverse


@kernel
def empty_table(bits: int) -> Table:
    """Return a table of 2**bits slots for a quarter as many vertices, so that few keys collide."""
    slots = np.empty(1 << bits, np.int32)
    slots.fill(-1)
    return Table(slots, np.empty(1 << (bits - 2), np.int64), np.uint64(64 - bits))


@kernel
def larger_table(table: Table, size: int) -> Table:
    """Return the table at twice its size."""
    larger = empty_table(65 - int(table.shift))
    for vertex in range(size):
        larger.keys[vertex] = table.keys[vertex]
        larger.slots[find(larger, table.keys[vertex])] = vertex
    return larger


@kernel
def find(table: Table, key: Any) -> Any:
    """Return the slot with the vertex of a key, or the free slot for it."""
    last = np.uint64(len(table.slots) - 1)
    slot = np.uint64(key * FIBONACCI) >> table.shift
    vertex = table.slots[slot]
    while vertex >= 0 and table.keys[np.uint32(vertex)] != key:
        slot = (slot + np.uint64(1)) & last
        vertex = table.slots[slot]
    return slot


@kernel
def build_chains(table: Table, size: int, steps: Int64, wrap: int, first: int) -> Int32:
    """Return the chains of neighbours along all axes, one after another; vertices without neighbours are left out.

    A set sign bit marks the end of a chain. Past the last remainder, ``wrap`` is subtracted from the key.
    """
    d = len(steps) - 1
    chains = np.empty((d + 1) * size, np.int32)
    next_vertex = np.empty(size, np.int32)
    end = np.uint64(0)
    for axis in range(d + 1):
        has_previous = np.zeros(size + 1, np.bool_)  # by vertex + 1
        for vertex in range(size):
            key = table.keys[vertex] + steps[axis]
            if key >= (d + 2) * steps[d]:
                key -= wrap
            neighbour = table.slots[find(table, key)]  # -1: none
            next_vertex[vertex] = neighbour
            has_previous[np.uint32(neighbour + 1)] = True
        for head in range(size):
            if not has_previous[head + 1] and next_vertex[head] >= 0:
                vertex_ = np.int32(head)
                while vertex_ >= 0:
                    chains[end] = first + vertex_
                    end += np.uint64(1)
                    vertex_ = next_vertex[np.uint32(vertex_)]
                chains[end - np.uint64(1)] |= END
    return chains[: np.int64(end)]
