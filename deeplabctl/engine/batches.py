"""Compute 3x3 convolutions of batches and their gradients, as a training needs them, by minimal filtering.

All by tiles of 4 x 4 pixels, F(4 x 4, 3 x 3): the error of F(6 x 6) is four times as large.
"""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32
from deeplabctl.engine.buffers import Buffers, aligned
from deeplabctl.engine.layers import ConvolutionLayer, padded
from deeplabctl.engine.minimal_filtering import KERNEL, TILES, matrices, tile_starts
from deeplabctl.engine.workers import Workers
from deeplabctl.network.ops import BIAS, LINEAR, RELU, Convolution, Input, Node
from deeplabctl.network.ops import KERNEL as WEIGHTS
from deeplabctl.network.ops.convolution import SCALE

Batch = npt.NDArray[np.float32]  # (N, H, W, C)
Size = tuple[int, int]

_TILE = TILES[0]
_VALUES = (_TILE + KERNEL - 1) ** 2  # of a tile
_BLOCK = 16 << 20  # floats that the values of a block of tiles take

# What the other parts cost, in products with so many channels, outputs or tiles, and of a call; measured.
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
    return each * incoming * outgoing + _CALL < batch * math.prod(size) * KERNEL**2 * incoming * outgoing


class BatchConvolutions:
    """Convolve batches (N, H, W, I) by kernels (3, 3, I, O) with stride 1, any dilation, and zeros around them.

    Arrays are float32 and C-contiguous, the numbers of channels multiples of 16. Results do not depend on the number of
    threads. Methods may be called from several threads at once, which wait for one another.
    """

    def __init__(self, threads: int) -> None:
        from deeplabctl.engine.registers import REGISTERS, best_form

        self._workers, self._buffers, self._form = Workers(threads), Buffers(), best_form()
        self._width = REGISTERS * len(self._form[0])
        self._lock = threading.Lock()

    def convolve(self, images: Batch, kernel: Float32, bias: Float32, dilation: int, *, relu: bool) -> Batch:
        """Return the result (N, H, W, O), with the bias (O,) and, if asked for, after a ReLU."""
        with self._lock:
            return self._convolve(images, kernel, bias, dilation, relu)

    def gradient_of_images(self, gradient: Batch, kernel: Float32, dilation: int) -> Batch:
        """Return the gradient with respect to the images, given that of the result."""
        from deeplabctl.engine.packing import turn_kernel

        _, _, incoming, outgoing = kernel.shape
        turned = np.empty((KERNEL, KERNEL, outgoing, incoming), np.float32)

        def turn(outputs: Size, work: Float32) -> None:
            turn_kernel(kernel, *outputs, turned)

        with self._lock:
            self._workers.run(turn, self._workers.ranges(outgoing))
            return self._convolve(gradient, turned, np.zeros(incoming, np.float32), dilation, False)

    def gradient_of_kernel(self, images: Batch, gradient: Batch, dilation: int) -> Float32:
        """Return the gradient with respect to the kernel, given that of the result."""
        with self._lock:
            sums = self._sums(images, gradient, dilation)
            return self._kernel_of(sums, gradient.shape[3])

    def _convolve(self, images: Batch, kernel: Float32, bias: Float32, dilation: int, relu: bool) -> Batch:
        incoming, outgoing = kernel.shape[2:]
        lent: list[Float32] = []

        def allocate(size: int) -> Float32:
            lent.append(self._buffers.take(size))
            return lent[-1][:size]

        op = Convolution("", outgoing, dilation=dilation, activation=RELU if relu else LINEAR)
        arrays = {WEIGHTS: kernel, SCALE: np.ones(outgoing, np.float32), BIAS: bias}
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
        from deeplabctl.engine.convolution import apart, values_of_tiles
        from deeplabctl.engine.gradients import add_products, gradients_of_tiles
        from deeplabctl.engine.registers import LINE

        (number, height, width, incoming), outgoing = images.shape, gradient.shape[3]
        panels, panel_width = -(-outgoing // self._width), self._width
        shape, tile, form = (height, width, incoming, outgoing), (0,) * _TILE, self._form
        tops, lefts = (tile_starts(length, dilation, _TILE) for length in (height, width))
        each = len(tops) * len(lefts)
        block = min(number * each, max(1, _BLOCK // (_VALUES * (incoming + panels * panel_width))))
        values_apart, gradients_apart = apart(block * incoming), apart(block * panels * panel_width)
        edge, parts = _VALUES * LINE, self._workers.pieces + number  # the most of a block
        values = self._buffers.take(_VALUES * values_apart + parts * edge)
        gradients = self._buffers.take(_VALUES * gradients_apart + parts * edge)
        sums = np.zeros((_VALUES, incoming, panels * panel_width), np.float32)

        def transform(part: tuple[int, int, int, int, int], work: Float32) -> None:
            index, image, first, count, place = part
            own, at = values[place * incoming :], _VALUES * values_apart + index * edge - place * incoming
            values_of_tiles(
                images[image].reshape(-1), shape, dilation, tops, lefts, first, count, 1, own, values_apart, at, tile,
                form,
            )  # fmt: skip
            own, at = gradients[place * panel_width :], _VALUES * gradients_apart + index * edge - place * panel_width
            gradients_of_tiles(
                gradient[image].reshape(-1), shape, dilation, tops, lefts, first, count, own, block, gradients_apart,
                at, tile, form,
            )  # fmt: skip

        for begin in range(0, number * each, block):
            count = min(block, number * each - begin)

            def multiply(value: int, work: Float32, count: int = count) -> None:
                add_products(
                    values, values_apart, gradients, gradients_apart, block, count, incoming, panels, value, value + 1,
                    sums.reshape(-1), form,
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

    def _kernel_of(self, sums: Float32, outgoing: int) -> Float32:
        """Return the kernel's gradient (3, 3, I, O) from the sums."""
        from deeplabctl.engine.gradients import kernel_of_sums

        incoming = sums.shape[1]
        result, g = _array((KERNEL, KERNEL, incoming, outgoing)), matrices(_TILE)[2].astype(np.float32)

        def finish(rows: Size, work: Float32) -> None:
            kernel_of_sums(sums, g, outgoing, *rows, result)

        self._workers.run(finish, self._workers.ranges(incoming))
        return result


def _array(shape: tuple[int, ...]) -> Float32:
    """Return an array at a cache line, which TensorFlow takes as it is, without a copy."""
    return aligned(math.prod(shape)).reshape(shape)
