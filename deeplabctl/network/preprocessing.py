"""Turn images into the network's input: the only place where channels are reversed and the mean is subtracted."""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import Image, Pixels

MEAN_BGR = (104.008, 116.669, 122.675)
_MEAN = np.array(MEAN_BGR, np.float32)


def preprocess(image: Image) -> Pixels:
    """Turn an image (H, W, 3) uint8 RGB into float32 BGR minus the mean, without scaling."""
    return image[..., ::-1].astype(np.float32) - _MEAN
