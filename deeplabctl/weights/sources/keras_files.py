"""Read the weights of Keras' files: networks of keras.applications, bonlime's DeepLab v3+, and our own model files.

A model file is an ordinary Keras 3 archive, float32, that plain ``keras.saving.load_model`` opens without deeplabctl,
with one more zip entry, ``deeplabctl.json`` (see `ModelInfo`). Our names of Keras' layers, and the differences between
its ResNet-101 and ours, are below the readers.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from deeplabctl.caffe.caffemodel import SIGNATURE
from deeplabctl.damage import DAMAGED, check_claim
from deeplabctl.errors import WeightsError
from deeplabctl.files import whole_file
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE, Weights, layer_of
from deeplabctl.network.keras_model import check_model
from deeplabctl.network.ops.norm import NORM_EPSILON, NORM_PARTS
from deeplabctl.weights.model_info import INFO_ENTRY, ModelInfo, info_entry
from deeplabctl.weights.weight_file import ZIP, WeightFile

if TYPE_CHECKING:
    import keras

_LARGEST_CONFIG = 4 << 20  # bytes; that of ResNet-101 has some hundred thousands
_PARTS = {2: ("kernel", "bias"), 1: ("kernel",), 4: NORM_PARTS}  # by the number of a layer's arrays


class KerasArchive(WeightFile):
    """Hold a ``.keras`` file of VGG-16, ResNet-101 or MobileNet v2, with or without classifiers, or of DeepLab v3+."""

    words = "Keras model file (.keras)"
    suffix = ".keras"
    entries = frozenset({"config.json", "model.weights.h5"})

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return the dilations of our own networks' layers that plain Keras saved; none where all are 1."""
        found = {layer.name: layer.dilations for layer in _layer_settings(self.path) if layer.dilations}
        return found if any(max(dilations) > 1 for dilations in found.values()) else {}

    @cached_property
    def epsilons(self) -> Mapping[str, float]:
        """Return the epsilons of the norms; of files of weights alone, and Keras' own ResNets, none is known here."""
        return {
            name: layer.epsilon
            for layer in _layer_settings(self.path)
            if layer.epsilon is not None and layer.epsilon != _RESNET_EPSILON and (name := _our_name(layer.name))
        }

    def _read_weights(self) -> Weights:
        import h5py

        names = _names_in_config(self.path)
        with _hdf5_file(self.path) as file, h5py.File(file) as root:
            if "layers" in root and isinstance(root["layers"], h5py.Group):
                layers = _keras3_layers(root["layers"], names)
            else:
                layers = _legacy_layers(root.get("model_weights", root))
            found = _with_names(layers, self.path)
            _check_datasets(self.path, root, found)
            return _without_biases({name: dataset[()] for name, dataset in found.items()})


class KerasHdf5(KerasArchive):
    """Hold an HDF5 file of Keras: the same networks, of Keras 3 or older ones."""

    words = "Keras weights (HDF5)"
    suffix = ".h5"
    entries, begins = frozenset(), re.compile(re.escape(SIGNATURE))  # Caffe's HDF5 files are recognized before


class _Layer(NamedTuple):
    name: str  # "" where the file does not tell
    datasets: list[Any]


def _check_datasets(path: Path, root: Any, found: dict[str, Any]) -> None:
    """Raise WeightsError for arrays that lie in other files, or claim far more than this one has."""
    claimed = 0
    for name, dataset in found.items():
        claimed += dataset.nbytes
        if dataset.file != root or dataset.external or dataset.is_virtual or dataset.dtype.kind != "f":
            layer = layer_of(name)
            raise WeightsError(f"weights {path}: layer {layer}: expected floats in the file itself, got others")
    check_claim(path, claimed)


