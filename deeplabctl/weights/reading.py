"""Read weight files of every format as weights of our tables.

Weights are mapped by name and shape; of their geometry only the dilations that a Caffe file states are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe import CaffeNet, net_dilations, net_shapes, net_weights, read_caffemodel
from deeplabctl.errors import WeightsError
from deeplabctl.network import Shapes, Weights, layer_of
from deeplabctl.network.ops.norm import NORM_PARTS
from deeplabctl.weights.formats import EXPORTS, Format, identify
from deeplabctl.weights.keras_files import read_keras_shapes, read_keras_weights
from deeplabctl.weights.model_info import ModelInfo, read_info
from deeplabctl.weights.pickles import read_pickled_arrays
from deeplabctl.weights.tf_checkpoint import checkpoint_prefix, read_checkpoint
from deeplabctl.weights.tf_checkpoint_v1 import is_checkpoint_v1, read_checkpoint_v1
from deeplabctl.weights.torch_files import read_torch_tensors
from deeplabctl.weights.torch_names import weights_of_tensors

# The names of weights in programs on TensorFlow 1.
_VARIABLES = {"w": "kernel", "weights": "kernel", "b": "bias", "biases": "bias"} | {name: name for name in NORM_PARTS}


@dataclass(frozen=True)
class WeightFile:
    """Hold what a weight file contains, by the names of our tables where they are known.

    A kernel is HWIO, or (in, out) for a fully connected layer whose inputs are flattened as height, width, channel.
    """

    path: Path
    format: Format
    weights: Weights
    info: ModelInfo | None = None  # of our own model files
    dilations: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of the layers for which it states them


def read_weight_file(path: Path) -> WeightFile:
    """Read a weight file of any format; raises WeightsError for a file that cannot be read, and for an export."""
    format_ = identify(path)
    if format_ in EXPORTS:
        raise WeightsError(
            f"weights {path}: this {format_.value} was exported to be run: eval and infer take it, but it cannot be "
            "converted or trained further; give the weights that it was made of"
        )
    if format_ is Format.OURS:
        return WeightFile(path, format_, read_keras_weights(path), read_info(path))
    if format_ is Format.CAFFE:
        net = read_caffemodel(path)
        return WeightFile(path, format_, _from_caffe(net), dilations=net_dilations(net))
    if format_ is Format.PICKLE:
        return WeightFile(path, format_, _from_variables(read_pickled_arrays(path), path))
    if format_ is Format.TENSORFLOW:
        return WeightFile(path, format_, _from_variables(_read_variables(path), path))
    if format_ is Format.TORCH:
        return WeightFile(path, format_, weights_of_tensors(read_torch_tensors(path), path))
    return WeightFile(path, format_, read_keras_weights(path))


def read_shapes(path: Path) -> tuple[Shapes, Mapping[str, tuple[int, ...]]]:
    """Return the shapes of the weights that `read_weight_file` returns, and the dilations that the file states.

    Arrays are read only from pickles, .pth files and checkpoints. Raises WeightsError for a file that cannot be read,
    but does not notice damaged values.
    """
    format_ = identify(path)
    if format_ in (Format.OURS, Format.KERAS, Format.KERAS_H5):
        return read_keras_shapes(path), {}
    if format_ is Format.CAFFE:
        net = read_caffemodel(path)
        return net_shapes(net), net_dilations(net)
    return {name: array.shape for name, array in read_weight_file(path).weights.items()}, {}


def _read_variables(path: Path) -> dict[str, npt.NDArray[Any]]:
    prefix = checkpoint_prefix(path)
    return read_checkpoint_v1(path) if prefix is None and is_checkpoint_v1(path) else read_checkpoint(prefix or path)


def _from_caffe(net: CaffeNet) -> Weights:
    weights = net_weights(net)
    for name, kernel in weights.items():
        if kernel.ndim == 2:  # InnerProduct: (out, in), inputs flattened as channel, height, width
            out, incoming = kernel.shape
            if name == "fc6/kernel" and incoming == 512 * 7 * 7:
                kernel = kernel.reshape(out, 512, 7, 7).transpose(0, 2, 3, 1).reshape(out, incoming)
            weights[name] = kernel.T
    return weights


def _from_variables(variables: Mapping[str, npt.NDArray[Any]], path: Path) -> Weights:
    """Rename ``conv1_1/w``, ``conv1/weights`` and the like; optimizers' slots and counters are left out."""
    weights: Weights = {}
    for name, values in variables.items():
        layer, _, part = name.removesuffix(":0").rpartition("/")
        if part in _VARIABLES and re.fullmatch("[^/]+", layer):
            weights[f"{layer}/{_VARIABLES[part]}"] = np.asarray(values, np.float32)
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
