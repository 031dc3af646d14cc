"""Turn VGG-16's fully connected layers into the convolutions of LargeFOV and of ASPP's branches.

arXiv 1412.7062, section 3.1, and 1606.00915, section 4.1: of fc6's 7x7 kernel every third row and column is kept, and a
random 1,024 of the 4,096 filters of fc6 and of fc7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Weights, layer_of

_VGG_SHAPES = {"fc6": [(25088, 4096), (4096,)], "fc7": [(4096, 4096), (4096,)]}  # [kernel (in, out), bias]


def has_fully_connected(weights: Weights) -> bool:
    """Tell whether fc6 is a fully connected layer, as VGG-16's is."""
    return "fc6/kernel" in weights and weights["fc6/kernel"].ndim == 2


def vgg_to_deeplab(weights: Weights, architecture: str, seed: int, source: str) -> tuple[Weights, list[str]]:
    """Return VGG-16's layers with fc6 and fc7 as convolutions and without its ImageNet classifier, and notes of that.

    ``seed`` chooses the filters, for each branch of ASPP others. A network without fc6 takes the convolutions alone.
    Raises WeightsError for fully connected layers of other shapes.
    """
    found = {
        name: [weights[key] for key in (f"{name}/kernel", f"{name}/bias") if key in weights] for name in _VGG_SHAPES
    }
    for name, expected in _VGG_SHAPES.items():
        shapes = [array.shape for array in found[name]]
        if shapes != expected:
            raise WeightsError(
                f"weights {source}: layer {name}: expected VGG-16's {expected[0]}, "
                f"got {shapes[0] if shapes else 'no such layer'}"
            )
    kept = {name: array for name, array in weights.items() if layer_of(name) not in ("fc6", "fc7", "fc8")}
    names = [conv.name for conv in ARCHITECTURES[architecture].convolutions]
    branches = [name.removeprefix("fc6") for name in names if name.startswith("fc6")]
    for number, branch in enumerate(branches):
        for layer, arrays in zip(("fc6", "fc7"), decimate(found["fc6"], found["fc7"], seed, number), strict=True):
            kept |= dict(zip((f"{layer}{branch}/kernel", f"{layer}{branch}/bias"), arrays, strict=True))
    if not branches:
        return kept, ["fc6, fc7 and the ImageNet classifier are left out"]
    count = kept[f"fc6{branches[0]}/bias"].size
    others = ", for each branch others" if len(branches) > 1 else ""
    note = (
        f"fc6 and fc7: {count} of {found['fc6'][1].size} filters chosen by seed {seed}{others}, "
        "fc6's 7x7 kernel decimated to 3x3; the ImageNet classifier is left out"
    )
    return kept, [note]


def decimate(
    fc6: list[npt.NDArray[Any]], fc7: list[npt.NDArray[Any]], seed: int, branch: int = 0, filters: int = 1024
) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Return convolutions [kernel HWIO, bias] made of fully connected fc6 and fc7, [kernel (in, out), bias].

    fc6's inputs are flattened as height 7, width 7, channel 512. The inputs of the new fc7 are the chosen filters of
    fc6.
    """
    rng = np.random.default_rng((seed, 6, branch) if branch else (seed, 6))
    first = np.sort(rng.choice(fc6[0].shape[1], filters, replace=False))
    second = np.sort(rng.choice(fc7[0].shape[1], filters, replace=False))
    kernel = fc6[0].reshape(7, 7, 512, -1)[::3, ::3][..., first]
    return [kernel, fc6[1][first]], [fc7[0][np.ix_(first, second)][None, None], fc7[1][second]]
