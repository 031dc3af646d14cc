"""Bring kernels into the order in which the product kernel reads them.

Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import Float32, Floats
from deeplabctl.kernels.compiling import kernel

ZERO = np.float64(0.0)


@kernel
def pack_kernel(weights: Float32, depth: int, width: int, packed: Float32) -> None:
    """Copy a kernel (side, side, in, out) to panels [out / width][side * side][depth][width], filled up with zeros."""
    side, _, incoming, outgoing = weights.shape
    at = 0
    for panel in range(0, outgoing, width):
        for i in range(side):
            for j in range(side):
                for c in range(depth):
                    for o in range(width):
                        inside = c < incoming and panel + o < outgoing
                        packed[at + o] = weights[i, j, c, panel + o] if inside else 0.0
                    at += width


@kernel
def pack_transformed(
    weights: Float32, g: Floats, depth: int, width: int, first: int, last: int, packed: Float32
) -> None:
    """Transform the outputs of panels from one to another of a kernel: [n * n][panels][depth][width], G k G'.

    It is computed in float64, and rounded once.
    """
    n, side = g.shape
    _, _, incoming, outgoing = weights.shape
    panels = (outgoing + width - 1) // width
    halves, sums = np.zeros((n, side, width)), np.zeros(width)
    for panel in range(first, last):
        inside = min(width, outgoing - panel * width)
        for c in range(incoming):
            for i in range(n):
                for j in range(side):
                    for o in range(inside):
                        total = ZERO
                        for k in range(side):
                            total += g[i, k] * weights[k, j, c, panel * width + o]
                        halves[i, j, o] = total
            for i in range(n):
                for j in range(n):
                    for o in range(inside):
                        total = ZERO
                        for k in range(side):
                            total += g[j, k] * halves[i, k, o]
                        sums[o] = total
                    at = (((i * n + j) * panels + panel) * depth + c) * width
                    for o in range(inside):
                        packed[at + o] = np.float32(sums[o])
