"""--json: exactly one strict JSON document on stdout, whether a command succeeds, fails or is interrupted."""

import json
import signal
import subprocess
import sys

import pytest
import typer
from caffe_files import DATA as CAFFE
from PIL import Image

from deeplabctl.cli.app import app, main
from deeplabctl.cli.commands import _COMMANDS, _OPTIONS, _UsageError
from deeplabctl.cli.console import Console
from deeplabctl.cli.json_output import print_document
from deeplabctl.errors import DeepLabError


def leaves(group, *path):
    """Yield the path of each command below a group that has none below it, and the command."""
    for name, command in group.commands.items():
        yield from leaves(command, *path, name) if hasattr(command, "commands") else [((*path, name), command)]


COMMANDS = dict(leaves(typer.main.get_command(app)))
WEIGHTS = CAFFE / "lfov_tiny_v2.caffemodel"
ARGUMENTS = {  # of which each command takes these, and fails
    "train": ["--data", "missing"], "eval": ["--weights", "missing"], "infer": ["missing.png"],
    "serve": ["--weights", "taken"], "report": ["missing"], "crf-search": ["--weights", "missing"],
    "export": ["missing", "--to", "onnx"], "convert-caffe": ["missing"], "weights": ["missing"],
    "recipes": ["missing"], "check": ["missing"], "stats": ["missing"], "preview": ["missing"],
    "shapes": ["taken"], "convert": ["missing", "--out", "new"],
    "prepare-voc": ["--voc", "missing", "--sbd", "missing", "--out", "new"],
}  # fmt: skip


