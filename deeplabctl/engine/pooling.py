"""Pool and add images [height][width][depth], whose depths are padded to whole cache lines.

Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import Float32
from deeplabctl.engine.registers import LINE
from deeplabctl.kernels.compiling import kernel
from deeplabctl.kernels.vectors import load, maximum, store

NINTH = np.float32(1 / 9)


@kernel
def pool(
    image: Float32, shape: tuple[int, int, int], stride: int, is_max: bool, first: int, last: int, out_width: int,
    result: Float32,
) -> None:  # fmt: skip
    """Pool rows of the result from one to another: windows of 3x3 pixels with pad 1, clipped to the image.

    Caffe's average divides by 9 at the borders too.
    """
    height, width, depth = shape
    for y in range(first, last):
        top, bottom = max(y * stride - 1, 0), min(y * stride + 2, height)
        for x in range(out_width):
            left, right = max(x * stride - 1, 0), min(x * stride + 2, width)
            to = (y * out_width + x) * depth
            for c in range(0, depth, LINE):
                value = load(image, (top * width + left) * depth + c, (0, 0))
                if is_max:
                    for i in range(top, bottom):
                        for j in range(left, right):
                            value = maximum(value, load(image, (i * width + j) * depth + c, (0, 0)))
                    store(result, to + c, value)
                else:
                    for i in range(top, bottom):
                        for j in range(left, right):
                            if i != top or j != left:
                                value = value + load(image, (i * width + j) * depth + c, (0, 0))
                    store(result, to + c, NINTH * value)


@kernel
def add(a: Float32, b: Float32, least: np.float32, first: int, last: int, result: Float32) -> None:
    """Write the larger of ``least`` and a + b, for the floats from one to another."""
    for i in range(first, last):
        value = a[i] + b[i]
        result[i] = least if value < least else value
