"""Arrays in, logits out: operations, the tables of networks made of them, and the Keras model built from a table.

A network is a table of rows, listed in `ARCHITECTURES`; an operation is a file in `ops`.
"""

from functools import cache

import numpy as np

from deeplabctl.arrays import Image, Pixels
from deeplabctl.network.architecture import Architecture, Parameter, Preprocessing, Weights, layer_of, part_of
from deeplabctl.network.deeplab_v3 import (
    DEEPLABV3_MNV2,
    DEEPLABV3_MNV2_OS8,
    DEEPLABV3PLUS_MNV2,
    DEEPLABV3PLUS_MNV2_OS8,
    DEEPLABV3PLUS_XCEPTION65,
    DEEPLABV3PLUS_XCEPTION65_OS8,
)
from deeplabctl.network.ops import Norm
from deeplabctl.network.ops.operation import Shapes
from deeplabctl.network.resnet import RESNET101
from deeplabctl.network.torchvision import DEEPLABV3_MOBILENETV3, DEEPLABV3_RESNET50, DEEPLABV3_RESNET101
from deeplabctl.network.vgg import ASPP_L, ASPP_S, LARGEFOV, MSC_LARGEFOV

ARCHITECTURES = {
    network.name: network
    for network in (
        LARGEFOV, ASPP_S, ASPP_L, RESNET101, MSC_LARGEFOV,
        DEEPLABV3_MNV2, DEEPLABV3_MNV2_OS8, DEEPLABV3PLUS_MNV2, DEEPLABV3PLUS_MNV2_OS8,
        DEEPLABV3PLUS_XCEPTION65, DEEPLABV3PLUS_XCEPTION65_OS8,
        DEEPLABV3_RESNET50, DEEPLABV3_RESNET101, DEEPLABV3_MOBILENETV3,
    )
}  # fmt: skip
DEFAULT_ARCHITECTURE = LARGEFOV.name  # of weight files that do not name an architecture


def architecture_named(name: str) -> Architecture:
    """Return a network by its name; raises ValueError for an unknown one."""
    if name not in list(ARCHITECTURES):
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
    return ARCHITECTURES[name]


@cache
def norm_epsilons() -> dict[str, float]:
    """Return the epsilon of each norm of the networks; those of one name have the same."""
    rows = (row for network in ARCHITECTURES.values() for row in network.rows)
    return {row.name: row.epsilon for row in rows if isinstance(row, Norm)}


def preprocess(image: Image, architecture: str) -> Pixels:
    """Turn an image (H, W, 3) uint8 RGB into a network's input (H, W, 3) float32.

    Caffe's networks take BGR minus the mean (104.008, 116.669, 122.675), those on MobileNet v2 and Xception RGB from -1
    to 1, torchvision's RGB from 0 to 1 minus ImageNet's mean, divided by its deviation. Raises ValueError for another
    image, and for an unknown architecture.
    """
    network = architecture_named(architecture)
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected (H, W, 3) uint8, RGB, got {image.shape} {image.dtype}")
    return network.preprocessing(image)


__all__ = [
    "ARCHITECTURES", "DEFAULT_ARCHITECTURE", "Architecture", "Parameter", "Preprocessing", "Shapes", "Weights",
    "architecture_named", "layer_of", "norm_epsilons", "part_of", "preprocess",
]  # fmt: skip
