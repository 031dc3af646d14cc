"""Turn VGG-16's fully connected layers into LargeFOV's convolutions.

arXiv 1412.7062, section 3.1, and 1606.00915, section 4.1: of fc6's 7x7 kernel every third row and column is kept, and a
random 1,024 of the 4,096 filters of fc6 and of fc7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import Weights

_VGG_SHAPES = {"fc6": [(25088, 4096), (4096,)], "fc7": [(4096, 4096), (4096,)]}  # [kernel (in, out), bias]


def has_fully_connected(layers: Weights) -> bool:
    """Tell whether fc6 is a fully connected layer, as VGG-16's is."""
    return "fc6" in layers and layers["fc6"][0].ndim == 2


def vgg_to_largefov(layers: Weights, seed: int, source: str) -> tuple[Weights, str]:
    """Return VGG-16's layers with fc6 and fc7 as convolutions and without its ImageNet classifier, and a note of that.

    ``seed`` chooses the filters. Raises WeightsError for fully connected layers of other shapes.
    """
    for name, expected in _VGG_SHAPES.items():
        found = [array.shape for array in layers.get(name, [])]
        if found != expected:
            raise WeightsError(
                f"weights {source}: layer {name}: expected VGG-16's {expected[0]}, "
                f"got {found[0] if found else 'no such layer'}"
            )
    fc6, fc7 = decimate(layers["fc6"], layers["fc7"], seed)
    kept = {name: arrays for name, arrays in layers.items() if name != "fc8"}
    note = (
        f"fc6 and fc7: {fc6[1].size} of {layers['fc6'][1].size} filters chosen by seed {seed}, "
        "fc6's 7x7 kernel decimated to 3x3; the ImageNet classifier is left out"
    )
    return kept | {"fc6": fc6, "fc7": fc7}, note


def decimate(
    fc6: list[npt.NDArray[Any]], fc7: list[npt.NDArray[Any]], seed: int, filters: int = 1024
) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Return convolutions [kernel HWIO, bias] made of fully connected fc6 and fc7, [kernel (in, out), bias].

    fc6's inputs are flattened as height 7, width 7, channel 512. The inputs of the new fc7 are the chosen filters of
    fc6.
    """
    rng = np.random.default_rng((seed, 6))
    first = np.sort(rng.choice(fc6[0].shape[1], filters, replace=False))
    second = np.sort(rng.choice(fc7[0].shape[1], filters, replace=False))
    kernel = fc6[0].reshape(7, 7, 512, -1)[::3, ::3][..., first]
    return [kernel, fc6[1][first]], [fc7[0][np.ix_(first, second)][None, None], fc7[1][second]]
