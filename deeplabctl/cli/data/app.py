"""``deeplabctl data``: work on data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.data.check import check
from deeplabctl.cli.data.convert import convert
from deeplabctl.cli.data.prepare_voc import prepare_voc
from deeplabctl.cli.data.preview import preview
from deeplabctl.cli.data.stats import stats
from deeplabctl.cli.options import DebugOption, JsonOption, QuietOption

app = typer.Typer(help="Work on data sets: make them, check them, look at them.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    pass


app.command("check", no_args_is_help=True)(check)
app.command("prepare-voc", no_args_is_help=True)(prepare_voc)
app.command("convert", no_args_is_help=True)(convert)
app.command("stats", no_args_is_help=True)(stats)
app.command("preview", no_args_is_help=True)(preview)


@app.command("shapes", no_args_is_help=True)
def shapes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    train: Annotated[int, typer.Option("--train", min=1, help="Training images.")] = 240,
    val: Annotated[int, typer.Option("--val", min=1, help="Validation images.")] = 60,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other pictures.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the built-in data set into a folder, in VOC layout."""
    from deeplabctl.data.shapes import write_shapes

    console = Console(json, quiet, debug)
    with console.errors():
        write_shapes(out, seed=seed, train=train, val=val)
        console.say(f"{out}: {train} training and {val} validation images")
        console.document({"root": str(out), "train": train, "val": val, "seed": seed})
