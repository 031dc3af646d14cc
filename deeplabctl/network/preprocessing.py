"""Turn images into what the network takes: the only place where colours are reversed and the mean is subtracted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MEAN_BGR = (104.008, 116.669, 122.675)
_MEAN = np.array(MEAN_BGR, np.float32)


def preprocess(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn (H, W, 3) uint8 RGB into float32 BGR minus the mean, without scaling."""
    return image[..., ::-1].astype(np.float32) - _MEAN
