"""Compute the layers of a network one by one: choose how, pack the weights once, and split the work over threads."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from deeplabctl.arrays import LINE, Float32, Size, aligned
from deeplabctl.engine.winograd import KERNEL_SIZE, TILES, multiplications, tile_starts
from deeplabctl.engine.workspace import Workers, padded
from deeplabctl.network import ops
from deeplabctl.network.ops import BIAS, KERNEL, Convolution, Node
from deeplabctl.network.ops.convolution import SCALE

if TYPE_CHECKING:
    from deeplabctl.engine.convolution import Limits, Part, Window

BY_PIXELS = 0  # in place of a tile's side: a convolution pixel by pixel

# What a transform of a tile and a copy of a pixel cost, in products per channel or output; measured.
TRANSFORMS, _COPIES = {4: 20, 6: 40}, 10
LARGER_TILE = 1.2  # F(6) must be so much cheaper than F(4), whose error is a fourth

_TILES_OF_BLOCK, _TILES_OF_LARGE_BLOCK = 42, 168
_LARGE_KERNEL = 4 << 20  # floats: it does not stay in the caches, and must not be read again and again
_PIXELS_OF_BLOCK = 128 << 10  # floats


class Layer(ABC):
    """Compute one operation of images [height][width][depth] of any size, with ``workers``."""

    def __init__(self, node: Node, workers: Workers) -> None:
        self._node, self._op, self._depth, self._workers = node, cast(Any, node.op), depth(node), workers

    @abstractmethod
    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Write the result of images of these sizes."""

    def _apply_gate(self, floats: Float32, result: Float32) -> None:
        """Apply relu6(x + 3) / 6, or x times that."""
        from deeplabctl.engine.row_kernels import apply_gate

        is_product = self._op.activation is ops.HARD_SWISH
        self._workers.run_ranges(partial(apply_gate, floats, is_product, result), floats.size // LINE)


class ConvolutionLayer(Layer):
    """Compute a convolution: by tiles, or pixel by pixel."""

    def __init__(
        self, node: Node, workers: Workers, tiles: Sequence[int] = (), allocate: Callable[[int], Float32] = aligned
    ) -> None:
        from deeplabctl.engine.microkernel import REGISTERS, best_simd

        super().__init__(node, workers)
        self._kernel, self._input_depth = node.arrays[KERNEL], depth(node.inputs[0])
        self._simd, self._tiles, self._allocate = best_simd(), tiles or TILES, allocate
        self._width = REGISTERS * len(self._simd.lanes)
        self._panels = -(-self._depth // self._width)  # zeros too: the next layer reads them
        self._affine = self._packed_affine(node.arrays[SCALE], node.arrays[BIAS], len(self._simd.lanes))
        self._packed: dict[int, Float32] = {}

    @property
    def _inputs(self) -> int:
        """Return the values under the kernel: of a single pixel without the padding of its channels."""
        side, _, incoming, _ = self._kernel.shape
        return int(incoming if side == 1 else side**2 * self._input_depth)

    def tile(self, before: Size) -> int:
        """Return the side of the tiles that cost least for images of this size; `BY_PIXELS`: none do."""
        side, _, incoming, outgoing = self._kernel.shape
        costs = {BY_PIXELS: side**2 * math.prod(self._op.size([before])) * (1 + _COPIES / outgoing)}
        if side == KERNEL_SIZE and self._op.stride == 1 and self._input_depth == padded(incoming):
            for m in self._tiles:
                transforms = TRANSFORMS[m] * (1 / incoming + 1 / outgoing)
                larger = LARGER_TILE if m > TILES[0] else 1
                costs[m] = multiplications(*before, self._op.dilation, m) * (1 + transforms) * larger
        return min(costs, key=lambda m: costs[m])

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        before = sizes[0]
        m = self.tile(before)
        if m not in self._packed:
            self._packed[m] = self._pack(m)
        if m == BY_PIXELS:
            self._by_pixels(images[0], before, result)
        else:
            self._by_tiles(m, images[0], before, result)
        if self._op.activation.is_hard:
            self._apply_gate(result[: math.prod(self._op.size(sizes)) * self._depth], result)

    def _pack(self, m: int) -> Float32:
        """Return the kernel, filled up with zeros: in panels [panels][side * side][depth][width], or transformed."""
        from deeplabctl.engine.winograd_transforms import pack_transformed

        side, _, *channels = self._kernel.shape
        depth, outputs = self._inputs // side**2, self._panels * self._width
        kernel = np.ascontiguousarray(self._kernel, np.float32)
        if channels != [depth, outputs]:
            missing = [(0, there - here) for here, there in zip(channels, (depth, outputs), strict=True)]
            kernel = np.pad(kernel, ((0, 0), (0, 0), *missing))
        if m == BY_PIXELS:
            packed = self._allocate(kernel.size)
            panels = kernel.reshape(side**2, depth, self._panels, self._width).transpose(2, 0, 1, 3)
            packed.reshape(panels.shape)[:] = panels
            return packed
        packed = self._allocate((m + KERNEL_SIZE - 1) ** 2 * depth * outputs)
        pack = partial(pack_transformed, kernel.reshape(-1), depth, self._panels, packed, (0,) * m, self._simd)
        self._workers.run_ranges(pack, self._panels)
        return packed

    def _packed_affine(self, scale: Float32, bias: Float32, lanes: int) -> Float32:
        terms = np.zeros((2, self._panels * self._width), np.float32)
        terms[:, : self._node.channels] = scale, bias
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
        sizes = (block * self._input_depth, block * panels * self._width, 0)
        shape, limits = (*before, self._input_depth, self._depth), limits_of(self._op.activation)

        def convolve(part: Part, work: Float32) -> None:
            convolve_tiles(
                image, shape, self._packed[m], self._affine, limits, result, dilation, tops, lefts, part, block,
                work, (0,) * m, self._simd,
            )  # fmt: skip

        self._workers.run(convolve, parts, values * sum(map(odd_lines, sizes)))

    def _by_pixels(self, image: Float32, before: Size, result: Float32) -> None:
        from deeplabctl.engine.convolution import convolve_pixels

        op, side, lanes, rows = self._op, self._op.kernel, len(self._simd.lanes), len(self._simd.rows)
        group = -(-(side**2) * self._input_depth // lanes) * lanes * rows
        groups = max(1, _PIXELS_OF_BLOCK // group)
        window, out_size = window_of(op, before), op.size([before])
        shape, limits = (*before, self._input_depth, self._depth), limits_of(op.activation)

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


class DepthwiseLayer(Layer):
    """Compute a depthwise convolution."""

    def __init__(self, node: Node, workers: Workers) -> None:
        from deeplabctl.engine.depthwise import pack_depthwise

        super().__init__(node, workers)
        constants = node.op.constants(node.arrays)
        self._weights, self._bias = pack_depthwise(constants[KERNEL]), np.zeros(self._depth, np.float32)
        self._bias[: node.channels] = constants[BIAS]

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.depthwise import convolve_depthwise

        op, shape = self._op, (*sizes[0], self._depth)
        window, limits, (height, width) = window_of(op, sizes[0]), limits_of(op.activation), op.size(sizes)

        convolve = partial(
            convolve_depthwise, images[0], shape, self._weights, self._bias, limits, window, width, result
        )
        self._workers.run_ranges(convolve, height)
        if op.activation.is_hard:
            self._apply_gate(result[: height * width * self._depth], result)


class PoolingLayer(Layer):
    """Pool an image."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import pool

        height, width = self._op.size(sizes)
        shape, is_max, stride = (*sizes[0], self._depth), self._op.kind == "max", self._op.stride
        self._workers.run_ranges(partial(pool, images[0], shape, stride, is_max, width, result), height)


class SumLayer(Layer):
    """Add images, in their order."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import add

        total = images[0]
        for number, other in enumerate(images[1:], 2):
            limits = limits_of(self._op.activation if number == len(images) else ops.LINEAR)
            run = partial(add, total, other, limits, result)
            self._workers.run_ranges(run, math.prod(sizes[0]) * self._depth // LINE)
            total = result


class RectifierLayer(Layer):
    """Apply an activation."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import clip

        floats = math.prod(sizes[0]) * self._depth
        if self._op.activation.is_hard:
            self._apply_gate(images[0][:floats], result)
        else:
            self._workers.run_ranges(partial(clip, images[0], limits_of(self._op.activation), result), floats // LINE)


class ImageMeanLayer(Layer):
    """Take the mean of each channel."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import average

        self._workers.run_ranges(partial(average, images[0], (*sizes[0], self._depth), result), self._depth // LINE)


class ProductLayer(Layer):
    """Multiply an image by the second one (1, 1, depth), a gate for each channel."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import multiply_channels

        self._workers.run_ranges(
            partial(multiply_channels, images[0], images[1], self._depth, result), math.prod(sizes[0])
        )


class ConcatenationLayer(Layer):
    """Put the channels of images one after another."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import copy_channels

        def run(first: int, last: int) -> None:
            start = 0
            for image, below in zip(images, self._node.inputs, strict=True):
                stop = self._depth if below is self._node.inputs[-1] else start + below.channels
                copy_channels(image, depth(below), below.channels, start, stop, self._depth, result, first, last)
                start = stop

        self._workers.run_ranges(run, math.prod(sizes[0]))


class BroadcastLayer(Layer):
    """Copy an image (1, 1, depth) to each pixel of the size of the second."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import copy_channels

        run = partial(copy_channels, images[0], 0, self._depth, 0, self._depth, self._depth, result)
        self._workers.run_ranges(run, math.prod(sizes[1]))


class ResizeLayer(Layer):
    """Resize an image with aligned corners."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        from deeplabctl.engine.row_kernels import resize_rows

        size = self._op.size(sizes)
        old, new = (
            array[: math.prod(shape) * self._depth].reshape(*shape, self._depth)
            for array, shape in ((images[0], sizes[0]), (result, size))
        )
        self._workers.run_ranges(partial(resize_rows, old, size, new, False, False), size[0])


# What computes an operation; `NumbaEngine` does not compute a network with another one.
LAYERS: dict[type[ops.Operation], type[Layer]] = {
    Convolution: ConvolutionLayer, ops.DepthwiseConvolution: DepthwiseLayer, ops.Pooling: PoolingLayer,
    ops.Sum: SumLayer, ops.Rectifier: RectifierLayer, ops.ImageMean: ImageMeanLayer, ops.Product: ProductLayer,
    ops.Concatenation: ConcatenationLayer, ops.Broadcast: BroadcastLayer, ops.Resize: ResizeLayer,
}  # fmt: skip


def limits_of(activation: ops.Activation) -> Limits:
    """Return the least and the most that a result may be."""
    return np.float32(activation.least), np.float32(activation.most)


def window_of(op: Convolution, before: Size) -> Window:
    """Return the window of a convolution, as its kernels take it, of images of this size."""
    return op.kernel, op.stride, op.dilation, op.zeros_before(before[0]), op.zeros_before(before[1])


def depth(node: Node) -> int:
    """Return the channels that the array of a result has room for; the image has its own."""
    return node.channels if isinstance(node.op, ops.Input) else padded(node.channels)
