"""Score a network for ``deeplabctl eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.cli.eval.outputs import Outputs, expectation, print_scores, settings_line
from deeplabctl.cli.eval.target import Subject, open_subject
from deeplabctl.cli.prediction_options import prepare_crf

if TYPE_CHECKING:
    from deeplabctl.cli.console import Console
    from deeplabctl.prediction.settings import Wishes
    from deeplabctl.reporting import Reporter


def score_network(
    console: Console, weights: str | None, data: str | None, split: str, limit: int | None, wishes: Wishes,
    outputs: Outputs,
) -> None:  # fmt: skip
    """Score a network and print and write what comes of it.

    A split without any labels, as VOC's test, is segmented for the VOC server alone.
    """
    from deeplabctl.evaluation.voc_submission import unlabelled_images

    with console.reporter() as report:
        subject = open_subject(weights, data, split, wishes, report)
        listed = unlabelled_images(subject.dataset, split) if outputs.zip_path else None
        if listed is None:
            scores, what = _score(subject, limit, outputs, report)
        else:
            scores, what = _segment(subject, listed[:limit], outputs, report)
    if "miou" in scores:
        print_scores(console, scores)
        if scores["expected"]:
            console.say(scores["expected"]["text"])
    console.say(what)
    outputs.say(console)
    console.document(scores)


def _score(subject: Subject, limit: int | None, outputs: Outputs, report: Reporter) -> tuple[dict[str, Any], str]:
    """Return the scores as JSON knows them, and what was scored in words."""
    from deeplabctl.evaluation.split_scores import trimap_place
    from deeplabctl.prediction.settings import expected_score

    samples, facts = subject.samples(limit, report)
    segmenter = subject.segmenter()
    from deeplabctl.evaluation.network_scores import evaluate

    inference, split = subject.inference, subject.split
    prepare_crf(inference.crf, report)
    with outputs.images() as take:
        evaluation = evaluate(
            segmenter, subject.dataset, samples, report, around=trimap_place(facts), crf=inference.crf,
            adaptive=inference.adaptive, on_image=take,
        )  # fmt: skip
    scores = evaluation.to_dict()
    scores["settings"] = {"weights": str(subject.path), "split": split, **scores["settings"], **inference.to_dict()}
    expect = expected_score(subject.network.info, split, len(samples), inference)
    scores["expected"] = expectation(expect, scores["miou"])
    what = settings_line(scores, f"{scores['images']} images of {split}; {inference}")
    outputs.write(scores, evaluation, str(subject.path), f"{subject.dataset.root}: {what}")
    return scores, what


def _segment(
    subject: Subject, images: list[tuple[str, Path]], outputs: Outputs, report: Reporter
) -> tuple[dict[str, Any], str]:
    """Segment images for the VOC server; returns what was done as JSON knows it, and in words."""
    from deeplabctl.data.images import read_image
    from deeplabctl.parallel import map_ahead
    from deeplabctl.reporting import Advanced, Finished, Note, Started

    root, split, inference = subject.dataset.root, subject.split, subject.inference
    report(Note(f"data set: {root}, {len(images)} images of {split}, which has no labels, so there are no scores"))
    segmenter = subject.segmenter()
    from deeplabctl.prediction.segmenter import segment_many

    prepare_crf(inference.crf, report)
    report(Started("segmenting", len(images), "images"))
    try:
        with outputs.zip() as add:
            loaded = map_ahead(lambda item: (item[0], read_image(item[1])), images)
            for name, label in segment_many(segmenter, loaded, inference.crf, adaptive=inference.adaptive):
                add(name, label)
                report(Advanced(1))
    finally:
        report(Finished())
    settings = {"weights": str(subject.path), "split": split, "data": str(root), **inference.to_dict()}
    return {"images": len(images), "settings": settings}, f"{len(images)} images of {split}; {inference}"
