"""Fetch weights of ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.weights.formats import Format
from deeplabctl.weights.keras_names import our_name, top_name, without_biases
from deeplabctl.weights.reading import WeightFile

if TYPE_CHECKING:
    import keras

IMAGENET = "imagenet"  # in place of the name of a weight file


def fetch_imagenet(architecture: str) -> WeightFile:
    """Return VGG-16 or ResNet-101 trained on ImageNet, as keras.applications has it (BGR minus the mean, as ours).

    VGG-16 comes with its top. It is downloaded once (530 MB; ResNet-101 170 MB); raises WeightsError without a network.
    """
    import keras

    residual = "bn_conv1/gamma" in ARCHITECTURES[architecture].weight_shapes(1)
    name = "ResNet-101" if residual else "VGG-16"
    try:
        if residual:
            model = keras.applications.ResNet101(include_top=False, weights="imagenet")
        else:
            model = keras.applications.VGG16(include_top=True, weights="imagenet")
    except Exception as error:
        raise WeightsError(
            f"{IMAGENET}: the {name} weights of keras.applications could not be downloaded; start from a weight file "
            "(`init=FILE`) or from random weights (`init=random`)"
        ) from error
    return WeightFile(Path(IMAGENET), Format.KERAS_H5, keras_weights(model))


def keras_weights(model: keras.Model) -> Weights:
    """Return the weights of keras.applications' VGG-16 or ResNet-101 by our names."""
    found: Weights = {}
    for layer in model.layers:
        arrays = layer.get_weights()
        name = arrays and (our_name(layer.name) or top_name(layer.name, arrays[0].shape))
        found |= {f"{name}/{variable.name}": array for variable, array in zip(layer.weights, arrays, strict=True)}
    return without_biases(found)
