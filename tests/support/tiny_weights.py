"""Make the weights of tiny networks: as variables of TensorFlow 1 programs, and as a file that was read."""

from pathlib import Path

import numpy as np

from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.pickles import WeightPickle


def tiny_variables():
    names = {"kernel": "w", "bias": "b"}
    return {
        name.replace(part, names[part]): array
        for name, array in ARCHITECTURES["largefov"].random_weights(21, 1 / 32, seed=5).items()
        for part in [name.rpartition("/")[2]]
    }


def same_as_variables(weights, variables):
    assert len(weights) == 32
    for name, array in weights.items():
        np.testing.assert_array_equal(array, variables[name.replace("/kernel", "/w").replace("/bias", "/b")])


def weight_file(weights, path="a.weights", dilations=None):
    """Return a weight file with these weights, as if it had been read."""
    file = WeightPickle(Path(path))
    file.weights, file.dilations = weights, dilations or {}
    return file


def read_weights(path):
    return open_weights(path).weights
