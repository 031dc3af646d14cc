"""Compute 3x3 convolutions of batches and their gradients, as a training needs them, by Winograd's F(4x4, 3x3).

Of the result A [(G k G') * (B d B')] A' (see winograd) the kernel's gradient is G' [sum (A' r A) * (B d B')] G, where
``r`` is the gradient of a tile of the result, and the sum is over all tiles. For each of the n * n values it is a
matrix product:

    values       [n * n][tiles][depth]              of tiles of the image
    gradients    [n * n][panels][tiles][WIDTH]      of tiles of the result
    sums         [n * n][depth][panels][WIDTH]

F(6x6, 3x3) is not used: its error is four times as large. Numba loads with this module: import it inside functions
only.
"""

from __future__ import annotations

import itertools
import math
import threading
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import LINE, Float32, Int64, Size, aligned
from deeplabctl.engine.convolution import ZERO, Extent, odd_lines, steps_inside, values_of_tiles
from deeplabctl.engine.layers import ConvolutionLayer
from deeplabctl.engine.microkernel import REGISTERS, Simd, add_product, best_simd
from deeplabctl.engine.winograd import KERNEL_SIZE, TILES, matrices, tile_starts
from deeplabctl.engine.winograd_transforms import transform_gradient
from deeplabctl.engine.workspace import Buffers, Workers, padded
from deeplabctl.jit import kernel
from deeplabctl.network.ops import BIAS, KERNEL, LINEAR, RELU, Convolution, Input, Node
from deeplabctl.network.ops.convolution import SCALE

TILES_AT_ONCE = 224  # their values stay in a core's second cache

Batch = npt.NDArray[np.float32]  # (N, H, W, C)

_TILE = TILES[0]
_VALUES = (_TILE + KERNEL_SIZE - 1) ** 2  # of a tile
BLOCK = 16 << 20  # floats that the values of a block of tiles take

# What the other parts cost, in products per channel, output or tile, and of a call; measured.
_TRANSFORMS, _PACKING, _CALL, _SHARE_OF_PEAK = 20, 60, 100e6, 0.75


def is_worthwhile(batch: int, size: Size, incoming: int, outgoing: int, dilation: int) -> bool:
    """Tell whether a convolution of images of this size is possible here, and faster than by plain products.

    The numbers of channels must fill whole cache lines. Few or small images do not repay the transform of the kernel.
    """
    if padded(incoming) != incoming or padded(outgoing) != outgoing:
        return False
    tiles = batch * math.prod(len(tile_starts(length, dilation, _TILE)) for length in size)
    transforms = 1 + _TRANSFORMS * (1 / incoming + 1 / outgoing)
    each = (tiles + _PACKING) * _VALUES * transforms / _SHARE_OF_PEAK
    return each * incoming * outgoing + _CALL < batch * math.prod(size) * KERNEL_SIZE**2 * incoming * outgoing


