"""Score a network on a split, with everything that ``deeplabctl eval`` reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.inspection import LabelFacts
from deeplabctl.evaluation.network_scores import score_network
from deeplabctl.evaluation.split_scores import ImageScores, SplitScores, trimap_place
from deeplabctl.evaluation.target import checked_samples, dataset_for
from deeplabctl.prediction.segmenter import Segmenter, load
from deeplabctl.prediction.settings import SettingsRequest, expected_score, resolve
from deeplabctl.recipe import Expect
from deeplabctl.reporting import Reporter, python_warnings, silent


def evaluate(
    network: Segmenter | str | Path,
    data: str | Path | None = None,
    split: str = "val",
    *,
    limit: int | None = None,
    report: Reporter = python_warnings,
    **settings: Unpack[SettingsRequest],
) -> dict[str, Any]:
    """Score a network on a split and return the scores as the JSON of ``deeplabctl eval`` has them, fractions of 1.

    ``network`` is what `load` returns, or weights; ``data`` a folder in VOC layout or "shapes", by default the data set
    of the training; ``limit`` scores the first images only. ``settings`` are those of `Segmenter`: pad, scales, flip,
    crf, crf_adaptive, precision; the test size is that of the weights' recipe unless ``pad`` names one. ``report``
    takes the events; by default warnings become Python's. Raises DeepLabError for weights or data that cannot be used.
    """
    segmenter = network if isinstance(network, Segmenter) else load(network)
    info = segmenter.info
    dataset = dataset_for(info, None if data is None else str(data), report)
    pad = settings.get("pad") or resolve({}, info, is_voc=dataset.is_voc).pad
    chosen = resolve({**settings, "pad": pad}, info, before=segmenter.settings)
    samples, facts = checked_samples(info, dataset, split, limit, report)
    return score_split(segmenter.with_settings(chosen), dataset, split, samples, facts, report)[0]


def score_split(
    segmenter: Segmenter,
    dataset: Dataset,
    split: str,
    samples: Sequence[Sample],
    facts: Sequence[LabelFacts],
    report: Reporter = silent,
    *,
    on_image: Callable[[ImageScores], None] = lambda image: None,
) -> tuple[dict[str, Any], SplitScores]:
    """Score samples of a split with trimaps and boundary F1; returns the scores as JSON has them, and themselves.

    ``facts`` are those of the samples' labels. The document has the expected score, where the weights' recipe has one.
    """
    scores = score_network(segmenter, dataset, samples, report, around=trimap_place(facts), on_image=on_image)
    document = scores.to_dict()
    document["settings"] = {"split": split, **document["settings"]}
    expect = expected_score(segmenter.info, split, len(samples), segmenter.settings)
    document["expected"] = _compared(expect, document["miou"])
    return document, scores


def _compared(expect: Expect | None, miou: float | None) -> dict[str, Any] | None:
    """Return the expected score, and how far this one is from it, as JSON has it."""
    if expect is None or miou is None:
        return None
    off = miou - expect.miou
    text = f"expected {100 * expect.miou:.2f} +- {100 * expect.tolerance:.2f} ({expect.source})"
    within = abs(off) <= expect.tolerance
    if not within:
        text += f"; this is {100 * abs(off):.2f} {'above' if off > 0 else 'below'}"
    return asdict(expect) | {"within_tolerance": within, "text": text}
