"""Read the layers of Keras' weight files: our own networks, and VGG-16 of keras.applications."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from deeplabctl.caffe.hdf5 import MAX_EXPANSION
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import DEFAULT_ARCHITECTURE, KernelShapes, Weights, convolutions
from deeplabctl.weights.formats import DAMAGED_ZIP, ZIP

T = TypeVar("T")

_VGG_CONVOLUTIONS = [
    f"conv{block}_{index}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)
]
VGG_LAYERS = [*_VGG_CONVOLUTIONS, "fc6", "fc7", "fc8"]  # in the order of Keras' model

# What h5py raises for damaged files.
_DAMAGED_HDF5 = (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, AssertionError)


def read_keras_layers(path: Path, architecture: str = DEFAULT_ARCHITECTURE) -> Weights:
    """Read a ``.keras`` or an HDF5 file of the architecture, or of VGG-16 with or without its dense layers.

    A dense layer's kernel is (in, out). Raises WeightsError for damaged files and other networks.
    """
    return _read(path, architecture, lambda dataset: dataset[()])


def read_keras_shapes(path: Path, architecture: str = DEFAULT_ARCHITECTURE) -> KernelShapes:
    """Return the kernel shapes of the layers that `read_keras_layers` returns, without reading their arrays."""
    return {name: shapes[0] for name, shapes in _read(path, architecture, lambda dataset: dataset.shape).items()}


def _read(path: Path, architecture: str, read: Callable[[Any], T]) -> dict[str, list[T]]:
    """Return what ``read`` makes of the datasets of each layer's kernel and bias."""
    import h5py

    try:
        with _hdf5_file(path) as file, h5py.File(file) as root:
            if "layers" in root and isinstance(root["layers"], h5py.Group):
                found = _keras3_layers(root["layers"])
            else:
                found = _legacy_layers(root.get("model_weights", root))
            named = _with_names(found, architecture, path)
            _check_datasets(path, root, named)
            return {name: [read(dataset) for dataset in pair] for name, pair in named.items()}
    except _DAMAGED_HDF5 as error:
        raise WeightsError(f"weights {path}: the HDF5 file cannot be read ({error})") from None


def _check_datasets(path: Path, root: Any, named: dict[str, list[Any]]) -> None:
    """Raise WeightsError for arrays that lie in other files, or claim far more than this one has."""
    claimed = 0
    for name, pair in named.items():
        for dataset in pair:
            claimed += dataset.nbytes
            if dataset.file != root or dataset.external or dataset.is_virtual or dataset.dtype.kind != "f":
                raise WeightsError(f"weights {path}: layer {name}: expected floats in the file itself, got others")
    if claimed > MAX_EXPANSION * path.stat().st_size:
        raise WeightsError(f"weights {path}: the file is damaged: it claims {claimed} bytes of weights")


def _hdf5_file(path: Path) -> BinaryIO:
    """Open an HDF5 file, or the one in a ``.keras`` archive."""
    file = path.open("rb")
    if file.read(len(ZIP)) != ZIP:
        return file
    with file:
        try:
            archive = zipfile.ZipFile(file)
            if (size := archive.getinfo("model.weights.h5").file_size) > MAX_EXPANSION * path.stat().st_size:
                raise ValueError(f"model.weights.h5 of {size} bytes")
            return BytesIO(archive.read("model.weights.h5"))
        except DAMAGED_ZIP as error:
            raise WeightsError(f"weights {path}: the file is damaged ({error}); get it again") from None


def _with_names(found: list[list[Any]], architecture: str, path: Path) -> dict[str, list[Any]]:
    """Name the layers of a file by their order: convolutions first, then dense layers."""
    convs = [pair for pair in found if pair[0].ndim == 4]
    dense = [pair for pair in found if pair[0].ndim == 2]
    names = [conv.name for conv in convolutions(architecture)]
    if len(convs) == len(names) and not dense:
        return dict(zip(names, convs, strict=True))
    if len(convs) != len(_VGG_CONVOLUTIONS) or len(dense) not in (0, 3):
        raise WeightsError(
            f"weights {path}: expected VGG-16's 13 convolutions, with or without its three dense layers, got "
            f"{len(convs)} and {len(dense)}"
        )
    return dict(zip(VGG_LAYERS, convs + dense, strict=False))


def _keras3_layers(group: Any) -> list[list[Any]]:
    """Return the datasets of [kernel, bias] in the layers' order: conv2d, conv2d_1, ..., then dense, dense_1, ..."""

    def order(name: str) -> tuple[str, int]:
        match = re.fullmatch(r"(.*?)_?(\d+)?", name)
        assert match is not None
        return match[1], int(match[2] or 0)

    with_weights = [name for name in group if "vars" in group[name] and {"0", "1"} <= set(group[name]["vars"])]
    return [[group[name]["vars"][key] for key in ("0", "1")] for name in sorted(with_weights, key=order)]


def _legacy_layers(group: Any) -> list[list[Any]]:
    """Return the datasets of [kernel, bias] in the order of ``layer_names``."""
    layers = []
    for name in group.attrs["layer_names"]:
        layer = group[name]
        names = layer.attrs["weight_names"]
        if len(names) == 2:
            layers.append([layer[weight] for weight in names])
    return layers