def _with_names(layers: Sequence[_Layer], path: Path) -> dict[str, Any]:
    """Return the datasets by our names: by the names that the file gives, else by the order of the layers."""
    names = [_our_name(layer.name, layer.datasets[0].shape) for layer in layers]
    if not all(names):
        kinds = [[layer for layer in layers if layer.datasets[0].ndim == axes] for axes in (4, 1, 2)]
        ordered = _in_order(*map(len, kinds))
        if ordered is None:
            convs, norms, dense = map(len, kinds)
            raise WeightsError(
                f"weights {path}: expected VGG-16's 13 convolutions, with or without its three dense layers, "
                "ResNet-101's 104 with their norms, or the layers of MobileNet v2 or DeepLab v3+ with their names, got "
                f"{convs} convolutions, {norms} norms and {dense} dense layers"
            )
        layers, names = [layer for kind in kinds for layer in kind], [name for part in ordered for name in part]
    if len(set(names)) < len(names):
        raise ValueError("several of its layers have one name")
    return {
        f"{name}/{part}": dataset
        for name, layer in zip(names, layers, strict=True)
        for part, dataset in zip(_PARTS[len(layer.datasets)], layer.datasets, strict=True)
    }


def _keras3_layers(group: Any, names: dict[str, str]) -> list[_Layer]:
    """Return the layers with arrays in their order: conv2d, conv2d_1, ..., then dense, dense_1, ..."""

    def order(name: str) -> Any:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]

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
    if "layer_names" not in group.attrs:
        raise ValueError("it has none of the lists of layers that Keras writes; another program wrote it")
    for name in group.attrs["layer_names"]:
        layer = group[name]
        weights = layer.attrs["weight_names"]
        if len(weights) in _PARTS:
            text = name.decode() if isinstance(name, bytes) else str(name)
            found.append(_Layer(text, [layer[weight] for weight in weights]))
    return found


class _Settings(NamedTuple):
    kind: str  # Keras' class
    name: str
    dilations: tuple[int, ...]
    epsilon: float | None


def _layer_settings(path: Path) -> list[_Settings]:
    """Return the settings of each layer of a model's configuration; none where it is not there or cannot be read."""
    try:
        layers = json.loads(_config(path))["config"]["layers"]
        return [_settings(str(layer["class_name"]), layer["config"]) for layer in layers]
    except DAMAGED:
        return []


def _settings(kind: str, config: Mapping[str, Any]) -> _Settings:
    dilations = tuple(map(int, config.get("dilation_rate") or ()))
    epsilon = float(config["epsilon"]) if kind == "BatchNormalization" else None
    return _Settings(kind, str(config["name"]), dilations, epsilon)


def _config(path: Path) -> bytes | str:
    """Return the configuration of a ``.keras`` archive, or of a whole model in HDF5; raises what `DAMAGED` lists."""
    import h5py

    if not zipfile.is_zipfile(path):
        with h5py.File(path) as root:
            found: bytes | str = root.attrs["model_config"]
        return found
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
            raise ValueError
        return archive.read("config.json")


def _names_in_config(path: Path) -> dict[str, str]:
    """Return the layers' names by their groups in the weights, as a ``.keras`` archive's configuration tells them.

    Keras numbers the groups of each class of layers; newer versions also write the names into the weights.
    """
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for layer in _layer_settings(path):
        key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", layer.kind).lower()
        names[f"{key}_{counts[key]}" if counts[key] else key] = layer.name
        counts[key] += 1
    return names


def _hdf5_file(path: Path) -> BinaryIO:
    """Open an HDF5 file, or the one in a ``.keras`` archive."""
    file = path.open("rb")
    if file.read(len(ZIP)) != ZIP:
        return file
    with file, zipfile.ZipFile(file) as archive:
        check_claim(path, archive.getinfo("model.weights.h5").file_size)
        return BytesIO(archive.read("model.weights.h5"))


def weights_of_model(model: keras.Model) -> Weights:
    """Return the weights of a model of keras.applications, with our names."""
    found: Weights = {}
    for layer in model.layers:
        arrays = layer.get_weights()
        name = arrays and _our_name(layer.name, arrays[0].shape)
        found |= {f"{name}/{variable.name}": array for variable, array in zip(layer.weights, arrays, strict=True)}
    return _without_biases(found)


_VGG_CONVOLUTIONS = [
    f"conv{block}_{index}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)
]
_VGG_DENSE = ["fc6", "fc7", "fc8"]
_RESNET_TOP = "fc1000"  # the authors' name of ResNet's ImageNet classifier

_MOBILENET_TOP = "predictions"
_MOBILENET_TOP_INPUTS = (1280, 1664, 1792)  # of width 1.0 or less, 1.3 and 1.4

