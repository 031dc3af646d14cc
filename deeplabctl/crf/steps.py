"""Run the steps of the mean field on rows of lanes: one lane for each label, padded to whole vectors.

N pixels have P lanes each: one for each label, perhaps one for all labels that were dropped, and padding. Scores are
logarithms to base 2. ``width`` is the type of the vectors that go through the lanes (see vectors). Messages are passed
as on every permutohedral lattice (Adams, Baek and Davis 2010): pixels splat their values onto their vertices, vertices
are blurred, pixels slice the values of their vertices. Numba loads with this module: import it inside functions only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplabctl.arrays import LANES, Float32, Int32
from deeplabctl.crf.lattice import ALL_VERTICES, GAUSSIAN_VERTICES, HALF, ONE, ROW, ZERO, Filter
from deeplabctl.jit import inlined, kernel
from deeplabctl.vectors import exp2, largest, load, maximum, store, total

PIXELS = 16  # go through a step together, so that what lies between its parts stays in the cache
PADDING = np.float32(-1e4)  # the score of a lane without a label


@kernel
def fill_lanes(logs: Float32, order: Int32, unit: np.float32, scores: Float32) -> None:
    """Copy logarithms of scores (N, C) to lanes (N, P), in an order and another unit; each pixel's best becomes 0."""
    for n in range(len(scores)):
        pixel = logs[order[n]]
        top = pixel[0]
        for label in range(1, len(pixel)):
            top = max(top, pixel[label])
        for label in range(len(pixel)):
            scores[n, label] = unit * (pixel[label] - top)
        for lane in range(logs.shape[1], scores.shape[1]):
            scores[n, lane] = PADDING


@kernel
def fill_fewer_lanes(scores: Float32, kept: Int32, mask: Float32, fewer: Float32) -> None:
    """Copy the lanes that are kept, and add one with the sum of the dropped ones, for which the mask is 0."""
    row = np.empty((1, scores.shape[1]), np.float32)
    for n in range(len(scores)):
        add_mask(scores, n, mask, row)
        top, sum_ = powers(row, 0, (0,))
        for lane in range(len(kept)):
            fewer[n, lane] = scores[n, kept[lane]]
        fewer[n, len(kept)] = top + np.log2(sum_)
        for lane in range(len(kept) + 1, fewer.shape[1]):
            fewer[n, lane] = PADDING


@kernel
def step(scores: Float32, filter_: Filter, blurred: Float32, splatted: Float32, peaks: Float32, width: Any) -> None:
    """Slice the blurred vertices (M, P), add the messages to the scores, take the softmax, and splat it.

    With no blurred vertices (0, P) there are no messages. With no vertices to splat onto, the softmax replaces the
    scores. The peaks (P,) become the largest value of the softmax in each lane.
    """
    lanes = scores.shape[1]
    marginals = np.zeros((PIXELS, lanes), np.float32)
    for begin in range(0, len(scores), PIXELS):
        count = min(PIXELS, len(scores) - begin)
        add_messages(scores, filter_, blurred, begin, count, marginals, width)
        softmax(marginals, width)
        if len(splatted):
            splat(marginals, filter_, begin, count, splatted, peaks, width)
        else:
            for i in range(count):
                for lane in range(lanes):
                    scores[begin + i, lane] = marginals[i, lane]


@kernel
def unpack(lanes: Float32, kept: Int32, order: Int32, marginals: Float32) -> None:
    """Copy the lanes of the labels that were kept to the marginals (N, C), in the image's order."""
    for n in range(len(lanes)):
        pixel = marginals[order[n]]
        for lane in range(len(kept)):
            pixel[kept[lane]] = lanes[n, lane]


@kernel
def unpack_dropped(
    lanes: Float32, lane: int, scores: Float32, mask: Float32, order: Int32, marginals: Float32, width: Any
) -> None:
    """Divide the lane of the dropped labels among them, by their scores without messages."""
    row = np.empty((1, scores.shape[1]), np.float32)
    for n in range(len(lanes)):
        add_mask(scores, n, mask, row)
        softmax(row, width)
        pixel = marginals[order[n]]
        for label in range(len(pixel)):
            pixel[label] = lanes[n, lane] * row[0, label]


