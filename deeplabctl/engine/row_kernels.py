"""Compute what goes row by row: pool, add, join and resize images; fuse logits to labels and scores.

Images are [height][width][depth], depths are padded to whole cache lines. Positions in resized ones are those of
Caffe's INTERP layer: the corners of both sizes coincide; or, with ``half_pixel``, the borders of both do. Logits of all
scales and of the mirrored image are fused a row at a time, so that its values [width][lanes] stay in a cache; ``lanes``
are the classes, padded to whole cache lines. Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deeplabctl.arrays import LANES, LINE, Float32, Int64, Label, Scores, Size
from deeplabctl.engine.workspace import Workers, padded
from deeplabctl.jit import kernel
from deeplabctl.vectors import clipped, exp2, load, maximum, store

if TYPE_CHECKING:
    from deeplabctl.engine.convolution import Limits

NINTH = np.float32(1 / 9)
SIXTH, THREE, GATE = np.float32(1 / 6), np.float32(3.0), (np.float32(0.0), np.float32(6.0))
HALF, LOG2_E = np.float32(0.5), np.float32(np.log2(np.e))


@kernel
def pool(
    image: Float32, shape: tuple[int, int, int], stride: int, is_max: bool, out_width: int, result: Float32,
    first: int, last: int,
) -> None:  # fmt: skip
    """Pool the rows first:last of the result: windows of 3x3 pixels with pad 1, clipped to the image.

    Caffe's average divides by 9 at the borders too.
    """
    height, width, depth = shape
    for y in range(first, last):
        top, bottom = max(y * stride - 1, 0), min(y * stride + 2, height)
        for x in range(out_width):
            left, right = max(x * stride - 1, 0), min(x * stride + 2, width)
            destination = (y * out_width + x) * depth
            for c in range(0, depth, LINE):
                value = load(image, (top * width + left) * depth + c, (0, 0))
                if is_max:
                    for i in range(top, bottom):
                        for j in range(left, right):
                            value = maximum(value, load(image, (i * width + j) * depth + c, (0, 0)))
                    store(result, destination + c, value)
                else:
                    for i in range(top, bottom):
                        for j in range(left, right):
                            if i != top or j != left:
                                value = value + load(image, (i * width + j) * depth + c, (0, 0))
                    store(result, destination + c, NINTH * value)


@kernel
def add(a: Float32, b: Float32, limits: Limits, result: Float32, first: int, last: int) -> None:
    """Write a + b, between the limits, for the lines first:last of floats."""
    for i in range(first * LINE, last * LINE, LINE):
        store(result, i, clipped(load(a, i, (0, 0)) + load(b, i, (0, 0)), limits))


@kernel
def clip(image: Float32, limits: Limits, result: Float32, first: int, last: int) -> None:
    """Write what is between the limits, for the lines first:last of floats."""
    for i in range(first * LINE, last * LINE, LINE):
        store(result, i, clipped(load(image, i, (0, 0)), limits))


@kernel
def apply_gate(image: Float32, is_product: bool, result: Float32, first: int, last: int) -> None:
    """Write relu6(x + 3) / 6, or x times that, for the lines first:last of floats."""
    for i in range(first * LINE, last * LINE, LINE):
        x = load(image, i, (0, 0))
        gate = SIXTH * clipped(THREE + x, GATE)
        store(result, i, x * gate if is_product else gate)


@kernel
def multiply_channels(image: Float32, gate: Float32, depth: int, result: Float32, first: int, last: int) -> None:
    """Write the pixels first:last times the gate of each channel."""
    for p in range(first * depth, last * depth, depth):
        for c in range(0, depth, LINE):
            store(result, p + c, load(image, p + c, (0, 0)) * load(gate, c, (0, 0)))


@kernel
def copy_channels(
    image: Float32, step: int, channels: int, start: int, stop: int, depth: int, result: Float32, first: int, last: int
) -> None:
    """Copy the pixels first:last, ``step`` floats from each other, to channels start:stop of a depth.

    After their own channels there are zeros.
    """
    for p in range(first, last):
        for c in range(channels):
            result[p * depth + start + c] = image[p * step + c]
        for c in range(start + channels, stop):
            result[p * depth + c] = 0.0


@kernel
def average(image: Float32, shape: tuple[int, int, int], result: Float32, first: int, last: int) -> None:
    """Write the mean of the lines first:last of channels over the image; rows are summed first, to be rounded less."""
    height, width, depth = shape
    count = (last - first) * LINE
    row, total = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for y in range(height):
        row[:] = 0.0
        for x in range(width):
            at = (y * width + x) * depth + first * LINE
            for c in range(0, count, LINE):
                store(row, c, load(row, c, (0, 0)) + load(image, at + c, (0, 0)))
        for c in range(0, count, LINE):
            store(total, c, load(total, c, (0, 0)) + load(row, c, (0, 0)))
    for c in range(count):
        result[first * LINE + c] = total[c] / np.float32(height * width)


@kernel
def resize_rows(
    pixels: Float32, size: Size, result: Float32, is_larger: bool, half_pixel: bool, first: int, last: int
) -> None:
    """Resize (h, w, lanes) to the rows first:last of a result (H, W, lanes).

    With ``is_larger`` values that are larger in the result stay.
    """
    height, width, lanes = pixels.shape
    flat, row = pixels.reshape(height * width * lanes), result.reshape(size[0] * size[1] * lanes)
    cells = np.zeros(width * lanes, np.float32)
    for y in range(first, last):
        resize_row(flat, 0, (height, width), lanes, size, y, size[1], y * size[1], 1, cells, row, is_larger, half_pixel)


@kernel
def fuse_rows(
    logits: Float32, shapes: Int64, lanes: int, is_flipped: bool, full: Size, classes: int, half_pixel: bool,
    label: Label, scores: Float32, first: int, last: int,
) -> None:  # fmt: skip
    """Write the rows first:last of the label (H, W), and of the scores (H, W, C) if they are not empty.

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
            to, start, step = (row, 0, 1) if number < scales else (other, width - 1, -1)  # mirrored: from its other end
            is_larger = number % scales > 0
            resize_row(logits, at, shape, lanes, full, y, width, start, step, cells, to, is_larger, half_pixel)
            at += shape[0] * shape[1] * lanes
        if is_flipped:
            for k in range(len(row)):
                row[k] = HALF * (row[k] + other[k])
        choose(row, classes, label[y])
        if len(scores):
            soften(row, label[y], classes, scores[y])


