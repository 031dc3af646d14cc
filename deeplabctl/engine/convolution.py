"""Convolve images [height][width][depth]: by tiles or pixel by pixel; then scale, add the bias, apply the activation.

A block of tiles goes three steps: each tile becomes n * n values, each of these is multiplied by its own panels of the
transformed kernel, and the products are transformed back.

    values     [n * n][groups][depth / lanes][rows][lanes]
    products   [n * n][groups][panels][rows][WIDTH]

What a thread computes of a layer is a part: tiles (or pixels) first:last, and panels first:last. Depths are padded to
whole cache lines, except the first image's. ``affine`` has scales and biases (see `Vectors.scale_and_bias`).
Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplabctl.arrays import LINE, Float32, Int64
from deeplabctl.engine.microkernel import REGISTERS, Simd, copy, multiply, multiply_to_outputs, store_output
from deeplabctl.engine.winograd_transforms import transform, transform_back
from deeplabctl.jit import kernel
from deeplabctl.vectors import load, store

ZERO = np.float32(0.0)

Limits = tuple[np.float32, np.float32]  # the least and the most that a result may be
Part = tuple[int, int, int, int]  # first and last tile or pixel, first and last panel
Window = tuple[int, int, int, int, int]  # side, stride and dilation of a kernel; zeros above and before the image
Extent = tuple[int, int, int, int]  # height and width of the image, its depth, and the result's


@kernel
def convolve_tiles(
    image: Float32, shape: Extent, weights: Float32, affine: Float32, limits: Limits, result: Float32, dilation: int,
    tops: Int64, lefts: Int64, part: Part, block: int, work: Float32, tile: Any, simd: Simd,
) -> None:  # fmt: skip
    """Convolve the tiles of a part, at most ``block`` at once, by a 3x3 kernel with stride 1."""
    depth, rows, n = shape[2], len(simd.rows), len(tile) + 2
    groups, width = (block + rows - 1) // rows, REGISTERS * len(simd.lanes)
    panels = part[3] - part[2]
    value_stride, product_stride = odd_lines(groups * depth * rows), odd_lines(groups * panels * rows * width)
    products = n * n * value_stride
    edge = products + n * n * product_stride
    for first in range(part[0], part[1], block):
        count = min(block, part[1] - first)
        values_of_tiles(
            image, shape, dilation, tops, lefts, first, count, rows, work, value_stride, edge, tile, simd
        )  # fmt: skip
        for value in range(n * n):
            multiply_groups(
                work, value * value_stride, depth * rows, weights, value * ((shape[3] + width - 1) // width) + part[2],
                products + value * product_stride, depth, count, panels, simd,
            )  # fmt: skip
        pixels_of_tiles(
            work, products, product_stride, affine, limits, result, shape, dilation, tops, lefts, first, count,
            part, edge, tile, simd,
        )  # fmt: skip


@kernel
def values_of_tiles(
    image: Float32, shape: Extent, dilation: int, tops: Int64, lefts: Int64, first: int, count: int, rows: int,
    work: Float32, value_stride: int, edge: int, tile: Any, simd: Simd,
) -> None:  # fmt: skip
    """Transform tiles to values in groups of ``rows``; outside of the image there are zeros."""
    height, width, depth = shape[0], shape[1], shape[2]
    lanes, n = len(simd.lanes), len(tile) + 2
    row_stride, column_stride = dilation * width * depth, dilation * depth
    reach = dilation * (n - 1)
    for t in range(count):
        y, x = tops[(first + t) // len(lefts)], lefts[(first + t) % len(lefts)]
        destination = t // rows * depth * rows + t % rows * lanes
        start = (y * width + x) * depth
        if y >= 0 and x >= 0 and y + reach < height and x + reach < width:
            for c in range(0, depth, lanes):
                transform(
                    image, start + c, row_stride, column_stride, work, destination + c * rows, value_stride, tile, simd
                )
            continue
        above, below = steps_inside(y, dilation, height, n)
        before, behind = steps_inside(x, dilation, width, n)
        for k in range(edge, edge + n * n * LINE):
            work[k] = ZERO
        for c in range(0, depth, LINE):
            for i in range(above, below):
                for j in range(before, behind):
                    pixel = load(image, start + i * row_stride + j * column_stride + c, (0, 0))
                    store(work, edge + (i * n + j) * LINE, pixel)
            for lane in range(0, LINE, lanes):
                transform(
                    work, edge + lane, n * LINE, LINE, work, destination + (c + lane) * rows, value_stride, tile, simd
                )  # fmt: skip


@kernel
def multiply_groups(
    work: Float32, pixels: int, group: int, weights: Float32, panel: int, products: int, depth: int, count: int,
    panels: int, simd: Simd,
) -> None:  # fmt: skip
    """Multiply the groups of a block, ``group`` floats from each other, by panels.

    While a panel is used, the next one is fetched, a share by each group.
    """
    rows, width = len(simd.rows), REGISTERS * len(simd.lanes)
    used = (count + rows - 1) // rows
    step = (width + used - 1) // used
    share = (depth * step + width - 1) // width
    for p in range(panels):
        at = (panel + p) * depth * width
        for g in range(used):
            multiply_rows(
                work, pixels + g * group, weights, at, products + (g * panels + p) * rows * width,
                depth, (depth + g * share) * width, step, count - g * rows, simd,
            )  # fmt: skip


@kernel
def multiply_rows(
    work: Float32, a: int, weights: Float32, b: int, c: int, depth: int, ahead: int, step: int, count: int, simd: Simd
) -> None:
    """Multiply a group of ``count`` pixels, or of all its rows if there are more, by a panel."""
    if count > len(simd.half):
        multiply(work, a, weights, b, work, c, depth, ahead, step, simd.rows, simd)
    elif count > len(simd.quarter):
        multiply(work, a, weights, b, work, c, depth, ahead, step, simd.half, simd)
    elif count > len(simd.one):
        multiply(work, a, weights, b, work, c, depth, ahead, step, simd.quarter, simd)
    else:
        multiply(work, a, weights, b, work, c, depth, ahead, step, simd.one, simd)


@kernel
def pixels_of_tiles(
    work: Float32, products: int, product_stride: int, affine: Float32, limits: Limits, result: Float32,
    shape: Extent, dilation: int, tops: Int64, lefts: Int64, first: int, count: int, part: Part, edge: int, tile: Any,
    simd: Simd,
) -> None:  # fmt: skip
    """Transform products back, and write the pixels that are inside the image."""
    height, width, depth = shape[0], shape[1], shape[3]
    lanes, rows, m = len(simd.lanes), len(simd.rows), len(tile)
    panel_width, panels = REGISTERS * lanes, part[3] - part[2]
    row_stride, column_stride = dilation * width * depth, dilation * depth
    for t in range(count):
        y, x = tops[(first + t) // len(lefts)] + dilation, lefts[(first + t) % len(lefts)] + dilation
        destination = (y * width + x) * depth
        at = products + (t // rows * panels * rows + t % rows) * panel_width
        is_inside = y + dilation * (m - 1) < height and x + dilation * (m - 1) < width
        below, behind = steps_inside(y, dilation, height, m)[1], steps_inside(x, dilation, width, m)[1]
        for p in range(panels):
            for v in range(0, panel_width, lanes):
                c, source = (part[2] + p) * panel_width + v, at + p * rows * panel_width + v
                if c >= depth:
                    continue
                if is_inside:
                    transform_back(
                        work, source, product_stride, affine, c, limits, result, destination + c, row_stride,
                        column_stride, tile, simd,
                    )  # fmt: skip
                    continue
                transform_back(
                    work, source, product_stride, affine, c, limits, work, edge, m * lanes, lanes, tile, simd
                )  # fmt: skip
                for i in range(below):
                    for j in range(behind):
                        for lane in range(lanes):
                            pixel = destination + i * row_stride + j * column_stride + c
                            result[pixel + lane] = work[edge + (i * m + j) * lanes + lane]


@kernel
def convolve_pixels(
    image: Float32, shape: Extent, weights: Float32, affine: Float32, limits: Limits, result: Float32,
    window: Window, inputs: int, out_width: int, part: Part, block: int, work: Float32, simd: Simd,
) -> None:  # fmt: skip
    """Convolve the pixels of a part, at most ``block`` at once, each of ``inputs`` values under the kernel."""
    side, stride, dilation, above, before = window
    lanes, rows = len(simd.lanes), len(simd.rows)
    width = REGISTERS * lanes
    group = (side * side * shape[2] + lanes - 1) // lanes * lanes * rows
    sums = (block + rows - 1) // rows * group
    for first in range(part[0], part[1], block):
        count = min(block, part[1] - first)
        y, column = first // out_width * stride - above, first % out_width
        group_at, row = 0, 0
        for _ in range(count):
            gather(image, shape, y, column * stride - before, side, dilation, work, group_at + row * lanes, simd)
            row += 1
            if row == rows:
                row, group_at = 0, group_at + group
            column += 1
            if column == out_width:
                y, column = y + stride, 0
        full = count // rows
        step = (width + full - 1) // max(full, 1)
        share = (inputs * step + width - 1) // width
        for p in range(part[2], part[3]):
            c = p * width
            used = min(REGISTERS, (shape[3] - c) // lanes)
            for g in range(full):
                multiply_to_outputs(
                    work, g * group, weights, p * inputs * width, affine, c, limits, result,
                    (first + g * rows) * shape[3] + c, shape[3], used, inputs, (inputs + g * share) * width, step, simd,
                )  # fmt: skip
            if full * rows < count:
                multiply_groups(work, full * group, group, weights, p, sums, inputs, count - full * rows, 1, simd)
            for row in range(full * rows, count):
                for v in range(used):
                    store_output(
                        work, sums + (row - full * rows) * width + v * lanes, affine, c + v * lanes, result,
                        (first + row) * shape[3] + c + v * lanes, limits, simd,
                    )  # fmt: skip


@kernel
def gather(
    image: Float32, shape: Extent, y: int, x: int, side: int, dilation: int, work: Float32, destination: int, simd: Simd
) -> None:
    """Copy the pixels under a kernel, from (y, x) on, to a row of a group."""
    height, width, depth = shape[0], shape[1], shape[2]
    lanes, rows = len(simd.lanes), len(simd.rows)
    if depth % LINE == 0:
        for i in range(side):
            for j in range(side):
                yy, xx = y + dilation * i, x + dilation * j
                is_inside = 0 <= yy < height and 0 <= xx < width
                at = (yy * width + xx) * depth
                for c in range(at, at + depth, lanes):
                    if is_inside:
                        copy(image, c, work, destination, simd)
                    else:
                        for lane in range(lanes):
                            work[destination + lane] = ZERO
                    destination += rows * lanes
        return
    lane = 0
    if dilation == 1 and y >= 0 and x >= 0 and y + side <= height and x + side <= width:
        for i in range(side):
            at = ((y + i) * width + x) * depth
            for c in range(side * depth):
                work[destination + lane // lanes * rows * lanes + lane % lanes] = image[at + c]
                lane += 1
        return
    for i in range(side):
        yy = y + dilation * i
        for j in range(side):
            xx = x + dilation * j
            is_inside = 0 <= yy < height and 0 <= xx < width
            at = (yy * width + xx) * depth
            for c in range(depth):
                work[destination + lane] = image[at + c] if is_inside else ZERO
                lane += 1
                if lane == lanes:
                    lane = 0
                    destination += rows * lanes


@kernel
def steps_inside(start: int, step: int, length: int, count: int) -> tuple[int, int]:
    """Return (first, last): of ``count`` steps from a start, first:last are inside the image."""
    first = 0 if start >= 0 else (-start + step - 1) // step
    last = 0 if start >= length else (length - 1 - start) // step + 1
    return first, max(first, min(last, count))


@kernel
def odd_lines(size: int) -> int:
    """Return an odd number of cache lines, at least a size: panels must not share the sets of a cache."""
    return (size // LINE | 1) * LINE
