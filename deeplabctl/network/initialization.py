"""Draw random weights: a function of the seed and the layer only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.network.layers import KERNEL, Parameter, Weights, parameters
from deeplabctl.network.rows import Conv, Norm

# Pixels minus the mean have a standard deviation of about 70: the first layer brings them to about 10, and the gain of
# each later layer, below 1, brings that down on the way to the classifier.
_FIRST_SCALE = 1 / 7
_GAIN = 0.8
_DIRAC_SHARE = 0.5  # of a kernel's variance


def random_weights(architecture: str, num_classes: int, width: float, seed: int) -> Weights:
    """Draw all weights of a network that starts from nothing. Biases are 0, norms change nothing.

    Kernels are gaussian by He's rule (arXiv 1502.01852). A plain network of 16 layers without normalization hardly
    learns from that, so in it half of each kernel's variance is given to a kernel that passes its input through (a
    Dirac kernel, arXiv 1706.00388), and the gaussian part has mean 0 for each output channel. A residual network passes
    its input through anyway: the last norm of each of its blocks starts with a small gamma. A classifier is gaussian
    with a standard deviation of 0.01.
    """
    facts = parameters(architecture, num_classes, width)
    return {name: _random(parameter, seed) for name, parameter in facts.items()}


def new_weights(parameter: Parameter, seed: int) -> npt.NDArray[Any]:
    """Draw weights of a layer on top of trained ones: kernels gaussian as the original prototxt says, biases 0."""
    if parameter.part == KERNEL:
        std = parameter.row.first_std if isinstance(parameter.row, Conv) else 0.0
        return _gaussian(parameter.shape, std, seed, parameter.number)
    first = parameter.row.first_gamma if isinstance(parameter.row, Norm) else 0.0
    values = {"gamma": first, "moving_variance": 1.0}
    return np.full(parameter.shape, values.get(parameter.part, 0.0), np.float32)


def _random(parameter: Parameter, seed: int) -> npt.NDArray[Any]:
    row = parameter.row
    if parameter.part != KERNEL or not isinstance(row, Conv) or row.classifier:
        return new_weights(parameter, seed)
    height, wide, incoming, outgoing = parameter.shape
    kernel = _gaussian(parameter.shape, math.sqrt(2 / (height * wide * incoming)), seed, parameter.number)
    if parameter.number == 0:
        kernel *= _FIRST_SCALE
    elif row.relu:  # no norm follows
        dirac = np.zeros_like(kernel)
        channels = np.arange(outgoing)
        dirac[height // 2, wide // 2, channels % incoming, channels] = 1
        noise = kernel - kernel.mean((0, 1, 2), keepdims=True)
        kernel = _GAIN * (math.sqrt(1 - _DIRAC_SHARE) * noise + math.sqrt(_DIRAC_SHARE) * dirac)
    return kernel.astype(np.float32)


def _gaussian(shape: Sequence[int], std: float, seed: int, number: int) -> npt.NDArray[Any]:
    return np.random.default_rng((seed, number)).normal(0, std, shape).astype(np.float32)