@kernel
def average_rows(
    logits: Float32, shapes: Int64, lanes: int, is_flipped: bool, full: Size, classes: int, half_pixel: bool,
    label: Label, scores: Float32, first: int, last: int,
) -> None:  # fmt: skip
    """Do as `fuse_rows`, but the mean of the scores of all scales and of both images counts."""
    width, scales = label.shape[1], len(shapes)
    cells, row = np.zeros(shapes[:, 1].max() * lanes, np.float32), np.zeros(width * lanes, np.float32)
    own, found = np.zeros(width, np.uint8), np.zeros((width, classes), np.float32)
    count = 2 * scales if is_flipped else scales
    for y in range(first, last):
        at = 0
        mean = np.zeros(width * classes, np.float32)
        for number in range(count):
            shape = (shapes[number % scales, 0], shapes[number % scales, 1])
            start, step = (0, 1) if number < scales else (width - 1, -1)
            resize_row(logits, at, shape, lanes, full, y, width, start, step, cells, row, False, half_pixel)
            choose(row, classes, own)
            soften(row, own, classes, found)
            mean += found.reshape(width * classes)
            at += shape[0] * shape[1] * lanes
        mean /= np.float32(count)
        choose(mean, classes, label[y])
        if len(scores):
            scores[y] = mean.reshape((width, classes))


