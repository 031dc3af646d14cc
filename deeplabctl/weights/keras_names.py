"""Name the layers of keras.applications' VGG-16 and ResNet-101 as our tables do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE
from deeplabctl.network.ops import Convolution, Norm
from deeplabctl.network.ops.norm import NORM_EPSILON

_VGG_CONVOLUTIONS = [
    f"conv{block}_{index}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)
]
_VGG_DENSE = ["fc6", "fc7", "fc8"]
RESNET_TOP = "fc1000"  # the authors' name of ResNet's ImageNet classifier

_RESNET_BRANCHES = {"0": "branch1", "1": "branch2a", "2": "branch2b", "3": "branch2c"}
_RESNET_EPSILON = 1.001e-5  # of Keras' ResNet


def our_name(name: str) -> str:
    """Return our name of a layer of our networks or of Keras'; "" for any other."""
    if name in _known():
        return name
    if match := re.fullmatch(r"block(\d)_conv(\d)", name):
        return f"conv{match[1]}_{match[2]}"
    if match := re.fullmatch(r"conv(\d)_block(\d+)_([0-3])_(conv|bn)", name):
        stage, block = match[1], int(match[2])
        letter = "a" if block == 1 else f"b{block - 1}" if stage in "34" else "abc"[min(block - 1, 2)]
        return f"{'res' if match[4] == 'conv' else 'bn'}{stage}{letter}_{_RESNET_BRANCHES[match[3]]}"
    return {"fc1": "fc6", "fc2": "fc7", "conv1_conv": "conv1", "conv1_bn": "bn_conv1"}.get(name, "")


def in_order(convs: int, norms: int, dense: int) -> tuple[list[str], list[str], list[str]] | None:
    """Return the names of the convolutions, norms and dense layers of a file that gives no names, by their counts.

    None for an unknown network.
    """
    if (convs, norms, dense) == (len(ARCHITECTURES[DEFAULT_ARCHITECTURE].convolutions), 0, 0):
        return [conv.name for conv in ARCHITECTURES[DEFAULT_ARCHITECTURE].convolutions], [], []
    if convs == len(_VGG_CONVOLUTIONS) and norms == 0 and dense in (0, len(_VGG_DENSE)):
        return _VGG_CONVOLUTIONS, [], _VGG_DENSE[:dense]
    names = [[our_name(f"{name}_{kind}") for name in _resnet_order()] for kind in ("conv", "bn")]
    if (convs, norms) == (len(names[0]), len(names[1])) and dense in (0, 1):
        return names[0], names[1], [RESNET_TOP][:dense]
    return None


def top_name(name: str, kernel: Sequence[int]) -> str:
    """Return our name of Keras' ImageNet classifier, ``predictions``, by its inputs: VGG-16's or ResNet's."""
    return "" if name != "predictions" else RESNET_TOP if kernel[0] == 2048 else "fc8"


def without_biases(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Move the biases of convolutions into the norms that follow them; weights are arrays or shapes.

    ``gamma * (x + bias - mean) / sqrt(variance + epsilon)``: the bias goes into the mean, and the difference between
    Keras' epsilon and ours into the variance.
    """
    found = dict(weights)
    for name in list(weights):
        layer, _, part = name.rpartition("/")
        norm = re.sub("^res", "bn", layer) if layer.startswith("res") else f"bn_{layer}"
        mean, variance = f"{norm}/moving_mean", f"{norm}/moving_variance"
        if part != "bias" or mean not in weights:
            continue
        bias = found.pop(name)
        if isinstance(bias, np.ndarray):
            found[mean] = np.asarray(found[mean] - bias, np.float32)
            widened = found[variance].astype(np.float64) + (_RESNET_EPSILON - NORM_EPSILON)
            found[variance] = widened.astype(np.float32)
    return found


def _resnet_order() -> list[str]:
    """Return the beginnings of ResNet-101's names in the order of Keras' model."""
    names = ["conv1"]
    for stage, blocks in enumerate((3, 4, 23, 3), 2):
        for block in range(1, blocks + 1):
            names += [f"conv{stage}_block{block}_{part}" for part in ("1203" if block == 1 else "123")]
    return names


@cache
def _known() -> frozenset[str]:
    return frozenset(
        row.name
        for architecture in ARCHITECTURES.values()
        for row in architecture.rows
        if isinstance(row, Convolution | Norm)
    )
