"""Give the variables of TensorFlow 1's programs our names: DeepLab's own program, and the ports of DeepLab v2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights, layer_of
from deeplabctl.network.ops.norm import NORM_PARTS

_PARTS = {"w": "kernel", "weights": "kernel", "depthwise_weights": "kernel", "b": "bias", "biases": "bias"}
_PARTS |= {name: name for name in NORM_PARTS}

# What our names leave out of a scope: that of the network, and a level of Xception's without a second branch.
_LEFT_OUT = re.compile("^(MobilenetV2|xception_65)/|/xception_module(?=/)")


def layer_of_scope(scope: str) -> str:
    """Return our name of a scope: ``expanded_conv_1_expand`` of ``MobilenetV2/expanded_conv_1/expand``."""
    return _LEFT_OUT.sub("", scope).replace("/", "_")


def weights_of_variables(variables: Mapping[str, npt.NDArray[Any]], path: Path) -> Weights:
    """Rename ``conv1_1/w``, ``MobilenetV2/Conv/weights`` and the like; optimizers' slots and counters are left out."""
    weights: Weights = {}
    for name, values in variables.items():
        scope, _, part = name.removesuffix(":0").rpartition("/")
        if part in _PARTS and scope:
            ours = f"{layer_of_scope(scope)}/{_PARTS[part]}"
            if ours in weights:
                raise WeightsError(f"weights {path}: variable {name[:80]}: expected one {ours[:80]}, got several")
            weights[ours] = np.asarray(values, np.float32)
    for layer in dict.fromkeys(map(layer_of, weights)):
        if f"{layer}/gamma" in weights or f"{layer}/moving_mean" in weights:
            continue
        kernel, bias = (weights.get(f"{layer}/{part}", np.empty(0)) for part in ("kernel", "bias"))
        if kernel.ndim != 4 or (f"{layer}/bias" in weights and bias.shape != kernel.shape[-1:]):
            raise WeightsError(
                f"weights {path}: layer {layer}: expected a kernel (height, width, in, out) and its bias, got "
                f"{kernel.shape} and {bias.shape}"
            )
    if not weights:
        some = ", ".join(sorted(variables)[:4]) or "nothing"
        raise WeightsError(f"weights {path}: expected variables named like conv1_1/w and conv1_1/b, got {some}")
    return weights
