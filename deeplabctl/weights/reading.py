"""Read weight files of every format as layers of our tables.

Layers are mapped by name and shape; what a file says of their geometry is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe import convolution_weights, kernel_shapes, read_caffemodel
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import KernelShapes, Weights
from deeplabctl.weights.formats import Format, identify
from deeplabctl.weights.keras_files import read_keras_layers, read_keras_shapes
from deeplabctl.weights.model_info import ModelInfo, read_info
from deeplabctl.weights.pickles import read_pickled_arrays
from deeplabctl.weights.tf_checkpoint import checkpoint_prefix, read_checkpoint


@dataclass(frozen=True)
class WeightFile:
    """Hold what a weight file contains, by the layer names of our tables where they are known.

    A kernel is HWIO, or (in, out) for a fully connected layer whose inputs are flattened as height, width, channel.
    """

    path: Path
    format: Format
    layers: Weights
    info: ModelInfo | None = None  # of our own model files


def read_weight_file(path: Path) -> WeightFile:
    """Read a weight file of any format; raises WeightsError for a file that cannot be read."""
    format_ = identify(path)
    if format_ is Format.OURS:
        info = read_info(path)
        return WeightFile(path, format_, read_keras_layers(path, info.architecture), info)
    if format_ is Format.CAFFE:
        layers = _from_caffe(path)
    elif format_ is Format.PICKLE:
        layers = _from_variables(read_pickled_arrays(path), path)
    elif format_ is Format.TENSORFLOW:
        layers = _from_variables(read_checkpoint(checkpoint_prefix(path) or path), path)
    else:
        layers = read_keras_layers(path)
    return WeightFile(path, format_, layers)


def read_kernel_shapes(path: Path) -> KernelShapes:
    """Return the kernel shapes of the layers that `read_weight_file` returns; arrays are read only from a pickle.

    Raises WeightsError for a file that cannot be read, but does not notice damaged values.
    """
    format_ = identify(path)
    if format_ in (Format.OURS, Format.KERAS, Format.KERAS_H5):
        return read_keras_shapes(path)
    if format_ is Format.CAFFE:
        return kernel_shapes(read_caffemodel(path))
    return {name: kernel.shape for name, (kernel, _) in read_weight_file(path).layers.items()}


def _from_caffe(path: Path) -> Weights:
    layers = convolution_weights(read_caffemodel(path))
    for name, (kernel, *_) in layers.items():
        if kernel.ndim == 2:  # InnerProduct: (out, in), inputs flattened as channel, height, width
            out, incoming = kernel.shape
            if name == "fc6" and incoming == 512 * 7 * 7:
                kernel = kernel.reshape(out, 512, 7, 7).transpose(0, 2, 3, 1).reshape(out, incoming)
            layers[name][0] = kernel.T
    return layers


def _from_variables(variables: Mapping[str, npt.NDArray[Any]], path: Path) -> Weights:
    """Group ``conv1_1/w`` and ``conv1_1/b``; optimizers' slots and counters are left out."""
    layers: Weights = {}
    for name, values in variables.items():
        match = re.fullmatch(r"([^/]+)/(w|b|weights|biases)(:0)?", name)
        if match:
            slot = 0 if match[2].startswith("w") else 1
            layers.setdefault(match[1], [np.empty(0), np.empty(0)])[slot] = np.asarray(values, np.float32)
    for name, (kernel, bias) in layers.items():
        if kernel.ndim != 4 or bias.shape != kernel.shape[-1:]:
            raise WeightsError(
                f"weights {path}: layer {name}: expected a kernel (height, width, in, out) and its bias, got "
                f"{kernel.shape} and {bias.shape}"
            )
    if not layers:
        some = ", ".join(sorted(variables)[:4]) or "nothing"
        raise WeightsError(f"weights {path}: expected variables named like conv1_1/w and conv1_1/b, got {some}")
    return layers