@inlined
def add_mask(scores: Float32, n: int, mask: Float32, row: Float32) -> None:
    """Write the sum of a pixel's scores and the mask to a row (1, P)."""
    for lane in range(0, len(mask), LANES):
        store(row, lane, load(scores, n * len(mask) + lane, (0,)) + load(mask, lane, (0,)))


@inlined
def add_messages(
    scores: Float32, filter_: Filter, blurred: Float32, begin: int, count: int, sums: Float32, width: Any
) -> None:
    """Slice both kernels' vertices for a block of pixels, and add the messages to the scores."""
    lanes = scores.shape[1]
    vertices, weights, factors = filter_.vertices, filter_.weights, filter_.factors
    for i in range(count):
        n = np.uintp(begin + i)
        for lane in range(0, lanes, LANES * len(width)):
            score = load(scores, (begin + i) * lanes + lane, width)
            if len(blurred):
                gaussian = weights[n, 0] * load(blurred, np.intp(vertices[n, 0]) * lanes + lane, width)
                for j in range(1, GAUSSIAN_VERTICES):
                    gaussian = gaussian + weights[n, j] * load(blurred, np.intp(vertices[n, j]) * lanes + lane, width)
                first = np.intp(vertices[n, GAUSSIAN_VERTICES]) * lanes
                bilateral = weights[n, GAUSSIAN_VERTICES] * load(blurred, first + lane, width)
                for j in range(GAUSSIAN_VERTICES + 1, ALL_VERTICES):
                    bilateral = bilateral + weights[n, j] * load(blurred, np.intp(vertices[n, j]) * lanes + lane, width)
                score = score + (factors[n, 0] * gaussian + factors[n, 1] * bilateral)
            store(sums, i * lanes + lane, score)


@inlined
def splat(
    marginals: Float32, filter_: Filter, begin: int, count: int, splatted: Float32, peaks: Float32, width: Any
) -> None:
    """Add the marginals of a block of pixels to their vertices."""
    lanes = splatted.shape[1]
    vertices, weights = filter_.vertices, filter_.weights
    for i in range(count):
        n = np.uintp(begin + i)
        for lane in range(0, lanes, LANES * len(width)):
            marginal = load(marginals, i * lanes + lane, width)
            store(peaks, lane, maximum(marginal, load(peaks, lane, width)))
            for j in range(ALL_VERTICES):
                at = np.intp(vertices[n, j]) * lanes + lane
                store(splatted, at, load(splatted, at, width) + weights[n, j] * marginal)


@kernel
def blur(values: Float32, chains: Int32, width: Any) -> None:
    """Blur rows of lanes (M, P) in place with [1/2 1 1/2] along the chains; a missing neighbour counts 0."""
    lanes = values.shape[1]
    before = np.zeros(lanes, np.float32)
    for t in range(len(chains) - 1):
        row = np.intp(chains[t] & ROW) * lanes
        next_row = np.intp(chains[t + 1] & ROW) * lanes
        goes_on = ZERO if chains[t] < 0 else ONE
        for lane in range(0, lanes, LANES * len(width)):
            value = load(values, row + lane, width)
            after = goes_on * load(values, next_row + lane, width)
            store(values, row + lane, value + HALF * (load(before, lane, width) + after))
            store(before, lane, goes_on * value)


@inlined
def softmax(rows: Float32, width: Any) -> None:
    """Replace rows of scores (n, P) by their softmax."""
    lanes = rows.shape[1]
    for begin in range(0, rows.size, lanes):
        _, sum_ = powers(rows, begin, width)
        inverse = ONE / sum_
        for lane in range(begin, begin + lanes, LANES * len(width)):
            store(rows, lane, inverse * load(rows, lane, width))


@inlined
def powers(rows: Float32, begin: int, width: Any) -> tuple[Any, Any]:
    """Raise 2 to a row's scores less the highest, in place; return the highest, and the sum of the powers."""
    end, span = begin + rows.shape[1], LANES * len(width)
    tops = load(rows, begin, width)
    for lane in range(begin + span, end, span):
        tops = maximum(tops, load(rows, lane, width))
    top, sum_ = largest(tops), ZERO
    for lane in range(begin, end, span):
        power = exp2(load(rows, lane, width) - top)
        store(rows, lane, power)
        sum_ += total(power)
    return top, sum_
