"""Define the argument that the data commands share."""

from __future__ import annotations

from typing import Annotated

import typer

DataArgument = Annotated[
    str, typer.Argument(metavar="DIR|shapes", help="Data set in VOC layout, or shapes, the built-in one.")
]
