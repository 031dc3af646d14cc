"""Lend arrays that start at a cache line, and take them back for the next layer and the next image."""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import Float32

LINE_BYTES = 64


def aligned(size: int) -> Float32:
    """Return an array of so many float32, all 0, that starts at a cache line."""
    raw = np.zeros(4 * size + LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % LINE_BYTES
    return raw[start : start + 4 * size].view(np.float32)


class Buffers:
    """Lend flat arrays; what is given back is lent again."""

    def __init__(self) -> None:
        self._free: list[Float32] = []

    def take(self, size: int) -> Float32:
        """Return an array of at least so many floats; what is in it is left over from its last use."""
        fitting = [array for array in self._free if array.size >= size]
        if fitting:
            chosen = min(fitting, key=lambda array: array.size)
        elif self._free:  # it will not be needed beside a larger one
            self.drop(max(self._free, key=lambda array: array.size))
            return aligned(size)
        else:
            return aligned(size)
        self.drop(chosen)
        return chosen

    def give(self, array: Float32) -> None:
        """Take an array back."""
        self._free.append(array)

    def drop(self, array: Float32) -> None:
        """Forget a free array."""
        self._free = [other for other in self._free if other is not array]
