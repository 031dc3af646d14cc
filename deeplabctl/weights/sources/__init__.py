"""List the kinds of weight files: each is a file of this folder and an entry here."""

from __future__ import annotations

from deeplabctl import choices
from deeplabctl.weights.sources.caffemodels import CaffeModel
from deeplabctl.weights.sources.exports import Export
from deeplabctl.weights.sources.frozen_graphs import FrozenGraph
from deeplabctl.weights.sources.keras_files import KerasArchive, KerasHdf5, ModelFile
from deeplabctl.weights.sources.pickles import WeightPickle
from deeplabctl.weights.sources.tensorflow_archives import TensorFlowArchive
from deeplabctl.weights.sources.tensorflow_checkpoints import TensorFlowCheckpoint
from deeplabctl.weights.sources.tflite_graphs import TFLiteWeights
from deeplabctl.weights.sources.torch_files import SafetensorsFile, TorchFile
from deeplabctl.weights.weight_file import WeightFile

READERS: dict[choices.ExportFormat, type[Export]] = {
    name: choices.load(kind.reader) for name, kind in choices.EXPORTS.items()
}

# The first that recognises a file is its kind: our model files are Keras archives too, and Caffe's HDF5 files HDF5.
SOURCES: tuple[type[WeightFile], ...] = (
    ModelFile, KerasArchive, TorchFile, SafetensorsFile, TFLiteWeights, *READERS.values(), TensorFlowCheckpoint,
    TensorFlowArchive, FrozenGraph, CaffeModel, KerasHdf5, WeightPickle,
)  # fmt: skip
