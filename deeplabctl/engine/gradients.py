"""Compute the gradient of 3x3 convolutions with respect to their kernels, by minimal filtering.

Of the result A [(G k G') * (B d B')] A' the kernel's gradient is G' [sum (A' r A) * (B d B')] G, where ``r`` is the
gradient of a tile of the result, and the sum is over all tiles. For each of the n * n values it is a matrix product:

    values       [n * n][tiles][depth]              of tiles of the image
    gradients    [n * n][panels][tiles][WIDTH]      of tiles of the result
    sums         [n * n][depth][panels][WIDTH]

Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplabctl.arrays import Float32, Int64
from deeplabctl.engine.convolution import ZERO, Shape, steps_inside
from deeplabctl.engine.product import add_product
from deeplabctl.engine.registers import REGISTERS, Form
from deeplabctl.engine.transforms import transform_gradient
from deeplabctl.kernels.compiling import kernel

TILES_AT_ONCE = 224  # the values of so many stay in a core's second cache


@kernel
def gradients_of_tiles(
    image: Float32, shape: Shape, dilation: int, tops: Int64, lefts: Int64, first: int, count: int, work: Float32,
    tiles: int, gradients_apart: int, edge: int, tile: Any, form: Form,
) -> None:  # fmt: skip
    """Transform tiles of a result's gradient; outside of the image there are zeros."""
    height, width, depth = shape[0], shape[1], shape[3]
    lanes, m = len(form[0]), len(tile)
    panel_width = REGISTERS * lanes
    down, right = dilation * width * depth, dilation * depth
    for t in range(count):
        y, x = tops[(first + t) // len(lefts)] + dilation, lefts[(first + t) % len(lefts)] + dilation
        start = (y * width + x) * depth
        below, behind = steps_inside(y, dilation, height, m)[1], steps_inside(x, dilation, width, m)[1]
        for c in range(0, depth, lanes):
            to = (c // panel_width * tiles + t) * panel_width + c % panel_width
            if below == m and behind == m:
                transform_gradient(image, start + c, down, right, work, to, gradients_apart, tile, form)
                continue
            for k in range(edge, edge + m * m * lanes):
                work[k] = ZERO
            for i in range(below):
                for j in range(behind):
                    for lane in range(lanes):
                        work[edge + (i * m + j) * lanes + lane] = image[start + i * down + j * right + c + lane]
            transform_gradient(work, edge, m * lanes, lanes, work, to, gradients_apart, tile, form)


@kernel
def add_products(
    values: Float32, values_apart: int, gradients: Float32, gradients_apart: int, tiles: int, count: int, depth: int,
    panels: int, first: int, last: int, sums: Float32, form: Form,
) -> None:  # fmt: skip
    """Add to the sums, of the values from one to another, what so many tiles give."""
    rows, width = len(form[1]), REGISTERS * len(form[0])
    for value in range(first, last):
        for begin in range(0, count, TILES_AT_ONCE):
            several = min(TILES_AT_ONCE, count - begin)
            for p in range(panels):
                b = value * gradients_apart + (p * tiles + begin) * width
                for row in range(0, depth, rows):
                    a = value * values_apart + begin * depth + row
                    c = ((value * depth + row) * panels + p) * width
                    add_rows(values, a, depth, gradients, b, sums, c, panels * width, several, depth - row, form)


@kernel
def add_rows(
    values: Float32, a: int, step: int, gradients: Float32, b: int, sums: Float32, c: int, apart: int, tiles: int,
    count: int, form: Form,
) -> None:  # fmt: skip
    """Add the product of the next rows, ``count`` of them or as many as a group has, and a panel."""
    if count >= len(form[1]):
        add_product(values, a, step, gradients, b, sums, c, apart, tiles, form[1], form)
        return
    done = 0
    while count - done >= len(form[2]):
        add_product(values, a + done, step, gradients, b, sums, c + done * apart, apart, tiles, form[2], form)
        done += len(form[2])
    while done < count:
        add_product(values, a + done, step, gradients, b, sums, c + done * apart, apart, tiles, form[4], form)
        done += 1


@kernel
def kernel_of_sums(sums: Float32, g: Float32, outputs: int, first: int, last: int, result: Float32) -> None:
    """Transform the sums of the rows from one to another to a kernel's gradient (3, 3, depth, outputs)."""
    n, wide = len(g), sums.shape[2]
    halves = np.zeros((3, wide), np.float32)
    for row in range(first, last):
        for k in range(3):
            result[k, :, row] = ZERO
        for j in range(n):
            halves[:] = ZERO
            for i in range(n):
                for k in range(3):
                    if g[i, k] != ZERO:
                        for o in range(wide):
                            halves[k, o] += g[i, k] * sums[i * n + j, row, o]
            for k in range(3):
                for side in range(3):
                    if g[j, side] != ZERO:
                        for o in range(outputs):
                            result[k, side, row, o] += g[j, side] * halves[k, o]
