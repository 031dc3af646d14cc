"""Put the commands together."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from deeplabctl import __version__
from deeplabctl.cli.convert_caffe import convert_caffe
from deeplabctl.cli.data import app as data
from deeplabctl.cli.eval.command import evaluate
from deeplabctl.cli.infer import infer
from deeplabctl.cli.train import train

app = typer.Typer(
    name="deeplabctl",
    help="DeepLab semantic segmentation on TensorFlow, in one command.",
    epilog="First steps: deeplabctl train, then deeplabctl eval, then deeplabctl infer IMAGE --overlay.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would take a third of the time that --help may take
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("infer", no_args_is_help=True)(infer)
app.command("convert-caffe", no_args_is_help=True)(convert_caffe)
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deeplabctl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a reader that closes the pipe early (``| head``) ends it quietly."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
