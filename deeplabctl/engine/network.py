"""Compute a network's logits from its table and weights, without TensorFlow."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable

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
from deeplabctl.network.layers import Weights
from deeplabctl.parallel import available_cpus


class NumbaNetwork:
    """Compute logits of images of any size, on ``threads`` CPUs or all that this process may use.

    Weights are packed at the first image that needs them, and kept: they take about four times the memory of the
    file's. So do the buffers between the layers, those of the largest image so far.
    """

    def __init__(self, architecture: str, weights: Weights, threads: int | None = None) -> None:
        from deeplabctl.engine.registers import best_form

        self.architecture, self.workers = architecture, Workers(threads or available_cpus())
        self._operations = operations(architecture, weights)
        self._layers = {id(operation): self._layer(operation, best_form()) for operation in self._operations[1:]}
        self._buffers, self._lock = Buffers(), threading.Lock()
        self.first_channels, self.classes = (self._operations[place].channels for place in (1, -1))

    def logits(self, image: Pixels, look: Callable[[int, Float32], None] | None = None) -> Float32:
        """Return the logits (h, w, classes) of an image (H, W, 3) float32, BGR minus the mean.

        They are at stride 8, or as `Architecture.test_rows` say. ``look`` is called for each of the `operations` with
        its place among them and its first input (h, w, channels), which is valid during the call only.
        """
        with self._lock:
            return self._logits(np.ascontiguousarray(image, np.float32), look)

    def _logits(self, image: Pixels, look: Callable[[int, Float32], None] | None) -> Float32:
        uses = Counter(id(below) for operation in self._operations for below in operation.inputs)
        values: dict[int, tuple[Float32, Size]] = {id(self._operations[0]): (image.reshape(-1), image.shape[:2])}
        for place, operation in enumerate(self._operations[1:], 1):
            before, layer = [values[id(below)] for below in operation.inputs], self._layers[id(operation)]
            if len({size for _, size in before}) > 1:
                raise ValueError(f"{operation.name}: expected inputs of one size, got {[size for _, size in before]}")
            if look is not None:
                look(place, _pixels(operation.inputs[0], *before[0]))
            size = layer.size(before[0][1])
            result = self._buffers.take(math.prod(size) * padded(operation.channels))
            layer.compute([array for array, _ in before], before[0][1], result)
            values[id(operation)] = result, size
            for below in operation.inputs:
                uses[id(below)] -= 1
                if not uses[id(below)] and not isinstance(below, Picture):
                    self._buffers.give(values.pop(id(below))[0])
        array, size = values.pop(id(self._operations[-1]))
        logits = _pixels(self._operations[-1], array, size).copy()
        self._buffers.give(array)
        return logits

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


def _pixels(operation: Operation, array: Float32, size: Size) -> Float32:
    """View the result (h, w, channels) of an operation in its array."""
    depth = _depth(operation)
    return array[: math.prod(size) * depth].reshape(*size, depth)[..., : operation.channels]
