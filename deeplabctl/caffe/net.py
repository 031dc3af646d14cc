"""Hold the layers of a Caffe net, and convert their blobs to kernels and biases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError

CONVOLUTION, INNER_PRODUCT = "Convolution", "InnerProduct"


@dataclass(frozen=True, eq=False)
class CaffeLayer:
    """Hold a layer: its name, its type as V2 writes it ('Convolution'; empty in HDF5), and its blobs as stored.

    Blobs are float32 or, from a double net, float64; read-only views of the file where it allows. Kernels are
    (out, in, height, width); a bias is (1, 1, 1, out) in V1 and (out,) in V2 and HDF5.
    """

    name: str
    type: str
    blobs: tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class CaffeNet:
    """Hold what a weight file of Caffe contains; ``version`` is 'V1' (``layers``), 'V2' (``layer``) or 'HDF5'."""

    path: Path
    name: str
    version: str
    layers: tuple[CaffeLayer, ...]


def convolution_weights(net: CaffeNet) -> dict[str, list[npt.NDArray[Any]]]:
    """Return {layer name: [kernel, bias]} of the layers that have blobs, all float32 copies, in the net's order.

    A convolution's kernel is HWIO; an InnerProduct's matrix is (out, in), as stored. A missing bias (``bias_term:
    false``) is returned as zeros. Of layers with the same name the last one counts, as when Caffe loads them. Blobs of
    other types of layers are returned as stored, so that the caller can name the layers. Raises WeightsError for blobs
    that are not a kernel and a bias, and for numbers that are not finite: each would make every logit NaN.
    """
    return {
        layer.name: [_finite(blob, net, layer, index) for index, blob in enumerate(_kernel_and_bias(net, layer))]
        for layer in net.layers
        if layer.blobs
    }


def kernel_shapes(net: CaffeNet) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the kernels that `convolution_weights` returns, without reading any values."""
    return {layer.name: _kernel_and_bias(net, layer)[0].shape for layer in net.layers if layer.blobs}


def _kernel_and_bias(net: CaffeNet, layer: CaffeLayer) -> list[npt.NDArray[Any]]:
    """Return views of a layer's blobs, the kernel of a convolution as HWIO."""
    where = f"weights {net.path}: layer {layer.name}"
    blobs = layer.blobs
    matrix = layer.type == INNER_PRODUCT or (not layer.type and blobs[0].ndim == 2)
    if not matrix and layer.type not in (CONVOLUTION, ""):
        return list(blobs)
    shapes = " and ".join(str(blob.shape) for blob in blobs)
    kernel = blobs[0]
    if matrix and kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    if len(blobs) > 2 or kernel.ndim != (2 if matrix else 4) or not kernel.size:
        raise WeightsError(f"{where}: expected a kernel and a bias, got blobs of shape {shapes}")
    if len(blobs) == 2 and blobs[1].size != kernel.shape[0]:
        raise WeightsError(f"{where}: expected a bias of {kernel.shape[0]} values, got blobs of shape {shapes}")
    bias = blobs[1].reshape(-1) if len(blobs) == 2 else np.zeros(kernel.shape[0], np.float32)
    return [kernel if matrix else kernel.transpose(2, 3, 1, 0), bias]


def _finite(blob: npt.NDArray[Any], net: CaffeNet, layer: CaffeLayer, index: int) -> npt.NDArray[Any]:
    """Return a float32 copy in C order."""
    with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite, and is refused
        values = np.array(blob, np.float32, order="C")
    wrong = values.size - np.count_nonzero(np.isfinite(values))
    if wrong:
        raise WeightsError(
            f"weights {net.path}: layer {layer.name}, blob {index}: expected finite numbers, "
            f"got {wrong} of {values.size} that are not; "
            "the training diverged or the file is damaged: take an earlier snapshot"
        )
    return values