class BatchConvolutions:
    """Convolve batches (N, H, W, I) by kernels (3, 3, I, O) with stride 1, any dilation, and zeros around them.

    Arrays are float32 and C-contiguous, the numbers of channels multiples of 16. Results do not depend on the number of
    threads. Methods may be called from several threads at once; they wait for one another.
    """

    def __init__(self, threads: int) -> None:
        self._workers, self._buffers, self._simd = Workers(threads), Buffers(), best_simd()
        self._width = REGISTERS * len(self._simd.lanes)
        self._lock = threading.Lock()

    def convolve(self, images: Batch, kernel: Float32, bias: Float32, dilation: int, *, relu: bool) -> Batch:
        """Return the result (N, H, W, O), with the bias (O,) and, if asked for, after a ReLU."""
        with self._lock:
            return self._convolve(images, kernel, bias, dilation, relu)

    def gradient_of_images(self, gradient: Batch, kernel: Float32, dilation: int) -> Batch:
        """Return the gradient with respect to the images, given that of the result."""
        _, _, incoming, outgoing = kernel.shape
        turned = np.empty((KERNEL_SIZE, KERNEL_SIZE, outgoing, incoming), np.float32)
        with self._lock:
            self._workers.run_ranges(partial(turn_kernel, kernel, turned), outgoing)
            return self._convolve(gradient, turned, np.zeros(incoming, np.float32), dilation, False)

    def gradient_of_kernel(self, images: Batch, gradient: Batch, dilation: int) -> Float32:
        """Return the gradient with respect to the kernel, given that of the result."""
        with self._lock:
            sums, outgoing = self._sums(images, gradient, dilation), gradient.shape[3]
            incoming, g = sums.shape[1], matrices(_TILE)[2].astype(np.float32)
            result = _array((KERNEL_SIZE, KERNEL_SIZE, incoming, outgoing))
            self._workers.run_ranges(partial(kernel_of_sums, sums, g, outgoing, result), incoming)
            return result

    def _convolve(self, images: Batch, kernel: Float32, bias: Float32, dilation: int, relu: bool) -> Batch:
        incoming, outgoing = kernel.shape[2:]
        lent: list[Float32] = []

        def allocate(size: int) -> Float32:
            lent.append(self._buffers.take(size))
            return lent[-1][:size]

        op = Convolution("", outgoing, dilation=dilation, activation=RELU if relu else LINEAR)
        arrays = {KERNEL: kernel, SCALE: np.ones(outgoing, np.float32), BIAS: bias}
        node = Node(op, (Node(Input(), (), incoming),), outgoing, arrays)
        layer = ConvolutionLayer(node, self._workers, (_TILE,), allocate)
        result = _array((*images.shape[:3], outgoing))
        for image, goal in zip(images, result, strict=True):
            layer.compute([image.reshape(-1)], [image.shape[:2]], goal.reshape(-1))
        for array in lent:
            self._buffers.give(array)
        return result

    def _sums(self, images: Batch, gradient: Batch, dilation: int) -> Float32:
        """Return the sums over all tiles (values, I, O in whole panels); see `gradients`."""
        (number, height, width, incoming), outgoing = images.shape, gradient.shape[3]
        panels, panel_width = -(-outgoing // self._width), self._width
        shape, tile, simd = (height, width, incoming, outgoing), (0,) * _TILE, self._simd
        tops, lefts = (tile_starts(length, dilation, _TILE) for length in (height, width))
        each = len(tops) * len(lefts)
        block = min(number * each, max(1, BLOCK // (_VALUES * (incoming + panels * panel_width))))
        value_stride, gradient_stride = odd_lines(block * incoming), odd_lines(block * panels * panel_width)
        edge, parts = _VALUES * LINE, self._workers.pieces + number  # the most of a block
        values = self._buffers.take(_VALUES * value_stride + parts * edge)
        gradients = self._buffers.take(_VALUES * gradient_stride + parts * edge)
        sums = np.zeros((_VALUES, incoming, panels * panel_width), np.float32)

        def transform(part: tuple[int, int, int, int, int], work: Float32) -> None:
            index, image, first, count, place = part
            own, at = values[place * incoming :], _VALUES * value_stride + index * edge - place * incoming
            values_of_tiles(
                images[image].reshape(-1), shape, dilation, tops, lefts, first, count, 1, own, value_stride, at, tile,
                simd,
            )  # fmt: skip
            own, at = gradients[place * panel_width :], _VALUES * gradient_stride + index * edge - place * panel_width
            gradients_of_tiles(
                gradient[image].reshape(-1), shape, dilation, tops, lefts, first, count, own, block, gradient_stride,
                at, tile, simd,
            )  # fmt: skip

        for begin in range(0, number * each, block):
            count = min(block, number * each - begin)

            def multiply(value: int, work: Float32, count: int = count) -> None:
                add_products(
                    values, value_stride, gradients, gradient_stride, block, count, incoming, panels, value,
                    sums.reshape(-1), simd,
                )  # fmt: skip

            self._workers.run(transform, self._parts(begin, count, each))
            self._workers.run(multiply, range(_VALUES))
        for array in (values, gradients):
            self._buffers.give(array)
        return sums

    def _parts(self, begin: int, count: int, each: int) -> list[tuple[int, int, int, int, int]]:
        """Split tiles, of which every image has ``each``: (part, image, its first tile, tiles, place of the first)."""
        pieces = min(count, self._workers.pieces)
        bounds = {begin + count * piece // pieces for piece in range(pieces + 1)}
        bounds |= set(range(-(-begin // each) * each, begin + count, each))
        return [
            (index, first // each, first % each, last - first, first - begin)
            for index, (first, last) in enumerate(itertools.pairwise(sorted(bounds)))
        ]


def _array(shape: tuple[int, ...]) -> Float32:
    """Return an array at a cache line, which TensorFlow uses without a copy."""
    return aligned(math.prod(shape)).reshape(shape)


@kernel
def turn_kernel(weights: Float32, turned: Float32, first: int, last: int) -> None:
    """Write the outputs first:last of a kernel (side, side, in, out), rotated by 180 degrees, as its inputs."""
    side, _, incoming, _ = weights.shape
    for i in range(side):
        for j in range(side):
            for start in range(0, incoming, LINE):
                for o in range(first, last):
                    for c in range(start, min(start + LINE, incoming)):
                        turned[side - 1 - i, side - 1 - j, o, c] = weights[i, j, c, o]


@kernel
def gradients_of_tiles(
    image: Float32, shape: Extent, dilation: int, tops: Int64, lefts: Int64, first: int, count: int, work: Float32,
    tiles: int, gradient_stride: int, edge: int, tile: Any, simd: Simd,
) -> None:  # fmt: skip
    """Transform tiles of a result's gradient; outside of the image there are zeros."""
    height, width, depth = shape[0], shape[1], shape[3]
    lanes, m = len(simd.lanes), len(tile)
    panel_width = REGISTERS * lanes
    row_stride, column_stride = dilation * width * depth, dilation * depth
    for t in range(count):
        y, x = tops[(first + t) // len(lefts)] + dilation, lefts[(first + t) % len(lefts)] + dilation
        start = (y * width + x) * depth
        below, behind = steps_inside(y, dilation, height, m)[1], steps_inside(x, dilation, width, m)[1]
        for c in range(0, depth, lanes):
            destination = (c // panel_width * tiles + t) * panel_width + c % panel_width
            if below == m and behind == m:
                transform_gradient(
                    image, start + c, row_stride, column_stride, work, destination, gradient_stride, tile, simd
                )
                continue
            for k in range(edge, edge + m * m * lanes):
                work[k] = ZERO
            for i in range(below):
                for j in range(behind):
                    for lane in range(lanes):
                        work[edge + (i * m + j) * lanes + lane] = image[
                            start + i * row_stride + j * column_stride + c + lane
                        ]
            transform_gradient(work, edge, m * lanes, lanes, work, destination, gradient_stride, tile, simd)


@kernel
def add_products(
    values: Float32, value_stride: int, gradients: Float32, gradient_stride: int, tiles: int, count: int, depth: int,
    panels: int, value: int, sums: Float32, simd: Simd,
) -> None:  # fmt: skip
    """Add what ``count`` tiles give to the sums of a value."""
    rows, width = len(simd.rows), REGISTERS * len(simd.lanes)
    for begin in range(0, count, TILES_AT_ONCE):
        tiles_now = min(TILES_AT_ONCE, count - begin)
        for p in range(panels):
            b = value * gradient_stride + (p * tiles + begin) * width
            for row in range(0, depth, rows):
                a = value * value_stride + begin * depth + row
                c = ((value * depth + row) * panels + p) * width
                add_rows(values, a, depth, gradients, b, sums, c, panels * width, tiles_now, depth - row, simd)


@kernel
def add_rows(
    values: Float32, a: int, step: int, gradients: Float32, b: int, sums: Float32, c: int, row_stride: int, tiles: int,
    count: int, simd: Simd,
) -> None:  # fmt: skip
    """Add the product of the next rows, ``count`` of them or as many as a group has, and a panel."""
    if count >= len(simd.rows):
        add_product(values, a, step, gradients, b, sums, c, row_stride, tiles, simd.rows, simd)
        return
    done = 0
    while count - done >= len(simd.half):
        add_product(
            values, a + done, step, gradients, b, sums, c + done * row_stride, row_stride, tiles, simd.half, simd
        )
        done += len(simd.half)
    while done < count:
        add_product(
            values, a + done, step, gradients, b, sums, c + done * row_stride, row_stride, tiles, simd.one, simd
        )
        done += 1


@kernel
def kernel_of_sums(sums: Float32, g: Float32, outputs: int, result: Float32, first: int, last: int) -> None:
    """Transform the sums of the rows first:last to a kernel's gradient (3, 3, depth, outputs)."""
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