def strict(text):
    """Return the one document of a text; fails on what JSON does not have, and on names that come twice."""

    def no_constant(name):
        raise ValueError(name)

    def unique(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_usage_errors_are_documents(path, deeplabctl):
    code, out, err = deeplabctl(*path, "--json", "--no-such-option")
    error = strict(out)["error"]
    assert code == error["exit_code"] == 2
    assert "--no-such-option" in error["message"]
    assert "Usage:" in err


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_errors_are_documents(path, deeplabctl, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a").touch()
    code, out, err = deeplabctl(*path, *ARGUMENTS[path[-1]], "--json")
    error = strict(out)["error"]
    assert code == error["exit_code"] == 1
    assert err.splitlines()[-1] == f"error: {error['message']}"


def interrupt(**_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_interruptions_are_documents(path, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.cli.console.only_documents", interrupt)
    code, out, err = deeplabctl(*path, *ARGUMENTS[path[-1]], "--json")
    error = strict(out)["error"]
    assert code == error["exit_code"] == 130
    assert err == f"{error['message']}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_one_document(tmp_path, number):
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # jobs in the background ignore it
        "from deeplabctl.data import shapes\n"
        "shapes.place_shapes = lambda *_: print('half', flush=True) or time.sleep(60)\n"
        "from deeplabctl.cli.app import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program, "data", "shapes", "set", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "half\n"  # printed on stdout, and sent to stderr
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == strict(out)["error"]["exit_code"] == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("error", [ImportError, DeepLabError])
def test_a_signal_that_a_library_turned_into_its_own_error_is_the_signal(deeplabctl, monkeypatch, number, error):
    def start_library(*_):
        try:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.raise_signal(number)
        except BaseException as signalled:
            raise error("initialization failed") from signalled

    monkeypatch.setattr("deeplabctl.data.shapes.place_shapes", start_library)
    code, out, err = deeplabctl("data", "shapes", "set", "--json")
    assert code == strict(out)["error"]["exit_code"] == 128 + number
    assert "initialization" not in out + err


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        ("raise KeyboardInterrupt", "interrupted", 130),
        ("import signal; signal.raise_signal(signal.SIGTERM)", "ended by SIGTERM", 143),
    ],
)
def test_a_signal_before_a_command_is_a_document(event, message, code):
    program = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        f"            {event}\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from deeplabctl.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "weights", "--json"], capture_output=True, text=True, timeout=60
    )
    error = {"error": {"message": message, "exit_code": code}}
    assert (ended.returncode, strict(ended.stdout), ended.stderr) == (code, error, "")


def test_ctrl_c_before_a_command_begins_is_a_document(deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.cli.app.app", interrupt)
    code, out, err = deeplabctl("weights", "--json")
    assert (code, strict(out), err) == (130, {"error": {"message": "interrupted", "exit_code": 130}}, "")


def test_successes_are_documents_though_others_print(deeplabctl, tmp_path, monkeypatch):
    Image.new("RGB", (40, 30), "green").save(tmp_path / "a.png")
    assert strict(deeplabctl("data", "shapes", "set", "--train", 3, "--val", 2, "--json")[1])["train"] == 3
    for words in (
        ("weights",), ("recipes",), ("recipes", "paper-v2"), ("data", "check", "set"), ("data", "stats", "set"),
        ("data", "preview", "set", "--out", "p.png"), ("convert-caffe", WEIGHTS, "--inspect"),
        ("infer", "a.png", "--weights", WEIGHTS, "--engine", "numba"),
    ):  # fmt: skip
        code, out, _ = deeplabctl(*words, "--json")
        assert code == 0, words
        assert "error" not in strict(out)
    say = Console.document
    monkeypatch.setattr(Console, "document", lambda *args: sys.stdout.write("Downloading data") and say(*args))
    code, out, err = deeplabctl("data", "stats", "set", "--json")
    assert strict(out)["root"]
    assert "Downloading" in err


def test_bugs_keep_their_traceback_and_are_documents(deeplabctl, monkeypatch, capfd):
    monkeypatch.setattr("deeplabctl.data.shapes.write_shapes", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["deeplabctl", "data", "shapes", "set", "--json"])
    with pytest.raises(ZeroDivisionError):
        main()
    message = "ZeroDivisionError: division by zero"
    assert strict(capfd.readouterr().out) == {"error": {"message": message, "exit_code": 1}}


def test_numbers_that_json_lacks_are_null(capsys):
    print_document({"a": [float("nan"), float("inf"), 1.5], "b": {"c": (float("-inf"),)}})
    assert strict(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": {"c": [None]}}


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (("train", "--lr", 1), "no such option --lr; did you mean --learning-rate?"),
        (("train", "--momentum=0.9"), "no such option --momentum; did you mean --set solver.momentum=VALUE?"),
        (("train", "--epochs", 3), "no such option --epochs; did you mean --steps?"),
        (("infer", "--model", "x"), "no such option --model; did you mean --weights?"),
        (("infer", "--image", "x"), "no such option --image; did you mean INPUT, without --image?"),
        (("train", "lake"), "expected options, got 'lake'; did you mean --data lake?"),
        (("serve", "runs/a"), "expected options, got 'runs/a'; did you mean --weights runs/a?"),
        (("--debug", "infer", "a.jpg"), "expected --debug after the command, got it before"),
        (("data", "--overwrite", "shapes"), "expected --overwrite after the command, got it before"),
        (("predict", "a.jpg"), "no such command 'predict'; did you mean infer?"),
        (("a b.jpg",), "no such command 'a b.jpg'; did you mean infer 'a b.jpg'?"),
    ],
)
def test_what_other_programs_call_it_is_guessed(words, guess, deeplabctl, tmp_path):
    (tmp_path / "a b.jpg").touch()
    code, _, err = deeplabctl(*words)
    assert (code, err.splitlines()[-1]) == (2, f"Error: {guess}")


def test_all_guesses_exist():
    options = {word for command in COMMANDS.values() for each in command.params for word in each.opts} | {"INPUT"}
    names = {" ".join(path) for path in COMMANDS}
    known = options | {f"deeplabctl {name}" for name in names}
    for meant in _OPTIONS.values():
        assert all(text in known or text.split()[0] in options or text.startswith("$") for text in meant)
    assert all(text.split(",")[0] in names or text.startswith("--") for text in _COMMANDS)
    assert isinstance(typer.BadParameter("x"), _UsageError)


def test_quiet_infer_prints_nothing(deeplabctl, tmp_path):
    Image.new("RGB", (40, 30), "green").save(tmp_path / "a.png")
    words = ("infer", "a.png", "--weights", WEIGHTS, "--engine", "numba", "--format", "json")
    assert deeplabctl(*words)[1]
    assert deeplabctl(*words, "--quiet", "--overwrite") == (0, "", "")
    assert (tmp_path / "masks" / "areas.jsonl").exists()


def test_addresses_as_weights_are_refused_in_a_line(deeplabctl, tmp_path):
    Image.new("RGB", (40, 30), "green").save(tmp_path / "a.png")
    code, _, err = deeplabctl("infer", "a.png", "--weights", "https://a.org/b")
    assert (code, err) == (
        1,
        "error: weights https://a.org/b: expected a file, got an address (https); download it, and name the file\n",
    )


def test_recipes_of_papers_do_not_fall_back_to_shapes(deeplabctl, tmp_path):
    code, _, err = deeplabctl("train", "--recipe", "paper-v2", "--init", "random")
    assert code == 1
    assert err.startswith("error: data set: expected VOC 2012 in ./VOCdevkit/VOC2012 or ")  # and no line of shapes
    assert not (tmp_path / "runs").exists()
