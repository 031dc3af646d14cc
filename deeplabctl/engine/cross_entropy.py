"""Compute the cross-entropy of upsampled logits, and its gradient, in one pass: no upsampled logits are stored.

A part is a band of the label's rows. It works on one row at a time, which lies between two rows of the logits:

    logits       [columns][step]     interpolated between the two; step: the classes, as many as fill whole vectors
    gradients    [columns][step]     with respect to these
    pixel        [step]              of the label

Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

import itertools
import math
import threading
from typing import Any

import numpy as np

from deeplabctl.arrays import LANES, Float32, Int32, Size
from deeplabctl.engine.convolution import ZERO
from deeplabctl.engine.workspace import Workers
from deeplabctl.jit import kernel
from deeplabctl.vectors import exp2, largest, load, store, total

_ROWS = 16  # of a part
_ABSENT = np.float32(-1e30)  # the logit of a class that only fills a vector
_TO_BASE_2 = np.float32(1 / math.log(2))
_ONE = np.float32(1)
_WORST = -math.log(np.finfo(np.float32).tiny)  # to report of a pixel, as Caffe does

Places = tuple[Int32, Int32, Float32]  # of each pixel: the two that it lies between, and the share of the second


def places(pixels: int, cells: int, *, half_pixel: bool) -> Places:
    """Return where the pixels of an axis lie between cells, as TensorFlow's bilinear resizing has it in float32."""
    at = np.arange(pixels, dtype=np.float32)
    if half_pixel:
        at = (at + np.float32(0.5)) * (np.float32(cells) / np.float32(pixels)) - np.float32(0.5)
    else:
        at = at * np.float32((cells - 1) / np.float32(max(1, pixels - 1)))
    before = np.floor(at)
    first = np.maximum(before, 0).astype(np.int32)
    return first, np.minimum(np.ceil(at), cells - 1).astype(np.int32), at - before


class UpsampledCrossEntropy:
    """Compute ``sum(w * -log p)`` of logits (N, h, w, C), upsampled to labels (N, H, W), and its gradient.

    Results do not depend on the number of threads. It may be called from several threads at once; they wait for one
    another.
    """

    def __init__(self, threads: int, *, half_pixel: bool) -> None:
        self._workers, self._lock, self._half_pixel = Workers(threads), threading.Lock(), half_pixel

    def __call__(self, logits: Float32, labels: Int32, weights: Float32) -> tuple[Float32, Float32]:
        """Return two sums, of the losses and of those clamped at ``-log(FLT_MIN)``, and the gradient of the first.

        ``labels`` are class ids, ``weights`` (N, H, W) say how much a pixel counts. Losses that are not numbers make
        the sums NaN.
        """
        number, height, width, classes = logits.shape
        vector = (0,) * min(3, -(-classes // LANES))
        lanes = LANES * len(vector)
        step = -(-classes // lanes) * lanes
        rows, columns = (
            places(pixels, cells, half_pixel=self._half_pixel)
            for pixels, cells in zip(labels.shape[1:], (height, width), strict=True)
        )
        bounds = [*range(0, labels.shape[1], _ROWS), labels.shape[1]]
        parts = [(image, band) for image in range(number) for band in itertools.pairwise(bounds)]
        sums = np.empty((len(parts), 2))
        found: list[tuple[int, Float32]] = [(0, logits)] * len(parts)

        def compute(part: int, work: Float32) -> None:
            image, (first, last) = parts[part]
            base, end = rows[0][first], rows[1][last - 1] + 1
            gradient = np.zeros((end - base, width, classes), np.float32)
            own = logits[image].reshape(-1), labels[image].reshape(-1), weights[image].reshape(-1)
            sums[part] = losses_of_band(
                *own, (width, classes, step), rows, columns, (first, last), base, work, gradient.reshape(-1), vector
            )
            found[part] = base, gradient

        with self._lock:
            self._workers.run(compute, range(len(parts)), (2 * width + 1) * step)
        gradients = np.zeros_like(logits)
        for (image, _), (base, gradient) in zip(parts, found, strict=True):
            gradients[image, base : base + len(gradient)] += gradient
        return sums.sum(0).astype(np.float32), gradients


@kernel
def losses_of_band(
    logits: Float32, labels: Int32, weights: Float32, sizes: tuple[int, int, int], rows: Places, columns: Places,
    band: Size, base: int, work: Float32, gradient: Float32, vector: Any,
) -> tuple[float, float]:  # fmt: skip
    """Return the two sums over the label's rows ``band``, and add their gradient, whose first row is ``base``."""
    (width, classes, step), lanes = sizes, LANES * len(vector)
    pixel, gradients, pixels = 2 * width * step, width * step, len(columns[0])
    loss = clamped = 0.0
    for x in range(width):
        work[x * step + classes : (x + 1) * step] = _ABSENT
    for y in range(band[0], band[1]):
        above, below, down = rows[0][y] * width, rows[1][y] * width, rows[2][y]
        for x in range(width):
            for c in range(classes):
                value = logits[(above + x) * classes + c]
                work[x * step + c] = value + (logits[(below + x) * classes + c] - value) * down
        work[gradients:pixel] = ZERO
        for x in range(pixels):
            weight, label = weights[y * pixels + x], labels[y * pixels + x]
            if weight == 0:
                continue
            left, right, share = columns[0][x] * step, columns[1][x] * step, columns[2][x]
            own = work[left + label] + (work[right + label] - work[left + label]) * share
            most, odds = _ABSENT, ZERO
            for c in range(0, step, lanes):
                value = load(work, left + c, vector)
                value = value + share * (load(work, right + c, vector) - value)
                store(work, pixel + c, value)
                most = max(most, largest(value))
                odds += total(value * ZERO)  # NaN and infinity stay
            for c in range(0, step, lanes):
                value = exp2((load(work, pixel + c, vector) - most) * _TO_BASE_2)
                store(work, pixel + c, value)
                odds += total(value)
            here = math.log(odds) + (most - own)
            loss += weight * here
            clamped += weight * (_WORST if here > _WORST else here)
            for c in range(0, step, lanes):
                value = load(work, pixel + c, vector) * (weight / odds)
                to = gradients + left + c
                store(work, to, load(work, to, vector) + value * (_ONE - share))
                to = gradients + right + c
                store(work, to, load(work, to, vector) + value * share)
            work[gradients + left + label] -= weight * (_ONE - share)
            work[gradients + right + label] -= weight * share
        for x in range(width):
            for c in range(classes):
                value = work[gradients + x * step + c]
                gradient[(above - base * width + x) * classes + c] += value * (_ONE - down)
                gradient[(below - base * width + x) * classes + c] += value * down
    return loss, clamped
