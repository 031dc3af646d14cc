"""Define the options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE|RUN",
        envvar="DEEPLABCTL_WEIGHTS",
        help="Model file or run directory. Default: the best of the newest run under ./runs.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
PadOption = Annotated[
    str | None,
    typer.Option("--pad", metavar="paper|tight", help="Test size: 513, or the next 8k + 1. Default: paper for VOC."),
]
ScalesOption = Annotated[
    str | None,
    typer.Option("--scales", metavar="0.5,0.75,1", help="Scales of the image; the largest of the logits counts."),
]
FlipOption = Annotated[
    bool | None, typer.Option("--flip/--no-flip", help="Take the mean with the mirrored image's logits.")
]
CrfOption = Annotated[bool, typer.Option("--crf", help="Refine with the dense CRF.")]
CrfAdaptiveOption = Annotated[
    bool, typer.Option("--crf-adaptive", help="The same, faster: labels that no pixel takes are filtered no longer.")
]
CrfParamsOption = Annotated[
    str | None,
    typer.Option(
        "--crf-params",
        metavar="PRESET|TABLE|KEY=VALUE,...",
        help="largefov-v1, v2-vgg, v2-resnet, the table of a --crf-search, or changes. Default: the weights' recipe.",
    ),
]
