"""Write the results of an evaluation into a folder: JSON, CSV tables, the confusion matrix and the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from deeplabctl.data.images import write_image
from deeplabctl.evaluation.split_scores import Extremes, SplitScores
from deeplabctl.files import check_folder, check_new_file, check_writable, write_text
from deeplabctl.reports.evaluation import render_report
from deeplabctl.reports.evaluation_pictures import confusion_picture

SCORES, CLASSES, CONFUSION, PICTURE, REPORT = (
    "scores.json", "classes.csv", "confusion.csv", "confusion.png", "report.html",
)  # fmt: skip


def check_results(out: Path, *, overwrite: bool) -> None:
    """Raise OutputError where `write_results` must not write, or cannot: in a file, or where such files are already."""
    check_folder(out)
    check_writable(out)
    for name in (SCORES, CLASSES, CONFUSION, PICTURE, REPORT):
        check_new_file(out / name, overwrite=overwrite)


def write_results(
    out: Path, scores: dict[str, Any], split_scores: SplitScores, extremes: Extremes, title: str, subtitle: str
) -> None:
    """Write all files, each whole or not at all. ``scores`` is `SplitScores.to_dict` and what is known beside it."""
    write_text(out / SCORES, json.dumps(scores, indent=1) + "\n")
    keys = list(scores["classes"][0])
    write_text(out / CLASSES, _csv([keys, *([entry[key] for key in keys] for entry in scores["classes"])]))
    counts = split_scores.matrix.counts
    rows = ([name, *row.tolist()] for name, row in zip(split_scores.classes, counts, strict=True))
    write_text(out / CONFUSION, _csv([["labelled\\predicted", *split_scores.classes], *rows]))
    write_image(out / PICTURE, confusion_picture(counts, split_scores.classes))
    write_text(out / REPORT, render_report(scores, split_scores, extremes, title, subtitle))


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
