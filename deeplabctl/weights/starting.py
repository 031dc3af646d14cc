"""Prepare the weights that a training starts from: random ones, those of ImageNet, or those of a file."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.classes import IGNORE_LABEL, other_order
from deeplabctl.errors import WeightsError
from deeplabctl.network import (
    ARCHITECTURES,
    DEFAULT_ARCHITECTURE,
    Weights,
    architecture_named,
    keras_model,
    layer_of,
    part_of,
)
from deeplabctl.network.ops import KERNEL
from deeplabctl.reporting import Reporter
from deeplabctl.weights.fitting import fit_weights
from deeplabctl.weights.locating import fetch_imagenet, open_weights
from deeplabctl.weights.sources.keras_files import KerasHdf5, weights_of_model
from deeplabctl.weights.weight_file import WeightFile

if TYPE_CHECKING:
    import keras

_NAMED = 3  # new layers, at most; of more there is a number
RANDOM, IMAGENET = "random", "imagenet"  # in place of the name of a weight file


class ImageNet(WeightFile):
    """Hold VGG-16, ResNet-101 or MobileNet v2 trained on ImageNet, as keras.applications has it.

    Its preprocessing is ours. VGG-16 comes with its classifier. It is downloaded once, by `fetch` or when its weights
    are first asked for (550 MB; ResNet-101 170 MB, MobileNet v2 9 MB). Raises WeightsError for an architecture that has
    no weights there.
    """

    words = KerasHdf5.words

    def __init__(self, architecture: str) -> None:
        super().__init__(Path("imagenet"))
        self._file: Path | None = None
        self._name = ARCHITECTURES[architecture].imagenet
        if not self._name:
            others = " or ".join(
                f"`init={name}`" for name in dict.fromkeys((ARCHITECTURES[architecture].start, RANDOM))
            )
            raise WeightsError(
                f"init: there are no ImageNet weights for {architecture}; start from a file, or from {others}"
            )

    def width(self, architecture: str) -> float:
        """Return 1, without a download."""
        return 1.0

    def fetch(self, report: Reporter | None = None) -> Path:
        """Return the file, without TensorFlow; raises what `fetch_published` raises."""
        self._file = self._file or fetch_imagenet(self._name, report)
        return self._file

    def _read_weights(self) -> Weights:
        file = str(self.fetch())
        import keras

        return weights_of_model(
            getattr(keras.applications, self._name)(include_top=self._name == "VGG16", weights=file)
        )


def open_start(init: str, architecture: str) -> WeightFile | None:
    """Open what a training starts from: "imagenet", a weight file, or a run directory; None for "random"."""
    if init == RANDOM:
        return None
    return ImageNet(architecture) if init == IMAGENET else open_weights(init)


def start_width(file: WeightFile | None, architecture: str, width: float | None = None) -> float:
    """Return the width of a network that starts from a file, or from random weights, without reading all of it.

    Raises WeightsError for a file that cannot be read, and if another ``width`` is asked for.
    """
    if file is None:
        return 1.0 if width is None else width
    found, shapes = file.width(architecture), ARCHITECTURES[architecture].weight_shapes
    if width is not None and shapes(2, width) != shapes(2, found):
        raise WeightsError(
            f"init {file.path}: expected weights of width {width:g}, got width {found:g}; "
            "leave the width out, or start from random weights (`init=random`)"
        )
    return found


def start_weights(
    file: WeightFile | None, architecture: str, classes: Sequence[str], width: float, seed: int
) -> tuple[Weights, list[str], list[str]]:
    """Return the weights to start from, the names of the layers that are random, and notes of what was done.

    The notes count layers, norms with the convolution before them, and name few new ones. A classifier of the same
    classes in another order is taken by their names. The arrays of the file are let go. Raises WeightsError for weights
    that do not fit.
    """
    num_classes = len(classes)
    if file is None:
        weights = ARCHITECTURES[architecture].random_weights(num_classes, width, seed)
        return weights, list(dict.fromkeys(map(layer_of, weights))), []
    network = fit_weights(file, architecture=architecture, num_classes=num_classes, width=width, seed=seed)
    file.release()
    kernels = {layer_of(name) for name in network.weights if part_of(name) == KERNEL}
    inputs, new = ARCHITECTURES[architecture].inputs, set(network.new_layers)
    listed = [layer for layer in network.new_layers if layer in kernels or inputs[layer][0] not in new]  # norms follow
    total, classifiers = len(kernels | {*listed}), ARCHITECTURES[architecture].classifiers
    taken = f"{total - len(listed)} of {total} layers" if listed else f"all {total} layers"
    names = ", ".join(f"the classifier {layer}" if layer in classifiers else layer for layer in listed)
    news = names if len(listed) <= _NAMED else f"{len(listed)} layers, which log.txt names"
    notes = [f"weights from {file.path}: {taken}", *([f"new and random: {news}"] if listed else [])]
    notes += [*network.notes, *network.assumed, *filter(None, [file.contradicts(architecture)])]
    weights = network.weights
    keeps_classifier, before = network.classes_in_file == num_classes, network.info.classes
    renamed = sum(name != known for name, known in zip(classes, before, strict=True)) if file.info else 0
    if keeps_classifier and (order := other_order(classes, before)):
        kept = {*classifiers} - new
        weights = {name: array[..., order] if layer_of(name) in kept else array for name, array in weights.items()}
        notes += ["its classes are the same in another order, and are matched by name"]
    elif keeps_classifier and renamed:
        notes += [f"its classifier is kept by number, though {renamed} of {num_classes} classes had other names"]
    return weights, network.new_layers, notes


def build_model(
    architecture: str = DEFAULT_ARCHITECTURE,
    num_classes: int = 21,
    *,
    width: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    new_classifier: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Build a network with its weights: a plain Keras model of stock layers, float32.

    It maps (N, H, W, 3) float32 images, prepared for this network (see `preprocess`), to logits (N, h, w, num_classes)
    at its output stride: (H - 1) / 8 + 1 rows for stride 8 and H = 8k + 1. H and W are any, but of v3+ 16k + 1 ("-os8":
    8k + 1). "resnet101" is built for one of its scales, and "msc-largefov" as it is trained; prediction does the rest.

    ``weights`` is a file of any format that deeplabctl reads, a run directory, the name of published weights, or
    "imagenet". Layers that it lacks start random, as at the start of a training: VGG-16's weights, for instance, have
    no classifier. With ``new_classifier`` a classifier of another number of classes does, too. Without ``weights`` all
    layers are random. Random weights depend on ``seed`` only. ``width`` multiplies the channels; by default it is that
    of the weights, or 1.

    Raises ValueError for arguments out of range, WeightsError for weights that do not fit or have another number of
    classes.
    """
    table = architecture_named(architecture)
    num_classes = operator.index(num_classes)
    if not 1 <= num_classes <= IGNORE_LABEL:
        raise ValueError(f"num_classes: expected 1 to {IGNORE_LABEL}, got {num_classes}")
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"width: expected a number above 0, got {width}")
    file = None if weights is None else open_start(os.fspath(weights), architecture)
    if file is None:
        width = 1.0 if width is None else width
        layers = table.random_weights(num_classes, width, seed)
    else:
        network = fit_weights(file, architecture=architecture, num_classes=num_classes, width=width, seed=seed)
        if not new_classifier and network.classes_in_file not in (None, num_classes):
            raise WeightsError(
                f"weights {file.path}: expected a classifier of {num_classes} classes, got {network.classes_in_file}; "
                f"give num_classes={network.classes_in_file}, or new_classifier=True to start it random"
            )
        if network.classes_in_file == num_classes and (text := file.contradicts(architecture)):
            raise WeightsError(f"architecture: {text}")
        width, layers = network.info.width, network.weights
    model = keras_model.zero_model(architecture, num_classes, width=width)
    keras_model.assign_weights(model, layers)
    return model
