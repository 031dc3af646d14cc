"""Turn a table and its weights into the operations that compute the logits: norms become part of their convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from deeplabctl.arrays import Float32
from deeplabctl.network.layers import ARCHITECTURES, BIAS, KERNEL, NORM_PARTS, Weights
from deeplabctl.network.rows import NORM_EPSILON, Conv, Norm, Pool, Row, Zoom, fold


@dataclass(frozen=True, eq=False)
class Picture:
    """Stand for the network's input, 3 channels."""

    name: str = "picture"
    inputs: tuple[Operation, ...] = ()
    channels: int = 3


@dataclass(frozen=True, eq=False)
class Convolution:
    """Hold a convolution; ``kernel`` is (side, side, in, out). The sums are scaled, and then the bias is added.

    The scale does not go into the kernel, whose values would be rounded once more: ResNet-101's logits would differ
    from Caffe's by up to twice as much.
    """

    name: str
    inputs: tuple[Operation, ...]
    kernel: Float32
    scale: Float32
    bias: Float32
    stride: int
    dilation: int
    relu: bool

    @property
    def channels(self) -> int:
        """Return the channels of the result."""
        return int(self.kernel.shape[3])


@dataclass(frozen=True, eq=False)
class Pooling:
    """Hold a 3x3 pooling with pad 1."""

    name: str
    inputs: tuple[Operation, ...]
    is_max: bool
    stride: int

    @property
    def channels(self) -> int:
        """Return the channels of the result."""
        return self.inputs[0].channels


@dataclass(frozen=True, eq=False)
class Addition:
    """Hold a sum."""

    name: str
    inputs: tuple[Operation, ...]
    relu: bool

    @property
    def channels(self) -> int:
        """Return the channels of the result."""
        return self.inputs[0].channels


@dataclass(frozen=True, eq=False)
class Enlargement:
    """Hold an enlargement from m to ``factor * (m - 1) + 1``, with aligned corners."""

    name: str
    inputs: tuple[Operation, ...]
    factor: int

    @property
    def channels(self) -> int:
        """Return the channels of the result."""
        return self.inputs[0].channels


Operation = Picture | Convolution | Pooling | Addition | Enlargement


def operations(architecture: str, weights: Weights) -> list[Operation]:
    """Return the operations of a network in an order in which they can be computed, the picture first."""

    def make(row: Row, inputs: list[Operation]) -> Operation:
        before = tuple(inputs)
        if isinstance(row, Conv):
            kernel = weights[f"{row.name}/{KERNEL}"]
            one, zero = np.ones(kernel.shape[3], np.float32), np.zeros(kernel.shape[3], np.float32)
            bias = weights[f"{row.name}/{BIAS}"] if row.bias else zero
            return Convolution(row.name, before, kernel, one, bias, row.stride, row.dilation, row.relu)
        if isinstance(row, Pool):
            return Pooling(row.name, before, row.kind == "max", row.stride)
        if isinstance(row, Norm):
            return _normalized(row, before[0], weights)
        if isinstance(row, Zoom):
            return Enlargement(row.name, before, row.factor)
        return Addition(row.name, before, row.relu)

    picture: Operation = Picture()
    found = [picture, *fold(ARCHITECTURES[architecture].prediction_rows, picture, make).values()]
    needed = set(_below(found[-1]))
    return [operation for operation in dict.fromkeys(found) if operation in needed]


def _normalized(row: Norm, below: Operation, weights: Weights) -> Convolution:
    """Return the convolution that a norm on a convolution without a ReLU is; computed in float64."""
    assert isinstance(below, Convolution)
    gamma, beta, mean, variance = (weights[f"{row.name}/{part}"].astype(np.float64) for part in NORM_PARTS)
    scale = gamma / np.sqrt(variance + NORM_EPSILON)
    bias = beta + (below.bias - mean) * scale
    return replace(
        below, name=row.name, scale=scale.astype(np.float32), bias=bias.astype(np.float32), relu=row.relu
    )  # fmt: skip


def _below(operation: Operation) -> Iterator[Operation]:
    """Yield an operation and all that it needs, each once."""
    seen = {operation}
    waiting = [operation]
    while waiting:
        yield (now := waiting.pop())
        waiting += [below for below in dict.fromkeys(now.inputs) if below not in seen]
        seen.update(now.inputs)
