"""Define the options that several commands share.

An option's ``rich_help_panel`` is the section of the help that it stands in (deeplabctl.cli.commands).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from deeplabctl.choices import DEFAULT_WEIGHTS, EngineName, Pad, Precision

COMMON = "Common"  # the last section of every command: --json, --quiet, --debug, --help


def option(section: str, name: str, text: str, **settings: Any) -> Any:
    """Return an option of a section of the help; ``name`` is "--name METAVAR", ``settings`` are typer's."""
    name, _, metavar = name.partition(" ")
    return typer.Option(*name.split(","), metavar=metavar or None, help=text, rich_help_panel=section, **settings)


def is_given(context: typer.Context, name: str) -> bool:
    """Tell whether an option stands on the command line, and has not its default or an environment variable's value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def section(title: str) -> Callable[..., Any]:
    """Return the `option` of a section."""
    return partial(option, title)


DATA, NETWORK, PREDICTION, CRF, OUTPUT = map(section, ("Data", "Network", "Prediction", "Dense CRF", "Output"))

CrfAdaptiveOption = Annotated[
    bool, CRF("--crf-adaptive", "A faster CRF, with or without --crf: skip classes that are weak in the whole image.")
]
CrfParamsOption = Annotated[
    str | None,
    CRF(
        "--crf-params PRESET|TABLE|KEY=VALUE,...",
        "Parameters of the CRF: a preset's name, the table of crf-search, or changes such as "
        "bi_w=5,bi_rgb_std=3. Default: those of the weights' recipe.",
    ),
]
OverwriteOption = Annotated[bool, OUTPUT("--overwrite", "Replace existing files.")]


def default_data() -> str | None:
    """Return the data set that $DEEPLABCTL_DATA names."""
    return os.environ.get("DEEPLABCTL_DATA")


def complete_weights(incomplete: str) -> list[str]:
    """Return the names of published weights that begin so, for the shell; files are what it completes itself."""
    from deeplabctl.weights.published import published

    return [name for name in published() if name.startswith(incomplete)]


def _weights_help(kinds: str = "run directory, export", default: str = "") -> str:
    return (
        f"Weight file of any format, {kinds}, or published weights (deeplabctl weights lists them). "
        f"Default: the best weights of the newest run in ./runs{default}."
    )


_WEIGHTS: dict[str, Any] = {"envvar": "DEEPLABCTL_WEIGHTS", "autocompletion": complete_weights}
_WEIGHTS_OPTION = partial(NETWORK, "--weights FILE|RUN|NAME", **_WEIGHTS)
_NOT_EXPORT = _weights_help("run directory")
WeightsOption = Annotated[str | None, _WEIGHTS_OPTION(_weights_help())]
NetworkOption = Annotated[str | None, _WEIGHTS_OPTION(_NOT_EXPORT)]
NetworkArgument = Annotated[str | None, typer.Argument(metavar="WEIGHTS", help=_NOT_EXPORT, **_WEIGHTS)]
DefaultWeightsOption = Annotated[
    str | None, _WEIGHTS_OPTION(_weights_help(default=f", else the published {DEFAULT_WEIGHTS}"))
]
EvaluationDataOption = Annotated[
    str | None,
    DATA(
        "--data DIR|shapes",
        "Data set in VOC layout, or the built-in one, shapes. Default: what the weights were trained on.",
    ),
]
LimitOption = Annotated[int | None, DATA("--limit N", "Score only the first N images.", min=1)]

PAD_HELP = "Pad images with zeros: paper to 513x513, tight only to the next multiple of its stride plus 1."
PadOption = Annotated[Pad, PREDICTION("--pad", PAD_HELP)]
ScalesOption = Annotated[
    str | None,
    PREDICTION(
        "--scales 0.5,0.75,1",
        "Run at several scales of the image, and take the maximum of the logits, or v3's mean of the scores.",
    ),
]
FlipOption = Annotated[bool | None, PREDICTION("--flip/--no-flip", "Average the logits with the mirrored image's.")]
EngineOption = Annotated[
    EngineName,
    PREDICTION(
        "--engine",
        "Engine that runs the network: auto chooses numba or onnxruntime on CPUs, without TensorFlow, else tensorflow.",
    ),
]


@dataclass(frozen=True)
class PredictionOptions:
    """Say how a network is applied to the images of a data set."""

    pad: Annotated[Pad | None, PREDICTION("--pad", f"{PAD_HELP} Default: paper for VOC.")] = None
    scales: ScalesOption = None
    flip: FlipOption = None
    engine: EngineOption = "auto"
    precision: Annotated[
        Precision | None,
        PREDICTION(
            "--precision",
            "Number format of the network, with TensorFlow: bfloat16 is for new CPUs, float16 for GPUs. "
            "Default: float32, or an export's own.",
        ),
    ] = None
    image_size: Annotated[
        int | None,
        PREDICTION(
            "--image-size N",
            "Scale larger images down to this longer side, in pixels; 0 keeps their size. Default: as the network "
            "was trained.",
        ),
    ] = None
    tile: Annotated[
        str,
        PREDICTION(
            "--tile auto|N|off",
            "Compute an image in tiles of NxN pixels; auto does so for images that take too much memory.",
        ),
    ] = "auto"


@dataclass(frozen=True)
class ImageOptions(PredictionOptions):
    """Say how a network is applied to images of any origin."""

    pad: PadOption = "tight"


@dataclass(frozen=True)
class CrfOptions:
    """Say whether the dense CRF is used, and how."""

    crf: Annotated[bool, CRF("--crf", "Sharpen the result with the dense CRF.")] = False
    crf_adaptive: CrfAdaptiveOption = False
    crf_params: CrfParamsOption = None
