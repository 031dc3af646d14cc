"""The command line as a whole: every command's help, usage errors, version."""

import os
import re
import signal
import subprocess
import sys

import pytest
import typer
from annotation_files import write_labelme
from caffe_files import DATA as CAFFE
from command_process import run_without_tensorflow
from dataset_files import make_dataset

from deeplabctl.cli.app import app
from deeplabctl.network import ARCHITECTURES


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


@pytest.mark.parametrize(
    "path",
    [path for path, one in COMMANDS.items() if one.no_args_is_help or any(each.required for each in one.params)],
    ids=" ".join,
)
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


def help_of(command, option):
    return next(each.help for each in COMMANDS[command,].params if option in each.opts)


def test_help_names_the_crop_sizes_of_all_networks():
    steps = re.findall(r"(\d+)k \+ 1", help_of("train", "--crop-size"))
    assert {*map(int, steps)} == {network.crop_step for network in ARCHITECTURES.values()}


def test_help_offers_exports_where_they_are_taken():
    assert "export" in help_of("eval", "--weights")
    assert "export" not in help_of("crf-search", "--weights")  # which needs logits


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


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_that_no_encoding_has_are_printed_as_escapes(tmp_path, encoding):
    make_dataset(tmp_path / "set", train=1, val=1)
    name = os.fsdecode(b"a \xff \xc3\xa9.png")
    done = subprocess.run(
        [sys.executable, "-m", "deeplabctl", "data", "preview", "set", "--out", name], cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"a \udcff " in done.stdout
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 2])
def test_signal_ends_a_command_without_leaving_what_is_half_written(tmp_path, number, times):
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # under nohup it is ignored
        "from deeplabctl.data import convert\n"
        "convert._split_randomly = lambda *_: print('half', flush=True) or time.sleep(60)\n"
        "from deeplabctl.cli.app import main\n"
        "main()\n"
    )
    write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    command = [sys.executable, "-c", program, "data", "convert", "x", "--out", "set"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    for _ in range(times):
        process.send_signal(number)
    _, err = process.communicate(timeout=120)
    if times == 1:
        assert process.returncode == 128 + number
        assert "Traceback" not in err
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
    else:
        assert process.returncode in (128 + number, -number)


def interrupt(*given):
    raise KeyboardInterrupt


def test_ctrl_c_is_one_line_and_leaves_whole_files_only(tmp_path, deeplabctl, monkeypatch):
    write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    with monkeypatch.context() as patch:
        patch.setattr("deeplabctl.data.convert._split_randomly", interrupt)
        assert deeplabctl("data", "convert", "x", "--out", "set", "-q") == (
            130,
            "",
            "interrupted: files that were written are complete\n",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with monkeypatch.context() as patch:
        patch.setattr("deeplabctl.weights.fitting.open_network", interrupt)
        code, out, err = deeplabctl("infer", "x", "-q", "--weights", CAFFE / "lfov_tiny_v2.caffemodel")
    assert (code, out) == (130, "")
    assert err == "interrupted: the files of finished images are complete; continue with --skip-existing\n"
    with monkeypatch.context() as patch:
        patch.setattr("deeplabctl.training.plan.open_dataset", interrupt)
        code, out, err = deeplabctl("train", "--run-dir", "a")
    assert (code, out) == (130, "")
    assert "--resume RUN (last: the newest in ./runs)" in err  # which "a" is not in


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x", "--contact-sheet"], "images are complete; continue with --skip-existing"),
        (["x", "--overwrite"], "images are complete; run the same command again"),
        (["x", "--format", "csv"], "; run it again with --overwrite (a run with --format mask can be continued)"),
        (["-"], "interrupted: no mask was written"),
    ],
)
def test_ctrl_c_says_how_an_infer_with_these_options_goes_on(deeplabctl, monkeypatch, arguments, expected):
    monkeypatch.setattr("deeplabctl.cli.prediction_options.read_settings", interrupt)
    code, out, err = deeplabctl("infer", *arguments)
    assert (code, out) == (130, "")
    assert err.endswith(f"{expected}\n")


def test_signals_that_are_ignored_stay_so(deeplabctl, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr("deeplabctl.cli.app.app", lambda **_: sys.exit(int(signal.getsignal(signal.SIGHUP))))
        assert deeplabctl()[0] == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
