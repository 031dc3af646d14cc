"""The command line as a whole: every command's help, usage errors, version."""

import pytest
import typer
from command_process import run_without_tensorflow

from deeplabctl.cli.app import app


def commands(group, *path):
    """Yield the path of each command below a group, and the command."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_every_command_has_help(path, tmp_path):
    code, out, _ = run_without_tensorflow(*path, "--help", cwd=tmp_path)
    assert code == 0
    assert out.startswith(f"Usage: {' '.join(['deeplabctl', *path])} ")


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[-1] not in ("train", "eval")], ids=" ".join)
def test_commands_that_need_arguments_print_their_help_without_any(path, tmp_path):
    code, out, err = run_without_tensorflow(*path, cwd=tmp_path)
    assert code == 2
    assert "Usage: deeplabctl" in out + err


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_list_of_commands_has_the_first_sentence_of_each(path, deeplabctl, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    sentence = COMMANDS[path].help.split("\n\n")[0]
    assert sentence.endswith(".")
    _, out, _ = deeplabctl(*path[:-1], "--help")
    (line,) = (line for line in out.splitlines() if line.startswith(f"  {path[-1]} "))
    assert line.removeprefix(f"  {path[-1]} ").strip() == sentence


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_help_keeps_to_the_width_of_the_terminal(path, columns, deeplabctl, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = deeplabctl(*path, "--help")
    assert max(map(len, out.splitlines())) <= columns


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != ("data",)], ids=" ".join)
def test_common_options_stand_last(path, deeplabctl):
    _, out, _ = deeplabctl(*path, "--help")
    _, _, last = out.partition("\nCommon:\n")
    names = [line.split()[0] for line in last.partition("\nExamples:")[0].splitlines() if line]
    assert names == ["--json", "-q,", "--debug", "-h,"]


@pytest.mark.parametrize("arguments", [["train", "--stpes", "3"], ["trian"], ["eval", "--limit", "x"], ["train", "a"]])
def test_mistyped_options_are_usage_errors(arguments, tmp_path):
    code, _, err = run_without_tensorflow(*arguments, cwd=tmp_path)
    assert code == 2
    assert "Usage:" in err


def test_version_is_printed(tmp_path):
    code, out, _ = run_without_tensorflow("--version", cwd=tmp_path)
    assert code == 0
    assert out.startswith("deeplabctl 0.")
