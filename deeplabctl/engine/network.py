"""Compute a network's logits from its table and weights, without TensorFlow."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import numpy as np

from deeplabctl.arrays import Float32, Pixels
from deeplabctl.engine.buffers import Arena, Use, placed
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
    file's. Kept as well is the memory of the results between the layers, as much as the largest image so far needs. The
    first layers of an image of more than half a million pixels are computed in tiles, which saves most of its memory.
    """

    def __init__(self, architecture: str, weights: Weights, threads: int | None = None) -> None:
        from deeplabctl.engine.registers import best_form

        self.architecture, self.workers = architecture, Workers(threads or available_cpus())
        self._operations = operations(architecture, weights)
        self._layers = {id(operation): self._layer(operation, best_form()) for operation in self._operations[1:]}
        self._arena, self._front_arena, self._lock = Arena(), Arena(), threading.Lock()
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
        """Return the bytes of the results between the layers of an image; the layers' own work takes more."""
        if not self._has_front(height, width):
            return 4 * placed(tuple(self._uses(self._operations, (height, width))[1]))[1]
        front, rest = self._operations[: self._front], self._operations[self._front - 1 :]
        sizes, uses = self._uses(front, (height, width))
        return 4 * (uses[-1][0] + placed(tuple(self._uses(rest, sizes[-1])[1]))[1])

    def _has_front(self, height: int, width: int) -> bool:
        """Tell whether the first layers of an image of this size are computed in tiles."""
        return self._front > 0 and height * width > _TILE**2

    def _logits(self, image: Pixels, look: Look | None) -> Float32:
        if look is None and self._has_front(*image.shape[:2]):
            array, size = self._compute(self._operations[self._front - 1 :], *self._front_in_tiles(image))
        else:
            array, size = self._compute(self._operations, image.reshape(-1), image.shape[:2], look)
        return _view(self._operations[-1], array, size).copy()

    def _front_in_tiles(self, image: Pixels) -> tuple[Float32, Size]:
        """Return the result of the front of the network, computed tile by tile, and its size."""
        front = self._operations[: self._front]
        field = self._fields[front[-1].name]
        sizes, uses = self._uses(front, image.shape[:2])
        size, depth = sizes[-1], padded(front[-1].channels)
        (result,) = self._front_arena.arrays(uses[-1:])
        whole = result.reshape(*size, depth)
        for line, column in tiles(image.shape[:2], size, field, _TILE):
            tile = np.ascontiguousarray(image[line.first : line.last, column.first : column.last])
            array, own = self._compute(front, tile.reshape(-1), tile.shape[:2])
            inner = line.own(field.stride), column.own(field.stride)
            whole[line.begin : line.end, column.begin : column.end] = array.reshape(*own, depth)[inner]
        return result, size

    def _compute(
        self, operations: Sequence[Operation], array: Float32, size: Size, look: Look | None = None
    ) -> tuple[Float32, Size]:
        """Return the last operation's result, valid until the next call, and its size, from the first one's."""
        sizes, uses = self._uses(operations, size)
        arrays = [array, *self._arena.arrays(uses)]
        places = {id(operation): place for place, operation in enumerate(operations)}
        for place, operation in enumerate(operations[1:], 1):
            before = [places[id(below)] for below in operation.inputs]
            if look is not None:
                look(place, _view(operation.inputs[0], arrays[before[0]], sizes[before[0]]))
            self._layers[id(operation)].compute([arrays[at] for at in before], sizes[before[0]], arrays[place])
        return arrays[-1], sizes[-1]

    def _uses(self, operations: Sequence[Operation], size: Size) -> tuple[list[Size], list[Use]]:
        """Return the sizes of the operations' results, and the uses of the arrays that hold all but the first one's."""
        places, sizes, last = {id(operations[0]): 0}, [size], list(range(len(operations)))
        for place, operation in enumerate(operations[1:], 1):
            before = [places[id(below)] for below in operation.inputs]
            if len({sizes[at] for at in before}) > 1:
                raise ValueError(f"{operation.name}: expected inputs of one size, got {[sizes[at] for at in before]}")
            sizes.append(self._layers[id(operation)].size(sizes[before[0]]))
            for at in before:
                last[at] = place
            places[id(operation)] = place
        floats = [math.prod(size) * padded(each.channels) for size, each in zip(sizes, operations, strict=True)]
        return sizes, list(zip(floats, range(len(operations)), last, strict=True))[1:]

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
