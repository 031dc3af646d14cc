"""Write help in named sections, in colour on a terminal. It is plain text: rich takes too long to load.

Also let options stand without their values, which Typer does not know.
"""

from __future__ import annotations

import inspect
import re
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMON = "Common"  # the last section of every command: --json, --quiet, --debug, --help
_COLUMN = 24  # characters at most for the names; a longer name gets a line of its own


class SectionedCommand(TyperCommand):
    """Write arguments first, then a section for each ``rich_help_panel``, in the order of the parameters.

    An option whose metavar is in brackets is empty where no value follows it, but another option or nothing.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        optional = {name for each in self.params if (each.metavar or "").startswith("[") for name in each.opts}
        end = args.index("--") if "--" in args else len(args)
        words = [
            f"{word}=" if word in optional and following.startswith("-") else word
            for word, following in pairwise([*args[:end], "--"])
        ]
        return super().parse_args(ctx, [*words, *args[end:]])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:  # hidden
                continue
            section = getattr(parameter, "rich_help_panel", None)
            if parameter.param_type_name == "argument":
                name = f"{parameter.metavar or parameter.name}{'' if parameter.nargs == 1 else '...'}"
                record = (name, record[1])  # without its type
                section = section or "Arguments"
            elif parameter.name == "help":
                section = COMMON
            sections.setdefault(section or "Options", []).append(record)
        _write_sections(formatter, sections)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        _write_epilog(formatter, self.epilog)


class SectionedGroup(TyperGroup):
    """Write a group's commands before its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands and options."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        room = formatter.width - 6 - max(map(len, commands))  # as Typer leaves it between and around the columns
        records = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
        rows = [
            (name, command.get_short_help_str(room))
            for name, command in commands.items()
            if command is not None and not command.hidden
        ]
        _write_sections(formatter, {"Commands": rows})
        _write_sections(formatter, {"Options": [record for record in records if record is not None]})

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        _write_epilog(formatter, self.epilog)


def _write_sections(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections, with all explanations in one column."""
    names = [name for rows in sections.values() for name, _ in rows]
    width = min(max(map(len, names)), _COLUMN)
    for title, rows in sections.items():
        if rows:
            with formatter.section(_title(title)):
                formatter.write_dl([(_colored(name.ljust(width)), text) for name, text in rows], col_max=_COLUMN)


def _write_epilog(formatter: Any, epilog: str | None) -> None:
    """Write a text whose first line is a title and whose others stay as they are."""
    if epilog:
        title, *lines = inspect.cleandoc(epilog).splitlines()
        with formatter.section(_title(title)):
            formatter.write("".join(f"{line}\n" for line in lines))


# `typer.echo` takes the colours out again where the help does not go to a terminal.
def _title(text: str) -> str:
    return typer.style(text, bold=True)


def _colored(name: str) -> str:
    """Colour the names of an option, or of an argument or command; what an option takes stays plain."""
    pattern = r"(?<!\S)-[-\w]+" if name.startswith("-") else r"\S+"
    return re.sub(pattern, lambda match: typer.style(match[0], fg="cyan", bold=True), name)
