"""Read the weights of Keras' files: our own networks, and VGG-16 and ResNet-101 of keras.applications."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from deeplabctl.caffe.hdf5 import MAX_EXPANSION
from deeplabctl.errors import WeightsError
from deeplabctl.network import Shapes, Weights
from deeplabctl.network.ops.norm import NORM_PARTS
from deeplabctl.weights.formats import DAMAGED_ZIP, ZIP
from deeplabctl.weights.keras_names import in_order, our_name, top_name, without_biases

T = TypeVar("T")

# What h5py raises for damaged files.
_DAMAGED_HDF5 = (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, AssertionError)
_LARGEST_CONFIG = 16 << 20  # bytes; that of ResNet-101 has some hundred thousands
_PARTS = {2: ("kernel", "bias"), 1: ("kernel",), 4: NORM_PARTS}  # by the number of a layer's arrays


class _Layer(NamedTuple):
    name: str  # "" where the file does not tell
    datasets: list[Any]


def read_keras_weights(path: Path) -> Weights:
    """Read a ``.keras`` or an HDF5 file of one of our networks, of VGG-16 or of ResNet-101, with or without their tops.

    A dense layer's kernel is (in, out). Raises WeightsError for damaged files and other networks.
    """
    return without_biases(_read(path, lambda dataset: dataset[()]))


def read_keras_shapes(path: Path) -> Shapes:
    """Return the shapes of the weights that `read_keras_weights` returns, without reading their arrays."""
    return without_biases(_read(path, lambda dataset: dataset.shape))


def _read(path: Path, read: Callable[[Any], T]) -> dict[str, T]:
    """Return what ``read`` makes of the dataset of each array."""
    import h5py

    try:
        names = _names_in_config(path)
        with _hdf5_file(path) as file, h5py.File(file) as root:
            if "layers" in root and isinstance(root["layers"], h5py.Group):
                layers = _keras3_layers(root["layers"], names)
            else:
                layers = _legacy_layers(root.get("model_weights", root))
            found = _with_names(layers, path)
            _check_datasets(path, root, found)
            return {name: read(dataset) for name, dataset in found.items()}
    except _DAMAGED_HDF5 as error:
        raise WeightsError(f"weights {path}: the HDF5 file cannot be read ({error})") from None


def _check_datasets(path: Path, root: Any, found: dict[str, Any]) -> None:
    """Raise WeightsError for arrays that lie in other files, or claim far more than this one has."""
    claimed = 0
    for name, dataset in found.items():
        claimed += dataset.nbytes
        if dataset.file != root or dataset.external or dataset.is_virtual or dataset.dtype.kind != "f":
            layer = name.rpartition("/")[0]
            raise WeightsError(f"weights {path}: layer {layer}: expected floats in the file itself, got others")
    if claimed > MAX_EXPANSION * path.stat().st_size:
        raise WeightsError(f"weights {path}: the file is damaged: it claims {claimed} bytes of weights")


def _with_names(layers: Sequence[_Layer], path: Path) -> dict[str, Any]:
    """Return the datasets by our names: by the names that the file gives, else by the order of the layers."""
    names = [our_name(layer.name) or top_name(layer.name, layer.datasets[0].shape) for layer in layers]
    if not all(names):
        kinds = [[layer for layer in layers if layer.datasets[0].ndim == axes] for axes in (4, 1, 2)]
        ordered = in_order(*map(len, kinds))
        if ordered is None:
            convs, norms, dense = map(len, kinds)
            raise WeightsError(
                f"weights {path}: expected VGG-16's 13 convolutions, with or without its three dense layers, or "
                f"ResNet-101's 104 with their norms, got {convs} convolutions, {norms} norms and {dense} dense layers"
            )
        layers, names = [layer for kind in kinds for layer in kind], [name for part in ordered for name in part]
    return {
        f"{name}/{part}": dataset
        for name, layer in zip(names, layers, strict=True)
        for part, dataset in zip(_PARTS[len(layer.datasets)], layer.datasets, strict=True)
    }


def _keras3_layers(group: Any, names: dict[str, str]) -> list[_Layer]:
    """Return the layers with arrays in their order: conv2d, conv2d_1, ..., then dense, dense_1, ..."""

    def order(name: str) -> tuple[str, int]:
        match = re.fullmatch(r"(.*?)_?(\d+)?", name)
        assert match is not None
        return match[1], int(match[2] or 0)

    found = []
    for key in sorted(group, key=order):
        arrays = group[key].get("vars", ())
        if len(arrays) in _PARTS and set(arrays) == set(map(str, range(len(arrays)))):
            name = str(arrays.attrs.get("name", names.get(key, "")))
            found.append(_Layer(name, [arrays[str(index)] for index in range(len(arrays))]))
    return found


def _legacy_layers(group: Any) -> list[_Layer]:
    """Return the layers with arrays in the order of ``layer_names``."""
    found = []
    for name in group.attrs["layer_names"]:
        layer = group[name]
        weights = layer.attrs["weight_names"]
        if len(weights) in _PARTS:
            text = name.decode() if isinstance(name, bytes) else str(name)
            found.append(_Layer(text, [layer[weight] for weight in weights]))
    return found


def _names_in_config(path: Path) -> dict[str, str]:
    """Return the layers' names by their groups in the weights, as a ``.keras`` archive's configuration tells them.

    Keras numbers the groups of each class of layers; newer versions also write the names into the weights. A
    configuration that cannot be read gives no names.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
                return {}
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        classes = [(str(layer["class_name"]), str(layer["config"]["name"])) for layer in layers]
    except (*DAMAGED_ZIP, RecursionError, AttributeError):
        return {}
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for class_, name in classes:
        key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_).lower()
        names[f"{key}_{counts[key]}" if counts[key] else key] = name
        counts[key] += 1
    return names


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
            raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"weights {path}: the file is damaged ({error}); get it again")
