"""Draw random weights: a function of the seed and the layer only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.network.layers import Weights, weight_shapes

NEW_LAYER_STD = 0.01  # the gaussian filler of the original prototxt

# Pixels minus the mean have a standard deviation of about 70: the first layer brings them to about 10, and the gain of
# each later layer, below 1, brings that down on the way to the classifier.
_FIRST_SCALE = 1 / 7
_GAIN = 0.8
_DIRAC_SHARE = 0.5  # of a kernel's variance


def random_weights(architecture: str, num_classes: int, width: float, seed: int) -> Weights:
    """Draw all weights of a network that starts from nothing. Biases are 0.

    Kernels are gaussian by He's rule (arXiv 1502.01852). A plain network of 16 layers without normalization hardly
    learns from that, so half of each kernel's variance is given to a kernel that passes its input through (a Dirac
    kernel, arXiv 1706.00388), and the gaussian part has mean 0 for each output channel. The classifier is gaussian
    with a standard deviation of 0.01.
    """
    weights: Weights = {}
    shapes = weight_shapes(architecture, num_classes, width)
    for index, (name, shape) in enumerate(shapes.items()):
        height, wide, incoming, outgoing = shape
        if index == len(shapes) - 1:
            weights[name] = new_layer(shape, seed, index)
            continue
        kernel, bias = _gaussian(shape, math.sqrt(2 / (height * wide * incoming)), seed, index)
        if index == 0:
            kernel *= _FIRST_SCALE
        else:
            dirac = np.zeros_like(kernel)
            channels = np.arange(outgoing)
            dirac[height // 2, wide // 2, channels % incoming, channels] = 1
            noise = kernel - kernel.mean((0, 1, 2), keepdims=True)
            kernel = _GAIN * (math.sqrt(1 - _DIRAC_SHARE) * noise + math.sqrt(_DIRAC_SHARE) * dirac)
        weights[name] = [kernel.astype(np.float32), bias]
    return weights


def new_layer(shape: Sequence[int], seed: int, index: int) -> list[npt.NDArray[Any]]:
    """Draw [kernel, bias] of a layer on top of trained ones: gaussian with a standard deviation of 0.01, biases 0.

    ``shape`` is the kernel's, HWIO; ``index`` the layer's among the convolutions of its network.
    """
    return _gaussian(shape, NEW_LAYER_STD, seed, index)


def _gaussian(shape: Sequence[int], std: float, seed: int, index: int) -> list[npt.NDArray[Any]]:
    kernel = np.random.default_rng((seed, index)).normal(0, std, shape).astype(np.float32)
    return [kernel, np.zeros(shape[-1], np.float32)]
