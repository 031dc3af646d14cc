"""Every other network of the family through the commands: convert, eval, infer, train, resume, workers, bfloat16."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from dataset_files import make_dataset
from family_files import family

from deeplabctl.data.labels import read_label
from deeplabctl.network import ARCHITECTURES

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("no_curves")]

CAFFES = ["aspp-s", "aspp-l", "resnet101", "msc-largefov"]
QUICK = ["aspp-l", "msc-largefov", "deeplabv3plus-mnv2"]  # the others compile for a minute, or are like these
FAMILY = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in ARCHITECTURES
    if name != "largefov"
]
WIDTH = 1 / 64
PARTS = {"kernel": "weights", "bias": "biases"}
SMALL = [
    "--crop-size", "33", "--batch-size", "2", "--set", "run.log_every=1", "--set", "run.val_every=4",
    "--set", "run.save_every=2", "--set", "run.preview_every=100", "--set", "solver.accumulate=1",
]  # fmt: skip


def write_weights(path, architecture, classes):
    """Write a network's weights as the variables of a TensorFlow 1 program, pickled."""
    variables = {}
    for name, array in ARCHITECTURES[architecture].random_weights(classes, WIDTH, seed=1).items():
        layer, part = name.split("/")
        variables[f"{layer}/{PARTS.get(part, part)}"] = array
    path.write_bytes(pickle.dumps(variables, 2))


@pytest.fixture
def prepared(tmp_path, deeplabctl):
    """Make a data set, and a network for it that was converted by the command; returns the command."""

    def prepare(architecture):
        make_dataset(tmp_path / "set", train=6, val=2)
        names = (tmp_path / "set" / "classes.txt").read_text().split()
        write_weights(tmp_path / "net.pkl", architecture, len(names))
        code, out, err = deeplabctl(
            "convert-caffe", "net.pkl", "--architecture", architecture, "--classes", "set/classes.txt", "--json"
        )
        assert code == 0, err
        assert json.loads(out)["architecture"] == architecture
        return names

    return prepare


def recipe(architecture):
    if architecture in CAFFES:
        return ["--recipe", architecture]
    return ["--recipe", "own", "--set", f"model.architecture={architecture}"]


def weights_of(run):
    path = max((run / "checkpoints").glob("step-*.npz"))
    with np.load(path) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files if name != "__facts__"}


@pytest.mark.parametrize("architecture", FAMILY)
def test_network_converts_evaluates_infers_and_trains_on(architecture, prepared, deeplabctl, tmp_path):
    names = prepared(architecture)
    code, out, err = deeplabctl("eval", "--weights", "net.pkl.keras", "--data", "set", "--json")
    assert code == 0, err
    scores = json.loads(out)
    assert scores["settings"]["scales"] == list(ARCHITECTURES[architecture].scales)
    assert [entry["name"] for entry in scores["classes"]] == names
    image = next((tmp_path / "set" / "JPEGImages").iterdir())
    code, out, err = deeplabctl("infer", image, "--weights", "net.pkl.keras", "--out", "masks")
    assert code == 0, err
    assert read_label(tmp_path / "masks" / f"{image.stem}.png").max() < len(names)
    code, _, err = deeplabctl(
        "train", *recipe(architecture), "--data", "set", "--init", "net.pkl.keras", *SMALL, "--steps", 2,
        "--precision", "float32", "--run-dir", "run",
    )  # fmt: skip
    assert code == 0, err
    assert re.search(r"weights from \S+: all \d+ layers\n", err)
    code, out, err = deeplabctl("eval", "--weights", "run", "--data", "set", "--json")
    assert code == 0, err
    assert json.loads(out)["settings"]["scales"] == list(ARCHITECTURES[architecture].scales)


# The others compile for a minute, or are like this one.
@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "msc-largefov"))
        for name in ARCHITECTURES
        if name != "largefov"
    ],
)
def test_network_trains_in_bfloat16(architecture, prepared, deeplabctl, needs_bfloat16):
    prepared(architecture)
    losses = {}
    for precision in ("float32", "bfloat16"):
        code, _, err = deeplabctl(
            "train", *recipe(architecture), "--data", "set", "--init", "net.pkl.keras", *SMALL, "--steps", 2,
            "--precision", precision, "--run-dir", precision, "--set", "model.dropout=0", "--quiet",
        )  # fmt: skip
        assert code == 0, err
        losses[precision] = [loss for _, loss in sorted(losses_of(precision).items())]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def losses_of(run):
    from pathlib import Path

    lines = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "precision"),
    [*((name, "float32") for name in ARCHITECTURES if name != "largefov"), ("deeplabv3plus-mnv2", "bfloat16")],
)
def test_training_that_is_killed_and_resumed_ends_with_the_same_bytes(
    architecture, precision, prepared, deeplabctl, tmp_path
):
    prepared(architecture)
    options = [*recipe(architecture), "--data", "set", "--init", "net.pkl.keras", *SMALL, "--steps", "4"]
    options += ["--precision", precision]
    code, _, err = deeplabctl("train", *options, "--run-dir", "whole")
    assert code == 0, err
    command = [sys.executable, "-m", "deeplabctl", "train", *options, "--run-dir", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "killed" / "checkpoints").glob("step-000002.npz")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, out, _ = deeplabctl("train", "--resume", "killed")
    assert code == 0
    assert re.search(r"trained after 4 steps, 2 of them in \d", out)
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILY)
def test_two_workers_train_as_one_process(architecture, prepared, deeplabctl, tmp_path):
    from socket import socket

    prepared(architecture)
    options = [*recipe(architecture), "--data", "set", "--init", "net.pkl.keras", *SMALL, "--steps", "3"]
    options += ["--precision", "float32"]
    assert deeplabctl("train", *options, "--run-dir", "one")[0] == 0
    with socket() as first, socket() as second:
        addresses = []
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
            addresses.append(f"127.0.0.1:{one.getsockname()[1]}")
    workers = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "deeplabctl", "train", *options, "--run-dir", "two"],
                cwd=tmp_path, env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    errors = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    assert losses_of("two") == pytest.approx(losses_of("one"), rel=1e-5)


def test_files_with_aspps_branches_say_which_architectures_they_may_be(deeplabctl, tmp_path):
    write_weights(tmp_path / "net.pkl", "aspp-l", 3)
    code, _, err = deeplabctl("convert-caffe", "net.pkl")
    assert code == 1
    assert re.search(
        r"aspp-s and aspp-l have the same layers, .* name it in deeplabctl convert-caffe: --architecture NAME$",
        err.strip(),
    )
    code, _, err = deeplabctl("convert-caffe", "net.pkl", "--architecture", "aspp")
    assert code == 1
    assert f"--architecture: expected one of {', '.join(ARCHITECTURES)}, got 'aspp'" in err


@pytest.mark.parametrize(
    ("net", "prototxt", "facts"),
    [
        ("r101_d32_train_init", "r101_d32_msc_deploy", ["resnet101 of width 0.03125", "96,738 parameters"]),
        ("aspp_s_d16", "aspp_s_d16_deploy", ["aspp-s of width 0.0625"]),
    ],
)
def test_authors_file_converts_and_its_prototxt_agrees(deeplabctl, net, prototxt, facts):
    code, out, err = deeplabctl(
        "convert-caffe", family(f"{net}.caffemodel"), "--prototxt", family(f"{prototxt}.prototxt")
    )
    assert code == 0, err
    architecture = facts[0].split()[0]
    for fact in (*facts, f"{len(ARCHITECTURES[architecture].rows)} layers have the geometry of {architecture}"):
        assert fact in out
