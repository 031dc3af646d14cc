"""Compute the layers of a network one by one: choose how, pack the weights once, and split the work over threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deeplabctl.arrays import Float32, Size, aligned
from deeplabctl.engine.winograd import KERNEL_SIZE, TILES, multiplications, tile_starts
from deeplabctl.engine.workspace import Workers, padded
from deeplabctl.network.ops import BIAS, KERNEL, Convolution, Input, Node, Operation, Pooling, Resize, Sum
from deeplabctl.network.ops.convolution import SCALE

if TYPE_CHECKING:
    from deeplabctl.engine.convolution import Part

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

    def _pack(self, m: int) -> Float32:
        from deeplabctl.engine.convolution import pack_kernel
        from deeplabctl.engine.winograd_transforms import pack_transformed

        kernel = np.ascontiguousarray(self._kernel, np.float32)
        values = (m + KERNEL_SIZE - 1) ** 2 if m else kernel.shape[0] ** 2
        packed = self._allocate(values * self._depth * self._panels * self._width)
        if m == BY_PIXELS:
            pack_kernel(kernel, self._depth, self._width, packed)
            return packed
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
        shape = (*before, self._depth, padded(self._channels))

        def convolve(part: Part, work: Float32) -> None:
            convolve_tiles(
                image, shape, self._packed[m], self._affine, self._least, result, dilation, tops, lefts, part, block,
                work, (0,) * m, self._simd,
            )  # fmt: skip

        self._workers.run(convolve, parts, values * sum(map(odd_lines, sizes)))

    def _by_pixels(self, image: Float32, before: Size, result: Float32) -> None:
        from deeplabctl.engine.convolution import convolve_pixels

        op, side, lanes, rows = self._op, self._op.kernel, len(self._simd.lanes), len(self._simd.rows)
        group = -(-(side**2) * self._depth // lanes) * lanes * rows
        groups = max(1, _PIXELS_OF_BLOCK // group)
        window = (side, op.stride, op.dilation)
        shape = (*before, self._depth, padded(self._channels))

        def convolve(part: Part, work: Float32) -> None:
            convolve_pixels(
                image, shape, self._packed[BY_PIXELS], self._affine, self._least, result, window, part, groups * rows,
                work, self._simd,
            )  # fmt: skip

        is_large = self._packed[BY_PIXELS].size > _LARGE_KERNEL
        parts = self._parts(math.prod(op.size([before])), is_large)
        self._workers.run(convolve, parts, groups * (group + rows * self._width))

    @property
    def _least(self) -> np.float32:
        return np.float32(self._op.activation.least)

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
        self._least, self._depth, self._workers = node.op.activation.least, depth(node), workers

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Add images, in their order."""
        from deeplabctl.engine.row_kernels import add

        total = images[0]
        for number, other in enumerate(images[1:], 2):
            least = np.float32(self._least if number == len(images) else -np.inf)

            def run(floats: tuple[int, int], work: Float32, a: Float32 = total, b: Float32 = other,
                    least: np.float32 = least) -> None:  # fmt: skip
                add(a, b, least, *floats, result)

            self._workers.run(run, self._workers.ranges(math.prod(sizes[0]) * self._depth))
            total = result


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
            resize_rows(old, size, *rows, new, False)

        self._workers.run(resize, self._workers.ranges(size[0]))


class Layer(Protocol):
    """Compute one operation."""

    def compute(self, images: Sequence[Float32], sizes: Sequence[Size], result: Float32) -> None:
        """Write the result of images [height][width][depth] of these sizes."""


# What computes an operation; `NumbaEngine` does not compute a network with another one.
LAYERS: dict[type[Operation], Callable[[Node, Workers], Layer]] = {
    Convolution: ConvolutionLayer, Pooling: PoolingLayer, Sum: SumLayer, Resize: ResizeLayer,
}  # fmt: skip


def depth(node: Node) -> int:
    """Return the channels that the array of a result has room for; the image has its own."""
    return node.channels if isinstance(node.op, Input) else padded(node.channels)
