"""``deeplabctl eval``: score a network, or masks that anyone made, on a split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import (
    CrfAdaptiveOption,
    CrfOption,
    CrfParamsOption,
    DebugOption,
    FlipOption,
    JsonOption,
    OverwriteOption,
    PadOption,
    QuietOption,
    ScalesOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from deeplabctl.crf.search_grid import Grid


def evaluate(
    context: typer.Context,
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
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Score the first N images only.")] = None,
    pad: PadOption = None,
    scales: ScalesOption = None,
    flip: FlipOption = None,
    crf: CrfOption = False,
    crf_adaptive: CrfAdaptiveOption = False,
    crf_params: CrfParamsOption = None,
    pred_dir: Annotated[
        Path | None,
        typer.Option("--pred-dir", metavar="DIR", help="Score these masks (<id>.png), and no network; needs --data."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="With --pred-dir: score the masks that are there and in order.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write scores.json, CSV tables, confusion matrix, report.html."),
    ] = None,
    voc_zip: Annotated[
        Path | None, typer.Option("--voc-zip", metavar="FILE", help="Write the file that the VOC server takes.")
    ] = None,
    crf_search: Annotated[
        bool, typer.Option("--crf-search", help="Search the CRF parameters with the best mIoU on a part of the split.")
    ] = False,
    crf_grid: Annotated[
        list[str] | None,
        typer.Option(
            "--crf-grid",
            metavar="v1|v2|KEY=FIRST:STEP:LAST",
            help="Grid of the search, of the first or second paper, and changes; repeatable. Default: v2.",
        ),
    ] = None,
    crf_images: Annotated[int, typer.Option("--crf-images", min=1, help="Images of the search.")] = 100,
    crf_rounds: Annotated[
        int, typer.Option("--crf-rounds", min=1, max=4, help="Rounds of the search, each at half the steps.")
    ] = 2,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a network: mean IoU, IoU and accuracy of each class, trimap and boundary F1; with the dense CRF on request.

    All come from one pass over the split, at the labels' own sizes; void (255) does not count. --pred-dir scores masks
    that anyone made.
    """
    _check_usage(context, pred_dir=pred_dir is not None, search=crf_search)
    from deeplabctl.cli.eval.outputs import Outputs
    from deeplabctl.cli.prediction_options import read_wishes

    console = Console(json, quiet, debug)
    wishes, grid = read_wishes(pad, scales, flip, crf, crf_adaptive, crf_params), _read_grid(crf_grid or [])
    labels = data or os.environ.get("DEEPLABCTL_DATA")
    if pred_dir is not None and labels is None:
        raise typer.BadParameter("expected the data set with the labels: --data DIR", param_hint="--pred-dir")
    with console.errors():
        if pred_dir is not None and labels is not None:
            from deeplabctl.cli.eval.masks import score_folder

            outputs = Outputs(out, None, split, overwrite)
            score_folder(console, pred_dir, labels, split, limit, outputs, allow_missing=allow_missing)
        elif crf_search:
            from deeplabctl.cli.eval.crf_search import search_crf

            search_crf(
                console, weights, data, split, limit, wishes, grid, out or Path(), crf_images, crf_rounds,
                overwrite=overwrite,
            )  # fmt: skip
        else:
            from deeplabctl.cli.eval.network import score_network

            score_network(console, weights, data, split, limit, wishes, Outputs(out, voc_zip, split, overwrite))


def _check_usage(context: typer.Context, *, pred_dir: bool, search: bool) -> None:
    """Raise a usage error for an option that was given and means nothing beside the others."""
    rules = [
        (
            pred_dir,
            "weights pad scales flip crf crf_adaptive crf_params voc_zip crf_search",
            "means nothing with --pred-dir",
        ),
        (not pred_dir, "allow_missing", "means nothing without --pred-dir"),
        (search, "voc_zip", "means nothing with --crf-search"),
        (not search, "crf_grid crf_images crf_rounds", "means nothing without --crf-search"),
    ]
    for applies, names, text in rules:
        for name in names.split() if applies else ():
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(text, param_hint=f"--{name.replace('_', '-')}")


def _read_grid(texts: list[str]) -> Grid:
    from deeplabctl.crf.search_grid import parse_grid
    from deeplabctl.errors import RecipeError

    try:
        return parse_grid(texts)
    except RecipeError as error:
        raise typer.BadParameter(str(error), param_hint="--crf-grid") from None
