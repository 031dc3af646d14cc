"""Arguments in messages become options."""

import errno
import os
from pathlib import Path

import pytest
import typer

from deeplabctl.cli.console import Console, PlainReporter, print_error
from deeplabctl.cli.formatting import argument, describe, with_options
from deeplabctl.reporting import Note


@pytest.mark.parametrize(
    ("path", "expected"),
    [("runs/a", "runs/a"), ("my runs/a", "'my runs/a'"), ("last", "./last"), ("shapes", "./shapes"), ("-x", "./-x")],
)
def test_paths_are_written_as_the_command_line_takes_them(path, expected):
    assert argument(Path(path)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use `overwrite` to replace it", "use --overwrite to replace it"),
        ("`init=random`: got width 1", "--init random: got width 1"),
        ("choose another `pred_dir`", "choose another --pred-dir"),
        ("use `overwrite`, or choose another `out`", "use --overwrite, or choose another --out"),
        ("`scales=0.5,0.75,1` and `resume=my runs/x`", "--scales 0.5,0.75,1 and --resume 'my runs/x'"),
        ("a.png: expected one channel, got 3", "a.png: expected one channel, got 3"),
        ("set `solver.learning_rate` or solver.power", "set `solver.learning_rate` or solver.power"),
        ("the folder `My Set`", "the folder `My Set`"),
    ],
)
def test_arguments_in_backquotes_become_options(text, expected):
    assert with_options(text) == expected


def test_errors_and_notes_name_options(capsys):
    print_error("a.png exists; use `overwrite`")
    assert capsys.readouterr().err == "error: a.png exists; use --overwrite\n"
    assert describe(Note("no `data` is given", warning=True)) == "warning: no --data is given"


def test_numbers_stand_below_each_other_behind_names_in_wide_characters(capsys):
    Console().table(["class", "%"], [["猫", "1"], ["e\u0301te", "20"]])
    assert capsys.readouterr().out == "class   %\n猫      1\ne\u0301te    20\n"


def test_control_characters_of_names_do_not_reach_the_terminal(capsys):
    odd, shown = "\x1b]0;x  \x07\x9b2J\n\u202e", r"\x1b]0;x  \x07\x9b2J\n\u202e"
    console = Console()
    console.say(f"a {odd}")
    console.table(["class", "%"], [[odd, "1"]])
    PlainReporter()(Note(f"skipped {odd}"))
    print_error(odd)
    out, err = capsys.readouterr()
    assert out == f"a {shown}\nclass{' ' * (len(shown) - 5)}  %\n{shown}  1\n"
    assert err == f"skipped {shown}\nerror: {shown}\n"


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [
        (errno.EACCES, "closed/a.keras", "error: closed/a.keras: Permission denied; choose another file or folder, or"),
        (errno.ENAMETOOLONG, "a" * 300, f"error: {'a' * 80}...: the file name is too long"),
        (errno.ENOENT, None, "error: the current folder does not exist any more; change to another one"),
    ],
)
def test_names_that_the_system_refuses_are_one_line(capsys, number, name, text):
    with pytest.raises(typer.Exit) as caught, Console().errors("nothing"):
        raise OSError(number, os.strerror(number), name)
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err.startswith(text)
    with pytest.raises(OSError, match="Permission denied"), Console().errors("nothing"):
        raise PermissionError(errno.EACCES, "Permission denied")  # of a port, say
