"""Put the commands together."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from deeplabctl.cli import convert_caffe, crf_search, export, infer, recipes, report, serve, train, weights
from deeplabctl.cli import eval as evaluation
from deeplabctl.cli.commands import SectionedCommand, SectionedGroup, with_groups
from deeplabctl.cli.data import app as data_app
from deeplabctl.cli.json_output import error_document, note_error
from deeplabctl.cli.streams import standard_streams
from deeplabctl.version import __version__

FIRST_STEPS = """
First steps
  deeplabctl infer IMAGE --overlay      # segment it with published weights
  deeplabctl train                      # learn the built-in shapes (minutes)
  deeplabctl eval                       # score the result
  deeplabctl train --help               # see all options of a command
"""

# Of a command's work, when Ctrl-C ends it.
_KEPT: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "train": "continue a started run with deeplabctl train --resume RUN (last: the newest in ./runs)",
    "infer": infer.kept,
    "crf-search": "the table has all finished points; run the same command again to continue",
    "serve": "it had not started to answer requests",
    "weights": "run the same command again to resume the download",
    "prepare-voc": "finished downloads are kept; run the same command again to continue",
}

app = typer.Typer(
    name="deeplabctl",
    cls=SectionedGroup,
    help="DeepLab semantic segmentation on TensorFlow, in one command.",
    epilog=FIRST_STEPS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would take a third of the time that --help may take
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("eval", epilog=evaluation.EXAMPLES)(evaluation.evaluate)
app.command("infer", epilog=infer.EXAMPLES, no_args_is_help=True)(infer.infer)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("report", epilog=report.EXAMPLES, no_args_is_help=True)(report.report)
app.command("crf-search", epilog=crf_search.EXAMPLES)(crf_search.crf_search)
app.command("export", epilog=export.EXAMPLES, no_args_is_help=True)(export.export)
app.command("convert-caffe", epilog=convert_caffe.EXAMPLES, no_args_is_help=True)(convert_caffe.convert_caffe)
app.command("weights", epilog=weights.EXAMPLES)(weights.weights)
app.command("recipes", epilog=recipes.EXAMPLES)(recipes.recipes)
app.add_typer(data_app, name="data", cls=SectionedGroup)
for command in (*app.registered_commands, *data_app.registered_commands):
    command.cls = SectionedCommand
    if command.callback is not None:
        what = _KEPT.get(command.name or "", "files that were written are complete")
        command.callback = with_groups(command.callback, what)


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
    os.environ.pop("NUMBA_NUM_THREADS", None)  # of threads that no kernel of ours uses: at 0, numba does not load
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    with standard_streams():
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Names may have bytes that are no characters, or characters that the stream's encoding lacks.
                stream.reconfigure(errors="backslashreplace")
        try:
            with error_document(wanted=_wants_json()), _cleaning_up():
                app(color=False if plain else None)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None


def _wants_json() -> bool:
    words = sys.argv[1:]
    return "--json" in words[: words.index("--") if "--" in words else None]


@contextmanager
def _cleaning_up() -> Iterator[None]:
    """Let the first SIGTERM or SIGHUP remove what is half-written before the process ends; a second ends it at once."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in installed:
            signal.signal(each, signal.SIG_DFL)
        note_error(f"ended by {signal.Signals(number).name}")
        raise SystemExit(128 + number)

    known = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]  # Windows has no SIGHUP
    installed = [each for each in known if signal.getsignal(each) == signal.SIG_DFL]  # under nohup it stays ignored
    for number in installed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, signal.SIG_DFL)
