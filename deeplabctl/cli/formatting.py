"""Put events and scores into words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from deeplabctl import reporting
from deeplabctl.errors import printable
from deeplabctl.reporting import Event, percent


def with_options(text: str) -> str:
    """Write the arguments that a message has in backquotes as options: `init=random` becomes --init random.

    Errors and notes from outside the command line name arguments as Python knows them.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match[1].replace("_", "-"), match[2]
        return f"--{name}" if value is None else f"--{name} {shlex.quote(value)}"

    return re.sub(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`", option, text)


def argument(path: Path) -> str:
    """Return a path as the command line takes it: quoted, and no option, nor what --data and --resume have by name."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") or text in ("shapes", "last") else text)


def describe(event: Event) -> str | None:
    """Return an event as a line of text, with options for arguments; or None if it is not worth one."""
    line = reporting.describe(event)
    return None if line is None else with_options(printable(line))


def score_table(scores: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of the table of classes, from scores as JSON has them."""
    from deeplabctl.evaluation.scores import class_columns

    columns = class_columns(scores["classes"])
    rows = [
        [entry["name"], *(percent(entry.get(key)) for key in columns), f"{entry['pixels']:,}"]
        for entry in scores["classes"]
    ]
    return ["class", *(f"{name} %" for name in columns.values()), "pixels"], rows
