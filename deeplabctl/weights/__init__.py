"""Files in, arrays out: tell what a weight file is, read it, fit it to an architecture, and write model files."""

from deeplabctl.weights.conversion import ConvertedModel, convert
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.locating import find_weights
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.networks import build_model, read_network

__all__ = ["ConvertedModel", "ModelInfo", "Network", "build_model", "convert", "find_weights", "read_network"]
