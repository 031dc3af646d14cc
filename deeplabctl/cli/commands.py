"""Make commands of functions: groups of options, options without values, help in named sections, guesses.

The help is plain text, in colour on a terminal: rich takes too long to load.
"""

from __future__ import annotations

import inspect
import mimetypes
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from deeplabctl.cli.console import Console
from deeplabctl.cli.json_output import note_error
from deeplabctl.cli.options import COMMON

_UsageError: type[Any] = typer.BadParameter.__mro__[1]  # of which typer names only this kind

# By the names elsewhere: ours, of which the first that a command has is meant.
_OPTIONS = {
    "--batch --batch-sz --bs -b": ["--batch-size"],
    "--checkpoint --ckpt --model --model-path --pretrained --pretrained-weights --weight --weights-path -m -w": [
        "--weights",
        "--init",
    ],
    "--config --config-file --cfg -c": ["--recipe"],
    "--crf-search --crf-grid --crf-images --crf-rounds": ["deeplabctl crf-search"],
    "--dataset --data-dir --data-path --data-root --dataset-dir --root -d": ["--data"],
    "--device --gpu --gpus": ["$CUDA_VISIBLE_DEVICES"],
    "--epochs --iterations --iters --max-iter --max-steps --num-epochs --num-steps -e": ["--steps"],
    "--force -f -y": ["--overwrite"],
    "--half --fp16 --amp": ["--precision float16"],
    "--image --images --img --input --inputs --photo --source -i": ["INPUT"],
    "--imgsz --img-size --input-size --max-side --resize --size": ["--image-size"],
    "--lr": ["--learning-rate"],
    "--out --run-dir --output --output-dir --out-dir --output-path --save-dir --save-path -o": ["--out", "--run-dir"],
    "--arch --backbone --network": ["--set model.architecture=NAME"],
    "--wd": ["--set solver.weight_decay=X"],
    "--tta": ["--flip"],
    "--save-img --show --vis --visualize --viz": ["--overlay"],
}
_COMMANDS = {
    "infer": "detect inference predict prediction run segment test-image",
    "train": "finetune fine-tune fit learn",
    "eval": "evaluate score test val validate validation",
    "weights": "download list model models zoo",
    "recipes": "config configs recipe",
    "serve": "api server web",
    "data convert, or convert-caffe for weights": "convert import",
    "--version": "version",
    "--help": "help",
}

_COLUMN = 24  # characters at most for the names; a longer name gets a line of its own


