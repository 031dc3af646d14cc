"""Read weights of any origin as layers of our table.

Everything is mapped by layer name and shape; what a file says of geometry does not matter here.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe import convolution_weights, read_caffemodel
from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import Weights, convolutions, weight_shapes
from deeplabctl.weights.fitting import DAMAGED_ZIP, ModelInfo, fit_weights, model_file, read_info
from deeplabctl.weights.formats import Format, identify
from deeplabctl.weights.pickles import read_pickled_arrays
from deeplabctl.weights.tf_checkpoint import checkpoint_prefix, read_checkpoint

_VGG_CONVOLUTIONS = [
    f"conv{block}_{index}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)
]
VGG_LAYERS = [*_VGG_CONVOLUTIONS, "fc6", "fc7", "fc8"]


@dataclass(frozen=True)
class Network:
    """Hold a whole network as a file has it: ready to be built."""

    info: ModelInfo
    weights: Weights
    said: list[str]  # what was done to the weights, in words


@dataclass(frozen=True)
class Origin:
    """Hold what a weight file contains, by the layer names of the table where they are known.

    A kernel is HWIO, or (in, out) for a fully connected layer whose inputs are flattened height, width, channel.
    """

    path: Path
    format: Format
    layers: Weights


def read_network(path: Path) -> Network:
    """Read a whole network from a weight file of any format, or from a run directory.

    Names and architecture are those that our own files tell; others get VOC's names where they have 21 classes. Raises
    WeightsError for a file without a classifier, or one that does not fit.
    """
    path = model_file(path)
    origin = read_origin(path)
    info = read_info(path) if origin.format is Format.OURS else None
    architecture = info.architecture if info else "largefov"
    layers, said = to_architecture(origin, architecture, seed=0)
    classifier = convolutions(architecture)[-1].name
    if classifier not in layers:
        raise WeightsError(
            f"weights {path}: expected a whole network, got layers without a classifier ({', '.join(layers)}); "
            "train one from them: deeplabctl train --init FILE"
        )
    num_classes = layers[classifier][0].shape[-1]
    width = info.width if info else width_of(layers, architecture, path)
    weights, new = fit_weights(layers, architecture, num_classes, width, seed=0, source=str(path))
    if info is not None and len(info.classes) != num_classes:
        raise WeightsError(f"weights {path}: expected a classifier of {len(info.classes)} classes, got {num_classes}")
    if new:
        raise WeightsError(f"weights {path}: expected a whole network, got one without {', '.join(new)}")
    if info is None:
        names = default_classes(origin, num_classes)
        info = ModelInfo(names, architecture, width, {"source": f"{path.name} ({origin.format.value})"})
    return Network(info, weights, said)


def default_classes(origin: Origin, count: int) -> tuple[str, ...]:
    """Return the names that a file tells, else VOC's where there are 21 classes, else numbers."""
    if origin.format is Format.OURS and len(names := read_info(origin.path).classes) == count:
        return names
    return VOC_CLASSES if count == len(VOC_CLASSES) else tuple(f"class {number}" for number in range(count))


def width_of_start(init: str, width: float | None) -> float:
    """Return the width of a net that starts from ``init``; raises WeightsError if another ``width`` is asked for."""
    if init == "random":
        return 1.0 if width is None else width
    found = 1.0 if init == "imagenet" else _width_of_file(model_file(Path(init)))
    if width is not None and weight_shapes("largefov", 2, width) != weight_shapes("largefov", 2, found):
        raise WeightsError(
            f"init {init}: expected weights of width {width:g}, got width {found:g}; "
            "leave the width out, or start from nothing (--init random)"
        )
    return found


def _width_of_file(path: Path) -> float:
    origin = read_origin(path)
    return read_info(path).width if origin.format is Format.OURS else width_of(origin.layers, "largefov", path)


def width_of(layers: Weights, architecture: str, path: Path) -> float:
    """Return the width that the channels tell, those of the widest layer best; raises WeightsError where none do."""
    known = [
        conv for conv in convolutions(architecture)
        if conv.name in layers and not conv.classifier and layers[conv.name][0].ndim == 4
    ]  # fmt: skip
    if not known:
        have = ", ".join(layers) or "none"
        raise WeightsError(f"weights {path}: expected layers conv1_1 to fc7, got {have[:200]}; this is another network")
    widest = max(known, key=lambda conv: conv.channels)
    return float(layers[widest.name][0].shape[-1] / widest.channels)


def read_origin(path: Path) -> Origin:
    """Read a weight file of any format; raises WeightsError for what cannot be read."""
    format_ = identify(path)
    if format_ is Format.CAFFE:
        layers = _from_caffe(path)
    elif format_ is Format.PICKLE:
        layers = _from_variables(read_pickled_arrays(path), path)
    elif format_ is Format.TENSORFLOW:
        layers = _from_variables(read_checkpoint(checkpoint_prefix(path) or path), path)
    elif format_ is Format.KERAS_H5:
        with path.open("rb") as file:
            layers = _from_keras(file, path)
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                content = BytesIO(archive.read("model.weights.h5"))
        except DAMAGED_ZIP as error:
            raise WeightsError(f"weights {path}: the file is damaged ({error}); get it again") from None
        layers = _from_keras(content, path)
    return Origin(path, format_, layers)