@kernel
def choose(row: Float32, classes: int, label: Label) -> None:
    """Write the first class with the largest value of each pixel of a row [width][lanes]."""
    lanes = len(row) // len(label)
    for x in range(len(label)):
        best, pixel = 0, x * lanes
        for c in range(1, classes):
            if row[pixel + c] > row[pixel + best]:
                best = c
        label[x] = best


@kernel
def resize_row(
    logits: Float32, at: int, shape: Size, lanes: int, size: Size, y: int, count: int, start: int, step: int,
    cells: Float32, row: Float32, is_larger: bool, half_pixel: bool,
) -> None:  # fmt: skip
    """Write the first pixels of a row of logits (h, w, lanes) that are brought to a size.

    They are written to the row's pixel ``start`` and on from there by steps. With ``is_larger`` what is larger in the
    row stays.
    """
    height, width = shape
    above, below, weight_y = place(y, height, size[0], half_pixel)
    for k in range(0, width * lanes, LANES):
        upper = load(logits, at + above * width * lanes + k, (0,))
        lower = load(logits, at + below * width * lanes + k, (0,))
        store(cells, k, upper + weight_y * (lower - upper))
    for x in range(count):
        left, right, weight_x = place(x, width, size[1], half_pixel)
        destination = (start + step * x) * lanes
        for c in range(0, lanes, LANES):
            first = load(cells, left * lanes + c, (0,))
            value = first + weight_x * (load(cells, right * lanes + c, (0,)) - first)
            store(row, destination + c, maximum(value, load(row, destination + c, (0,))) if is_larger else value)


@kernel
def place(position: int, before: int, after: int, half_pixel: bool) -> tuple[int, int, np.float32]:
    """Return the two old positions around a new one, and the weight of the second; rounded as Caffe's."""
    if half_pixel:
        step = np.float32(before) / np.float32(after)
        at = max(step * (np.float32(position) + HALF) - HALF, np.float32(0.0))
    else:
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


def resized(images: Sequence[Float32], size: Size, workers: Workers, *, half_pixel: bool = False) -> Float32:
    """Return the largest at each place of images (h, w, C), resized with aligned corners (Caffe's INTERP) or not."""
    channels = images[0].shape[2]
    result = np.zeros((*size, padded(channels)), np.float32)
    for number, image in enumerate(images):
        workers.run_ranges(partial(resize_rows, _widened(image), size, result, number > 0, half_pixel), size[0])
    return result[..., :channels]


def fused(
    coarse: Sequence[Sequence[Float32]], full: Size, size: Size, workers: Workers, *, with_scores: bool,
    half_pixel: bool = False, averages: bool = False,
) -> tuple[Label, Scores]:  # fmt: skip
    """Return the label (H, W) of an image of a size and its scores (H, W, C); without scores the second is empty.

    ``coarse`` has the logits (h, w, C) of every scale, for the image and perhaps for its mirrored twin. They are
    upsampled to the padded size ``full``. The largest of the scales counts, and then the mean of both images; or, if it
    ``averages``, the mean of all scores.
    """
    classes = coarse[0][0].shape[2]
    shapes = np.array([logits.shape[:2] for logits in coarse[0]], np.int64)
    flat = np.concatenate([_widened(logits).ravel() for image in coarse for logits in image])
    label = np.zeros(size, np.uint8)
    scores = np.zeros((*size, classes) if with_scores else (0, 0, 0), np.float32)
    how = shapes, padded(classes), len(coarse) > 1, full, classes, half_pixel
    workers.run_ranges(partial(average_rows if averages else fuse_rows, flat, *how, label, scores), size[0])
    return label, scores


def _widened(values: Float32) -> Float32:
    """Return a copy of an array with as many channels as vectors need."""
    wide = np.zeros((*values.shape[:2], padded(values.shape[2])), np.float32)
    wide[..., : values.shape[2]] = values
    return wide
