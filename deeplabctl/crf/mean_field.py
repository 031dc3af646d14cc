"""Refine a network's scores with the dense CRF: numpy in, numpy out, compiled in between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deeplabctl.crf.params import CrfParams
from deeplabctl.parallel import map_ahead

if TYPE_CHECKING:
    from deeplabctl.crf.filtering import Filter

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

DEFAULT = CrfParams()
WEAK = 0.04  # adaptive: what the labels that are dropped may have of any pixel, all together
REGISTER = 8  # lanes
CACHE_LINE = 64  # bytes
TINY = np.finfo(np.float32).tiny


def refine(image: Image, scores: Floats, params: CrfParams = DEFAULT, *, adaptive: bool = False) -> Floats:
    """Return the CRF's marginals (H, W, C) float32 for an image (H, W, 3) uint8 RGB and its scores after softmax.

    The scores (H, W, C) are float32, of 2 to 255 labels; the unary energy is their negative logarithm. Raises
    ValueError for other shapes, types and values. ``adaptive`` saves time on labels that are weak in the whole image:
    from the third iteration on they send no messages, but keep their energies (marginals within 5e-3).
    """
    _check(image, scores, "scores", params)
    if not (scores.min() >= 0 and scores.max() <= 1.001):
        raise ValueError(f"CRF: expected scores after softmax, 0 to 1, got {scores.min():g} to {scores.max():g}")
    logs = np.maximum(scores, TINY, order="C")
    return _refine(image, np.log(logs, out=logs), params, adaptive)


def refine_energy(image: Image, energy: Floats, params: CrfParams = DEFAULT, *, adaptive: bool = False) -> Floats:
    """Return the marginals for the unary energy itself, -log p up to a constant for each pixel; else as ``refine``."""
    _check(image, energy, "energies", params)
    if not (math.isfinite(energy.min()) and math.isfinite(energy.max())):
        raise ValueError("CRF: expected finite energies")
    return _refine(image, np.negative(energy, order="C"), params, adaptive)


def refine_many(
    pairs: Iterable[tuple[Image, Floats]],
    params: CrfParams = DEFAULT,
    *,
    adaptive: bool = False,
    workers: int | None = None,
) -> Iterator[Floats]:
    """Yield the marginals of each (image, scores) in order, refined on as many cores as there are (or ``workers``).

    The result is that of ``refine``, bit for bit. Pairs are taken only a few ahead of what has been yielded.
    """
    return map_ahead(lambda pair: refine(*pair, params, adaptive=adaptive), pairs, workers=workers, ahead=2)


def compile_kernels() -> None:
    """Compile all that a refinement needs, or load it where that was done before: seconds once, then half a second."""
    image = np.zeros((1, 2, 3), np.uint8)
    for labels in (16, 24):
        scores = np.zeros((1, 2, labels), np.float32)
        scores[..., 0] = 1
        refine(image, scores, adaptive=labels == 24)


def _check(image: Image, values: Floats, what: str, params: CrfParams) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"CRF: expected an image (H, W, 3) of uint8, got {image.shape} of {image.dtype}")
    if values.ndim != 3 or values.shape[:2] != image.shape[:2] or values.dtype != np.float32:
        height, width, _ = image.shape
        expected = f"{what} ({height}, {width}, C) of float32"
        raise ValueError(f"CRF: expected {expected} for this image, got {values.shape} of {values.dtype}")
    if not 2 <= values.shape[2] <= 255:
        raise ValueError(f"CRF: expected {what} of 2 to 255 labels, got {values.shape[2]}")
    params.check()


def _refine(image: Image, logs: Floats, params: CrfParams, adaptive: bool) -> Floats:
    """Return the marginals for logarithms of scores (H, W, C)."""
    from deeplabctl.crf.filtering import build_filter, tiled_order

    height, width, labels = logs.shape
    order = tiled_order(height, width)
    filter_ = build_filter(image, order, params)
    weak = WEAK if adaptive else -1
    return _mean_field(logs.reshape(-1, labels), order, filter_, params.iterations, weak).reshape(logs.shape)


def _mean_field(logs: Floats, order: Ints, filter_: Filter, iterations: int, weak: float) -> Floats:
    """Iterate on logarithms of scores (N, C); after two iterations labels that share ``weak`` or less may be dropped.

    They get a lane together, the sum of their scores. That is done when it saves a register of lanes.
    """
    from deeplabctl.crf import steps
    from deeplabctl.crf.filtering import BITS

    count, labels = logs.shape
    kept = np.arange(labels, dtype=np.int32)
    scores = all_scores = _lanes(count, labels)
    mask = np.zeros(scores.shape[1], np.float32)  # what leaves only those that were dropped
    steps.fill_lanes(logs, order, BITS, all_scores)
    heard = said = scores[:0]
    for iteration in range(iterations):
        heard, said = said, _emptied(heard, (filter_.size, scores.shape[1]))
        peaks = np.zeros(scores.shape[1], np.float32)
        steps.step(scores, filter_, heard, said, peaks, _width(scores))
        strong = _strong(peaks[: len(kept)], weak)
        if iteration and _padded(len(strong) + 1) < scores.shape[1]:
            kept = kept[strong]
            scores, said = _lanes(count, len(kept) + 1), _columns(said, strong)
            mask.fill(0)
            mask[kept] = steps.NEVER
            steps.fill_fewer_lanes(all_scores, kept, mask, scores)
        steps.blur(said, filter_.chains, _width(scores))
    steps.step(scores, filter_, said, said[:0], np.zeros(scores.shape[1], np.float32), _width(scores))  # to shares
    marginals = np.empty_like(logs)
    if len(kept) < labels:
        steps.hand_out_rest(scores, len(kept), all_scores, mask, order, marginals, _width(all_scores))
    steps.hand_out(scores, kept, order, marginals)
    return marginals


def _strong(peaks: Floats, weak: float) -> npt.NDArray[np.intp]:
    """Return the labels that are left when the weakest are dropped whose peaks sum up to ``weak`` at most."""
    order = np.argsort(peaks, kind="stable")
    return np.sort(order[np.cumsum(peaks[order]) > weak])


def _width(lanes: Floats) -> tuple[int, ...]:
    """Return the longest vector that goes through the lanes in whole steps: a tuple of 3, 2 or 1 registers."""
    registers = lanes.shape[1] // REGISTER
    return (0,) * next(length for length in (3, 2, 1) if registers % length == 0)


def _padded(labels: int) -> int:
    return -(-labels // REGISTER) * REGISTER


def _lanes(rows: int, labels: int) -> Floats:
    """Return zeros (rows, P), P a multiple of 8, that begin with a line of the cache."""
    lanes = _padded(labels)
    room = np.zeros(4 * rows * lanes + CACHE_LINE, np.uint8)
    begin = -room.ctypes.data % CACHE_LINE
    return room[begin : begin + 4 * rows * lanes].view(np.float32).reshape(rows, lanes)


def _emptied(values: Floats, shape: tuple[int, int]) -> Floats:
    """Return zeros of a shape, in place of old values if they have it."""
    if values.shape != shape:
        return _lanes(*shape)
    values.fill(0)
    return values


def _columns(values: Floats, kept: npt.NDArray[np.intp]) -> Floats:
    """Return the columns that are kept, with room for one more."""
    fewer = _lanes(len(values), len(kept) + 1)
    fewer[:, : len(kept)] = values[:, kept]
    return fewer
