"""Compute the gradients of depthwise 3x3 convolutions of batches, as a training needs them, in one pass.

A part is a band of rows of one image. What it needs is copied to float32 first, with zeros around it:

    images      [channels / LINE][rows][columns][LINE]
    gradients   [channels / LINE][rows][columns][LINE]      of the result; 0 where its activation is flat

Numbers are float32, or bfloat16, which are the upper halves of float32. Numba loads with this module: import it inside
functions only.
"""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import LINE, Float32, aligned
from deeplabctl.engine.convolution import ZERO, Limits, Window
from deeplabctl.engine.workspace import Workers
from deeplabctl.jit import kernel
from deeplabctl.vectors import load, store, where_inside

SIDE = 3  # of a kernel
TAPS = SIDE * SIDE
_BAND = 1 << 17  # floats that the images of a band take: with its gradients they stay in a core's second cache

Batch = npt.NDArray[Any]  # (N, H, W, C), float32 or bfloat16


def is_possible(channels: int, stride: int, dilation: int) -> bool:
    """Tell whether the gradients of a convolution can be computed here: the channels fill whole cache lines."""
    return channels % LINE == 0 and (stride == 1 or (stride == 2 and dilation == 1))


class DepthwiseGradients:
    """Compute gradients of convolutions of batches (N, H, W, C) by kernels (3, 3, C, 1).

    The stride is 1, or 2 without a dilation. Arrays are C-contiguous; C is a multiple of 16. Results do not depend on
    the number of threads. It may be called from several threads at once; they wait for one another.
    """

    def __init__(self, threads: int) -> None:
        self._workers, self._lock = Workers(threads), threading.Lock()

    def __call__(
        self, images: Batch, kernel: Float32, result: Batch, gradient: Batch, window: Window, limits: Limits
    ) -> tuple[Batch, Float32, Float32]:
        """Return the gradients with respect to the images, the kernel and the bias.

        ``result`` (N, h, w, C) is that of the convolution, a bias and an activation, whose gradient is 0 at its
        ``limits`` and beyond; ``gradient`` is that with respect to it.
        """
        _, stride, dilation, _, _ = window
        (number, height, width, channels), (rows, columns) = images.shape, result.shape[1:3]
        reach = (SIDE - 1) * dilation
        wide, narrow = (columns - 1) * stride + reach + 1, columns + reach
        bands = max(1, min(rows // (2 * reach), round(rows * stride * wide * channels / _BAND)))
        bounds = [rows * band // bands for band in range(bands + 1)]
        parts = [(image, band) for image in range(number) for band in itertools.pairwise(bounds)]
        tallest = -(-rows // bands)
        image_floats = ((tallest - 1) * stride + reach + 1) * wide * LINE
        gradient_floats = (tallest + reach) * narrow * LINE
        row = (image_floats + gradient_floats) * channels // LINE
        of_images = aligned(images.size * images.itemsize // 4).view(images.dtype).reshape(images.shape)
        sums = np.empty((len(parts), TAPS + 1, channels), np.float32)
        bits = np.uint16 if images.itemsize == 2 else np.float32
        arrays = [array.view(bits).reshape(number, -1) for array in (images, result, gradient, of_images)]

        def compute(part: int, work: Float32) -> None:
            image, band = parts[part]
            read, values, above, written = (array[image] for array in arrays)
            gradients_of_band(
                read, values, above, kernel.reshape(-1), (height, width, rows, columns), channels, window,
                limits, band, work, image_floats, gradient_floats, row, written, sums[part].reshape(-1),
            )  # fmt: skip

        with self._lock:
            self._workers.run(compute, range(len(parts)), row + (wide + 1) * LINE)
        total = sums.sum(0)
        return of_images, total[:TAPS].reshape(kernel.shape), total[TAPS]


@kernel
def gradients_of_band(
    images: Any, values: Any, above: Any, weights: Float32, size: tuple[int, int, int, int], channels: int,
    window: Window, limits: Limits, band: tuple[int, int], work: Float32, image_floats: int,
    gradient_floats: int, row: int, of_images: Any, sums: Float32,
) -> None:  # fmt: skip
    """Write the gradient of the images' rows that belong to a band of the result's, and the sums over the band.

    A line of channels takes ``image_floats`` and ``gradient_floats`` of ``work``; a row of the images' gradient is at
    ``row``.
    """
    height, width, rows, columns = size
    _, stride, dilation, top, left = window
    (first, last), reach = band, (SIDE - 1) * dilation
    wide, narrow = (columns - 1) * stride + reach + 1, columns + reach
    gradients = channels // LINE * image_floats
    work[:row] = ZERO
    for y in range(max(0, first * stride - top), min(height, (last - 1) * stride - top + reach + 1)):
        to = ((y - first * stride + top) * wide + left) * LINE
        for x in range(min(width, wide - left)):
            for line in range(channels // LINE):
                pixel = load(images, (y * width + x) * channels + line * LINE, (0, 0))
                store(work, to + x * LINE + line * image_floats, pixel)
    for y in range(max(0, first - dilation), min(rows, last + dilation)):
        to = gradients + ((y - first + dilation) * narrow + dilation) * LINE
        for x in range(columns):
            for line in range(channels // LINE):
                at = (y * columns + x) * channels + line * LINE
                gradient = where_inside(load(above, at, (0, 0)), load(values, at, (0, 0)), limits)
                store(work, to + x * LINE + line * gradient_floats, gradient)
    for line in range(channels // LINE):
        start, c = gradients + line * gradient_floats, line * LINE
        sum_products(
            work, line * image_floats, wide, start + dilation * (narrow + 1) * LINE, narrow, last - first, columns,
            stride, dilation, sums, c, channels,
        )  # fmt: skip
        for y in range(first * stride, min(last * stride, height)):
            work[row : row + (wide + 1) * LINE] = ZERO
            for tap_row in range(SIDE):
                seen = y + top - dilation * tap_row
                if seen % stride == 0:
                    at = start + (seen // stride - first + dilation) * narrow * LINE
                    taps = tap_row * SIDE * channels + c
                    if stride == 1:
                        add_row(work, at, width, dilation, weights, taps, channels, row + left * LINE)
                    else:
                        add_strided_row(work, at, columns, weights, taps, channels, row)
            for x in range(width):
                store(of_images, (y * width + x) * channels + c, load(work, row + (left + x) * LINE, (0, 0)))


@kernel
def sum_products(
    work: Float32, images: int, wide: int, gradients: int, narrow: int, rows: int, columns: int, stride: int,
    dilation: int, sums: Float32, to: int, channels: int,
) -> None:  # fmt: skip
    """Write the sums over a band of its gradients times the pixels that each weight sees, and of the gradients."""
    step, pixel_step = dilation * LINE, stride * LINE
    for tap_row in range(SIDE):
        a = load(work, gradients, (0, 0)) * ZERO
        b, d, e = a, a, a
        for y in range(rows):
            at, of = images + (y * stride + tap_row * dilation) * wide * LINE, gradients + y * narrow * LINE
            for _ in range(columns):
                gradient = load(work, of, (0, 0))
                a = a + gradient * load(work, at, (0, 0))
                b = b + gradient * load(work, at + step, (0, 0))
                d = d + gradient * load(work, at + 2 * step, (0, 0))
                e = e + gradient
                at += pixel_step
                of += LINE
        store(sums, to, a)
        store(sums, to + channels, b)
        store(sums, to + 2 * channels, d)
        to += SIDE * channels
        if tap_row == SIDE - 1:
            store(sums, to, e)


@kernel
def add_row(
    work: Float32, at: int, width: int, dilation: int, weights: Float32, taps: int, channels: int, to: int
) -> None:
    """Add what a row of the kernel gives to a row of the images' gradient, stride 1: it is turned."""
    step = dilation * LINE
    a, b = load(weights, taps, (0, 0)), load(weights, taps + channels, (0, 0))
    d = load(weights, taps + 2 * channels, (0, 0))
    for _ in range(width):
        total = load(work, to, (0, 0)) + d * load(work, at, (0, 0)) + b * load(work, at + step, (0, 0))
        store(work, to, total + a * load(work, at + 2 * step, (0, 0)))
        at += LINE
        to += LINE


@kernel
def add_strided_row(work: Float32, at: int, columns: int, weights: Float32, taps: int, channels: int, to: int) -> None:
    """Add the same for stride 2: every other pixel has two gradients on its sides, the others have one."""
    a, b = load(weights, taps, (0, 0)), load(weights, taps + channels, (0, 0))
    d = load(weights, taps + 2 * channels, (0, 0))
    before = load(work, at, (0, 0))
    for _ in range(columns):
        at += LINE
        behind = load(work, at, (0, 0))
        store(work, to, load(work, to, (0, 0)) + d * before + a * behind)
        store(work, to + LINE, load(work, to + LINE, (0, 0)) + b * behind)
        before = behind
        to += 2 * LINE
    store(work, to, load(work, to, (0, 0)) + d * before)
