"""Hold the layers of a Caffe net, and convert their blobs to weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights

CONVOLUTION, INNER_PRODUCT, BATCH_NORM, SCALE_LAYER = "Convolution", "InnerProduct", "BatchNorm", "Scale"

# In the names of the layers of a net of three scales: its second and third copy, which share the weights of the first.
SCALE_COPY = re.compile(r"_res0(5|75)(?=_|$)")


@dataclass(frozen=True, eq=False)
class CaffeLayer:
    """Hold a layer: its name, its type as V2 writes it ('Convolution'; empty in HDF5), and its blobs as stored.

    Blobs are float32 or, from a double net, float64; read-only views of the file where it allows. Kernels are
    (out, in, height, width); a bias is (1, 1, 1, out) in V1 and (out,) in V2 and HDF5. ``dilations`` are those that the
    file states for a V2 convolution, ``epsilon`` the one that it states for a norm.
    """

    name: str
    type: str
    blobs: tuple[npt.NDArray[Any], ...]
    dilations: tuple[int, ...] = ()
    epsilon: float | None = None


@dataclass(frozen=True, eq=False)
class CaffeNet:
    """Hold what a weight file of Caffe contains; ``version`` is 'V1' (``layers``), 'V2' (``layer``) or 'HDF5'."""

    path: Path
    name: str
    version: str
    layers: tuple[CaffeLayer, ...]


def is_renamed(classifier: str, layer: str) -> bool:
    """Tell whether a layer has a classifier's name for another data set than VOC: fc8_nyu40_2 for fc8_voc12_2."""
    return re.fullmatch(re.escape(classifier).replace("voc12", ".+"), layer) is not None


def net_weights(net: CaffeNet, dtype: npt.DTypeLike = np.float32) -> Weights:
    """Return {"layer/part": array} of the layers that have blobs, all copies of type ``dtype``, in the net's order.

    A convolution's kernel is HWIO; an InnerProduct's matrix is (out, in), as stored. A BatchNorm's sums are divided by
    its accumulated weight, and the gamma and beta of Scale, whose name begins with ``scale``, go to the layer whose
    name begins with ``bn``. Of layers with the same name the last one counts, as when Caffe loads them; the copies of a
    net of three scales must be equal. Blobs of other types of layers are returned as stored, by their numbers, so that
    the caller can name the layers. Raises WeightsError for blobs that are not those of their layer, and for numbers
    that are not finite: each would make every logit NaN.
    """
    found: Weights = {}
    for layer in _layers(net):
        for index, (name, blob) in enumerate(_parts(net, layer).items()):
            if _type(layer) == BATCH_NORM:
                total = _finite(layer.blobs[2], net, layer, 2, np.float64).item()
                blob = np.asarray(blob, np.float64) / total if total else np.zeros(blob.shape)
            found[name] = _finite(blob, net, layer, index, dtype)
    return found


def _layers(net: CaffeNet) -> Iterator[CaffeLayer]:
    """Yield the layers with blobs, each name once, without copies; raises WeightsError for a copy that differs."""
    last = {layer.name: layer for layer in net.layers if layer.blobs}
    for name, layer in last.items():
        original = last.get(SCALE_COPY.sub("", name), layer)
        if original is layer:
            yield layer
        elif len(layer.blobs) != len(original.blobs) or not all(
            np.array_equal(*pair, equal_nan=True) for pair in zip(layer.blobs, original.blobs, strict=True)
        ):
            raise WeightsError(
                f"weights {net.path}: layer {name}: expected the weights of {original.name}, which all scales share, "
                "got others; the file was changed after the training"
            )


def _parts(net: CaffeNet, layer: CaffeLayer) -> dict[str, npt.NDArray[Any]]:
    """Return views of a layer's blobs by the names of its weights, the kernel of a convolution as HWIO."""
    where, blobs, name = f"weights {net.path}: layer {layer.name}", layer.blobs, layer.name
    shapes = " and ".join(str(blob.shape) for blob in blobs)
    type_ = _type(layer)
    if type_ == BATCH_NORM:
        if len(blobs) != 3 or blobs[0].size != blobs[1].size or blobs[2].size != 1:
            raise WeightsError(f"{where}: expected means, variances and their weight, got blobs of shape {shapes}")
        return {f"{name}/moving_mean": blobs[0].reshape(-1), f"{name}/moving_variance": blobs[1].reshape(-1)}
    if type_ == SCALE_LAYER:
        if len(blobs) != 2 or blobs[0].size != blobs[1].size:
            raise WeightsError(f"{where}: expected a factor and a bias of each channel, got blobs of shape {shapes}")
        norm = re.sub("^scale", "bn", name)  # the inverse of `Norm.caffe_scale`
        return {f"{norm}/gamma": blobs[0].reshape(-1), f"{norm}/beta": blobs[1].reshape(-1)}
    if type_ not in (CONVOLUTION, INNER_PRODUCT):
        return {f"{name}/{index}": blob for index, blob in enumerate(blobs)}
    matrix, kernel = type_ == INNER_PRODUCT, blobs[0]
    if matrix and kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    if len(blobs) > 2 or kernel.ndim != (2 if matrix else 4) or not kernel.size:
        raise WeightsError(f"{where}: expected a kernel and a bias, got blobs of shape {shapes}")
    if len(blobs) == 2 and blobs[1].size != kernel.shape[0]:
        raise WeightsError(f"{where}: expected a bias of {kernel.shape[0]} values, got blobs of shape {shapes}")
    found = {f"{name}/kernel": kernel if matrix else kernel.transpose(2, 3, 1, 0)}
    return found | ({f"{name}/bias": blobs[1].reshape(-1)} if len(blobs) == 2 else {})


def _type(layer: CaffeLayer) -> str:
    """Return the type of a layer; an HDF5 file does not name it."""
    if layer.type:
        return layer.type
    if all(blob.ndim == 1 for blob in layer.blobs) and len(layer.blobs) in (2, 3):
        return SCALE_LAYER if len(layer.blobs) == 2 else BATCH_NORM
    return INNER_PRODUCT if layer.blobs[0].ndim == 2 else CONVOLUTION


def _finite(
    blob: npt.NDArray[Any], net: CaffeNet, layer: CaffeLayer, index: int, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return a copy in C order."""
    with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite, and is refused
        values = np.array(blob, dtype, order="C")
    wrong = values.size - np.count_nonzero(np.isfinite(values))
    if wrong:
        raise WeightsError(
            f"weights {net.path}: layer {layer.name}, blob {index}: expected finite numbers, "
            f"got {wrong} of {values.size} that are not; "
            "the training diverged or the file is damaged: take an earlier snapshot"
        )
    return values
