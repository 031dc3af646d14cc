"""Write `.keras` model files.

A model file is an ordinary Keras 3 archive, float32, that plain ``keras.saving.load_model`` opens without deeplabctl,
with one more zip entry, ``deeplabctl.json`` (see `ModelInfo`).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.files import whole_file
from deeplabctl.weights.formats import INFO_ENTRY
from deeplabctl.weights.model_info import ModelInfo

if TYPE_CHECKING:
    import keras


def save_model(path: Path, model: keras.Model, info: ModelInfo) -> None:
    """Write a model file whole or not at all."""
    with whole_file(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(INFO_ENTRY, info.to_json())
