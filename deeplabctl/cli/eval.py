"""``deeplabctl eval``: score a network on a split."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import DebugOption, JsonOption, QuietOption, WeightsOption
from deeplabctl.cli.text import percent, score_rows

if TYPE_CHECKING:
    from deeplabctl.data.dataset import Dataset, Sample
    from deeplabctl.reporting import Reporter
    from deeplabctl.weights import ModelInfo


def evaluate(
    weights: WeightsOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|shapes",
            help="Data set in VOC layout. Default: the one that the weights were trained on.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="List of ImageSets/Segmentation to score.")] = "val",
    pad: Annotated[
        str | None,
        typer.Option(
            "--pad", metavar="paper|tight", help="Test size: 513, or the next 8k + 1. Default: paper for VOC."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Score the first N images only.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a network: mean IoU, the IoU and accuracy of each class, pixel and mean accuracy.

    All come from one confusion matrix over the whole split, at the labels' own sizes; void (255) does not count.
    """
    from deeplabctl.origins import read_network
    from deeplabctl.weights import find_weights

    if pad not in (None, "paper", "tight"):
        raise typer.BadParameter(f"expected paper or tight, got {pad!r}", param_hint="--pad")
    console = Console(json, quiet, debug)
    with console.errors():
        path = find_weights(weights)
        network = read_network(path)
        with console.reporter() as report:
            dataset = _dataset(network.info, data, report)
            samples = dataset.samples(split)[:limit]

            from deeplabctl.data.labels import check_labels
            from deeplabctl.reporting import Note

            check_labels(dataset, samples, report)
            if seen := _trained_on(network.info, dataset, samples):
                report(
                    Note(
                        f"the weights were trained on {seen} of these {len(samples)} images; this is no fair score",
                        warning=True,
                    )
                )
            report(Note(f"weights: {path}"))
            report(Note(f"data set: {dataset.root}, {len(samples)} images of {split}"))
            from deeplabctl.cli.start import start_tensorflow

            start_tensorflow()
            from deeplabctl.evaluation import evaluate as evaluate_samples
            from deeplabctl.prediction import Segmenter

            chosen = pad or ("paper" if dataset.is_voc else "tight")
            result = evaluate_samples(Segmenter.from_network(network, chosen), dataset, samples, report)
        scores = result.to_dict() | {"settings": {"weights": str(path), "split": split, **result.settings}}
        console.table(*score_rows(scores))
        console.say()
        console.say(
            f"mIoU {percent(scores['miou'])}  pixel accuracy {percent(scores['pixel_accuracy'])}  "
            f"mean accuracy {percent(scores['mean_accuracy'])}  frequency-weighted IoU {percent(scores['fw_iou'])}"
        )
        absent = sum(entry["iou"] is None for entry in scores["classes"])
        left_out = f"; {absent} classes in neither labels nor predictions are left out of the means" if absent else ""
        console.say(f"{scores['images']} images of {split}, test size {chosen}{left_out}")
        console.document(scores)


def _trained_on(info: ModelInfo, dataset: Dataset, samples: list[Sample]) -> int:
    """Count the samples that the weights were trained on."""
    from deeplabctl.data.locate import lasting_name

    split = info.provenance.get("split")
    if split not in dataset.splits or info.provenance.get("data") != lasting_name(dataset):
        return 0
    return len({sample.image for sample in dataset.samples(split)} & {sample.image for sample in samples})


def _dataset(info: ModelInfo, given: str | None, report: Reporter) -> Dataset:
    """Return the data set as given, else that of the training, and refuse one of other classes."""
    from pathlib import Path

    from deeplabctl.data.locate import SHAPES, find_dataset
    from deeplabctl.errors import DataError
    from deeplabctl.reporting import Note

    trained_on = info.provenance.get("data")
    if given is None and trained_on and (trained_on == SHAPES or Path(trained_on).is_dir()):
        given = trained_on
    given = given or os.environ.get("DEEPLABCTL_DATA")
    if given is None and trained_on:
        raise DataError(
            f"data set {trained_on}, on which the weights were trained, is not there any more; give --data DIR"
        )
    dataset = find_dataset(given, report)
    if len(dataset.classes) != len(info.classes):
        raise DataError(
            f"data set {dataset.root}: expected the {len(info.classes)} classes that the weights know "
            f"({', '.join(info.classes[:4])}, ...), got {len(dataset.classes)} "
            f"({', '.join(dataset.classes[:4])}, ...); give --data the set that the weights are for"
        )
    if dataset.classes != info.classes:
        report(Note("the data set and the weights name their classes differently; scoring by number", warning=True))
    return dataset
