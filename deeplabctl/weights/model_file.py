"""Write `.keras` model files, and fetch VGG-16's weights.

A model file is an ordinary Keras 3 archive, float32, that plain ``keras.saving.load_model`` opens with no code of ours,
with one more zip entry, ``deeplabctl.json`` (see `ModelInfo`).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.errors import WeightsError
from deeplabctl.files import whole_file
from deeplabctl.weights.fitting import INFO_ENTRY, ModelInfo
from deeplabctl.weights.formats import Format
from deeplabctl.weights.reading import VGG_LAYERS, Origin

if TYPE_CHECKING:
    import keras


def save_model(path: Path, model: keras.Model, info: ModelInfo) -> None:
    """Write a model file whole or not at all."""
    with whole_file(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(INFO_ENTRY, info.to_json())


def imagenet_layers() -> Origin:
    """Return VGG-16 trained on ImageNet, as keras.applications has it (BGR minus the mean, as ours), with its top.

    It is downloaded once (530 MB); raises WeightsError without a network.
    """
    import keras

    try:
        vgg = keras.applications.VGG16(include_top=True, weights="imagenet")
    except Exception as error:
        raise WeightsError(
            "init imagenet: the VGG-16 weights of keras.applications could not be downloaded; start from a weight file "
            "(--init FILE) or from nothing (--init random)"
        ) from error
    found = [layer.get_weights() for layer in vgg.layers if layer.weights]
    return Origin(Path("imagenet"), Format.KERAS_H5, dict(zip(VGG_LAYERS, found, strict=True)))