# Keras' MobileNet v2 and bonlime/keras-deeplab-v3-plus: pairs of a pattern and what it is in our names.
_V3_NAMES = (
    (r"^bn_(Conv1)$", r"\1_BN"),
    (r"^Conv1(?=$|_BN$)", "Conv"),
    (r"^block_(?=\d+_)", "expanded_conv_"),
    (r"^(?=feature_projection0|decoder_conv\d)", "decoder_"),
    (r"^custom_(?=logits_semantic$)", ""),
    (r"^middle_flow_(?=unit)", "middle_flow_block1_"),
    (r"^(entry_flow_block\d|exit_flow_block\d)_(?=separable|shortcut)", r"\1_unit_1_"),
    (r"_(BN|bn)$", "_BatchNorm"),
)
_MOBILENET_LAST = ("Conv_1", "Conv_1_BatchNorm")  # which DeepLab leaves out

_RESNET_BRANCHES = {"0": "branch1", "1": "branch2a", "2": "branch2b", "3": "branch2c"}
_RESNET_EPSILON = 1.001e-5  # of Keras' ResNet


def _our_name(name: str, kernel: Sequence[int] = ()) -> str:
    """Return our name of a layer of our networks or of Keras'; "" for any other.

    The inputs of Keras' ImageNet classifier, ``predictions``, tell whose it is; by any others it is VGG-16's.
    """
    if name == "predictions" and kernel:
        return _RESNET_TOP if kernel[0] == 2048 else _MOBILENET_TOP if kernel[0] in _MOBILENET_TOP_INPUTS else "fc8"
    if name in _known():
        return name
    if match := re.fullmatch(r"block(\d)_conv(\d)", name):
        return f"conv{match[1]}_{match[2]}"
    if match := re.fullmatch(r"conv(\d)_block(\d+)_([0-3])_(conv|bn)", name):
        stage, block = match[1], int(match[2])
        letter = "a" if block == 1 else f"b{block - 1}" if stage in "34" else "abc"[min(block - 1, 2)]
        return f"{'res' if match[4] == 'conv' else 'bn'}{stage}{letter}_{_RESNET_BRANCHES[match[3]]}"
    if name in (others := {"fc1": "fc6", "fc2": "fc7", "conv1_conv": "conv1", "conv1_bn": "bn_conv1"}):
        return others[name]
    for pattern, ours in _V3_NAMES:
        name = re.sub(pattern, ours, name)
    return name if name in _known() or name in _MOBILENET_LAST else ""


def _in_order(convs: int, norms: int, dense: int) -> tuple[list[str], list[str], list[str]] | None:
    """Return the names of the convolutions, norms and dense layers of a file that gives no names, by their counts.

    None for an unknown network.
    """
    ours = [conv.name for conv in ARCHITECTURES[DEFAULT_ARCHITECTURE].convolutions]
    if (convs, norms, dense) == (len(ours), 0, 0):
        return ours, [], []
    if convs == len(_VGG_CONVOLUTIONS) and norms == 0 and dense in (0, len(_VGG_DENSE)):
        return _VGG_CONVOLUTIONS, [], _VGG_DENSE[:dense]
    names = [[_our_name(f"{name}_{kind}") for name in _resnet_order()] for kind in ("conv", "bn")]
    if (convs, norms) == (len(names[0]), len(names[1])) and dense in (0, 1):
        return names[0], names[1], [_RESNET_TOP][:dense]
    return None


def _without_biases(weights: Weights) -> Weights:
    """Move the biases of convolutions into the norms that follow them.

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
        found[mean] = np.asarray(found[mean] - found.pop(name), np.float32)
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
    return frozenset(layer_of(name) for network in ARCHITECTURES.values() for name in network.weight_shapes(1))


class ModelFile(KerasArchive):
    """Hold a model file that deeplabctl wrote."""

    words = "deeplabctl model file (.keras)"
    entries = frozenset({INFO_ENTRY})

    def _read_info(self) -> ModelInfo:
        with zipfile.ZipFile(self.path) as archive:
            return ModelInfo.from_json(info_entry(archive), self.path)


def save_model(path: str | Path, model: keras.Model, info: ModelInfo) -> None:
    """Write a model file whole or not at all; raises ValueError for facts of another model."""
    check_model(model, info.architecture, len(info.classes), info.width)
    with whole_file(Path(path)) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(INFO_ENTRY, info.to_json())
