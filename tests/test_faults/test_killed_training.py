"""A training that is killed at any moment ends with the bytes of one left alone."""

import contextlib
import subprocess
import sys
import time

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


class Killer:
    """Run commands in a folder, and kill them after a random part of the time that a training takes."""

    def __init__(self, folder):
        self.folder = folder
        self.rng = np.random.default_rng()  # other moments each time

    def run(self, *arguments, steps_of=None):
        """Return the exit code; with ``steps_of``, a run directory, kill it at a random moment.

        One of four kills comes within the start; the others some steps after it, however slow the machine is.
        """
        command = [sys.executable, "-m", "deeplabctl", *arguments]
        with subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            if steps_of is not None:
                if self.rng.random() < 1 / 4:
                    self._wait(process, self.rng.uniform(1, 10))
                else:
                    before = self._logged(steps_of)
                    while process.poll() is None and self._logged(steps_of) == before:
                        time.sleep(0.05)
                    self._wait(process, self.rng.uniform(0, 6))
                process.kill()
            return process.wait()

    def _wait(self, process, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)

    def _logged(self, run):
        metrics = self.folder / run / "metrics.jsonl"
        return metrics.read_bytes() if metrics.exists() else None


@pytest.mark.slow
def test_training_killed_at_random_moments_ends_with_the_bytes_of_the_uninterrupted_one(tmp_path):
    killer = Killer(tmp_path)
    make_dataset(tmp_path / "set", train=6, val=3)
    settings = [part for setting in [*SMALL, "solver.steps=150"] for part in ("--set", setting)]
    start = ["train", "--recipe", "shapes", "--data", "set", *settings, "--run-dir"]
    assert killer.run(*start, "whole") == 0
    kills = 0
    for number in range(8):
        name = f"run{number}"
        code, kill_again = -1, 3
        while code != 0:
            begun = (tmp_path / name / "recipe.toml").exists()
            command = ["train", "--resume", name] if begun else [*start, name]
            code = killer.run(*command, steps_of=name if kill_again else None)
            assert code in (0, -9)
            kills += code == -9
            kill_again = max(kill_again - 1, 0)
        for model in ("last.keras", "best.keras"):
            assert weights_of(tmp_path / name / model) == weights_of(tmp_path / "whole" / model)
    assert kills >= 8
