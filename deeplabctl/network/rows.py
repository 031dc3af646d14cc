"""Describe networks as tables of rows, and fold a table over values.

A row names the rows whose results it takes; without names it takes the row above. A network is data: what is computed
of it (channel counts, the Keras model, its logits, a comparison with a net definition) is one call of `fold` each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

INPUT = "data"  # the name under which rows take the image

# Caffe reads it as a float32, which matters at 1e-12.
NORM_EPSILON = float(np.float32(1e-5))

T = TypeVar("T")


@dataclass(frozen=True)
class Conv:
    """Describe a convolution with zero padding ``dilation * (kernel - 1) // 2``, followed by a ReLU where it says so.

    ``channels`` are those of width 1.0; a classifier has one for each class, at any width, and no ReLU. The multipliers
    are Caffe's ``lr_mult`` and ``decay_mult`` for (kernel, bias); the recipe's ``head_multiplier`` for classifiers
    comes on top.
    """

    name: str
    channels: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    bias: bool = True
    relu: bool = True
    dropout: bool = False
    classifier: bool = False
    lr_multipliers: tuple[float, float] = (1.0, 2.0)
    decay_multipliers: tuple[float, float] = (1.0, 0.0)
    first_std: float = 0.01  # of the gaussian kernel, where it starts new on trained layers
    inputs: tuple[str, ...] = ()

    @property
    def pad(self) -> int:
        """Return the zeros on each side."""
        return self.dilation * (self.kernel - 1) // 2


@dataclass(frozen=True)
class Pool:
    """Describe a 3x3 pooling with pad 1: ``max`` or ``average`` (which divides by 9 at borders too)."""

    name: str
    kind: str
    stride: int
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Norm:
    """Describe a frozen batch normalization (Caffe's BatchNorm and Scale) of the convolution above.

    ``gamma * (x - mean) / sqrt(variance + NORM_EPSILON) + beta``; nothing of it is trained or updated.
    """

    name: str
    relu: bool = True
    first_gamma: float = 1.0  # of a network that starts random
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sum:
    """Describe the sum of rows of equal channels."""

    name: str
    inputs: tuple[str, ...]
    relu: bool = False


@dataclass(frozen=True)
class Zoom:
    """Describe an enlargement from m to ``factor * (m - 1) + 1``, bilinear with aligned corners (Caffe's Interp)."""

    name: str
    factor: int
    inputs: tuple[str, ...]


Row = Conv | Pool | Norm | Sum | Zoom
Rows = tuple[Row, ...]


def classifier(name: str, kernel: int = 1, dilation: int = 1, inputs: tuple[str, ...] = ()) -> Conv:
    """Return the row of a classifier."""
    return Conv(name, 0, kernel=kernel, dilation=dilation, relu=False, classifier=True, inputs=inputs)


def fold(rows: Iterable[Row], data: T, compute: Callable[[Row, list[T]], T]) -> dict[str, T]:
    """Return what ``compute`` makes of every row and of the values of its inputs, by name, in the table's order.

    ``data`` is the image's value. The value of the network is the last one.
    """
    values, above = {INPUT: data}, data
    for row in rows:
        above = compute(row, [values[name] for name in row.inputs] or [above])
        values[row.name] = above
    return values
