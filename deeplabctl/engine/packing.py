"""Bring kernels into the order in which the product kernel reads them.

Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

from typing import Any

from deeplabctl.arrays import Float32
from deeplabctl.engine.registers import LINE, REGISTERS, Form
from deeplabctl.engine.transforms import transform_kernel
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
    weights: Float32, depth: int, panels: int, first: int, last: int, packed: Float32, tile: Any, form: Form
) -> None:
    """Transform the outputs of panels from one to another of a flat 3x3 kernel: [n * n][panels][depth][width].

    The kernel is (3, 3, depth, panels * width).
    """
    lanes, width = len(form[0]), REGISTERS * len(form[0])
    outputs = panels * width
    for panel in range(first, last):
        for v in range(0, width, lanes):
            for c in range(depth):
                transform_kernel(
                    weights, c * outputs + panel * width + v, 3 * depth * outputs, depth * outputs, packed,
                    (panel * depth + c) * width + v, depth * outputs, tile, form,
                )  # fmt: skip


@kernel
def turn_kernel(weights: Float32, first: int, last: int, turned: Float32) -> None:
    """Write the outputs from one to another of a kernel (side, side, in, out), turned by 180 degrees, as its inputs."""
    side, _, incoming, _ = weights.shape
    for i in range(side):
        for j in range(side):
            for start in range(0, incoming, LINE):
                for o in range(first, last):
                    for c in range(start, min(start + LINE, incoming)):
                        turned[side - 1 - i, side - 1 - j, o, c] = weights[i, j, c, o]
