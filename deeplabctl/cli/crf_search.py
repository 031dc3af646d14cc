"""``deeplabctl crf-search``: find the CRF parameters with the best mIoU on some images of a split."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from deeplabctl.cli.console import Console, usage_errors
from deeplabctl.cli.options import (
    DATA,
    OUTPUT,
    CrfAdaptiveOption,
    CrfOptions,
    CrfParamsOption,
    EvaluationDataOption,
    LimitOption,
    NetworkOption,
    OverwriteOption,
    PredictionOptions,
    default_data,
    section,
)

if TYPE_CHECKING:
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.crf.search_grid import Grid
    from deeplabctl.evaluation.network import EvaluationRequest

EXAMPLES = """
Examples
  # the newest run, on 100 images of its training split
  deeplabctl crf-search --out search

  # a smaller grid, then the scores with the best parameters
  deeplabctl crf-search --grid bi_w=3:6 --grid bi_rgb_std=3:2:9 --out search
  deeplabctl eval --crf-params search/crf-search.csv
"""
SEARCH = section("Search")

_TABLE = "crf-search.csv"


def crf_search(
    *,
    data: EvaluationDataOption = None,
    split: Annotated[
        str,
        DATA(
            "--split NAME",
            "Images to search on: a list in ImageSets/Segmentation, without .txt. Not one that you report scores for.",
        ),
    ] = "train",
    limit: LimitOption = None,
    images: Annotated[int, DATA("--images N", "Number of images to use, spread evenly over the split.", min=1)] = 100,
    grid: Annotated[
        list[str] | None,
        SEARCH(
            "--grid v1|v2|KEY=FIRST:STEP:LAST",
            "Values to try: those of the first or the second paper, and changes (also of pos_w and "
            "pos_xy_std, which the papers fix); may be repeated. Default: v2.",
        ),
    ] = None,
    rounds: Annotated[
        int,
        SEARCH(
            "--rounds N", "Rounds: each after the first searches around the best values at half the step.", min=1, max=4
        ),
    ] = 2,
    crf_params: CrfParamsOption = None,
    crf_adaptive: CrfAdaptiveOption = False,
    weights: NetworkOption = None,
    prediction: PredictionOptions,
    out: Annotated[Path, OUTPUT("--out DIR", f"Folder of the table, {_TABLE}.")] = Path(),
    overwrite: OverwriteOption = False,
    console: Console,
) -> None:
    """Search for the dense CRF parameters with the best mIoU.

    The network runs once over the images, and the CRF once for each point of the grid. Each point is added to a table
    as soon as it is done, from which an interrupted search continues; --crf-params of eval and infer takes it.
    """
    from deeplabctl.cli.prediction_options import read_settings
    from deeplabctl.crf.search_grid import parse_grid
    from deeplabctl.evaluation.network import EvaluationRequest

    settings = read_settings(prediction, CrfOptions(True, crf_adaptive, crf_params))
    with usage_errors("--grid"):
        values = parse_grid(grid or [])
    request = EvaluationRequest(weights, data, split, limit, settings)
    _search(console, request, values, images, rounds, out, overwrite=overwrite)


def _search(
    console: Console, request: EvaluationRequest, grid: Grid, images: int, rounds: int, out: Path, *, overwrite: bool
) -> None:
    """Search, print the best parameters, and leave the table; what is not searched is as ``--crf`` has it."""
    from deeplabctl.cli.prediction_options import load_segmenter
    from deeplabctl.crf.search_grid import SearchTable, at_border, point_text
    from deeplabctl.data.dataset import spread_evenly
    from deeplabctl.errors import WeightsError
    from deeplabctl.evaluation.crf_search import samples_sha256, search
    from deeplabctl.evaluation.network import open_target
    from deeplabctl.files import check_writable, remove_unfinished
    from deeplabctl.prediction.engines import engine_class
    from deeplabctl.reporting import counted, percent
    from deeplabctl.weights.locating import open_weights

    check_writable(out)
    remove_unfinished([out / _TABLE])
    with console.reporter() as report:
        target = open_target(request, report, default_data=default_data())
        if not engine_class(target.settings, target.network.info).gives_logits:
            raise WeightsError(
                f"weights {target.path}: a search needs the logits of a network, and an export gives only scores; use "
                "the weights that it was made from"
            )
        prediction, split = target.settings, request.split
        samples = spread_evenly(request.samples(target.dataset, report)[0], images)
        settings = {
            "weights": str(target.path.resolve()),
            "weights_sha256": open_weights(target.path).sha256,
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
        if request.settings.get("image_size") is not None:
            settings["image_size"] = prediction.image_size
        table = SearchTable(out / _TABLE, cast("CrfParams", prediction.crf), grid, settings, overwrite=overwrite)
        segmenter = load_segmenter(target.network, prediction, report)
        without_crf = search(segmenter, target.dataset, samples, table, report, rounds=rounds)
    best, miou = table.best()
    searched = f"{counted(len(table.rows), 'point')} on {counted(len(samples), 'image')} of {split}"
    console.say(f"best of {searched}: {point_text(best, grid, ', ')}")
    console.say(f"mIoU {percent(miou)} on these, {percent(without_crf)} without CRF")
    border = at_border(best, grid, table.rows)
    if border:
        console.say(f"{', '.join(border)}: at the border of the grid; a wider one (--grid) may be better")
    console.say(f"table {table.path}")
    console.next(_evaluation(request, target.path, table.path))
    scores = {"miou": miou, "without_crf": without_crf, "points": len(table.rows), "images": len(samples)}
    console.document(
        {"best": asdict(best), **scores, "at_border": border, "table": str(table.path), "settings": settings}
    )


def _evaluation(request: EvaluationRequest, weights: Path, table: Path) -> str:
    """Return the command that scores a network with the parameters found, predicting as the search did."""
    asked = request.settings
    options = {
        "weights": weights,
        "data": request.data,
        "pad": asked.get("pad"),
        "scales": ",".join(f"{scale:g}" for scale in asked.get("scales") or ()) or None,
        "flip": asked.get("flip") or None,
        "no_flip": asked.get("flip") is False or None,
        **{name: asked.get(name) for name in ("engine", "precision", "image_size", "tile")},
        "crf_adaptive": asked.get("crf_adaptive") or None,
        "crf_params": table,
    }
    words = ["eval"]
    for name, value in options.items():
        if value not in (None, "auto"):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)
