"""Help in sections, in colour on a terminal only."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from command_process import on_a_terminal

from deeplabctl import recipes
from deeplabctl.cli.commands import with_groups
from deeplabctl.cli.console import Console
from deeplabctl.crf.params import PRESETS
from deeplabctl.errors import DeepLabError


def sections(text):
    """Return the lines of each section of a help text, by title."""
    found = {}
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            lines = found[line[:-1]] = []
        elif found:
            lines.append(line)
    return found


def test_arguments_and_options_stand_in_named_sections(deeplabctl):
    _, out, _ = deeplabctl("train", "--help")
    assert list(sections(out)) == ["Data", "Network", "Training", "Hardware", "Output", "Common", "Examples"]
    _, out, _ = deeplabctl("infer", "--help")
    found = sections(out)
    assert next(iter(found)) == "Arguments"
    assert found["Arguments"][0].startswith("  INPUT...   ")


def test_fields_of_a_group_become_options_and_its_errors_are_printed(capsys):
    @dataclass(frozen=True)
    class Sizes:
        width: Annotated[int, typer.Option("--width")] = 3
        height: Annotated[int, typer.Option("--height")] = 4

    def command(sizes: Sizes, *, console: Console) -> None:
        raise DeepLabError(f"{sizes.width} {sizes.height} {console.quiet}")

    with pytest.raises(typer.Exit):
        with_groups(command, "")(width=5, height=4, json=False, quiet=True, debug=False)
    assert capsys.readouterr().err == "error: 5 4 True\n"
    assert list(inspect.signature(with_groups(command, "")).parameters) == ["width", "height", "json", "quiet", "debug"]


def test_group_lists_its_commands_before_its_options(deeplabctl):
    _, out, _ = deeplabctl("--help")
    assert list(sections(out)) == ["Commands", "Options", "First steps"]


def test_explanations_begin_in_one_column(deeplabctl, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = deeplabctl("eval", "--help")
    found = sections(out)
    assert "  --crf                     Sharpen" in "\n".join(found["Dense CRF"])
    assert "  -q, --quiet               Hide" in "\n".join(found["Common"])


def test_recipes_are_listed_in_80_columns(deeplabctl):
    _, out, _ = deeplabctl("recipes")
    assert [line.split()[0] for line in out.splitlines()[1:-2]] == list(recipes.names())
    assert max(map(len, out.splitlines())) <= 80


def test_recipes_are_named_and_presets_are_not(deeplabctl):
    _, out, _ = deeplabctl("train", "--help")
    assert ", ".join(recipes.names()) in " ".join(out.split())
    _, out, _ = deeplabctl("eval", "--help")
    assert not any(name in out for name in PRESETS)


@pytest.mark.parametrize("command", ["convert", "preview", "shapes"])
def test_numbers_are_n_in_the_help(deeplabctl, command):
    _, out, _ = deeplabctl("data", command, "--help")
    assert "  --seed N  " in out
    assert " range>" not in out


@pytest.mark.parametrize(("command", "title"), [([], "First steps"), (["train"], "Data"), (["data"], "Commands")])
def test_colors_are_for_terminals(command, title, deeplabctl):
    colored = on_a_terminal(*command, "--help")
    assert f"\n\x1b[1m{title}\x1b[0m:\n" in colored
    assert "\x1b[36m\x1b[1m--help\x1b[0m" in colored
    plain = on_a_terminal(*command, "--help", NO_COLOR="1")
    assert "\x1b" not in plain
    assert on_a_terminal(*command, "--help", TERM="dumb") == plain
    assert "\x1b" not in deeplabctl(*command, "--help")[1]


def test_errors_are_plain_with_no_color(tmp_path):
    arguments = ("data", "check", str(tmp_path / "gone"))
    assert "\x1b[31m\x1b[1merror: \x1b[0mdata set" in on_a_terminal(*arguments)
    assert "error: data set" in on_a_terminal(*arguments, NO_COLOR="1")
