"""Files in, arrays out: recognize and open a weight file, fit it to an architecture, and write model files."""

from deeplabctl.weights.conversion import convert
from deeplabctl.weights.fitting import read_network
from deeplabctl.weights.locating import find_weights, open_weights
from deeplabctl.weights.starting import build_model

__all__ = ["build_model", "convert", "find_weights", "open_weights", "read_network"]
