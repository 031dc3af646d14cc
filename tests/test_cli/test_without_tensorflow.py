"""What the command says before TensorFlow is loaded: help, usage errors, and what is wrong with the input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from making import make_dataset
from PIL import Image

from deeplabctl.data.images import read_label, write_mask

PROGRAM = (
    "import sys, atexit\n"
    "atexit.register(lambda: print('LOADED', *sorted({'tensorflow', 'keras', 'numba'} & set(sys.modules))))\n"
    "sys.argv[0] = 'deeplabctl'\n"
    "from deeplabctl.cli.app import main\n"
    "main()\n"
)


def deeplabctl(*arguments, cwd):
    """Run the command in a process of its own; returns (exit code, stdout, stderr). Nothing heavy may load."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=60
    )
    stdout, _, loaded = done.stdout.rpartition("LOADED")
    assert loaded.strip() == ""
    return done.returncode, stdout, done.stderr


@pytest.mark.parametrize("command", [[], ["train"], ["eval"], ["infer"], ["data"], ["data", "shapes"]])
def test_every_command_has_help(command, tmp_path):
    code, out, _ = deeplabctl(*command, "--help", cwd=tmp_path)
    assert code == 0
    assert "Usage: deeplabctl" in out


@pytest.mark.parametrize("command", [[], ["infer"], ["data"], ["data", "shapes"]])
def test_commands_that_need_arguments_print_their_help_without_any(command, tmp_path):
    code, out, err = deeplabctl(*command, cwd=tmp_path)
    assert code == 2
    assert "Usage: deeplabctl" in out + err


@pytest.mark.parametrize(
    "arguments",
    [["train", "--stpes", "3"], ["trian"], ["eval", "--limit", "none"], ["eval", "--pad", "513"], ["train", "a.jpg"]],
)
def test_mistyped_options_are_usage_errors(arguments, tmp_path):
    code, _, err = deeplabctl(*arguments, cwd=tmp_path)
    assert code == 2
    assert "Usage:" in err


def test_version_is_printed(tmp_path):
    code, out, _ = deeplabctl("--version", cwd=tmp_path)
    assert code == 0
    assert out.startswith("deeplabctl 0.")


def fails_with_one_line(said, *arguments, cwd):
    code, out, err = deeplabctl(*arguments, cwd=cwd)
    assert code == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert said in err.splitlines()[-1]
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (cwd / "runs").exists()
    return err


def test_missing_data_set_is_one_line(tmp_path):
    fails_with_one_line("nowhere: there is no such folder", "train", "--data", "nowhere", cwd=tmp_path)


def test_debug_shows_the_traceback(tmp_path):
    code, _, err = deeplabctl("train", "--data", "nowhere", "--debug", cwd=tmp_path)
    assert code == 1
    assert "Traceback" in err


def test_broken_list_is_one_line(tmp_path):
    root = make_dataset(tmp_path / "set")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("t0\nt77\n")
    fails_with_one_line("train.txt:2: no image for 't77'", "train", "--data", "set", cwd=tmp_path)


def spoil_value(path):
    label = read_label(path)
    label[3, 4] = 37
    write_mask(path, label)


def spoil_grey(path):
    with Image.open(path) as palette:
        palette.convert("L").save(path)


def spoil_binary(path):
    Image.fromarray((read_label(path) > 0).astype(np.uint8) * 255).save(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(spoil_value, "got 37"), (spoil_grey, "turned into grey levels"), (spoil_binary, "a 0/255 mask")],
)
@pytest.mark.parametrize("name", ["t1", "v1"])
def test_label_that_would_ruin_the_training_is_one_line(tmp_path, spoil, said, name):
    root = make_dataset(tmp_path / "set")
    spoil(root / "SegmentationClass" / f"{name}.png")
    err = fails_with_one_line(said, "train", "--data", "set", "--init", "random", cwd=tmp_path)
    assert f"{name}.png" in err


def test_wrong_settings_and_starts_are_one_line(tmp_path):
    make_dataset(tmp_path / "set")
    fails_with_one_line("did you mean steps", "train", "--set", "solver.stpes=3", cwd=tmp_path)
    fails_with_one_line("8k + 1", "train", "--data", "set", "--crop-size", 320, cwd=tmp_path)
    fails_with_one_line("no such file", "train", "--data", "set", "--init", "gone.keras", cwd=tmp_path)
    fails_with_one_line("got width 1", "train", "--data", "set", "--width", 0.5, "--init", "imagenet", cwd=tmp_path)
    fails_with_one_line("one a class", "train", "--data", "set", "--set", "solver.class_weights=[1]", cwd=tmp_path)


def test_eval_and_infer_without_weights_or_inputs_are_one_line(tmp_path):
    fails_with_one_line("there are no weights", "eval", cwd=tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    fails_with_one_line("there are no weights", "infer", "a.png", cwd=tmp_path)
    fails_with_one_line("gone.jpg: there is no such file", "infer", "gone.jpg", cwd=tmp_path)
    fails_with_one_line("got a PNG picture", "infer", "a.png", "--weights", "a.png", cwd=tmp_path)


def test_shapes_are_drawn_and_told_as_json(tmp_path):
    code, out, err = deeplabctl("data", "shapes", "mine", "--train", 3, "--val", 2, "--json", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(out) == {"root": "mine", "train": 3, "val": 2, "seed": 0}
    assert len(list((tmp_path / "mine" / "JPEGImages").iterdir())) == 5
    fails_with_one_line("mine", "data", "shapes", "mine", cwd=tmp_path)


def test_split_without_a_labelled_pixel_is_refused_before_training(tmp_path):
    root = make_dataset(tmp_path / "set")
    for name in ("v0", "v1"):
        write_mask(root / "SegmentationClass" / f"{name}.png", np.full((60, 80), 255, np.uint8))
    fails_with_one_line("got void (255) alone", "train", "--data", "set", "--init", "random", cwd=tmp_path)


def test_folders_that_cannot_be_written_are_one_line(tmp_path):
    fails_with_one_line("cannot write the shapes", "data", "shapes", "/proc/nowhere/x", cwd=tmp_path)
