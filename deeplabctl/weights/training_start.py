"""Prepare the weights that a training starts from: random ones, those of ImageNet, or those of a file."""

from __future__ import annotations

from pathlib import Path

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Weights, layer_of
from deeplabctl.weights.fitting import fit_weights, width_of
from deeplabctl.weights.formats import Format, identify
from deeplabctl.weights.imagenet import IMAGENET, fetch_imagenet
from deeplabctl.weights.locating import weights_path
from deeplabctl.weights.model_info import read_info
from deeplabctl.weights.reading import WeightFile, read_shapes, read_weight_file

RANDOM = "random"


def start_weights(
    init: str, architecture: str, num_classes: int, width: float, seed: int
) -> tuple[Weights, list[str], list[str]]:
    """Return the weights to start from, the names of the layers that are random, and notes of what was done.

    ``init`` is "random", "imagenet", a weight file of any format, or a run directory. Raises WeightsError for weights
    that do not fit.
    """
    if init == RANDOM:
        weights = ARCHITECTURES[architecture].random_weights(num_classes, width, seed)
        return weights, list(dict.fromkeys(map(layer_of, weights))), []
    file = read_start(init, architecture)
    network = fit_weights(file, architecture=architecture, num_classes=num_classes, width=width, seed=seed)
    new = f"new: {', '.join(network.new_layers) or 'none'}"
    return network.weights, network.new_layers, [f"weights from {init}", *network.notes, new]


def start_width(init: str, architecture: str, width: float | None = None) -> float:
    """Return the width of a network that starts from ``init``, without reading all of its weights.

    Raises WeightsError for a file that cannot be read, and if another ``width`` is asked for.
    """
    if init == RANDOM:
        return 1.0 if width is None else width
    found = 1.0 if init == IMAGENET else _width_of_file(weights_path(Path(init)), architecture)
    if width is not None and ARCHITECTURES[architecture].weight_shapes(2, width) != ARCHITECTURES[
        architecture
    ].weight_shapes(2, found):
        raise WeightsError(
            f"init {init}: expected weights of width {width:g}, got width {found:g}; "
            "leave the width out, or start from random weights (`init=random`)"
        )
    return found


def read_start(init: str, architecture: str) -> WeightFile:
    """Read "imagenet", a weight file, or the best weights of a run directory."""
    return fetch_imagenet(architecture) if init == IMAGENET else read_weight_file(weights_path(Path(init)))


def _width_of_file(path: Path, architecture: str) -> float:
    if identify(path) is Format.OURS:
        return read_info(path).width
    return width_of(read_shapes(path)[0], architecture, path)
