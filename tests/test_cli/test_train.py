"""``deeplabctl train``: what it writes, and what it refuses before TensorFlow is loaded."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_process import fails_with_one_line, run_without_tensorflow
from dataset_files import make_dataset
from PIL import Image
from small_training import SMALL

from deeplabctl.data.labels import read_label, write_mask
from deeplabctl.files import user_cache
from deeplabctl.recipe import read_recipe
from deeplabctl.weights.locating import open_weights

pytestmark = pytest.mark.usefixtures("no_curves")


def weights_of(path):
    import keras

    return keras.saving.load_model(path, compile=False).get_weights()


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_same_seed_gives_the_same_bytes_in_every_weight_and_another_seed_others(here, deeplabctl):
    settings = ["--data", "set", *SMALL, "--steps", 5]
    recipe = ["--recipe", "a/recipe.toml"]
    runs = {"a": [*settings, "--seed", 3], "b": recipe, "c": [*recipe, "--seed", 4]}
    for name, options in runs.items():
        code, _, err = deeplabctl("train", *options, "--run-dir", name, "-q")
        assert code == 0, err
    assert read_recipe("a/recipe.toml").data.root == str(here / "set")
    one, same, other = (weights_of(here / name / "last.keras") for name in runs)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_start_from_a_run_takes_its_width_and_says_which_layers_are_new(here, deeplabctl):
    deeplabctl("train", "--data", "set", *SMALL, "--steps", 4, "--run-dir", "a", "-q")
    make_dataset(here / "more", classes=("background", "a", "b", "c"))
    plain = [part for part in SMALL if part not in ("--width", "0.05")]
    code, _, err = deeplabctl("train", "--data", "more", *plain, "--init", "a", "--steps", 4, "--run-dir", "b")
    assert code == 0
    assert re.search(
        r"weights from \S+/a/best.keras: \d+ of \d+ layers; new and random: the classifier fc8_voc12\n", err
    )
    assert "new layers: fc8_voc12\n" in (here / "b" / "log.txt").read_text()
    assert open_weights(here / "b" / "best.keras").info.width == 0.05
    code, _, err = deeplabctl("train", "--data", "more", *SMALL, "--init", "a", "--width", 0.5)
    assert code == 1
    assert "got width 0.05" in err
    code, _, err = deeplabctl("eval", "--weights", "a", "--data", "more")
    assert code == 1
    assert "expected the 3 classes that the weights know" in err


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_loss_that_is_not_finite_stops_the_run_and_names_the_files(here, deeplabctl):
    code, _, err = deeplabctl(
        "train", "--data", "set", *SMALL, "--steps", 50, "--learning-rate", 1e30, "--run-dir", "a", "--set",
        "solver.optimizer=sgd",
    )  # fmt: skip
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: step ")
    assert "expected a finite number" in last
    assert "JPEGImages/t" in last
    assert json.loads((here / "a" / "run.json").read_text())["status"] == "failed"


@pytest.mark.tf
def test_quiet_says_nothing_on_stderr_and_json_is_all_of_stdout(here, deeplabctl):
    # A warm-up of more steps, and classes that are lost in large ones, are warned of.
    options = [*SMALL, "--set", "solver.warmup_steps=0", "--learning-rate", 1e-4, "--steps", 2]
    code, out, err = deeplabctl("train", "--data", "set", *options, "-q", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["steps"] == 2


@pytest.mark.tf
def test_interrupted_training_ends_with_a_model_and_exit_130(here):

    command = [sys.executable, "-m", "deeplabctl", "train", "--data", "set", *SMALL, "--steps", "100000"]
    process = subprocess.Popen([*command, "--run-dir", "a"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if line.startswith("step 4: val"):
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped after" in out
    assert json.loads((here / "a" / "run.json").read_text())["status"] == "interrupted"
    assert open_weights(here / "a" / "last.keras").info.provenance["step"] >= 4


def test_missing_data_set_is_one_line(tmp_path):
    fails_with_one_line("nowhere: there is no such folder", "train", "--data", "nowhere", cwd=tmp_path)


def test_debug_shows_the_traceback(tmp_path):
    code, _, err = run_without_tensorflow("train", "--data", "nowhere", "--debug", cwd=tmp_path)
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
    ("spoil", "message"),
    [(spoil_value, "got 37"), (spoil_grey, "turned into grey levels"), (spoil_binary, "a 0/255 mask")],
)
@pytest.mark.parametrize("name", ["t1", "v1"])
def test_label_that_would_ruin_the_training_is_one_line(tmp_path, spoil, message, name):
    root = make_dataset(tmp_path / "set")
    spoil(root / "SegmentationClass" / f"{name}.png")
    err = fails_with_one_line(message, "train", "--data", "set", "--init", "random", cwd=tmp_path)
    assert f"{name}.png" in err


def test_wrong_settings_and_starts_are_one_line(tmp_path):
    make_dataset(tmp_path / "set")
    fails_with_one_line("did you mean steps", "train", "--data", "set", "--set", "solver.stpes=3", cwd=tmp_path)
    fails_with_one_line("16k + 1", "train", "--data", "set", "--crop-size", 320, cwd=tmp_path)
    fails_with_one_line("no such file", "train", "--data", "set", "--init", "gone.keras", cwd=tmp_path)
    fails_with_one_line("got width 1", "train", "--data", "set", "--width", 0.5, "--init", "imagenet", cwd=tmp_path)
    fails_with_one_line("one per class", "train", "--data", "set", "--set", "solver.class_weights=[1]", cwd=tmp_path)


def test_weights_of_imagenet_that_cannot_be_downloaded_are_named_before_tensorflow_starts(tmp_path):
    make_dataset(tmp_path / "set")
    said = "cannot download vgg16_weights_tf_dim_ordering_tf_kernels.h5 (127.0.0.1: "
    options = ("--set", "model.architecture=largefov", "--crop-size", 33, "--init", "imagenet")
    err = fails_with_one_line(said, "train", "--data", "set", *options, cwd=tmp_path)
    path = user_cache() / "weights" / "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    assert err.endswith(f"{path.name} (md5 64373286793e3c8b2b4e3219cbf3544b) by other means, to {path}\n")
    assert "starting TensorFlow" not in err
    path.write_bytes(b"x")
    said = (
        f"{path}: expected md5 64373286793e3c8b2b4e3219cbf3544b, got 9dd4e461268c8034f5c8564e155c67a6; remove the file"
    )
    fails_with_one_line(said, "train", "--data", "set", *options, cwd=tmp_path)


def test_folder_of_the_user_is_refused_and_its_files_stay(tmp_path):
    make_dataset(tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.keras").write_bytes(b"mine")
    start = ["train", "--data", "set", "--init", "mine/best.keras", "--run-dir", "mine"]
    fails_with_one_line(
        "run directory mine: expected a new or an empty folder, got one with best.keras", *start, cwd=tmp_path
    )
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["best.keras"]
    assert (tmp_path / "mine" / "best.keras").read_bytes() == b"mine"


def test_split_without_a_labelled_pixel_is_refused_before_training(tmp_path):
    root = make_dataset(tmp_path / "set")
    for name in ("v0", "v1"):
        write_mask(root / "SegmentationClass" / f"{name}.png", np.full((60, 80), 255, np.uint8))
    fails_with_one_line("only void (255)", "train", "--data", "set", "--init", "random", cwd=tmp_path)
