"""List the architectures and their weights: all facts of a layer are in their tables and only there.

The Keras builder, the weights' readers and the solver read them; adding an architecture is adding a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from deeplabctl.network.resnet import RESNET101
from deeplabctl.network.rows import Conv, Norm, Pool, Row, Rows, Zoom, fold
from deeplabctl.network.vgg import ASPP_L, ASPP_S, LARGEFOV, MSC_LARGEFOV, MSC_LARGEFOV_TEST

OUTPUT_STRIDE = 8

Weights = dict[str, npt.NDArray[Any]]  # "layer/part" -> array; the parts of a Conv and of a Norm are below
Shapes = dict[str, tuple[int, ...]]  # "layer/part" -> its shape

KERNEL, BIAS = "kernel", "bias"  # of a Conv: HWIO, and its outputs
NORM_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")  # of a Norm: its channels each


@dataclass(frozen=True)
class Architecture:
    """Hold a network's table, and the scales at which it is applied with the same weights.

    With several scales the logits of each are brought to the grid of the first, and the largest counts. ``crf`` is the
    preset of the dense CRF that the authors used with it. ``test_rows`` are those of prediction, where they differ:
    with the same weights, and logits of the image's own size.
    """

    rows: Rows
    crf: str
    scales: tuple[float, ...] = (1.0,)
    test_rows: Rows = ()

    @property
    def prediction_rows(self) -> Rows:
        """Return the table that is applied in prediction."""
        return self.test_rows or self.rows


ARCHITECTURES: dict[str, Architecture] = {
    "largefov": Architecture(LARGEFOV, "largefov-v1"),
    "aspp-s": Architecture(ASPP_S, "v2-vgg"),
    "aspp-l": Architecture(ASPP_L, "v2-vgg"),
    "resnet101": Architecture(RESNET101, "v2-resnet", scales=(1.0, 0.75, 0.5)),
    "msc-largefov": Architecture(MSC_LARGEFOV, "largefov-v1", test_rows=MSC_LARGEFOV_TEST),
}
DEFAULT_ARCHITECTURE = "largefov"  # of weight files that do not name an architecture


@dataclass(frozen=True)
class Parameter:
    """Hold the facts of an array of weights."""

    row: Conv | Norm
    part: str
    shape: tuple[int, ...]
    number: int  # of its convolution in the network, which chooses its random numbers

    @property
    def is_classifier(self) -> bool:
        """Tell whether it belongs to a classifier."""
        return isinstance(self.row, Conv) and self.row.classifier

    @property
    def lr_multiplier(self) -> float:
        """Return Caffe's ``lr_mult``; 0: it is never trained."""
        return self.row.lr_multipliers[self.part == BIAS] if isinstance(self.row, Conv) else 0.0

    @property
    def decay_multiplier(self) -> float:
        """Return Caffe's ``decay_mult``."""
        return self.row.decay_multipliers[self.part == BIAS] if isinstance(self.row, Conv) else 0.0


def convolutions(architecture: str) -> tuple[Conv, ...]:
    """Return the convolutions, in order."""
    return tuple(row for row in ARCHITECTURES[architecture].rows if isinstance(row, Conv))


def classifiers(architecture: str) -> tuple[str, ...]:
    """Return the names of the layers whose sum are the classes' logits."""
    return tuple(conv.name for conv in convolutions(architecture) if conv.classifier)


def channels(architecture: str, num_classes: int, width: float = 1.0) -> dict[str, int]:
    """Return the channels of every row, and of the image."""

    def count(row: Row, inputs: list[int]) -> int:
        if not isinstance(row, Conv):
            return inputs[0]
        return num_classes if row.classifier else max(1, round(row.channels * width))

    return fold(ARCHITECTURES[architecture].prediction_rows, 3, count)


def most_values(architecture: str, first: int) -> float:
    """Return the most values for each pixel of the image that a row reads and writes at once, the first row apart.

    ``first`` is the number of channels of the first convolution, which tells the width.
    """
    rows = ARCHITECTURES[architecture].prediction_rows
    outgoing = channels(architecture, 2, first / convolutions(architecture)[0].channels)
    most = 0.0

    def values(row: Row, inputs: list[tuple[int, int]]) -> tuple[int, int]:
        """Return the channels and the stride of a row."""
        nonlocal most
        stride = inputs[0][1] * (row.stride if isinstance(row, Conv | Pool) else 1)
        written = outgoing[row.name], stride // (row.factor if isinstance(row, Zoom) else 1)
        if row is not rows[0]:
            most = max(most, sum(count / stride**2 for count, stride in [*inputs, written]))
        return written

    fold(rows, (3, 1), values)
    return most


def parameters(architecture: str, num_classes: int, width: float = 1.0) -> dict[str, Parameter]:
    """Return the facts of every array of weights by its name, "layer/part", in the table's order."""
    outgoing = channels(architecture, num_classes, width)
    found: dict[str, Parameter] = {}
    convs = 0

    def add(row: Row, inputs: list[int]) -> int:
        nonlocal convs
        out = outgoing[row.name]
        if isinstance(row, Conv):
            kernel = (row.kernel, row.kernel, inputs[0], out)
            found[f"{row.name}/{KERNEL}"] = Parameter(row, KERNEL, kernel, convs)
            if row.bias:
                found[f"{row.name}/{BIAS}"] = Parameter(row, BIAS, (out,), convs)
            convs += 1
        elif isinstance(row, Norm):
            found.update({f"{row.name}/{part}": Parameter(row, part, (out,), convs - 1) for part in NORM_PARTS})
        return out

    fold(ARCHITECTURES[architecture].rows, outgoing["data"], add)
    return found


def weight_shapes(architecture: str, num_classes: int, width: float = 1.0) -> Shapes:
    """Return the shape of every array of weights; a kernel's is (height, width, in, out)."""
    return {name: facts.shape for name, facts in parameters(architecture, num_classes, width).items()}


def layer_of(name: str) -> str:
    """Return the layer of an array of weights."""
    return name.rpartition("/")[0]
