"""Print results on stdout, and progress, notes and errors on stderr: in colour on a terminal, else as plain lines."""

from __future__ import annotations

import errno
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from deeplabctl.cli.formatting import describe, with_options
from deeplabctl.cli.json_output import note_error, only_documents, print_document
from deeplabctl.cli.options import COMMON, option
from deeplabctl.errors import DeepLabError, RecipeError, printable
from deeplabctl.reporting import Advanced, Event, Finished, Note, Reporter, Started, pace

_PLAIN_SECONDS = 5.0  # between two lines of a task's progress


@dataclass(frozen=True)
class Console:
    """Print as the options say that every command has."""

    json: Annotated[bool, option(COMMON, "--json", "Print the result as one JSON document.")] = False
    quiet: Annotated[bool, option(COMMON, "--quiet,-q", "Hide progress and notes.")] = False
    debug: Annotated[bool, option(COMMON, "--debug", "Show the traceback of an error.")] = False

    @property
    def on_terminal(self) -> bool:
        """Tell whether stdout and stderr both go to a terminal; if only one does, both stay plain."""
        return sys.stdout.isatty() and sys.stderr.isatty()

    @contextmanager
    def reporter(self) -> Iterator[Reporter]:
        """Yield a reporter for a job: it draws bars, or prints lines, or (quiet) prints only warnings."""
        if self.quiet:
            yield _warnings_only
        elif self.on_terminal:
            from deeplabctl.cli.live import LiveReporter

            with LiveReporter() as live:
                yield live
        else:
            yield PlainReporter()

    @contextmanager
    def errors(self, kept: str) -> Iterator[None]:
        """Turn the project's own errors into one line and exit code 1; with --debug, let them through.

        So are a name that is too long for the system, a file in a folder that the user may not enter, and a current
        folder that was deleted: any call may refuse these. Ctrl-C is a line on what is ``kept``, and exit code 130.
        """
        try:
            with only_documents() if self.json else nullcontext(), _interruptions_of_libraries():
                yield
        except KeyboardInterrupt:
            note_error(f"interrupted: {kept}")
            typer.echo(f"interrupted: {kept}", err=True)
            raise typer.Exit(130) from None
        except DeepLabError as error:
            if self.debug:
                raise
            print_error(str(error))
            raise typer.Exit(1) from None
        except OSError as error:
            text = _refusal(error)
            if self.debug or not text:
                raise
            print_error(text)
            raise typer.Exit(1) from None

    def say(self, text: str = "") -> None:
        """Print a line of the result, unless JSON was asked for."""
        if not self.json:
            typer.echo(printable(text), file=sys.stdout)  # of now: above the bars while there are any

    def next(self, *commands: str) -> None:
        """Print what may be done with the result, after an empty line, unless JSON was asked for."""
        self.say()
        for place, command in enumerate(commands):
            self.say(f"{'     ' if place else 'next:'} deeplabctl {command}")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> None:
        """Print a table, unless JSON was asked for; the first ``texts`` columns are text, the others are numbers."""
        if self.json:
            return
        rows = [[printable(cell) for cell in row] for row in rows]
        widths = [max(map(_width, column)) for column in zip(headers, *rows, strict=True)]
        for place, row in enumerate((headers, *rows)):
            pads = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
            cells = [
                cell + pad if number < texts else pad + cell
                for number, (cell, pad) in enumerate(zip(row, pads, strict=True))
            ]
            line = "  ".join(cells).rstrip()
            typer.echo(line if place or not self.on_terminal else typer.style(line, bold=True), file=sys.stdout)

    def document(self, result: dict[str, Any]) -> None:
        """Print the result as JSON if that was asked for."""
        if self.json:
            print_document(result)


class PlainReporter:
    """Print events as lines on stderr, without control characters; of a long task a line every few seconds."""

    def __init__(self) -> None:
        self._tasks: list[tuple[Started, int, float]] = []  # with the parts that are done, and when it began
        self._printed = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Print a line for the event if it is worth one."""
        match event:
            case Started():
                self._printed = time.monotonic()
                self._tasks.append((event, event.done, self._printed))
            case Advanced(parts):
                task, done, begin = self._tasks[-1]
                done += parts
                self._tasks[-1] = (task, done, begin)
                if done != task.total and time.monotonic() - self._printed > _PLAIN_SECONDS:
                    self._printed = time.monotonic()
                    speed = pace(done - task.done, task.total - done, self._printed - begin, task.unit)
                    so_far = f"{task.task}: {done} of {task.total} {task.unit}"
                    typer.echo(printable(", ".join(filter(None, (so_far, speed)))), err=True)
            case Finished():
                self._tasks.pop()
            case _:
                if (line := describe(event)) is not None:
                    typer.echo(line, err=True)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)


@contextmanager
def usage_errors(option: str) -> Iterator[None]:
    """Turn a RecipeError into a usage error (exit code 2) that names the option."""
    try:
        yield
    except RecipeError as error:
        raise typer.BadParameter(with_options(str(error)), param_hint=option) from None


@contextmanager
def _interruptions_of_libraries() -> Iterator[None]:
    """Raise the signal's exception where it came while a library started, which made an error of its own of it."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt | SystemExit):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from None
        raise


def _refusal(error: OSError) -> str:
    """Return the message of an error that any call may raise, "" for any other."""
    name = str(error.filename or "")
    match error.errno:
        case errno.ENAMETOOLONG if name:
            return f"{name[:80]}...: the file name is too long; shorten it"
        case errno.EACCES if name:
            return f"{name}: {error.strerror}; choose another file or folder, or change its permissions"
        case errno.ENOENT if not name:  # of os.getcwd
            return "the current folder does not exist any more; change to another one"
    return ""


def print_error(message: str) -> None:
    """Print an error as one line on stderr."""
    line = with_options(printable(message))
    note_error(line)
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(line, err=True)


def _warnings_only(event: Event) -> None:
    if isinstance(event, Note) and event.warning:
        typer.echo(describe(event), err=True)
