"""List the layers of each architecture: all facts of a layer are in this table and only here.

The Keras builder, the weights' readers and the solver read it; adding an architecture is adding a table.
Every convolution except the classifier is followed by a ReLU; all pads keep the size (convolutions, stride 1) or follow
Caffe's pooling rule ``out = floor(n / 2) + 1`` (stride 2). Source: the deploy and train prototxt of DeepLab-LargeFOV
(arXiv 1412.7062, section 3.1 and Table 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

OUTPUT_STRIDE = 8

Weights = dict[str, list[npt.NDArray[Any]]]  # layer name -> [kernel HWIO, bias]
KernelShapes = dict[str, tuple[int, ...]]  # layer name -> shape of its kernel


@dataclass(frozen=True)
class Conv:
    """Describe a convolution with stride 1 and zero padding ``dilation * (kernel - 1) // 2``.

    ``channels`` are those of width 1.0; the classifier has one for each class, at any width. The multipliers are
    Caffe's ``lr_mult`` and ``decay_mult`` for (kernel, bias); the recipe's ``head_multiplier`` for the classifier comes
    on top.
    """

    name: str
    channels: int
    kernel: int = 3
    dilation: int = 1
    dropout: bool = False
    classifier: bool = False
    lr_multipliers: tuple[float, float] = (1.0, 2.0)
    decay_multipliers: tuple[float, float] = (1.0, 0.0)

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


Layer = Conv | Pool

LARGEFOV: tuple[Layer, ...] = (
    Conv("conv1_1", 64),
    Conv("conv1_2", 64),
    Pool("pool1", "max", 2),
    Conv("conv2_1", 128),
    Conv("conv2_2", 128),
    Pool("pool2", "max", 2),
    Conv("conv3_1", 256),
    Conv("conv3_2", 256),
    Conv("conv3_3", 256),
    Pool("pool3", "max", 2),
    Conv("conv4_1", 512),
    Conv("conv4_2", 512),
    Conv("conv4_3", 512),
    Pool("pool4", "max", 1),
    Conv("conv5_1", 512, dilation=2),
    Conv("conv5_2", 512, dilation=2),
    Conv("conv5_3", 512, dilation=2),
    Pool("pool5", "max", 1),
    Pool("pool5a", "average", 1),
    Conv("fc6", 1024, dilation=12, dropout=True),
    Conv("fc7", 1024, kernel=1, dropout=True),
    Conv("fc8_voc12", 0, kernel=1, classifier=True),
)

ARCHITECTURES: dict[str, tuple[Layer, ...]] = {"largefov": LARGEFOV}
DEFAULT_ARCHITECTURE = "largefov"  # of weight files that do not name an architecture


def convolutions(architecture: str) -> tuple[Conv, ...]:
    """Return the layers that have weights, in order."""
    return tuple(layer for layer in ARCHITECTURES[architecture] if isinstance(layer, Conv))


def weight_shapes(architecture: str, num_classes: int, width: float = 1.0) -> dict[str, tuple[int, int, int, int]]:
    """Return the kernel shape (height, width, in, out) of every convolution; its bias has ``out`` values."""
    shapes: dict[str, tuple[int, int, int, int]] = {}
    incoming = 3
    for conv in convolutions(architecture):
        outgoing = num_classes if conv.classifier else max(1, round(conv.channels * width))
        shapes[conv.name] = (conv.kernel, conv.kernel, incoming, outgoing)
        incoming = outgoing
    return shapes