def with_groups(function: Callable[..., None], kept: str | Callable[[Mapping[str, Any]], str]) -> Callable[..., None]:
    """Return a command that has an option for each field of the function's parameters that are dataclasses of options.

    A function that takes a `Console` gets its errors printed by it, and at Ctrl-C what is ``kept`` of its work (of
    these arguments).
    """
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, Any] = {
        name: p.annotation for name, p in signature.parameters.items() if is_dataclass(p.annotation)
    }
    parameters = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            hints = get_type_hints(groups[name], include_extras=True)
            parameters += [
                parameter.replace(name=field.name, annotation=hints[field.name], default=field.default)
                for field in fields(groups[name])
            ]
        else:
            parameters.append(parameter)

    def command(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        console = next((value for value in values.values() if isinstance(value, Console)), None)
        if console is None:
            function(**values)
        else:
            with console.errors(kept if isinstance(kept, str) else kept(values)):
                function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    keyword_only = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


class _WithExamples:
    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples: a text whose first line is a title and whose others stay as they are."""
        if self.epilog:
            title, *lines = inspect.cleandoc(self.epilog).splitlines()
            with formatter.section(_title(title)):
                formatter.write("".join(f"{line}\n" for line in lines))


class SectionedCommand(_WithExamples, TyperCommand):
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
        try:
            if "--out=" in words or ("--out", "") in pairwise(words):  # as a path it would be the folder here
                expected = "expected a name, got an empty one; give . for this folder"
                raise typer.BadParameter(expected, param_hint="--out")
            return super().parse_args(ctx, [*words, *args[end:]])
        except typer.BadParameter as error:
            error.message = _plain(error)
            raise
        except _UsageError as error:
            if (name := getattr(error, "option_name", None)) and error.message.startswith("No such option"):
                known = [word for each in self.params for word in (*each.opts, each.metavar or "")]
                if guess := guess_option(name, known):
                    error.message, error.possibilities = f"no such option {name}; did you mean {guess}?", None
            elif extra := re.search(r"unexpected extra argument.*\((.*)\)", error.message):
                takers = [name for name in ("--data", "--weights") if any(name in each.opts for each in self.params)]
                if takers:
                    error.message = f"expected options, got {extra[1]!r}; did you mean {takers[0]} {extra[1]}?"
            raise

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


class SectionedGroup(_WithExamples, TyperGroup):
    """Write a group's commands before its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words before the command."""
        with _noting_usage_errors():
            try:
                return super().parse_args(ctx, args)
            except _UsageError as error:
                name = getattr(error, "option_name", None)
                if any(name in each.opts for command in self.commands.values() for each in command.params):
                    error.message, error.possibilities = f"expected {name} after the command, got it before", None
                raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with _noting_usage_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names."""
        try:
            return super().resolve_command(ctx, args)
        except _UsageError as error:
            if guess := guess_command(args[0]):
                error.message = f"no such command {args[0]!r}; did you mean {guess}?"
            raise

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


def _plain(error: Any) -> str:
    """Return what is wrong with an option's value, as messages of our own say it; Typer lets pydantic check numbers."""
    match getattr(error.__cause__, "errors", list)():
        case [{"type": "int_parsing", "input": got}, *_]:
            expected = "a whole number"
        case [{"type": "float_parsing", "input": got}, *_]:
            expected = "a number"
        case [{"ctx": {"ge": least}, "input": got}, *_]:
            expected = f"at least {least:.10g}"
        case [{"ctx": {"le": most}, "input": got}, *_]:
            expected = f"at most {most:.10g}"
        case _:
            return str(error.message).removeprefix("Value error, ").removesuffix(".")
    return f"expected {expected}, got {got!r}"


@contextmanager
def _noting_usage_errors() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        note_error(error.format_message())
        raise


def _write_sections(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections, with all explanations in one column."""
    names = [name for rows in sections.values() for name, _ in rows]
    width = min(max(map(len, names)), _COLUMN)
    for title, rows in sections.items():
        if rows:
            with formatter.section(_title(title)):
                formatter.write_dl([(_colored(name.ljust(width)), text) for name, text in rows], col_max=_COLUMN)


# `typer.echo` takes the colours out again where the help does not go to a terminal.
def _title(text: str) -> str:
    return typer.style(text, bold=True)


def _colored(name: str) -> str:
    """Colour the names of an option, or of an argument or command; what an option takes stays plain."""
    pattern = r"(?<!\S)-[-\w]+" if name.startswith("-") else r"\S+"
    return re.sub(pattern, lambda match: typer.style(match[0], fg="cyan", bold=True), name)


def guess_option(name: str, known: Sequence[str]) -> str | None:
    """Return what an option that a command lacks may mean, of its ``known`` options, arguments' names among them."""
    meant = next((meant for names, meant in _OPTIONS.items() if name in names.split()), [])
    for text in meant:
        word = text.split()[0]
        if word in known:
            return f"INPUT, without {name}" if word == "INPUT" else text
        if word.startswith("$") or word == "deeplabctl":
            return text
    return _guess_setting(name) if "--set" in known else None


def guess_command(name: str) -> str | None:
    """Return what an unknown command may mean."""
    meant = (ours for ours, names in _COMMANDS.items() if name in names.split())
    is_photo = str(mimetypes.guess_type(name)[0]).startswith(("image/", "video/"))
    return next(meant, f"infer {shlex.quote(name)}" if is_photo else None)


def _guess_setting(name: str) -> str | None:
    """Return how a setting of the recipe is given that has the name of the option."""
    from deeplabctl.recipe import Recipe

    wanted = name.lstrip("-").replace("-", "_")
    found = [
        f"{section.name}.{setting.name}"
        for section in fields(Recipe)
        for setting in fields(getattr(Recipe(), section.name))
        if setting.name == wanted
    ]
    return f"--set {found[0]}=VALUE" if found else None
