"""Files in, arrays out: recognise and open a weight file, fit it to an architecture, and write model files."""

from deeplabctl.weights.conversion import ConvertedModel, convert
from deeplabctl.weights.fitting import ExportedNetwork, Network, open_network, read_network
from deeplabctl.weights.locating import find_weights, open_weights
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.starting import build_model
from deeplabctl.weights.weight_file import WeightFile

__all__ = [
    "ConvertedModel",
    "ExportedNetwork",
    "ModelInfo",
    "Network",
    "WeightFile",
    "build_model",
    "convert",
    "find_weights",
    "open_network",
    "open_weights",
    "read_network",
]
