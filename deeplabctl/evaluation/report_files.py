"""Write what an evaluation came to into a folder: JSON, CSV tables, the confusion matrix and the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from deeplabctl.data.images import write_picture
from deeplabctl.errors import DataError
from deeplabctl.evaluation.report import render_report
from deeplabctl.evaluation.report_pictures import confusion_picture
from deeplabctl.evaluation.split_scores import Evaluation, Extremes
from deeplabctl.files import write_text

SCORES, CLASSES, CONFUSION, PICTURE, REPORT = (
    "scores.json", "classes.csv", "confusion.csv", "confusion.png", "report.html",
)  # fmt: skip


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Raise DataError for a file that exists already, unless it may be replaced."""
    for path in paths:
        if path.is_dir():
            raise DataError(f"{path}: expected the name of a file to write, got a folder; give another name")
        if path.exists() and not overwrite:
            raise DataError(f"{path} exists; give --overwrite to replace it, or another name")


def report_paths(out: Path) -> list[Path]:
    """Return the files that `write_results` writes."""
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out}: expected a folder, got a file")
    return [out / name for name in (SCORES, CLASSES, CONFUSION, PICTURE, REPORT)]


def write_results(
    out: Path, scores: dict[str, Any], evaluation: Evaluation, extremes: Extremes, title: str, subtitle: str
) -> None:
    """Write all files, each whole or not at all. ``scores`` is `Evaluation.to_dict` and what is known beside it."""
    write_text(out / SCORES, json.dumps(scores, indent=1) + "\n")
    keys = list(scores["classes"][0])
    write_text(out / CLASSES, _csv([keys, *([entry[key] for key in keys] for entry in scores["classes"])]))
    counts = evaluation.matrix.counts
    rows = ([name, *row.tolist()] for name, row in zip(evaluation.classes, counts, strict=True))
    write_text(out / CONFUSION, _csv([["labelled\\predicted", *evaluation.classes], *rows]))
    write_picture(out / PICTURE, confusion_picture(counts, evaluation.classes))
    write_text(out / REPORT, render_report(scores, evaluation, extremes, title, subtitle))


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
