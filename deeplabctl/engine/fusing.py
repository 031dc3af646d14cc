"""Bring logits to another size, fuse those of several scales and of the mirrored image, and take the largest.

A row of the result at a time: its values [width][lanes] stay in a cache, and what is wanted of them is written.
Positions are Caffe's INTERP layer's: the corners of both sizes lie on each other. ``lanes`` are the classes, padded to
whole vectors of `LANES`. Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

import numpy as np

from deeplabctl.arrays import Float32, Int64, Label
from deeplabctl.kernels.compiling import kernel
from deeplabctl.kernels.vectors import LANES, exp2, load, maximum, store

HALF, LOG2_E = np.float32(0.5), np.float32(np.log2(np.e))
Size = tuple[int, int]


@kernel
def resize_rows(pixels: Float32, size: Size, first: int, last: int, result: Float32, is_larger: bool) -> None:
    """Resize (h, w, lanes) to the rows from one to another of a result (H, W, lanes).

    With ``is_larger`` what is larger in the result stays.
    """
    height, width, lanes = pixels.shape
    flat, row = pixels.reshape(height * width * lanes), result.reshape(size[0] * size[1] * lanes)
    cells = np.zeros(width * lanes, np.float32)
    for y in range(first, last):
        resize_row(flat, 0, (height, width), lanes, size, y, size[1], y * size[1], 1, cells, row, is_larger)


@kernel
def fuse_rows(
    logits: Float32, shapes: Int64, lanes: int, is_flipped: bool, full: Size, classes: int, first: int, last: int,
    label: Label, scores: Float32,
) -> None:  # fmt: skip
    """Write the rows from one to another of the label (H, W), and of the scores (H, W, C) if they are not empty.

    The flat logits are (h, w, lanes) for each of the shapes, and with ``is_flipped`` as much again for the mirrored
    image. They are brought to the full size and cropped. The largest counts, then the mean of both images. The label is
    the first class with the largest value.
    """
    width, scales = label.shape[1], len(shapes)
    cells = np.zeros(shapes[:, 1].max() * lanes, np.float32)
    row, other = np.zeros(width * lanes, np.float32), np.zeros(width * lanes, np.float32)
    for y in range(first, last):
        at = 0
        for number in range(2 * scales if is_flipped else scales):
            shape = (shapes[number % scales, 0], shapes[number % scales, 1])
            is_larger = number % scales > 0
            if number < scales:
                resize_row(logits, at, shape, lanes, full, y, width, 0, 1, cells, row, is_larger)
            else:  # the mirrored image's row, from its other end
                resize_row(logits, at, shape, lanes, full, y, width, width - 1, -1, cells, other, is_larger)
            at += shape[0] * shape[1] * lanes
        if is_flipped:
            for k in range(len(row)):
                row[k] = HALF * (row[k] + other[k])
        for x in range(width):
            best, pixel = 0, x * lanes
            for c in range(1, classes):
                if row[pixel + c] > row[pixel + best]:
                    best = c
            label[y, x] = best
        if len(scores):
            soften(row, label[y], classes, scores[y])


@kernel
def resize_row(
    logits: Float32, at: int, shape: Size, lanes: int, size: Size, y: int, count: int, start: int, step: int,
    cells: Float32, row: Float32, is_larger: bool,
) -> None:  # fmt: skip
    """Write the first pixels of a row of logits (h, w, lanes) that are brought to a size.

    They are written to the row's pixel ``start`` and on from there by steps. With ``is_larger`` what is larger in the
    row stays.
    """
    height, width = shape
    above, below, down = place(y, height, size[0])
    for k in range(0, width * lanes, LANES):
        upper = load(logits, at + above * width * lanes + k, (0,))
        lower = load(logits, at + below * width * lanes + k, (0,))
        store(cells, k, upper + down * (lower - upper))
    for x in range(count):
        left, right, across = place(x, width, size[1])
        to = (start + step * x) * lanes
        for c in range(0, lanes, LANES):
            first = load(cells, left * lanes + c, (0,))
            value = first + across * (load(cells, right * lanes + c, (0,)) - first)
            store(row, to + c, maximum(value, load(row, to + c, (0,))) if is_larger else value)


@kernel
def place(position: int, before: int, after: int) -> tuple[int, int, np.float32]:
    """Return between which of the old places a new one lies, and how far behind the first; rounded as Caffe's."""
    step = np.float32(before - 1) / np.float32(after - 1) if after > 1 else np.float32(0.0)
    at = step * np.float32(position)
    first = min(int(at), before - 1)
    return first, min(first + 1, before - 1), np.float32(at - np.float32(first))


@kernel
def soften(row: Float32, label: Label, classes: int, scores: Float32) -> None:
    """Write the softmax of a row of logits [width][lanes], which are replaced, to the scores (W, C)."""
    lanes = len(row) // len(label)
    for x in range(len(label)):
        at = x * lanes
        top = row[at + label[x]]
        for c in range(classes):
            row[at + c] = LOG2_E * (row[at + c] - top)
        for c in range(classes, lanes):
            row[at + c] = np.float32(-np.inf)
        for c in range(0, lanes, LANES):
            store(row, at + c, exp2(load(row, at + c, (0,))))
        total = np.float32(0.0)
        for c in range(classes):
            total += row[at + c]
        for c in range(classes):
            scores[x, c] = row[at + c] / total
