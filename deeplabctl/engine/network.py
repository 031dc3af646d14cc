"""Compute a network's logits from its table and weights, without TensorFlow."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from deeplabctl.arrays import Float32, Pixels
from deeplabctl.engine.buffers import Buffers
from deeplabctl.engine.layers import (
    AdditionLayer,
    ConvolutionLayer,
    EnlargementLayer,
    Layer,
    PoolingLayer,
    Size,
    padded,
)
from deeplabctl.engine.operations import Addition, Convolution, Enlargement, Operation, Picture, operations
from deeplabctl.engine.workers import Workers
from deeplabctl.network.layers import OUTPUT_STRIDE, Weights
from deeplabctl.network.tiling import fields, tiles
from deeplabctl.parallel import available_cpus

# Of the first layers of a large image: these take most of the memory, and see few pixels around their own.
_FRONT_REACH = 32  # pixels
_TILE = 640  # pixels, and 32 around; a tile's two largest arrays have 64 channels and take 250 MB


Look = Callable[[int, Float32], None]


class NumbaNetwork:
    """Compute logits of images of any size, on ``threads`` CPUs or all that this process may use.

    Weights are packed at the first image that needs them, and kept: they take about four times the memory of the
    file's. So do the buffers between the layers, those of the largest image so far. The first layers of an image of
    more than half a million pixels are computed in tiles, which saves most of its memory.
    """

    def __init__(self, architecture: str, weights: Weights, threads: int | None = None) -> None:
        from deeplabctl.engine.registers import best_form

        self.architecture, self.workers = architecture, Workers(threads or available_cpus())
        self._operations = operations(architecture, weights)
        self._layers = {id(operation): self._layer(operation, best_form()) for operation in self._operations[1:]}
        self._buffers, self._lock = Buffers(), threading.Lock()
        self.first_channels, self.classes = (self._operations[place].channels for place in (1, -1))
        self._fields = fields(architecture)
        self._front = self._front_length()

    def logits(self, image: Pixels, look: Look | None = None) -> Float32:
        """Return the logits (h, w, classes) of an image (H, W, 3) float32, BGR minus the mean.

        They are at stride 8, or as `Architecture.test_rows` say. ``look`` is called for each of the `operations` with
        its place among them and its first input (h, w, channels), which is valid during the call only; nothing is
        computed in tiles then.
        """
        with self._lock:
            return self._logits(np.ascontiguousarray(image, np.float32), look)

    def least_memory(self, height: int, width: int) -> int:
        """Return bytes that an image takes at least: the most that a layer reads and writes, the front's apart."""
        first = self._front if self._front and height * width > _TILE**2 else 1
        values = (
            sum(padded(each.channels) / self._fields[each.name].stride ** 2 for each in (*operation.inputs, operation))
            for operation in self._operations[first:]
            if not isinstance(operation.inputs[0], Picture)
        )
        return int(4 * max(values) * height * width)

    def _logits(self, image: Pixels, look: Look | None) -> Float32:
        if look is None and self._front and math.prod(image.shape[:2]) > _TILE**2:
            array, size = self._compute(self._operations[self._front - 1 :], *self._front_in_tiles(image))
        else:
            array, size = self._compute(self._operations, image.reshape(-1), image.shape[:2], look)
        logits = self._pixels(array, size, self.classes)[..., : self.classes].copy()
        self._buffers.give(array)
        return logits

    def _front_in_tiles(self, image: Pixels) -> tuple[Float32, Size]:
        """Return the result of the front of the network, computed tile by tile, and its size."""
        front = self._operations[: self._front]
        channels, field = front[-1].channels, self._fields[front[-1].name]
        sizes: dict[int, Size] = {id(front[0]): image.shape[:2]}
        for operation in front[1:]:
            sizes[id(operation)] = self._layers[id(operation)].size(sizes[id(operation.inputs[0])])
        size = sizes[id(front[-1])]
        result = self._buffers.take(math.prod(size) * padded(channels))
        whole = self._pixels(result, size, channels)
        for line, column in tiles(image.shape[:2], size, field, _TILE):
            tile = np.ascontiguousarray(image[line.first : line.last, column.first : column.last])
            array, own = self._compute(front, tile.reshape(-1), tile.shape[:2])
            inner = line.own(field.stride), column.own(field.stride)
            whole[line.begin : line.end, column.begin : column.end] = self._pixels(array, own, channels)[inner]
            self._buffers.give(array)
        return result, size

    def _compute(
        self, operations: Sequence[Operation], array: Float32, size: Size, look: Look | None = None
    ) -> tuple[Float32, Size]:
        """Return the last operation's result, and its size, from the first one's."""
        uses = Counter(id(below) for operation in operations for below in operation.inputs)
        values = {id(operations[0]): (array, size)}
        for place, operation in enumerate(operations[1:], 1):
            before, layer = [values[id(below)] for below in operation.inputs], self._layers[id(operation)]
            if len({size for _, size in before}) > 1:
                raise ValueError(f"{operation.name}: expected inputs of one size, got {[size for _, size in before]}")
            if look is not None:
                look(place, _view(operation.inputs[0], *before[0]))
            size = layer.size(before[0][1])
            result = self._buffers.take(math.prod(size) * padded(operation.channels))
            layer.compute([array for array, _ in before], before[0][1], result)
            values[id(operation)] = result, size
            for below in operation.inputs:
                uses[id(below)] -= 1
                if not uses[id(below)] and not isinstance(below, Picture):
                    self._buffers.give(values.pop(id(below))[0])
        return values[id(operations[-1])]

    def _front_length(self) -> int:
        """Return how many operations make the front: its last result is all that the others take, and at stride 8."""
        found = 0
        for count in range(2, len(self._operations)):
            last = self._operations[count - 1]
            inside = set(map(id, self._operations[: count - 1]))
            later = (below for operation in self._operations[count:] for below in operation.inputs)
            field = self._fields[last.name]
            if (field.reach <= _FRONT_REACH and field.stride == OUTPUT_STRIDE) and not inside & set(map(id, later)):
                found = count
        return found

    def _pixels(self, array: Float32, size: Size, channels: int) -> Float32:
        """Return an array as pixels (h, w, padded channels)."""
        return array[: math.prod(size) * padded(channels)].reshape(*size, padded(channels))

    def _layer(self, operation: Operation, form: tuple[tuple[int, ...], ...]) -> Layer:
        depth = _depth(operation.inputs[0])
        if isinstance(operation, Convolution):
            return ConvolutionLayer(operation, depth, form, self.workers)
        if isinstance(operation, Addition):
            return AdditionLayer(operation, depth, self.workers)
        if isinstance(operation, Enlargement):
            return EnlargementLayer(operation, depth, self.workers)
        assert not isinstance(operation, Picture)
        return PoolingLayer(operation, depth, self.workers)


def _depth(operation: Operation) -> int:
    """Return the channels that the array of a result has room for."""
    return operation.channels if isinstance(operation, Picture) else padded(operation.channels)


def _view(operation: Operation, array: Float32, size: Size) -> Float32:
    """View the result (h, w, channels) of an operation in its array."""
    depth = _depth(operation)
    return array[: math.prod(size) * depth].reshape(*size, depth)[..., : operation.channels]
