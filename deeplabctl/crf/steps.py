"""Run the steps of the mean field: labels stand last, padded to whole vectors, and scores are logarithms to base 2.

N pixels have P lanes each: one for a label, perhaps one for the labels that were dropped, and lanes that are nobody's.
``width`` is the type of the vectors that go through the lanes (see vectors). Numba loads with this module, so it is
imported inside functions alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplabctl.crf.compiling import inlined, kernel
from deeplabctl.crf.filtering import ALL, GAUSSIAN, Filter
from deeplabctl.crf.lattice import HALF, ONE, ROW, ZERO, Floats, Ints
from deeplabctl.crf.vectors import LANES, exp2, largest, load, maximum, store, total

PIXELS = 16  # go through a step together, so that what lies between its parts stays in the cache
NEVER = np.float32(-1e4)  # the score of a lane that is nobody's


@kernel
def fill_lanes(logs: Floats, order: Ints, unit: np.float32, scores: Floats) -> None:
    """Copy logarithms of scores (N, C) to lanes (N, P), in an order and another unit; each pixel's best becomes 0."""
    for n in range(len(scores)):
        pixel = logs[order[n]]
        top = pixel[0]
        for label in range(1, len(pixel)):
            top = max(top, pixel[label])
        for label in range(len(pixel)):
            scores[n, label] = unit * (pixel[label] - top)
        for lane in range(logs.shape[1], scores.shape[1]):
            scores[n, lane] = NEVER


@kernel
def fill_fewer_lanes(scores: Floats, kept: Ints, mask: Floats, fewer: Floats) -> None:
    """Copy the lanes that are kept, and give one lane more the sum of the dropped ones, for which the mask is 0."""
    row = np.empty((1, scores.shape[1]), np.float32)
    for n in range(len(scores)):
        add_mask(scores, n, mask, row)
        top, sum_ = powers(row, 0, (0,))
        for lane in range(len(kept)):
            fewer[n, lane] = scores[n, kept[lane]]
        fewer[n, len(kept)] = top + np.log2(sum_)
        for lane in range(len(kept) + 1, fewer.shape[1]):
            fewer[n, lane] = NEVER


@kernel
def step(scores: Floats, filter_: Filter, heard: Floats, said: Floats, peaks: Floats, width: Any) -> None:
    """Go from the messages heard (M, P) to those said: add them to the scores, take the softmax, send it out.

    Where none were heard (0, P) the scores stand alone; where none are to be said, the shares take the scores' place.
    The peaks (P,) become the largest share of each lane.
    """
    lanes = scores.shape[1]
    shares = np.zeros((PIXELS, lanes), np.float32)
    for begin in range(0, len(scores), PIXELS):
        count = min(PIXELS, len(scores) - begin)
        listen(scores, filter_, heard, begin, count, shares, width)
        softmax(shares, width)
        if len(said):
            speak(shares, filter_, begin, count, said, peaks, width)
        else:
            for i in range(count):
                for lane in range(lanes):
                    scores[begin + i, lane] = shares[i, lane]


@kernel
def hand_out(shares: Floats, kept: Ints, order: Ints, marginals: Floats) -> None:
    """Copy the shares of the labels that were kept to the marginals (N, C), in the image's order."""
    for n in range(len(shares)):
        pixel = marginals[order[n]]
        for lane in range(len(kept)):
            pixel[kept[lane]] = shares[n, lane]


@kernel
def hand_out_rest(
    shares: Floats, lane: int, scores: Floats, mask: Floats, order: Ints, marginals: Floats, width: Any
) -> None:
    """Divide the share of a lane among the labels that were dropped, by their scores alone."""
    row = np.empty((1, scores.shape[1]), np.float32)
    for n in range(len(shares)):
        add_mask(scores, n, mask, row)
        softmax(row, width)
        pixel = marginals[order[n]]
        for label in range(len(pixel)):
            pixel[label] = shares[n, lane] * row[0, label]


@inlined
def add_mask(scores: Floats, n: int, mask: Floats, row: Floats) -> None:
    """Write a pixel's scores and the mask's to a row (1, P)."""
    for lane in range(0, len(mask), LANES):
        store(row, lane, load(scores, n * len(mask) + lane, (0,)) + load(mask, lane, (0,)))


@inlined
def listen(scores: Floats, filter_: Filter, heard: Floats, begin: int, count: int, sums: Floats, width: Any) -> None:
    """Add to the scores of a block of pixels what both kernels bring them (the lattice's slice)."""
    lanes = scores.shape[1]
    vertices, weights, factors = filter_.vertices, filter_.weights, filter_.factors
    for i in range(count):
        n = np.uintp(begin + i)
        for lane in range(0, lanes, LANES * len(width)):
            score = load(scores, (begin + i) * lanes + lane, width)
            if len(heard):
                near = weights[n, 0] * load(heard, np.intp(vertices[n, 0]) * lanes + lane, width)
                for j in range(1, GAUSSIAN):
                    near = near + weights[n, j] * load(heard, np.intp(vertices[n, j]) * lanes + lane, width)
                alike = weights[n, GAUSSIAN] * load(heard, np.intp(vertices[n, GAUSSIAN]) * lanes + lane, width)
                for j in range(GAUSSIAN + 1, ALL):
                    alike = alike + weights[n, j] * load(heard, np.intp(vertices[n, j]) * lanes + lane, width)
                score = score + (factors[n, 0] * near + factors[n, 1] * alike)
            store(sums, i * lanes + lane, score)


@inlined
def speak(shares: Floats, filter_: Filter, begin: int, count: int, said: Floats, peaks: Floats, width: Any) -> None:
    """Add the shares of a block of pixels to their vertices (the lattice's splat)."""
    lanes = said.shape[1]
    vertices, weights = filter_.vertices, filter_.weights
    for i in range(count):
        n = np.uintp(begin + i)
        for lane in range(0, lanes, LANES * len(width)):
            share = load(shares, i * lanes + lane, width)
            store(peaks, lane, maximum(share, load(peaks, lane, width)))
            for j in range(ALL):
                at = np.intp(vertices[n, j]) * lanes + lane
                store(said, at, load(said, at, width) + weights[n, j] * share)


@kernel
def blur(values: Floats, chains: Ints, width: Any) -> None:
    """Blur rows of lanes (M, P) in place with [1/2 1 1/2] along the chains; a vertex that is not there counts 0."""
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
def softmax(rows: Floats, width: Any) -> None:
    """Turn rows of scores (n, P) into shares of 1."""
    lanes = rows.shape[1]
    for begin in range(0, rows.size, lanes):
        _, sum_ = powers(rows, begin, width)
        inverse = ONE / sum_
        for lane in range(begin, begin + lanes, LANES * len(width)):
            store(rows, lane, inverse * load(rows, lane, width))


@inlined
def powers(rows: Floats, begin: int, width: Any) -> tuple[Any, Any]:
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
