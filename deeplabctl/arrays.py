"""Name the types of the arrays that pass between the rooms, and make arrays for compiled kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Label = npt.NDArray[np.uint8]  # (H, W) class ids, 255 void
Mask = npt.NDArray[np.bool_]  # (H, W)
Scores = npt.NDArray[np.float32]  # (H, W, C), after softmax unless said otherwise
Pixels = npt.NDArray[np.float32]  # (H, W, 3) what a network takes, see `Preprocessing`
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Size = tuple[int, int]  # height, width

LANES = 8  # float32 of a vector register on most CPUs
LINE = 16  # float32 of a cache line: arrays of kernels start at one, and channels are padded to whole ones


def aligned(size: int) -> Float32:
    """Return an array of ``size`` float32 zeros that starts at a cache line."""
    raw = np.zeros(4 * (size + LINE), np.uint8)
    start = -raw.ctypes.data % (4 * LINE)
    return raw[start : start + 4 * size].view(np.float32)
