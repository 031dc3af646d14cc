"""Several devices and several machines give what one gives."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.cli.multi_worker import Worker
from deeplabctl.cli.train import _strategy
from deeplabctl.errors import RunError

SMALL = [
    "--recipe", "shapes", "--data", "set", "--width", "0.05", "--crop-size", "33", "--batch-size", "4",
    "--learning-rate", "0.002", "--set", "model.dropout=0.3", "--precision", "float32",
    "--set", "run.log_every=1", "--set", "run.save_every=5", "--set", "run.val_every=10",
]  # fmt: skip


def tf_config(addresses, index):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def free_addresses(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def start_workers(folder, *arguments):
    addresses = free_addresses(2)
    command = [sys.executable, "-m", "deeplabctl", "train", *map(str, arguments)]
    return [
        subprocess.Popen(
            command, cwd=folder, env=os.environ | {"TF_CONFIG": tf_config(addresses, index)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip


def finish(workers):
    outputs = [worker.communicate(timeout=300) for worker in workers]
    return [worker.returncode for worker in workers], [err for _, err in outputs]


def wait_for_checkpoint(run, workers):
    while not list(run.glob("checkpoints/*.npz")):
        assert workers[0].poll() is None, workers[0].communicate()
        time.sleep(0.02)


def losses_of(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


def weights_of(path):
    import keras

    return keras.saving.load_model(path, compile=False).get_weights()


@pytest.fixture
def folder(tmp_path):
    make_dataset(tmp_path / "set", train=7, val=3)
    return tmp_path


@pytest.mark.tf
def test_two_workers_train_as_one_process_and_resume_together_when_one_was_killed(folder, deeplabctl):
    fixed = [*SMALL, "--set", "solver.policy=fixed"]
    workers = start_workers(folder, *fixed, "--steps", 100000, "--run-dir", "two")
    wait_for_checkpoint(folder / "two", workers)
    workers[1].kill()
    _, err = workers[0].communicate(timeout=120)
    assert workers[0].returncode == 1
    assert "another worker died or cannot be reached" in err.splitlines()[-1]
    workers[1].communicate()

    steps = max(losses_of(folder / "two")) + 5
    codes, errors = finish(start_workers(folder, "--resume", "two", "--steps", steps))
    assert codes == [0, 0], errors
    assert "continuing after step" in errors[0]
    assert json.loads((folder / "two" / "run.json").read_text())["status"] == "finished"

    code, _, err = deeplabctl("train", *fixed, "--steps", steps, "--run-dir", "one")
    assert code == 0, err
    expected, found = losses_of(folder / "one"), losses_of(folder / "two")
    assert len(expected) == steps >= 10
    assert found == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(weights_of("one/last.keras"), weights_of("two/last.keras"), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max() + 1e-8  # sums of other order, step after step


@pytest.mark.tf
def test_workers_that_do_not_begin_alike_are_refused_and_a_group_wide_signal_is_one_signal(folder):
    addresses = free_addresses(2)

    def start(index, *more, group=False):
        return subprocess.Popen(
            [sys.executable, "-m", "deeplabctl", "train", *SMALL, "--run-dir", "run", *more], cwd=folder,
            env=os.environ | {"TF_CONFIG": tf_config(addresses, index)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=group,
        )  # fmt: skip

    codes, errors = finish([start(0, "--steps", "5"), start(1, "--steps", "5", "--set", "solver.momentum=0.5")])
    assert codes == [1, 1]
    assert all("worker 1: expected the recipe of worker 0, got another" in err for err in errors)

    addresses = free_addresses(2)
    (folder / "run").rename(folder / "old")
    workers = [start(index, "--steps", "100000", group=True) for index in range(2)]
    wait_for_checkpoint(folder / "run", workers)
    os.killpg(workers[1].pid, signal.SIGTERM)
    codes, errors = finish(workers)
    assert codes == [143, 143], errors
    assert "stopped after step" in errors[0]


@pytest.mark.slow
@pytest.mark.tf
def test_two_workers_fit_their_steps_to_a_time_together(folder):
    settings = [f"--set={name}='auto'" for name in ("run.val_every", "run.save_every", "run.preview_every")]
    codes, errors = finish(start_workers(folder, *SMALL, *settings, "--time", "40s", "--run-dir", "run"))
    assert codes == [0, 0], errors
    fitting = [re.findall(r"a step takes .*: ([\d,]+) steps fit into 40s", error) for error in errors]
    assert len(fitting[0]) == 1
    assert fitting[0] == fitting[1]
    assert max(losses_of(folder / "run")) == int(fitting[0][0].replace(",", ""))


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_two_devices_of_one_machine_train_as_one(folder, deeplabctl):
    code, _, err = deeplabctl("train", *SMALL, "--steps", 6, "--run-dir", "one", "--accumulate", 2)
    assert code == 0, err
    script = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from small_training import shallow_network
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.plan import plan_training
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.training.loop import train_plan
cluster = Cluster(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
assert cluster.replicas == 2
plan = plan_training("one/recipe.toml")
with shallow_network(), RunDirectory.create(Path("two"), plan.recipe, "set") as run:
    train_plan(plan, run, cluster=cluster)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", script], cwd=folder, check=True, capture_output=True, timeout=300, env=environment
    )
    assert losses_of(folder / "two") == pytest.approx(losses_of(folder / "one"), rel=1e-5)
    for ours, theirs in zip(weights_of("one/last.keras"), weights_of("two/last.keras"), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max() + 1e-8  # sums of other order, step after step


@pytest.mark.tf
def test_batch_that_does_not_divide_among_the_devices_is_refused():
    from deeplabctl.training.cluster import Cluster

    cluster = Cluster()
    cluster.replicas = 3
    cluster.check_batch(12)
    with pytest.raises(RunError, match="expected a multiple of the 3 devices that share each batch, got 10"):
        cluster.check_batch(10)


def test_multi_worker_without_tf_config_is_refused(folder, deeplabctl, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    code, _, err = deeplabctl("train", *SMALL, "--strategy", "multi-worker", "--steps", 1)
    assert code == 1
    assert "expected $TF_CONFIG to name several workers" in err


@pytest.mark.parametrize("options", [["--strategy", "single"], ["--set", "run.strategy=mirrored"]])
def test_worker_that_trains_alone_keeps_its_results(folder, deeplabctl, monkeypatch, options):
    def planned_training(request, report, *, writes):
        raise RunError(f"writes: {writes}")

    monkeypatch.setenv("TF_CONFIG", tf_config(["a:1", "b:1"], 1))
    monkeypatch.setattr("deeplabctl.training.run.planned_training", planned_training)
    monkeypatch.setattr("deeplabctl.cli.train.run_worker", lambda worker: pytest.fail("begun as a worker"))
    code, _, err = deeplabctl("train", *SMALL, *options)
    assert (code, err) == (1, "error: writes: True\n")


def test_recipe_of_one_machine_is_refused_for_several_workers():
    assert _strategy("auto", None) == "auto"
    assert _strategy("auto", Worker(1, ("a:1", "b:1"))) == "multi-worker"
    with pytest.raises(RunError, match=r"expected auto or multi-worker for worker 1 of 2 .*`strategy=single`"):
        _strategy("single", Worker(1, ("a:1", "b:1")))


@pytest.mark.tf
@pytest.mark.parametrize(("batch", "used"), [(4, 2), (6, 3), (1, 1), (5, 1)])
def test_auto_takes_as_many_gpus_as_divide_a_batch(batch, used, monkeypatch):
    import tensorflow as tf

    from deeplabctl.training.cluster import Cluster

    gpus = [tf.config.LogicalDevice(f"/device:GPU:{number}", "GPU") for number in range(3)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: devices)
    monkeypatch.setattr(Cluster, "__init__", lambda self, strategy=None: setattr(self, "strategy", strategy))
    taken = Cluster.of_kind("auto", batch).strategy
    assert taken == ([f"/device:GPU:{number}" for number in range(used)] if used > 1 else None)