def to_architecture(origin: Origin, architecture: str, seed: int) -> tuple[Weights, list[str]]:
    """Return the layers as the architecture names and shapes them, and what was done to them, in words.

    The classifier may have any name and class count. VGG-16's fully connected layers become LargeFOV's by the paper's
    surgery (see `decimate_classifier`), and its ImageNet classifier is left out. Layers that the architecture does not
    know stay, for `fit_weights` to refuse.
    """
    layers, said = dict(origin.layers), []
    fc6 = layers.get("fc6")
    if fc6 is not None and fc6[0].ndim == 2:
        fc7 = layers.get("fc7")
        fits = fc7 is not None and [array.shape for array in (*fc6, *fc7)] == [
            (25088, 4096),
            (4096,),
            (4096, 4096),
            (4096,),
        ]
        if fc7 is None or not fits:
            raise WeightsError(
                f"weights {origin.path}: layer fc6: expected VGG-16's (25088, 4096) beside a fully connected fc7, "
                f"got {fc6[0].shape}"
            )
        layers["fc6"], layers["fc7"] = decimate_classifier(fc6, fc7, seed)
        layers.pop("fc8", None)
        said.append(
            f"fc6 and fc7: {layers['fc6'][0].shape[-1]} of {fc6[0].shape[-1]} filters chosen by seed {seed}, "
            "fc6's 7x7 kernel decimated to 3x3; the ImageNet classifier is left out"
        )
    classifier = convolutions(architecture)[-1].name
    known = {conv.name for conv in convolutions(architecture)}
    others = [name for name in layers if name not in known]
    last = layers.get(convolutions(architecture)[-2].name)
    if classifier not in layers and len(others) == 1 and last is not None:
        kernel = layers[others[0]][0]
        if kernel.ndim == 4 and kernel.shape[:3] == (1, 1, last[0].shape[-1]):
            layers[classifier] = layers.pop(others[0])
            said.append(f"{others[0]} is taken for the classifier {classifier}")
    return layers, said


def decimate_classifier(
    fc6: list[npt.NDArray[Any]], fc7: list[npt.NDArray[Any]], seed: int, filters: int = 1024
) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Make convolutions of VGG-16's fully connected fc6 (25088, 4096) and fc7 (4096, 4096), both (in, out).

    arXiv 1412.7062, section 3.1, and 1606.00915, section 4.1: of fc6's 7x7 kernel every third row and column is kept,
    and a random 1,024 of the 4,096 filters of each; fc7's inputs are the chosen filters of fc6.
    """
    rng = np.random.default_rng((seed, 6))
    first = np.sort(rng.choice(fc6[0].shape[1], filters, replace=False))
    second = np.sort(rng.choice(fc7[0].shape[1], filters, replace=False))
    kernel = fc6[0].reshape(7, 7, 512, -1)[::3, ::3][..., first]
    return [kernel, fc6[1][first]], [fc7[0][np.ix_(first, second)][None, None], fc7[1][second]]


def _from_caffe(path: Path) -> Weights:
    layers = convolution_weights(read_caffemodel(path))
    for name, (kernel, *_) in layers.items():
        if kernel.ndim == 2:  # InnerProduct: (out, in), in flattened channel, height, width
            out, incoming = kernel.shape
            if name == "fc6" and incoming == 512 * 7 * 7:
                kernel = kernel.reshape(out, 512, 7, 7).transpose(0, 2, 3, 1).reshape(out, incoming)
            layers[name][0] = kernel.T
    return layers


def _from_variables(variables: dict[str, npt.NDArray[Any]], path: Path) -> Weights:
    """Group ``conv1_1/w`` and ``conv1_1/b``; optimisers' slots and counters are left out."""
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


def _from_keras(file: BinaryIO, path: Path) -> Weights:
    """Read the weights of keras.applications' VGG16, in the older HDF5 layout or in Keras 3's."""
    import h5py

    try:
        with h5py.File(file) as root:
            if "layers" in root and isinstance(root["layers"], h5py.Group):
                found = _keras3_layers(root["layers"])
            else:
                found = _legacy_layers(root.get("model_weights", root))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, AssertionError) as error:
        raise WeightsError(f"weights {path}: the HDF5 file cannot be read ({error})") from None
    convs = [pair for pair in found if pair[0].ndim == 4]
    dense = [pair for pair in found if pair[0].ndim == 2]
    names = [conv.name for conv in convolutions("largefov")]
    if len(convs) == len(names) and not dense:
        return dict(zip(names, convs, strict=True))
    if len(convs) != len(_VGG_CONVOLUTIONS) or len(dense) not in (0, 3):
        raise WeightsError(
            f"weights {path}: expected VGG-16's 13 convolutions, with or without its three dense layers, got "
            f"{len(convs)} and {len(dense)}"
        )
    return dict(zip(VGG_LAYERS, convs + dense, strict=False))


def _keras3_layers(group: Any) -> list[list[npt.NDArray[Any]]]:
    """Return [kernel, bias] of the layers in their order: conv2d, conv2d_1, ... conv2d_10, then dense, dense_1, ..."""

    def order(name: str) -> tuple[str, int]:
        match = re.fullmatch(r"(.*?)_?(\d+)?", name)
        assert match is not None
        return match[1], int(match[2] or 0)

    with_weights = [name for name in group if "vars" in group[name] and {"0", "1"} <= set(group[name]["vars"])]
    return [[group[name]["vars"][key][()] for key in ("0", "1")] for name in sorted(with_weights, key=order)]


def _legacy_layers(group: Any) -> list[list[npt.NDArray[Any]]]:
    """Return [kernel, bias] of the layers in the order of ``layer_names``."""
    layers = []
    for name in group.attrs["layer_names"]:
        layer = group[name]
        names = layer.attrs["weight_names"]
        if len(names) == 2:
            layers.append([layer[weight][()] for weight in names])
    return layers
