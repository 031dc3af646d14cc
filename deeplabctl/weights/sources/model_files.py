"""Read and write our own model files.

A model file is an ordinary Keras 3 archive, float32, that plain ``keras.saving.load_model`` opens without deeplabctl,
with one more zip entry, ``deeplabctl.json`` (see `ModelInfo`).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.files import whole_file
from deeplabctl.weights.model_info import INFO_ENTRY, ModelInfo, damaged, info_entry
from deeplabctl.weights.sources.keras_files import KerasArchive
from deeplabctl.weights.weight_file import DAMAGED_ZIP, Beginning

if TYPE_CHECKING:
    import keras


class ModelFile(KerasArchive):
    """Hold a model file that deeplabctl wrote."""

    words = "deeplabctl model file (.keras)"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it is a zip archive with our facts."""
        return INFO_ENTRY in start.entries

    def _read_info(self) -> ModelInfo:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return ModelInfo.from_json(info_entry(archive), self.path)
        except DAMAGED_ZIP as error:
            raise damaged(self.path, error) from None


def save_model(path: Path, model: keras.Model, info: ModelInfo) -> None:
    """Write a model file whole or not at all."""
    with whole_file(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(INFO_ENTRY, info.to_json())
