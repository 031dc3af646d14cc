"""``deeplabctl data shapes``: draw the built-in data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

EXAMPLES = """
Examples
  # another 1,000 images to train on
  deeplabctl data shapes more-shapes --train 1000 --seed 1
"""


def shapes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    train: Annotated[int, typer.Option("--train", min=1, help="Training images.", rich_help_panel="Images")] = 240,
    val: Annotated[int, typer.Option("--val", min=1, help="Validation images.", rich_help_panel="Images")] = 60,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Each seed draws other images.", rich_help_panel="Images")
    ] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the built-in data set into a folder.

    Images of six kinds of shapes with labels, in VOC layout.
    """
    from deeplabctl.data.shapes import write_shapes

    console = Console(json, quiet, debug)
    with console.errors():
        write_shapes(out, seed=seed, train=train, val=val, overwrite=overwrite)
        console.say(f"{out}: {train} training and {val} validation images")
        console.document({"root": str(out), "train": train, "val": val, "seed": seed})
