"""The commands from end to end, on small data sets and nets."""

import json
import sys

import numpy as np
import pytest
from making import make_dataset
from PIL import Image

from deeplabctl.data.images import read_label
from deeplabctl.recipe import read_recipe
from deeplabctl.weights.fitting import read_info

pytestmark = pytest.mark.tf

SMALL = [
    "--recipe", "shapes", "--width", "0.05", "--crop-size", "33", "--batch-size", "2",
    "--set", "run.val_every=4", "--set", "run.preview_every=4", "--set", "run.log_every=2",
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    make_dataset(tmp_path / "set", train=6, val=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights_of(path):
    import keras

    return keras.saving.load_model(path, compile=False).get_weights()


def test_train_eval_infer_with_the_defaults_between_them(here, deeplabctl):
    code, out, err = deeplabctl("train", "--data", "set", *SMALL, "--steps", 8)
    assert code == 0
    (run,) = (here / "runs").iterdir()
    names = {path.name for path in run.iterdir()}
    assert {"recipe.toml", "run.json", "metrics.jsonl", "log.txt", "best.keras", "last.keras", "previews"} <= names
    assert [path.name for path in sorted((run / "previews").iterdir())] == ["step-000004.png", "step-000008.png"]
    assert "next: deeplabctl eval" in out
    assert "square" in out
    assert "step 8/8  loss" in err
    assert "val mIoU" in err
    assert "\x1b" not in out + err
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["versions"]["tensorflow"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 4, 6, 8]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [4, 8]
    info = read_info(run / "best.keras")
    assert info.classes == ("background", "disc", "square")
    assert info.provenance["split"] == "train"

    code, out, err = deeplabctl("eval", "--split", "val", "--json")
    assert code == 0
    scores = json.loads(out)
    best = max(line["miou"] for line in lines if line["kind"] == "validation")
    assert scores["miou"] == pytest.approx(best)
    assert scores["images"] == 3
    assert {entry["name"] for entry in scores["classes"]} == {"background", "disc", "square"}

    code, _, err = deeplabctl("eval", "--split", "train")
    assert code == 0
    assert "warning: the weights were trained on 6 of these 6 images" in err

    code, out, err = deeplabctl("infer", "set/JPEGImages/v0.png", "set/JPEGImages/v1.png", "--overlay")
    assert code == 0
    for name in ("v0", "v1"):
        assert read_label(here / "masks" / f"{name}.png").shape == (60, 80)
        assert (here / "masks" / f"{name}_overlay.png").exists()
        assert f"{name}.png" in out
    code, out, err = deeplabctl("infer", "set/JPEGImages/v0.png")
    assert code == 1
    assert "give --overwrite" in err


def test_same_seed_gives_the_same_bytes_in_every_weight_and_another_seed_others(here, deeplabctl):
    runs = [("a", 3), ("b", 3), ("c", 4)]
    for name, seed in runs:
        code, _, _ = deeplabctl("train", "--data", "set", *SMALL, "--steps", 6, "--seed", seed, "--run-dir", name, "-q")
        assert code == 0
    one, same, other = (weights_of(here / name / "last.keras") for name, _ in runs)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_written_recipe_runs_again_to_the_same_bytes(here, deeplabctl):
    deeplabctl("train", "--data", "set", *SMALL, "--steps", 4, "--run-dir", "a", "-q")
    assert read_recipe(str(here / "a" / "recipe.toml")).data.root == str(here / "set")
    code, _, _ = deeplabctl("train", "--recipe", "a/recipe.toml", "--run-dir", "b", "-q")
    assert code == 0
    for a, b in zip(weights_of(here / "a" / "last.keras"), weights_of(here / "b" / "last.keras"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_start_from_a_run_takes_its_width_and_says_which_layers_are_new(here, deeplabctl):
    deeplabctl("train", "--data", "set", *SMALL, "--steps", 4, "--run-dir", "a", "-q")
    make_dataset(here / "more", classes=("background", "a", "b", "c"))
    plain = [part for part in SMALL if part not in ("--width", "0.05")]
    code, _, err = deeplabctl("train", "--data", "more", *plain, "--init", "a", "--steps", 4, "--run-dir", "b")
    assert code == 0
    assert "new: fc8_voc12" in err
    assert read_info(here / "b" / "best.keras").width == 0.05
    code, _, err = deeplabctl("train", "--data", "more", *SMALL, "--init", "a", "--width", 0.5)
    assert code == 1
    assert "got width 0.05" in err
    code, _, err = deeplabctl("eval", "--weights", "a", "--data", "more")
    assert code == 1
    assert "expected the 3 classes that the weights know" in err


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


def test_one_bad_picture_is_named_and_the_others_are_finished(here, deeplabctl):
    deeplabctl("train", "--data", "set", *SMALL, "--steps", 2, "-q")
    pictures = here / "pictures"
    pictures.mkdir()
    Image.new("CMYK", (41, 23)).save(pictures / "a.jpg")
    (pictures / "b.jpg").write_bytes(b"no picture")
    Image.new("I;16", (10, 90), 30000).save(pictures / "c.png")
    code, out, err = deeplabctl("infer", "pictures", "--out", "out", "--json")
    assert code == 1
    assert read_label(here / "out" / "a.png").shape == (23, 41)
    assert read_label(here / "out" / "c.png").shape == (90, 10)
    assert not (here / "out" / "b.png").exists()
    result = json.loads(out)
    assert [entry["width"] for entry in result["images"]] == [41, 10]
    assert len(result["failed"]) == 1
    assert "error: 1 of 3 pictures failed" in err
    assert "b.jpg" in err


def test_quiet_says_nothing_on_stderr_and_json_is_all_of_stdout(here, deeplabctl):
    code, out, err = deeplabctl("train", "--data", "set", *SMALL, "--steps", 2, "-q", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["steps"] == 2


def test_interrupted_training_ends_with_a_model_and_exit_130(here):
    import signal
    import subprocess

    command = [sys.executable, "-m", "deeplabctl", "train", "--data", "set", *SMALL, "--steps", "100000"]
    process = subprocess.Popen([*command, "--run-dir", "a"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if line.startswith("step 4: val"):
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped after" in out
    assert json.loads((here / "a" / "run.json").read_text())["status"] == "interrupted"
    assert read_info(here / "a" / "last.keras").provenance["step"] >= 4
