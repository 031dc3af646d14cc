"""``deeplabctl eval``: score a network, or the masks of another program, on a split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console, usage_errors
from deeplabctl.cli.options import (
    CrfAdaptiveOption,
    CrfOption,
    CrfParamsOption,
    DebugOption,
    EngineOption,
    FlipOption,
    JsonOption,
    OverwriteOption,
    PadOption,
    PrecisionOption,
    QuietOption,
    ScalesOption,
    TileOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from deeplabctl.crf.search_grid import Grid

EXAMPLES = """
Examples
  # the newest run, on the data set that it was trained on
  deeplabctl eval

  # with the dense CRF at three scales, and a report to open in a browser
  deeplabctl eval --weights runs/mine --crf --scales 0.5,0.75,1 --out scores

  # masks that another program made
  deeplabctl eval --pred-dir masks --data VOCdevkit/VOC2012
"""


def evaluate(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|shapes",
            help="Data set in VOC layout, or shapes, the built-in one. Default: what the weights were trained on.",
            rich_help_panel="Data",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Images to score: a list in ImageSets/Segmentation, without .txt.",
            rich_help_panel="Data",
        ),
    ] = "val",
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="Score only the first N images.", rich_help_panel="Data"),
    ] = None,
    weights: WeightsOption = None,
    pad: PadOption = None,
    scales: ScalesOption = None,
    flip: FlipOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = None,
    tile: TileOption = "auto",
    crf: CrfOption = False,
    crf_adaptive: CrfAdaptiveOption = False,
    crf_params: CrfParamsOption = None,
    crf_search: Annotated[
        bool,
        typer.Option(
            "--crf-search",
            help="Instead of scoring, search for the CRF parameters with the best mIoU.",
            rich_help_panel="CRF search",
        ),
    ] = False,
    crf_grid: Annotated[
        list[str] | None,
        typer.Option(
            "--crf-grid",
            metavar="v1|v2|KEY=FIRST:STEP:LAST",
            help="Values to try: those of the first or the second paper, and changes (also of pos_w and pos_xy_std, "
            "which the papers fix); may be repeated. Default: v2.",
            rich_help_panel="CRF search",
        ),
    ] = None,
    crf_images: Annotated[
        int,
        typer.Option("--crf-images", metavar="N", min=1, help="Number of images to use.", rich_help_panel="CRF search"),
    ] = 100,
    crf_rounds: Annotated[
        int,
        typer.Option(
            "--crf-rounds",
            metavar="N",
            min=1,
            max=4,
            help="Rounds: each after the first searches around the best values at half the step.",
            rich_help_panel="CRF search",
        ),
    ] = 2,
    pred_dir: Annotated[
        Path | None,
        typer.Option(
            "--pred-dir",
            metavar="DIR",
            help="Score the masks <id>.png in this folder instead of a network. Needs --data.",
            rich_help_panel="Masks of another program",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out masks that are missing or faulty.",
            rich_help_panel="Masks of another program",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write report.html, scores.json, CSV tables and the confusion matrix.",
            rich_help_panel="Output",
        ),
    ] = None,
    voc_zip: Annotated[
        Path | None,
        typer.Option(
            "--voc-zip",
            metavar="FILE",
            help="Write the predictions as the VOC evaluation server takes them.",
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a network, or the masks of another program.

    Gives mean IoU, IoU and accuracy of each class, boundary F1, and mIoU near the object boundaries (trimap). Images
    are scored at their own size; pixels labelled void (255) do not count.
    """
    _check_usage(context, pred_dir=pred_dir is not None, search=crf_search)
    from deeplabctl.cli.eval.outputs import Outputs
    from deeplabctl.cli.prediction_options import read_settings
    from deeplabctl.evaluation.target import EvaluationRequest

    console = Console(json, quiet, debug)
    settings, grid = (
        read_settings(pad, scales, flip, crf, crf_adaptive, crf_params, engine, precision, tile),
        _read_grid(crf_grid or []),
    )
    request = EvaluationRequest(weights, data, split, limit, settings)
    labels = data or os.environ.get("DEEPLABCTL_DATA")
    if pred_dir is not None and labels is None:
        raise typer.BadParameter("needs the data set with the labels: --data DIR", param_hint="--pred-dir")
    with console.errors():
        if pred_dir is not None and labels is not None:
            from deeplabctl.cli.eval.masks import score_folder

            outputs = Outputs(out, None, split, overwrite)
            score_folder(console, pred_dir, labels, split, limit, outputs, allow_missing=allow_missing)
        elif crf_search:
            from deeplabctl.cli.eval.crf_search import SearchOptions, search_crf

            search_crf(console, request, SearchOptions(grid, crf_images, crf_rounds, out or Path(), overwrite))
        else:
            from deeplabctl.cli.eval.network import score_network

            score_network(console, request, Outputs(out, voc_zip, split, overwrite))


def _check_usage(context: typer.Context, *, pred_dir: bool, search: bool) -> None:
    """Raise a usage error for an option that was given and has no effect with the others."""
    rules = [
        (
            pred_dir,
            "weights pad scales flip engine precision tile crf crf_adaptive crf_params voc_zip crf_search",
            "has no effect with --pred-dir",
        ),
        (not pred_dir, "allow_missing", "needs --pred-dir"),
        (search, "voc_zip", "has no effect with --crf-search"),
        (not search, "crf_grid crf_images crf_rounds", "needs --crf-search"),
    ]
    for applies, names, text in rules:
        for name in names.split() if applies else ():
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(text, param_hint=f"--{name.replace('_', '-')}")


def _read_grid(texts: list[str]) -> Grid:
    from deeplabctl.crf.search_grid import parse_grid

    with usage_errors("--crf-grid"):
        return parse_grid(texts)
