"""Score a network for ``deeplabctl eval``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.cli.eval.outputs import Outputs, print_scores, settings_line
from deeplabctl.cli.prediction_options import load_segmenter

if TYPE_CHECKING:
    from deeplabctl.cli.console import Console
    from deeplabctl.evaluation.split_scores import SplitScores
    from deeplabctl.evaluation.target import EvaluationRequest, EvaluationTarget
    from deeplabctl.reporting import Reporter


def score_network(console: Console, request: EvaluationRequest, outputs: Outputs) -> None:
    """Score a network, and print and write the results.

    A split without any labels, as VOC's test, is only segmented, for the VOC server.
    """
    from deeplabctl.evaluation.target import open_target
    from deeplabctl.evaluation.voc_submission import unlabelled_images

    with console.reporter() as report:
        target = open_target(request, report, default_data=os.environ.get("DEEPLABCTL_DATA"))
        listed = unlabelled_images(target.dataset, target.split) if outputs.zip_path else None
        if listed is None:
            scores, split_scores, what = _score(target, outputs, report)
        else:
            scores, what = _segment(target, listed[: target.limit], outputs, report)
    if "miou" in scores:
        print_scores(console, scores)
        if scores["expected"]:
            console.say(scores["expected"]["text"])
    console.say(what)
    console.document(scores)
    if listed is None:
        outputs.write(scores, split_scores, str(target.path), f"{target.dataset.root}: {what}")
    outputs.say(console)


def _score(target: EvaluationTarget, outputs: Outputs, report: Reporter) -> tuple[dict[str, Any], SplitScores, str]:
    """Return the scores as JSON has them and as they were counted, and what was scored in words."""
    from deeplabctl.evaluation.scoring import score_split

    samples, facts = target.samples(report)
    segmenter, split = load_segmenter(target.network, target.settings, report), target.split
    with outputs.images() as take:
        document, scores = score_split(segmenter, target.dataset, split, samples, facts, report, on_image=take)
    document["settings"] = {"weights": str(target.path), **document["settings"]}
    what = settings_line(document, f"{document['images']} images of {split}; {target.settings}")
    return document, scores, what


def _segment(
    target: EvaluationTarget, images: list[tuple[str, Path]], outputs: Outputs, report: Reporter
) -> tuple[dict[str, Any], str]:
    """Segment images for the VOC server; returns what was done as JSON has it, and in words."""
    from deeplabctl.data.images import read_image
    from deeplabctl.errors import DataError
    from deeplabctl.evaluation.network_scores import map_reading
    from deeplabctl.prediction.results import Result
    from deeplabctl.reporting import Note, task

    root, split = target.dataset.root, target.split
    report(Note(f"data set: {root}, {len(images)} images of {split}, which has no labels, so there are no scores"))
    segmenter = load_segmenter(target.network, target.settings, report)
    with task(report, "segmenting", len(images), "images") as advance, outputs.zip() as add:
        for result in segmenter.segment(map_reading(lambda item: Result(item, read_image(item[1])), images)):
            name, path = result.item
            if result.error is not None:
                raise DataError(f"image {path}: {result.error}")
            add(name, result.found())
            advance()
    settings = {"weights": str(target.path), "split": split, "data": str(root), **segmenter.applied.to_dict()}
    return {"images": len(images), "settings": settings}, f"{len(images)} images of {split}; {target.settings}"
