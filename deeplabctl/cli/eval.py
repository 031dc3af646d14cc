"""``deeplabctl eval``: score a network, or the masks of another program, on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.formatting import score_table
from deeplabctl.cli.options import (
    DATA,
    OUTPUT,
    CrfOptions,
    EvaluationDataOption,
    LimitOption,
    OverwriteOption,
    PredictionOptions,
    WeightsOption,
    default_data,
    is_given,
    section,
)
from deeplabctl.errors import DataError, OutputError
from deeplabctl.reporting import counted, percent

if TYPE_CHECKING:
    from deeplabctl.arrays import Label
    from deeplabctl.evaluation.network import EvaluationRequest, EvaluationTarget
    from deeplabctl.evaluation.scores import ImageScores, SplitScores
    from deeplabctl.reporting import Reporter

_OF_NETWORKS = ("weights", *(each.name for each in (*fields(PredictionOptions), *fields(CrfOptions))), "voc_zip")
_EXTREMES = 8  # best, and worst, images in the report

EXAMPLES = """
Examples
  # the newest run, on the data set that it was trained on
  deeplabctl eval

  # with the dense CRF at three scales, and a report to open in a browser
  deeplabctl eval --weights runs/mine --crf --scales 0.5,0.75,1 --out scores

  # masks that another program made
  deeplabctl eval --pred-dir masks --data VOCdevkit/VOC2012
"""
MASKS = section("Masks of another program")


def evaluate(
    *,
    context: typer.Context,
    data: EvaluationDataOption = None,
    split: Annotated[
        str, DATA("--split NAME", "Images to score: a list in ImageSets/Segmentation, without .txt.")
    ] = "val",
    limit: LimitOption = None,
    weights: WeightsOption = None,
    prediction: PredictionOptions,
    crf: CrfOptions,
    pred_dir: Annotated[
        Path | None,
        MASKS("--pred-dir DIR", "Score the masks <id>.png in this folder instead of a network. Needs --data."),
    ] = None,
    allow_missing: Annotated[bool, MASKS("--allow-missing", "Leave out masks that are missing or faulty.")] = False,
    out: Annotated[
        Path | None, OUTPUT("--out DIR", "Write report.html, scores.json, CSV tables and the confusion matrix.")
    ] = None,
    voc_zip: Annotated[
        Path | None, OUTPUT("--voc-zip FILE", "Write the predictions in the format of the VOC evaluation server.")
    ] = None,
    overwrite: OverwriteOption = False,
    console: Console,
) -> None:
    """Score a network, or the masks of another program.

    Images are scored at their own size; pixels labelled void (255) do not count. The scores, in percent:

    \b
    IoU: area that prediction and label share, of the area of either
    mIoU: mean of the classes' IoUs
    accuracy: pixels of a class that are found; pixel accuracy: of all pixels
    mean accuracy: mean of the classes' accuracies
    frequency-weighted IoU: mean of the IoUs, weighted by the classes' pixels
    boundary F1: match of outlines, within 0.75% of the image's diagonal
    trimap: only pixels near void, or near label boundaries if there is none
    """  # noqa: D301 - \b keeps the lines as they are
    from deeplabctl.cli.prediction_options import read_settings
    from deeplabctl.evaluation.network import EvaluationRequest

    for name in ("allow_missing",) if pred_dir is None else _OF_NETWORKS:
        if is_given(context, name):
            text = "needs --pred-dir" if pred_dir is None else "has no effect with --pred-dir"
            raise typer.BadParameter(text, param_hint=f"--{name.replace('_', '-')}")
    settings = read_settings(prediction, crf)
    request = EvaluationRequest(weights, data, split, limit, settings)
    labels = data or default_data()
    if pred_dir is not None and labels is None:
        raise typer.BadParameter("needs the data set with the labels: --data DIR", param_hint="--pred-dir")
    outputs = _Outputs(out, voc_zip, split, overwrite)
    if pred_dir is None or labels is None:
        _score_network(console, request, outputs)
    else:
        _score_masks(console, pred_dir, labels, request, outputs, allow_missing=allow_missing)


class _Outputs:
    """Write the files that --out and --voc-zip name. They are checked before any work begins."""

    def __init__(self, out: Path | None, zip_path: Path | None, split: str, overwrite: bool) -> None:
        from deeplabctl.evaluation.scores import Extremes
        from deeplabctl.files import check_new_file
        from deeplabctl.reports.evaluation import check_results

        self.out, self.zip_path, self._split = out, zip_path, split
        self._extremes = Extremes(_EXTREMES if out else 0)
        self._failure: OutputError | None = None  # of the VOC server's file
        if out:
            check_results(out, overwrite=overwrite)
        if zip_path:
            check_new_file(zip_path, overwrite=overwrite)

    def zip(self) -> AbstractContextManager[Callable[[str, Label], None]]:
        """Return the context of a function that adds a label (H, W) to the VOC server's file, if there is one."""
        from deeplabctl.evaluation.voc_submission import voc_zip

        return voc_zip(self.zip_path, self._split) if self.zip_path else nullcontext(lambda name, label: None)

    @contextmanager
    def images(self) -> Iterator[Callable[[ImageScores], None]]:
        """Yield a function to call with each scored image; `say` tells, after the scores, that the zip file failed."""
        failure: OSError | None = None
        is_scored = False

        def add(image: ImageScores) -> None:
            nonlocal failure
            self._extremes.add(image)
            try:
                if failure is None:
                    add_label(image.sample.id, image.prediction)
            except OSError as error:
                failure = error

        try:
            with self.zip() as add_label:
                yield add
                is_scored = True
                if failure is not None:
                    raise failure
        except OutputError as error:
            if not is_scored:
                raise
            self._failure = error

    def write(self, document: dict[str, Any], scores: SplitScores, title: str, subtitle: str) -> None:
        """Write the files of --out."""
        from deeplabctl.reports.evaluation import write_results

        if self.out:
            write_results(self.out, document, scores, self._extremes, title, subtitle)

    def say(self, console: Console) -> None:
        """Print the names of the files; raises OutputError for a zip file that could not be written."""
        from deeplabctl.reports.evaluation import PAGE

        if self.out:
            console.say(f"report {self.out / PAGE}")
        if self._failure is not None:
            raise self._failure
        if self.zip_path:
            console.say(f"for the VOC server {self.zip_path}")


