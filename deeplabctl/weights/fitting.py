"""Fit the layers of a weight file to an architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network.initialization import new_layer
from deeplabctl.network.layers import DEFAULT_ARCHITECTURE, KernelShapes, Weights, convolutions, weight_shapes
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.reading import WeightFile
from deeplabctl.weights.surgery import has_fully_connected, vgg_to_largefov


@dataclass(frozen=True)
class Network:
    """Hold a network as arrays: facts and weights of every layer, ready to be built."""

    info: ModelInfo
    weights: Weights
    new_layers: list[str]  # start random: they are not in the file, or its classifier has another class count
    notes: list[str]  # what was done to the layers of the file, in words
    classes_in_file: int | None  # of the file's classifier; None without one


def fit_weights(
    file: WeightFile,
    *,
    architecture: str | None = None,
    num_classes: int | None = None,
    width: float | None = None,
    seed: int = 0,
) -> Network:
    """Fit the layers of a file to an architecture.

    Architecture, width and class count are the file's, where they are not given; without a classifier there are VOC's
    21 classes. Layers that are not in the file, and a classifier of another class count, start random (`new_layer`).
    Class names are those in the file, else VOC's for 21 classes, else numbers. Raises WeightsError, with an entry for
    each layer that does not fit, for other shapes, unknown layers and numbers that are not finite.
    """
    architecture = architecture or (file.info.architecture if file.info else DEFAULT_ARCHITECTURE)
    layers, notes = _map_layers(file, architecture, seed)
    classifier = convolutions(architecture)[-1].name
    classes_in_file = next(iter(layers[classifier][0].shape[-1:]), None) if classifier in layers else None
    if num_classes is None:
        num_classes = classes_in_file or len(VOC_CLASSES)
    if width is None:
        shapes = {name: arrays[0].shape for name, arrays in layers.items()}
        width = file.info.width if file.info else width_of(shapes, architecture, file.path)
    weights, new_layers = _complete(layers, architecture, num_classes, width, seed, file.path)
    if file.info is not None and len(file.info.classes) == num_classes:
        classes, provenance = file.info.classes, file.info.provenance
    else:
        classes, provenance = _default_classes(num_classes), source_of(file)
    info = ModelInfo(classes, architecture, width, provenance)
    return Network(info, weights, new_layers, notes, classes_in_file)


def source_of(file: WeightFile) -> dict[str, str]:
    """Return the provenance of weights from a file."""
    return {"source": f"{file.path.name} ({file.format.value})"}


def width_of(shapes: KernelShapes, architecture: str, path: Path) -> float:
    """Return the width of a network by the channels of its widest layer; raises WeightsError for another network."""
    known = [
        conv for conv in convolutions(architecture)
        if conv.name in shapes and not conv.classifier and len(shapes[conv.name]) == 4
    ]  # fmt: skip
    if not known:
        have = ", ".join(shapes) or "none"
        raise WeightsError(f"weights {path}: expected layers conv1_1 to fc7, got {have[:200]}; this is another network")
    widest = max(known, key=lambda conv: conv.channels)
    return float(shapes[widest.name][-1] / widest.channels)


def _map_layers(file: WeightFile, architecture: str, seed: int) -> tuple[Weights, list[str]]:
    """Return the layers as the architecture names and shapes them, and notes of what was changed.

    VGG-16's fully connected layers become convolutions; the classifier may have any name. Layers that the architecture
    does not know stay, for `_complete` to refuse.
    """
    layers, notes = dict(file.layers), []
    if has_fully_connected(layers):
        layers, note = vgg_to_largefov(layers, seed, str(file.path))
        notes.append(note)
    *_, before, classifier = (conv.name for conv in convolutions(architecture))
    known = {conv.name for conv in convolutions(architecture)}
    others = [name for name in layers if name not in known]
    if classifier not in layers and len(others) == 1 and before in layers:
        kernel = layers[others[0]][0]
        if kernel.ndim == 4 and kernel.shape[:3] == (1, 1, layers[before][0].shape[-1]):
            layers[classifier] = layers.pop(others[0])
            notes.append(f"{others[0]} is used as the classifier {classifier}")
    return layers, notes


def _complete(
    layers: Weights, architecture: str, num_classes: int, width: float, seed: int, path: Path
) -> tuple[Weights, list[str]]:
    """Return weights of every layer, and the names of those that start random."""
    shapes = weight_shapes(architecture, num_classes, width)
    classifier = convolutions(architecture)[-1].name
    if num_classes > IGNORE_LABEL:
        raise WeightsError(f"weights {path}: expected at most {IGNORE_LABEL} classes, got {num_classes}")
    wrong = [f"+ {name} (unexpected)" for name in layers if name not in shapes]
    weights: Weights = {}
    new: list[str] = []
    for index, (name, shape) in enumerate(shapes.items()):
        given = layers.get(name)
        if given is None or (name == classifier and given[0].shape[-1:] != (num_classes,)):
            weights[name] = new_layer(shape, seed, index)
            new.append(name)
        elif [array.shape for array in given] != [shape, shape[-1:]]:
            wrong.append(f"- {name}: expected {shape}, got {given[0].shape}")
        elif not all(np.isfinite(array).all() for array in given):
            wrong.append(f"- {name}: expected finite numbers, got some that are not; the training had diverged")
        else:
            weights[name] = given
    if wrong or len(new) == len(shapes):
        raise WeightsError(
            f"weights {path} do not fit {architecture} of width {width:g}: {'; '.join(wrong or ['no layer'])}"
        )
    return weights, new


def _default_classes(count: int) -> tuple[str, ...]:
    return VOC_CLASSES if count == len(VOC_CLASSES) else tuple(f"class {number}" for number in range(count))
