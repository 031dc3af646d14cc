"""Score a folder of masks for ``deeplabctl eval --pred-dir``: no weights, no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deeplabctl.cli.console import print_error
from deeplabctl.cli.eval.outputs import Outputs, print_scores, settings_line

if TYPE_CHECKING:
    from deeplabctl.cli.console import Console


def score_folder(
    console: Console, folder: Path, data: str, split: str, limit: int | None, outputs: Outputs, *, allow_missing: bool
) -> None:
    """Score the masks, print and write the scores, and exit with 1 if some masks are faulty.

    With faulty masks there are no scores, unless ``allow_missing``: then the others are scored, and missing masks do
    not count as faults.
    """
    from deeplabctl.data.dataset import open_dataset
    from deeplabctl.data.inspection import check_samples
    from deeplabctl.evaluation.mask_scores import score_masks
    from deeplabctl.evaluation.split_scores import trimap_place

    with console.reporter() as report:
        dataset = open_dataset(data, report)
        samples = dataset.samples(split)[:limit]
        facts = check_samples(dataset, samples, report)
        with outputs.images() as take:
            result = score_masks(folder, dataset, samples, report, around=trimap_place(facts), on_image=take)
    faults = [fault for fault in result.faults if not (allow_missing and fault.kind == "missing")]
    summary = f"{len(result.faults)} of {len(samples)} masks cannot be scored: {result.counted()}"
    if not faults or (allow_missing and result.scores.images):
        scores = result.to_dict()
        scores["settings"] = {"split": split, **scores["settings"]}
        what = settings_line(scores, f"{scores['images']} masks of {split}")
        print_scores(console, scores)
        console.say(what)
        if result.faults:
            console.say(summary)
        console.document(scores)
        outputs.write(scores, result.scores, f"Masks in {folder}", f"{dataset.root}: {what}")
        outputs.say(console)
    else:
        console.document({"images": 0, "faults": result.to_dict()["faults"]})
    if faults:
        advice = "" if allow_missing else "; fix them, or score only the others with --allow-missing"
        print_error(f"{summary}; the first: {faults[0].text}{advice}")
        raise typer.Exit(1)
