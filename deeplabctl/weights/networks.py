"""Read whole networks, and build them as Keras models."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE, keras_model, layer_of
from deeplabctl.weights.export_files import read_export
from deeplabctl.weights.fitting import Network, fit_weights
from deeplabctl.weights.formats import EXPORTS, identify
from deeplabctl.weights.locating import weights_path
from deeplabctl.weights.reading import read_weight_file
from deeplabctl.weights.training_start import read_start

if TYPE_CHECKING:
    import keras


def read_network(path: str | os.PathLike[str]) -> Network:
    """Read a whole network from a weight file of any format, from a run directory or an export.

    Raises WeightsError for a file without a classifier, and for one that does not fit.
    """
    path = weights_path(Path(path))
    if (format_ := EXPORTS.get(identify(path))) is not None:
        info = read_export(path, format_)
        return Network(info, {}, [], [], len(info.classes), path)
    file = read_weight_file(path)
    network = fit_weights(file)
    if network.classes_in_file is None:
        found = ", ".join(dict.fromkeys(map(layer_of, file.weights)))
        raise WeightsError(
            f"weights {file.path}: expected a whole network, got layers without a classifier "
            f"({found}); train one from them: deeplabctl train with `init=FILE`"
        )
    if file.info is not None and len(file.info.classes) != network.classes_in_file:
        raise WeightsError(
            f"weights {file.path}: expected a classifier of {len(file.info.classes)} classes, "
            f"got {network.classes_in_file}"
        )
    if network.new_layers:
        raise WeightsError(
            f"weights {file.path}: expected a whole network, got one without {', '.join(network.new_layers)}"
        )
    return network


def build_model(
    architecture: str = DEFAULT_ARCHITECTURE,
    num_classes: int = 21,
    *,
    width: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> keras.Model:
    """Build a network with its weights: a plain Keras model of stock layers, float32.

    It maps (N, H, W, 3) float32 images, BGR minus the mean (see `preprocess`), to logits (N, h, w, num_classes) at
    stride 8, for any H and W: (H - 1) / 8 + 1 rows for H = 8k + 1. "resnet101" is built for one of its scales, and
    "msc-largefov" as it is trained; prediction does the rest.

    ``weights`` is a file of any format that deeplabctl reads, a run directory, or "imagenet". Layers that it lacks
    start random, as at the start of a training: VGG-16's weights, for instance, have no classifier. Without
    ``weights`` all layers are random. Random weights depend on ``seed`` only. ``width`` multiplies the channels; by
    default it is that of the weights, or 1.

    Raises ValueError for arguments out of range, WeightsError for weights that do not fit or have another number of
    classes.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    if not 1 <= num_classes <= IGNORE_LABEL:
        raise ValueError(f"num_classes: expected 1 to {IGNORE_LABEL}, got {num_classes}")
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"width: expected a number above 0, got {width}")
    if weights is None:
        width = 1.0 if width is None else width
        layers = ARCHITECTURES[architecture].random_weights(num_classes, width, seed)
    else:
        file = read_start(os.fspath(weights), architecture)
        network = fit_weights(file, architecture=architecture, num_classes=num_classes, width=width, seed=seed)
        if network.classes_in_file not in (None, num_classes):
            raise WeightsError(
                f"weights {file.path}: expected a classifier of {num_classes} classes, got {network.classes_in_file}; "
                f"give num_classes={network.classes_in_file}"
            )
        width, layers = network.info.width, network.weights
    model = keras_model.build_model(architecture, num_classes, width=width)
    keras_model.assign_weights(model, layers)
    return model
