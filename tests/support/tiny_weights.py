"""Make the weights of tiny networks: as variables of TensorFlow 1 programs, and as a file that was read."""

from pathlib import Path

import numpy as np

from deeplabctl.network.initialization import random_weights
from deeplabctl.weights.formats import Format
from deeplabctl.weights.reading import WeightFile


def tiny_variables():
    return {
        f"{name}/{kind}": array
        for name, arrays in random_weights("largefov", 21, 1 / 32, seed=5).items()
        for kind, array in zip("wb", arrays, strict=True)
    }


def same_as_variables(layers, variables):
    assert len(layers) == 16
    for name, (kernel, bias) in layers.items():
        np.testing.assert_array_equal(kernel, variables[f"{name}/w"])
        np.testing.assert_array_equal(bias, variables[f"{name}/b"])


def weight_file(layers):
    """Return a weight file with these layers, as if it had been read."""
    return WeightFile(Path("a.weights"), Format.PICKLE, layers)
