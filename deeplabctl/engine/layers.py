"""Compute the layers of a network one by one: choose how, pack the weights once, and split the work over threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deeplabctl.arrays import LINE, Float32, Size, aligned
from deeplabctl.engine.winograd import KERNEL_SIZE, TILES, multiplications, tile_starts
from deeplabctl.engine.workspace import Workers, padded
from deeplabctl.network.ops import (
    BIAS,
    HARD_SWISH,
    KERNEL,
    LINEAR,
    Activation,
    Broadcast,
    Concatenation,
    Convolution,
    DepthwiseConvolution,
    ImageMean,
    Input,
    Node,
    Operation,
    Pooling,
    Product,
    Rectifier,
    Resize,
    Sum,
)
from deeplabctl.network.ops.convolution import SCALE

if TYPE_CHECKING:
    from deeplabctl.engine.convolution import Limits, Part, Window

BY_PIXELS = 0  # in place of a tile's side: a convolution pixel by pixel

# What a transform of a tile and a copy of a pixel cost, in products per channel or output; measured.
_TRANSFORMS, _COPIES = {4: 20, 6: 40}, 10
_LARGER_TILE = 1.2  # F(6) must be so much cheaper than F(4), whose error is a fourth

_TILES_OF_BLOCK, _TILES_OF_LARGE_BLOCK = 42, 168
_LARGE_KERNEL = 4 << 20  # floats: it does not stay in the caches, and must not be read again and again
_PIXELS_OF_BLOCK = 128 << 10  # floats


class ConvolutionLayer:
    """Compute a convolution of images of any size."""

    def __init__(
        self,
        node: Node,
        workers: Workers,
        tiles: Sequence[int] = (),
        allocate: Callable[[int], Float32] = aligned,
    ) -> None:
        from deeplabctl.engine.microkernel import REGISTERS, best_simd

        assert isinstance(node.op, Convolution)
        self._op, self._kernel, self._channels = node.op, node.arrays[KERNEL], node.channels
        self._depth, self._simd, self._workers = depth(node.inputs[0]), best_simd(), workers
        self._tiles, self._allocate = tiles or TILES, allocate
        self._width = REGISTERS * len(self._simd.lanes)
        self._panels = -(-padded(node.channels) // self._width)  # zeros too: the next layer reads them
        self._affine = self._packed_affine(node.arrays[SCALE], node.arrays[BIAS], len(self._simd.lanes))
        self._packed: dict[int, Float32] = {}

    @property
    def _inputs(self) -> int:
        """Return the values under the kernel: of a single pixel without the padding of its channels."""
        side, _, incoming, _ = self._kernel.shape
        return int(incoming if side == 1 else side**2 * self._depth)

    def tile(self, before: Size) -> int:
        """Return the side of the tiles that cost least for images of this size; `BY_PIXELS`: none do."""
        side, _, incoming, outgoing = self._kernel.shape
        costs = {BY_PIXELS: side**2 * math.prod(self._op.size([before])) * (1 + _COPIES / outgoing)}
        if side == KERNEL_SIZE and self._op.stride == 1 and self._depth == padded(incoming):
            for m in self._tiles:
                transforms = _TRANSFORMS[m] * (1 / incoming + 1 / outgoing)
                larger = _LARGER_TILE if m > TILES[0] else 1
                costs[m] = multiplications(*before, self._op.dilation, m) * (1 + transforms) * larger
        return min(costs, key=lambda m: costs[m])

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Convolve an image [height][width][depth]."""
        before = sizes[0]
        m = self.tile(before)
        if m not in self._packed:
            self._packed[m] = self._pack(m)
        if m == BY_PIXELS:
            self._by_pixels(images[0], before, result)
        else:
            self._by_tiles(m, images[0], before, result)
        if self._op.activation.is_hard:
            floats = result[: math.prod(self._op.size(sizes)) * padded(self._channels)]
            gate(self._op.activation, self._workers, floats, floats)

    def _pack(self, m: int) -> Float32:
        from deeplabctl.engine.convolution import pack_kernel
        from deeplabctl.engine.winograd_transforms import pack_transformed

        kernel = np.ascontiguousarray(self._kernel, np.float32)
        if m == BY_PIXELS:
            packed = self._allocate(self._inputs * self._panels * self._width)
            pack_kernel(kernel, self._inputs // kernel.shape[0] ** 2, self._width, packed)
            return packed
        packed = self._allocate((m + KERNEL_SIZE - 1) ** 2 * self._depth * self._panels * self._width)
        shape = (self._depth, self._panels * self._width)
        if kernel.shape[2:] != shape:
            missing = [(0, there - here) for here, there in zip(kernel.shape[2:], shape, strict=True)]
            kernel = np.pad(kernel, ((0, 0), (0, 0), *missing))

        def pack(panels: tuple[int, int], work: Float32) -> None:
            pack_transformed(kernel.reshape(-1), self._depth, self._panels, *panels, packed, (0,) * m, self._simd)

        self._workers.run(pack, self._workers.ranges(self._panels))
        return packed

    def _packed_affine(self, scale: Float32, bias: Float32, lanes: int) -> Float32:
        terms = np.zeros((2, self._panels * self._width), np.float32)
        terms[:, : self._channels] = scale, bias
        packed = aligned(terms.size)
        packed[:] = terms.reshape(2, -1, lanes).transpose(1, 0, 2).ravel()
        return packed

    def _by_tiles(self, m: int, image: Float32, before: Size, result: Float32) -> None:
        from deeplabctl.engine.convolution import convolve_tiles, odd_lines

        rows, dilation = len(self._simd.rows), self._op.dilation
        tops, lefts = (tile_starts(length, dilation, m) for length in before)
        is_large = self._packed[m].size > _LARGE_KERNEL
        parts = self._parts(len(tops) * len(lefts), is_large)
        share = max(last - first for first, last, _, _ in parts)
        usual = _TILES_OF_LARGE_BLOCK if is_large else _TILES_OF_BLOCK
        block = -(-share // (max(1, round(share / usual)) * rows)) * rows
        values = (m + KERNEL_SIZE - 1) ** 2
        panels = max(last - first for _, _, first, last in parts)
        sizes = (block * self._depth, block * panels * self._width, 0)
        shape, limits = (*before, self._depth, padded(self._channels)), limits_of(self._op.activation)

        def convolve(part: Part, work: Float32) -> None:
            convolve_tiles(
                image, shape, self._packed[m], self._affine, limits, result, dilation, tops, lefts, part, block,
                work, (0,) * m, self._simd,
            )  # fmt: skip

        self._workers.run(convolve, parts, values * sum(map(odd_lines, sizes)))

    def _by_pixels(self, image: Float32, before: Size, result: Float32) -> None:
        from deeplabctl.engine.convolution import convolve_pixels

        op, side, lanes, rows = self._op, self._op.kernel, len(self._simd.lanes), len(self._simd.rows)
        group = -(-(side**2) * self._depth // lanes) * lanes * rows
        groups = max(1, _PIXELS_OF_BLOCK // group)
        window, out_size = window_of(op, before), op.size([before])
        shape, limits = (*before, self._depth, padded(self._channels)), limits_of(op.activation)

        def convolve(part: Part, work: Float32) -> None:
            convolve_pixels(
                image, shape, self._packed[BY_PIXELS], self._affine, limits, result, window, self._inputs, out_size[1],
                part, groups * rows, work, self._simd,
            )  # fmt: skip

        is_large = self._packed[BY_PIXELS].size > _LARGE_KERNEL
        parts = self._parts(math.prod(out_size), is_large)
        self._workers.run(convolve, parts, groups * group + rows * self._width)

    def _parts(self, count: int, is_large: bool) -> list[Part]:
        """Split tiles or pixels, and the panels as well where there are fewer groups of them than threads."""
        threads, rows = self._workers.threads, len(self._simd.rows)
        groups = -(-count // rows)
        pieces = min(groups, threads if is_large else self._workers.pieces)
        share = -(-groups // pieces) * rows
        panel_share = -(-self._panels // max(1, min(self._panels, threads // pieces)))
        return [
            (first, min(first + share, count), panel, min(panel + panel_share, self._panels))
            for first in range(0, count, share)
            for panel in range(0, self._panels, panel_share)
        ]


class DepthwiseLayer:
    """Compute a depthwise convolution of images of any size."""

    def __init__(self, node: Node, workers: Workers) -> None:
        from deeplabctl.engine.depthwise import pack_depthwise

        assert isinstance(node.op, DepthwiseConvolution)
        self._op, self._depth, self._workers = node.op, depth(node), workers
        constants = node.op.constants(node.arrays)
        self._weights, self._bias = pack_depthwise(constants[KERNEL]), np.zeros(self._depth, np.float32)
        self._bias[: node.channels] = constants[BIAS]

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Convolve an image [height][width][depth]."""
        from deeplabctl.engine.depthwise import convolve_depthwise

        op, shape = self._op, (*sizes[0], self._depth)
        window, limits, (height, width) = window_of(op, sizes[0]), limits_of(op.activation), op.size(sizes)

        def convolve(rows: tuple[int, int], work: Float32) -> None:
            convolve_depthwise(images[0], shape, self._weights, self._bias, limits, window, width, *rows, result)

        self._workers.run(convolve, self._workers.ranges(height))
        if op.activation.is_hard:
            floats = result[: height * width * self._depth]
            gate(op.activation, self._workers, floats, floats)


class PoolingLayer:
    """Pool images of any size."""

    def __init__(self, node: Node, workers: Workers) -> None:
        assert isinstance(node.op, Pooling)
        self._op, self._depth, self._workers = node.op, depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Pool an image [height][width][depth]."""
        from deeplabctl.engine.row_kernels import pool

        height, width = self._op.size(sizes)
        shape, is_max, stride = (*sizes[0], self._depth), self._op.kind == "max", self._op.stride

        def run(rows: tuple[int, int], work: Float32) -> None:
            pool(images[0], shape, stride, is_max, *rows, width, result)

        self._workers.run(run, self._workers.ranges(height))


class SumLayer:
    """Add images."""

    def __init__(self, node: Node, workers: Workers) -> None:
        assert isinstance(node.op, Sum)
        self._activation, self._depth, self._workers = node.op.activation, depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Add images, in their order."""
        from deeplabctl.engine.row_kernels import add

        total, lines = images[0], math.prod(sizes[0]) * self._depth // LINE
        for number, other in enumerate(images[1:], 2):
            limits = limits_of(self._activation if number == len(images) else LINEAR)

            def run(lines: tuple[int, int], work: Float32, a: Float32 = total, b: Float32 = other,
                    limits: Limits = limits) -> None:  # fmt: skip
                add(a, b, limits, *lines, result)

            self._workers.run(run, self._workers.ranges(lines))
            total = result


class RectifierLayer:
    """Apply an activation."""

    def __init__(self, node: Node, workers: Workers) -> None:
        assert isinstance(node.op, Rectifier)
        self._activation, self._depth, self._workers = node.op.activation, depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Apply it to an image."""
        from deeplabctl.engine.row_kernels import clip

        floats = math.prod(sizes[0]) * self._depth
        if self._activation.is_hard:
            gate(self._activation, self._workers, images[0][:floats], result)
            return
        limits = limits_of(self._activation)

        def run(lines: tuple[int, int], work: Float32) -> None:
            clip(images[0], limits, *lines, result)

        self._workers.run(run, self._workers.ranges(floats // LINE))


class ImageMeanLayer:
    """Take the mean of each channel."""

    def __init__(self, node: Node, workers: Workers) -> None:
        self._depth, self._workers = depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Take the mean of an image [height][width][depth]."""
        from deeplabctl.engine.row_kernels import average

        shape = (*sizes[0], self._depth)

        def run(lines: tuple[int, int], work: Float32) -> None:
            average(images[0], shape, *lines, result)

        self._workers.run(run, self._workers.ranges(self._depth // LINE))


class ProductLayer:
    """Multiply images by a gate for each channel."""

    def __init__(self, node: Node, workers: Workers) -> None:
        self._depth, self._workers = depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Multiply an image [height][width][depth] by the second (1, 1, depth)."""
        from deeplabctl.engine.row_kernels import multiply_channels

        def run(pixels: tuple[int, int], work: Float32) -> None:
            multiply_channels(images[0], images[1], self._depth, *pixels, result)

        self._workers.run(run, self._workers.ranges(math.prod(sizes[0])))


class ConcatenationLayer:
    """Put the channels of images one after another."""

    def __init__(self, node: Node, workers: Workers) -> None:
        self._inputs, self._depth, self._workers = node.inputs, depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Copy the channels of images [height][width][depth]."""
        from deeplabctl.engine.row_kernels import copy_channels

        def run(pixels: tuple[int, int], work: Float32) -> None:
            start = 0
            for image, below in zip(images, self._inputs, strict=True):
                stop = self._depth if below is self._inputs[-1] else start + below.channels
                copy_channels(image, depth(below), below.channels, start, stop, self._depth, *pixels, result)
                start = stop

        self._workers.run(run, self._workers.ranges(math.prod(sizes[0])))


class BroadcastLayer:
    """Give a pixel to every place of an image."""

    def __init__(self, node: Node, workers: Workers) -> None:
        self._depth, self._workers = depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Copy an image (1, 1, depth) to each pixel of the size of the second."""
        from deeplabctl.engine.row_kernels import copy_channels

        def run(pixels: tuple[int, int], work: Float32) -> None:
            copy_channels(images[0], 0, self._depth, 0, self._depth, self._depth, *pixels, result)

        self._workers.run(run, self._workers.ranges(math.prod(sizes[1])))


class ResizeLayer:
    """Resize images with aligned corners."""

    def __init__(self, node: Node, workers: Workers) -> None:
        self._op, self._depth, self._workers = node.op, depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Resize an image [height][width][depth]."""
        from deeplabctl.engine.row_kernels import resize_rows

        size = self._op.size(sizes)
        old, new = (
            array[: math.prod(shape) * self._depth].reshape(*shape, self._depth)
            for array, shape in ((images[0], sizes[0]), (result, size))
        )

        def resize(rows: tuple[int, int], work: Float32) -> None:
            resize_rows(old, size, *rows, new, False, False)

        self._workers.run(resize, self._workers.ranges(size[0]))


class Layer(Protocol):
    """Compute one operation."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Write the result of images [height][width][depth] of these sizes."""


# What computes an operation; `NumbaEngine` does not compute a network with another one.
LAYERS: dict[type[Operation], Callable[[Node, Workers], Layer]] = {
    Convolution: ConvolutionLayer, DepthwiseConvolution: DepthwiseLayer, Pooling: PoolingLayer, Sum: SumLayer,
    Rectifier: RectifierLayer, ImageMean: ImageMeanLayer, Product: ProductLayer, Concatenation: ConcatenationLayer,
    Broadcast: BroadcastLayer, Resize: ResizeLayer,
}  # fmt: skip


def limits_of(activation: Activation) -> Limits:
    """Return the least and the most that a result may be."""
    return np.float32(activation.least), np.float32(activation.most)


def gate(activation: Activation, workers: Workers, floats: Float32, result: Float32) -> None:
    """Apply relu6(x + 3) / 6, or x times that."""
    from deeplabctl.engine.row_kernels import apply_gate

    def run(lines: tuple[int, int], work: Float32) -> None:
        apply_gate(floats, activation is HARD_SWISH, *lines, result)

    workers.run(run, workers.ranges(floats.size // LINE))


def window_of(op: Convolution, before: Size) -> Window:
    """Return the window of a convolution, as its kernels take it, of images of this size."""
    return op.kernel, op.stride, op.dilation, op.zeros_before(before[0]), op.zeros_before(before[1])


def depth(node: Node) -> int:
    """Return the channels that the array of a result has room for; the image has its own."""
    return node.channels if isinstance(node.op, Input) else padded(node.channels)
