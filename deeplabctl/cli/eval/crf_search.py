"""Search CRF parameters for ``deeplabctl eval --crf-search``."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.cli.eval.target import open_subject
from deeplabctl.cli.formatting import percent
from deeplabctl.cli.prediction_options import prepare_crf

if TYPE_CHECKING:
    from deeplabctl.cli.console import Console
    from deeplabctl.crf.search_grid import Grid
    from deeplabctl.prediction.settings import Wishes

_TABLE = "crf-search.csv"


def search_crf(
    console: Console, weights: str | None, data: str | None, split: str, limit: int | None, wishes: Wishes, grid: Grid,
    out: Path, images: int, rounds: int, *, overwrite: bool,
) -> None:  # fmt: skip
    """Search, print the best parameters, and leave the table."""
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.crf.search_grid import SearchTable
    from deeplabctl.evaluation.crf_search import search, spread

    with console.reporter() as report:
        subject = open_subject(weights, data, split, wishes, report)
        inference, samples = subject.inference, spread(subject.samples(limit, report)[0], images)
        base = inference.crf or CrfParams()
        settings = {
            "weights": str(subject.path.resolve()),
            "data": str(subject.dataset.root.resolve()),
            "split": split,
            "images": len(samples),
            "pad": inference.pad,
            "scales": list(inference.scales),
            "flip": inference.flip,
            "adaptive": inference.adaptive,
        }
        table = SearchTable(out / _TABLE, base, settings, anew=overwrite)
        segmenter = subject.segmenter()
        prepare_crf(base, report)
        result = search(
            segmenter, subject.dataset, samples, grid, table, base, report, rounds=rounds,
            adaptive=inference.adaptive,
        )  # fmt: skip
    best = result.best
    console.say(
        f"best of {result.points} points on {len(samples)} images of {split}: bi_w {best.bi_w:g}, "
        f"bi_xy_std {best.bi_xy_std:g}, bi_rgb_std {best.bi_rgb_std:g}"
    )
    console.say(f"mIoU {percent(result.miou)} on these, {percent(result.without_crf)} without CRF")
    console.say(f"table {table.path}")
    console.say()
    console.say(
        f"next: deeplabctl eval --weights {shlex.quote(str(subject.path))} --crf-params {shlex.quote(str(table.path))}"
    )
    scores = {"miou": result.miou, "without_crf": result.without_crf, "points": result.points, "images": len(samples)}
    console.document({"best": asdict(best), **scores, "table": str(table.path), "settings": settings})