def _score_network(console: Console, request: EvaluationRequest, outputs: _Outputs) -> None:
    """Score a network, and print and write the results.

    A split without any labels, as VOC's test, is only segmented, for the VOC server.
    """
    from deeplabctl.cli.prediction_options import load_segmenter
    from deeplabctl.evaluation.network import open_target, score_split
    from deeplabctl.evaluation.voc_submission import unlabelled_images

    with console.reporter() as report:
        target = open_target(request, report, default_data=default_data())
        images = unlabelled_images(target.dataset, request.split) if outputs.zip_path else None
        if images is not None:
            if outputs.out:
                raise DataError(f"{request.split} has no labels, so there are no scores for `out`; leave it out")
            document = _segment(target, request, images[: request.limit], outputs, report)
        else:
            samples, facts = request.samples(target.dataset, report)
            segmenter = load_segmenter(target.network, target.settings, report)
            with outputs.images() as on_image:
                document, scores = score_split(
                    segmenter, target.dataset, request.split, samples, facts, report, on_image=on_image
                )
            document["settings"] = {"weights": str(target.path), **document["settings"]}
    what = f"{counted(document['images'], 'image')} of {request.split}; {target.settings}"
    if images is not None:
        console.say(what)
        console.document(document)
    else:
        what += _absent_classes(document)
        _print_scores(console, document, scores)
        if document["expected"]:
            console.say(document["expected"]["text"])
        console.say(what)
        console.document(document)
        outputs.write(document, scores, str(target.path), f"{target.dataset.root}: {what}")
    outputs.say(console)


def _segment(
    target: EvaluationTarget,
    request: EvaluationRequest,
    images: list[tuple[str, Path]],
    outputs: _Outputs,
    report: Reporter,
) -> dict[str, Any]:
    """Segment images without labels for the VOC server; returns what was done as JSON has it."""
    from deeplabctl.cli.prediction_options import load_segmenter
    from deeplabctl.evaluation.voc_submission import segment_images
    from deeplabctl.reporting import Note

    root, split = target.dataset.root, request.split
    report(
        Note(
            f"data set: {root}, {counted(len(images), 'image')} of {split}, which has no labels, so there are no scores"
        )
    )
    segmenter = load_segmenter(target.network, target.settings, report)
    with outputs.zip() as add:
        segment_images(segmenter, images, add, report)
    settings = {"weights": str(target.path), "split": split, "data": str(root), **segmenter.applied.to_dict()}
    return {"images": len(images), "settings": settings}


def _score_masks(
    console: Console, folder: Path, data: str, request: EvaluationRequest, outputs: _Outputs, *, allow_missing: bool
) -> None:
    """Score the masks of another program, print and write the scores, and exit with 1 if some masks are faulty.

    With faulty masks there are no scores, unless ``allow_missing``: then the others are scored, and missing masks do
    not count as faults. No weights are read, and TensorFlow is not loaded.
    """
    from deeplabctl.data.dataset import open_dataset
    from deeplabctl.evaluation.masks import score_masks
    from deeplabctl.evaluation.scores import any_void, samples_to_score

    split = request.split
    with console.reporter() as report:
        dataset = open_dataset(data, report)
        samples, facts = samples_to_score(dataset, split, request.limit, report)
        with outputs.images() as on_image:
            result = score_masks(folder, dataset, samples, report, has_void=any_void(facts), on_image=on_image)
    faults = [fault for fault in result.faults if not (allow_missing and fault.kind == "missing")]
    summary = f"{len(result.faults)} of {counted(len(samples), 'mask')} cannot be scored: {result.counted()}"
    if not faults or (allow_missing and result.scores.images):
        document = result.to_dict()
        document["settings"] = {"split": split, **document["settings"]}
        what = f"{counted(document['images'], 'mask')} of {split}{_absent_classes(document)}"
        _print_scores(console, document, result.scores)
        console.say(what)
        if result.faults:
            console.say(summary)
        console.document(document)
        outputs.write(document, result.scores, f"Masks in {folder}", f"{dataset.root}: {what}")
        outputs.say(console)
    else:
        console.document({"images": 0, "faults": result.to_dict()["faults"]})
    if faults:
        advice = "" if allow_missing else "; fix them, or score only the others with --allow-missing"
        print_error(f"{summary}; the first: {faults[0].text}{advice}")
        raise typer.Exit(1)


def _print_scores(console: Console, document: dict[str, Any], scores: SplitScores) -> None:
    """Print the table of classes and the scores of the whole split."""
    console.table(*score_table(document))
    console.say()
    totals = [f"{name} {percent(document[key])}" for metric in scores.metrics for key, name in metric.totals.items()]
    console.say("  ".join(totals))
    for metric in scores.metrics:
        if line := metric.line():
            console.say(line)


def _absent_classes(document: dict[str, Any]) -> str:
    """Return how many classes the means leave out, as the end of a line; nothing if there are none."""
    absent = sum(entry["iou"] is None for entry in document["classes"])
    which = "in neither labels nor predictions"
    words = f"1 class {which} is" if absent == 1 else f"{absent} classes {which} are"
    return f"; {words} left out of the means" if absent else ""
