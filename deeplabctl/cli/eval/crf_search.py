"""Search CRF parameters for ``deeplabctl eval --crf-search``."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deeplabctl.cli.formatting import percent
from deeplabctl.cli.prediction_options import load_segmenter

if TYPE_CHECKING:
    from deeplabctl.cli.console import Console
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.crf.search_grid import Grid
    from deeplabctl.evaluation.target import EvaluationRequest

_TABLE = "crf-search.csv"


@dataclass(frozen=True)
class SearchOptions:
    """Hold what the options say of a search."""

    grid: Grid
    images: int  # of the split, spread evenly
    rounds: int
    out: Path  # folder of the table
    overwrite: bool


def search_crf(console: Console, request: EvaluationRequest, options: SearchOptions) -> None:
    """Search, print the best parameters, and leave the table; what is not searched is as ``--crf`` has it."""
    from deeplabctl.crf.search_grid import SearchTable, point_text
    from deeplabctl.data.dataset import spread_evenly
    from deeplabctl.errors import WeightsError
    from deeplabctl.evaluation.crf_search import samples_sha256, search
    from deeplabctl.evaluation.target import open_target
    from deeplabctl.files import check_writable
    from deeplabctl.weights.conversion import sha256

    check_writable(options.out)
    request = replace(request, settings={**request.settings, "crf": request.settings.get("crf") or True})
    with console.reporter() as report:
        target = open_target(request, report, default_data=os.environ.get("DEEPLABCTL_DATA"))
        if target.network.export is not None:
            raise WeightsError(
                f"weights {target.path}: a search needs the logits of a network, and an export gives scores only; use "
                "the weights that it was made of"
            )
        prediction, samples = target.settings, spread_evenly(target.samples(report)[0], options.images)
        split, base = target.split, cast("CrfParams", prediction.crf)
        settings = {
            "weights": str(target.path.resolve()),
            "weights_sha256": sha256(target.path),
            "data": str(target.dataset.root.resolve()),
            "split": split,
            "images": len(samples),
            "images_sha256": samples_sha256(samples),
            "pad": prediction.pad,
            "scales": list(prediction.scales),
            "flip": prediction.flip,
            "adaptive": prediction.crf_adaptive,
        }
        if prediction.precision != "float32":
            settings["precision"] = prediction.precision
        table = SearchTable(options.out / _TABLE, base, options.grid, settings, overwrite=options.overwrite)
        segmenter = load_segmenter(target.network, prediction, report)
        result = search(segmenter, target.dataset, samples, table, report, rounds=options.rounds)
    best = result.best
    console.say(
        f"best of {result.points} points on {len(samples)} images of {split}: {point_text(best, table.grid, ', ')}"
    )
    console.say(f"mIoU {percent(result.miou)} on these, {percent(result.without_crf)} without CRF")
    console.say(f"table {table.path}")
    console.say()
    console.say(f"next: {_evaluation(request, target.path, table.path)}")
    scores = {"miou": result.miou, "without_crf": result.without_crf, "points": result.points, "images": len(samples)}
    console.document({"best": asdict(best), **scores, "table": str(table.path), "settings": settings})


def _evaluation(request: EvaluationRequest, weights: Path, table: Path) -> str:
    """Return the command that scores a network with the parameters found, predicting as the search did."""
    words = ["deeplabctl", "eval", "--weights", str(weights)]
    asked = request.settings
    if request.data is not None:
        words += ["--data", request.data]
    if (pad := asked.get("pad")) is not None:
        words += ["--pad", pad]
    if (scales := asked.get("scales")) is not None:
        words += ["--scales", ",".join(f"{scale:g}" for scale in scales)]
    if (flip := asked.get("flip")) is not None:
        words.append("--flip" if flip else "--no-flip")
    options = ("engine", asked.get("engine")), ("precision", asked.get("precision")), ("tile", asked.get("tile"))
    for option, value in options:
        if value not in (None, "auto"):
            words += [f"--{option}", str(value)]
    if asked.get("crf_adaptive"):
        words.append("--crf-adaptive")
    return shlex.join([*words, "--crf-params", str(table)])
