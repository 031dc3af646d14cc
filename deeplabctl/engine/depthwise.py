"""Convolve images [height][width][depth], each channel by a kernel of its own; then apply the activation.

Four pixels that are side by side, and see the same columns of the kernel inside the image, are computed at once:
each weight is read once for them. Weights are [depth / LINE][side * side][LINE]. Numba loads with this module: import
it inside functions only.
"""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import LINE, Float32
from deeplabctl.engine.convolution import Limits, Window, steps_inside
from deeplabctl.engine.workspace import padded
from deeplabctl.jit import kernel
from deeplabctl.vectors import clipped, load, store

AT_ONCE = 4  # pixels


def pack_depthwise(weights: Float32) -> Float32:
    """Return a kernel (side, side, channels, 1) as `convolve_depthwise` takes it, filled up with zeros."""
    side, _, channels, _ = weights.shape
    wide = np.zeros((side * side, padded(channels)), np.float32)
    wide[:, :channels] = weights.reshape(side * side, channels)
    return np.ascontiguousarray(wide.reshape(side * side, -1, LINE).transpose(1, 0, 2)).ravel()


@kernel
def convolve_depthwise(
    image: Float32, shape: tuple[int, int, int], weights: Float32, bias: Float32, limits: Limits, window: Window,
    out_width: int, result: Float32, first: int, last: int,
) -> None:  # fmt: skip
    """Write the rows first:last of the result."""
    height, width, depth = shape
    side, stride, dilation, above, before = window
    row_step, column_step, pixel_step = dilation * width * depth, dilation * depth, stride * depth
    for y in range(first, last):
        top = y * stride - above
        first_row, last_row = steps_inside(top, dilation, height, side)
        x = 0
        while x < out_width:
            left = x * stride - before
            columns = steps_inside(left, dilation, width, side)
            is_four = x + AT_ONCE <= out_width and columns == steps_inside(
                left + (AT_ONCE - 1) * stride, dilation, width, side
            )
            source = (top * width + left) * depth + first_row * row_step + columns[0] * column_step
            destination = (y * out_width + x) * depth
            for c in range(0, depth, LINE):
                a = load(bias, c, (0, 0))
                tap = c * side * side + (first_row * side + columns[0]) * LINE
                at = source + c
                if is_four:
                    b, d, e = a, a, a
                    for _ in range(first_row, last_row):
                        for j in range(columns[1] - columns[0]):
                            weight = load(weights, tap + j * LINE, (0, 0))
                            pixel = at + j * column_step
                            a = a + weight * load(image, pixel, (0, 0))
                            b = b + weight * load(image, pixel + pixel_step, (0, 0))
                            d = d + weight * load(image, pixel + 2 * pixel_step, (0, 0))
                            e = e + weight * load(image, pixel + 3 * pixel_step, (0, 0))
                        tap += side * LINE
                        at += row_step
                    store(result, destination + depth + c, clipped(b, limits))
                    store(result, destination + 2 * depth + c, clipped(d, limits))
                    store(result, destination + 3 * depth + c, clipped(e, limits))
                else:
                    for _ in range(first_row, last_row):
                        for j in range(columns[1] - columns[0]):
                            a = a + load(weights, tap + j * LINE, (0, 0)) * load(image, at + j * column_step, (0, 0))
                        tap += side * LINE
                        at += row_step
                store(result, destination + c, clipped(a, limits))
            x += AT_ONCE if is_four else 1
