"""Bring kernels into the order in which the product kernel reads them.

Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import Float32, Floats
from deeplabctl.kernels.compiling import kernel


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
    weights: Float32, g: Floats, depth: int, width: int, panels: int, first: int, last: int, packed: Float32
) -> None:
    """Transform the outputs of panels from one to another of a kernel: [n * n][panels][depth][width], G k G'.

    The kernel is 3x3. It is computed in float64, and rounded once.
    """
    n = len(g)
    _, _, incoming, outgoing = weights.shape
    lines, halves = np.zeros((9, width)), np.zeros((3, width))
    for panel in range(first, last):
        start, inside = panel * width, min(width, outgoing - panel * width)
        for c in range(incoming):
            for k in range(9):
                for o in range(inside):
                    lines[k, o] = weights[k // 3, k % 3, c, start + o]
            for i in range(n):
                for j in range(3):
                    for o in range(width):
                        halves[j, o] = g[i, 0] * lines[j, o] + g[i, 1] * lines[3 + j, o] + g[i, 2] * lines[6 + j, o]
                for j in range(n):
                    at = (((i * n + j) * panels + panel) * depth + c) * width
                    for o in range(width):
                        total = g[j, 0] * halves[0, o] + g[j, 1] * halves[1, o] + g[j, 2] * halves[2, o]
                        packed[at + o] = np.float32(total)
        lines[:] = 0
