"""Refine a network's scores with the dense CRF: numpy in, numpy out, compiled kernels in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import LANES, Float32, Image, Int32, Scores, aligned
from deeplabctl.crf.params import CrfParams
from deeplabctl.parallel import free_memory

if TYPE_CHECKING:
    from deeplabctl.crf.lattice import Filter


DEFAULT = CrfParams()
WEAK = 0.04  # adaptive: the dropped labels have at most this probability together, at every pixel
# An image of noise has a vertex of its own for each corner around each pixel; photos have a tenth of them.
LANE_BYTES = 64  # that a pixel's lane takes at most while it is refined, with the vertices' lanes
PIXEL_BYTES = 250  # that a pixel takes without the lanes
TINY = np.finfo(np.float32).tiny


def refine(image: Image, scores: Scores, params: CrfParams = DEFAULT, *, adaptive: bool = False) -> Scores:
    """Return the CRF's marginals (H, W, C) float32 for an image (H, W, 3) uint8 RGB and its scores after softmax.

    The scores (H, W, C) are float32, of 2 to 255 labels; the unary energy is their negative logarithm. Raises
    ValueError for other shapes, types and values, and MemoryError, instead of being killed, where more memory is needed
    than is free. ``adaptive`` saves time on labels that are weak everywhere in the image: from the second iteration on
    they send no messages, but keep their energies (marginals within 5e-3, unless many labels are about equally likely).
    """
    from deeplabctl.crf.lattice import build_filter, tiled_order

    image, scores = np.asarray(image), np.asarray(scores)  # of tensors and Pillow images
    _check(image, scores, params)
    if not (scores.min() >= 0 and scores.max() <= 1.001):
        raise ValueError(f"CRF: expected scores after softmax, 0 to 1, got {scores.min():g} to {scores.max():g}")
    count, labels = scores.shape[0] * scores.shape[1], scores.shape[2]
    lanes = _padded(labels)
    _check_memory(count * (PIXEL_BYTES + 4 * labels + 4 * lanes), scores)
    logs = np.maximum(scores, TINY, order="C")
    np.log(logs, out=logs)
    order = tiled_order(*logs.shape[:2])
    filter_ = build_filter(image, order, params)
    _check_memory(4 * lanes * (count * (1 + adaptive) + 2 * filter_.size), scores)
    weak = WEAK if adaptive else -1
    return _mean_field(logs.reshape(-1, logs.shape[2]), order, filter_, params.iterations, weak).reshape(logs.shape)


def memory_to_refine(shape: Sequence[int]) -> int:
    """Return how many bytes it takes to refine scores of a shape (H, W, C) of an image of noise."""
    height, width, labels = shape
    return height * width * (PIXEL_BYTES + _padded(labels) * LANE_BYTES)


def compile_kernels() -> None:
    """Compile the kernels: seconds the first time on a machine, half a second to load them after that."""
    image = np.zeros((1, 2, 3), np.uint8)
    for labels in (16, 24):
        scores = np.zeros((1, 2, labels), np.float32)
        scores[..., 0] = 1
        refine(image, scores, adaptive=labels == 24)


def _check(image: Image, scores: Scores, params: CrfParams) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"CRF: expected an image (H, W, 3) of uint8, got {image.shape} of {image.dtype}")
    if scores.ndim != 3 or scores.shape[:2] != image.shape[:2] or scores.dtype != np.float32:
        expected = f"scores ({image.shape[0]}, {image.shape[1]}, C) of float32"
        raise ValueError(f"CRF: expected {expected} for this image, got {scores.shape} of {scores.dtype}")
    if not 2 <= scores.shape[2] <= 255:
        raise ValueError(f"CRF: expected scores of 2 to 255 labels, got {scores.shape[2]}")
    if not isinstance(params, CrfParams):
        raise ValueError(f"CRF: expected the parameters as CrfParams, got {params!r}")
    params.check()


def _check_memory(needed: int, scores: Scores) -> None:
    if needed > (free := free_memory()):
        shape, gib = "x".join(map(str, scores.shape)), 1 << 30
        raise MemoryError(
            f"CRF: scores of {shape} take {needed / gib:.1f} GiB of memory, and {free / gib:.1f} are free"
        )


def _mean_field(logs: Float32, order: Int32, filter_: Filter, iterations: int, weak: float) -> Float32:
    """Turn logarithms of scores (N, C) into marginals.

    From the second iteration on, labels below ``weak`` may be dropped. The dropped labels share a lane with the sum of
    their scores. Labels are dropped when that saves a register.
    """
    from deeplabctl.crf import steps
    from deeplabctl.crf.lattice import LOG2_E

    count, labels = logs.shape
    kept = np.arange(labels, dtype=np.int32)
    scores = all_scores = _lanes(count, labels)
    mask = np.zeros(scores.shape[1], np.float32)  # added to scores, it leaves only the dropped labels
    steps.fill_lanes(logs, order, LOG2_E, all_scores)
    blurred = spare = scores[:0]
    for iteration in range(iterations):
        splatted = _emptied(spare, (filter_.size, scores.shape[1]))
        peaks = np.zeros(scores.shape[1], np.float32)
        steps.step(scores, filter_, blurred, splatted, peaks, _width(scores))
        strong = _strong(peaks[: len(kept)], weak - peaks[len(kept) :].sum())  # less those dropped before
        if iteration and _padded(len(strong) + 1) < scores.shape[1]:
            kept = kept[strong]
            scores, fewer = _lanes(count, len(kept) + 1), _lanes(len(splatted), len(kept) + 1)
            fewer[:, : len(kept)] = splatted[:, strong]
            splatted = fewer
            mask.fill(0)
            mask[kept] = steps.PADDING
            steps.fill_fewer_lanes(all_scores, kept, mask, scores)
        steps.blur(splatted, filter_.chains, _width(scores))
        blurred, spare = splatted, blurred
    no_peaks = np.zeros(scores.shape[1], np.float32)
    steps.step(scores, filter_, blurred, scores[:0], no_peaks, _width(scores))  # the scores become marginals
    marginals = logs  # whose values are in the lanes
    if len(kept) < labels:
        steps.unpack_dropped(scores, len(kept), all_scores, mask, order, marginals, _width(all_scores))
    steps.unpack(scores, kept, order, marginals)
    return marginals


def _strong(peaks: Float32, weak: float) -> npt.NDArray[np.intp]:
    """Return the labels that are left when the weakest are dropped, whose peaks sum to at most ``weak``."""
    order = np.argsort(peaks, kind="stable")
    return np.sort(order[np.cumsum(peaks[order]) > weak])


def _width(lanes: Float32) -> tuple[int, ...]:
    """Return the longest vector that goes through the lanes in whole steps: a tuple of 3, 2 or 1 registers."""
    registers = lanes.shape[1] // LANES
    return (0,) * next(length for length in (3, 2, 1) if registers % length == 0)


def _padded(labels: int) -> int:
    return -(-labels // LANES) * LANES


def _lanes(rows: int, labels: int) -> Float32:
    """Return zeros (rows, P), P a multiple of 8, aligned to a cache line."""
    lanes = _padded(labels)
    return aligned(rows * lanes).reshape(rows, lanes)


def _emptied(values: Float32, shape: tuple[int, int]) -> Float32:
    """Return zeros of a shape, in the memory of old values if they have this shape."""
    if values.shape != shape:
        return _lanes(*shape)
    values.fill(0)
    return values
