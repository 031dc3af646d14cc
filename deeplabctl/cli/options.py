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
