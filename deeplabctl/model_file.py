"""Write and read `.keras` model files, and load weights of other origins.

A model file is an ordinary Keras 3 archive, float32, that plain ``keras.saving.load_model`` opens with no code of ours,
with one more zip entry, ``deeplabctl.json`` (see `ModelInfo`).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.atomic import whole_file
from deeplabctl.errors import WeightsError
from deeplabctl.model import get_weights
from deeplabctl.weights import INFO_ENTRY, ModelInfo, Weights, read_info

if TYPE_CHECKING:
    import keras


def save_model(path: Path, model: keras.Model, info: ModelInfo) -> None:
    """Write a model file whole or not at all."""
    with whole_file(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(INFO_ENTRY, info.to_json())


def load_model(path: Path) -> tuple[keras.Model, ModelInfo]:
    """Read a model file that `save_model` wrote."""
    import keras

    info = read_info(path)
    try:
        return keras.saving.load_model(path, compile=False), info
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"weights {path}: the file is damaged ({type(error).__name__}: {error})") from error


def load_weights(path: Path) -> Weights:
    """Return the weights of a model file by layer."""
    model, _ = load_model(path)
    return get_weights(model)


def imagenet_features() -> Weights:
    """Return VGG-16's convolutions, trained on ImageNet, as keras.applications has them (BGR minus the mean, as ours).

    They are downloaded once; raises WeightsError without a network.
    """
    import keras

    try:
        vgg = keras.applications.VGG16(include_top=False, weights="imagenet")
    except Exception as error:
        raise WeightsError(
            "init imagenet: the VGG-16 weights of keras.applications could not be downloaded; start from a weight file "
            "(--init FILE) or from nothing (--init random)"
        ) from error
    return {
        layer.name.replace("block", "conv").replace("_conv", "_"): layer.get_weights()
        for layer in vgg.layers
        if layer.weights
    }
