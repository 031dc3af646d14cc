"""Define the options that several commands share.

An option's ``rich_help_panel`` is the section of the help that it stands in (deeplabctl.cli.commands).
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

COMMON = "Common"  # the last section of every command: --json, --quiet, --debug, --help

# The choices of the recipe's settings of these names, for typer; their own modules load numpy.
Pad = Literal["paper", "tight"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
PredictionPrecision = Literal["float32", "bfloat16", "float16"]
Engine = Literal["auto", "tensorflow", "numba"]
Strategy = Literal["auto", "single", "mirrored", "multi-worker"]

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document.", rich_help_panel=COMMON)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.", rich_help_panel=COMMON)
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=COMMON)]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel="Output")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE|RUN",
        envvar="DEEPLABCTL_WEIGHTS",
        help="Weight file of any format, run directory, or export. Default: the best weights of the newest run in "
        "./runs.",
        rich_help_panel="Network",
    ),
]
EvaluationDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR|shapes",
        help="Data set in VOC layout, or shapes, the built-in one. Default: what the weights were trained on.",
        rich_help_panel="Data",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Score only the first N images.", rich_help_panel="Data"),
]

PAD_HELP = "Pad images with zeros: paper to 513x513, tight only to the next multiple of 8 plus 1."
PadOption = Annotated[
    Pad | None, typer.Option("--pad", help=f"{PAD_HELP} Default: paper for VOC.", rich_help_panel="Prediction")
]
ScalesOption = Annotated[
    str | None,
    typer.Option(
        "--scales",
        metavar="0.5,0.75,1",
        help="Run at several scales of the image, and take the maximum of the logits.",
        rich_help_panel="Prediction",
    ),
]
FlipOption = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip", help="Average the logits with the mirrored image's.", rich_help_panel="Prediction"
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="What computes the network: auto takes numba on CPUs, which needs no TensorFlow, and TensorFlow on GPUs.",
        rich_help_panel="Prediction",
    ),
]
PrecisionOption = Annotated[
    PredictionPrecision | None,
    typer.Option(
        "--precision",
        help="Number format of the network, with TensorFlow: bfloat16 is for new CPUs, float16 for GPUs. "
        "Default: float32, or an export's own.",
        rich_help_panel="Prediction",
    ),
]
TileOption = Annotated[
    str,
    typer.Option(
        "--tile",
        metavar="auto|N|off",
        help="Compute an image in tiles of NxN pixels; auto does so for images that take too much memory.",
        rich_help_panel="Prediction",
    ),
]
CrfOption = Annotated[
    bool, typer.Option("--crf", help="Sharpen the result with the dense CRF.", rich_help_panel="Dense CRF")
]
CrfAdaptiveOption = Annotated[
    bool,
    typer.Option(
        "--crf-adaptive",
        help="A faster CRF, with or without --crf: skip classes that are weak in the whole image.",
        rich_help_panel="Dense CRF",
    ),
]
CrfParamsOption = Annotated[
    str | None,
    typer.Option(
        "--crf-params",
        metavar="PRESET|TABLE|KEY=VALUE,...",
        help="Parameters of the CRF: a preset's name, the table of crf-search, or changes, as "
        "bi_w=5,bi_rgb_std=3. Default: those of the weights' recipe.",
        rich_help_panel="Dense CRF",
    ),
]
