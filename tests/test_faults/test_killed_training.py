"""A training that is killed at any moment ends with the bytes of one left alone."""

import subprocess
import sys

import numpy as np
import pytest
from dataset_files import make_dataset

pytestmark = pytest.mark.tf

SMALL = [
    "model.width=0.05", "model.dropout=0.3", "augment.crop_size=33", "solver.batch_size=2", "run.log_every=2",
    "run.val_every=4", "run.save_every=3", "run.preview_every=100", "solver.learning_rate=0.01",
]  # fmt: skip


def weights_of(path):
    import keras

    return [array.tobytes() for array in keras.saving.load_model(path, compile=False).get_weights()]


@pytest.mark.slow
def test_training_killed_at_random_moments_ends_with_the_bytes_of_the_uninterrupted_one(tmp_path):
    rng = np.random.default_rng()  # other moments each time
    make_dataset(tmp_path / "set", train=6, val=3)
    settings = [part for setting in [*SMALL, "solver.steps=300"] for part in ("--set", setting)]
    start = ["train", "--recipe", "shapes", "--data", "set", *settings, "--run-dir"]

    def run(*arguments, seconds=None):
        command = [sys.executable, "-m", "deeplabctl", *arguments]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            return process.wait()

    assert run(*start, "whole") == 0
    for number in range(20):
        name = f"run{number}"
        code = run(*start, name, seconds=rng.uniform(6, 14))
        while code != 0:
            begun = (tmp_path / name / "recipe.toml").exists()
            code = run(*(("train", "--resume", name) if begun else (*start, name)), seconds=rng.uniform(8, 40))
        for model in ("last.keras", "best.keras"):
            assert weights_of(tmp_path / name / model) == weights_of(tmp_path / "whole" / model)
