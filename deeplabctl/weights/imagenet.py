"""Fetch VGG-16's weights of ImageNet."""

from __future__ import annotations

from pathlib import Path

from deeplabctl.errors import WeightsError
from deeplabctl.weights.formats import Format
from deeplabctl.weights.keras_files import VGG_LAYERS
from deeplabctl.weights.reading import WeightFile

IMAGENET = "imagenet"  # in place of the name of a weight file


def fetch_imagenet() -> WeightFile:
    """Return VGG-16 trained on ImageNet, with its top, as keras.applications has it (BGR minus the mean, as ours).

    It is downloaded once (530 MB); raises WeightsError without a network.
    """
    import keras

    try:
        vgg = keras.applications.VGG16(include_top=True, weights="imagenet")
    except Exception as error:
        raise WeightsError(
            f"{IMAGENET}: the VGG-16 weights of keras.applications could not be downloaded; start from a weight file "
            "(`init=FILE`) or from random weights (`init=random`)"
        ) from error
    found = [layer.get_weights() for layer in vgg.layers if layer.weights]
    return WeightFile(Path(IMAGENET), Format.KERAS_H5, dict(zip(VGG_LAYERS, found, strict=True)))
