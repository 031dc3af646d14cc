"""``deeplabctl export``: files for other runtimes, and commands that take them as weights."""

import json
import re

import numpy as np
import pytest
from caffe_files import TINY
from command_process import fails_with_one_line, run_without_tensorflow
from dataset_files import make_dataset
from exports import CLASSES, write_images, write_onnx

from deeplabctl.data.labels import read_label


@pytest.fixture
def images(here):
    write_images(here / "images")
    return here


def test_onnx_file_is_exported_and_used_without_tensorflow(images):
    options = ["--to", "onnx", "--images", "images"]
    code, out, err = run_without_tensorflow("export", TINY, *options, cwd=images, loaded="numba")
    assert code == 0, err
    path = f"{TINY.stem}.onnx"
    assert re.fullmatch(
        rf"{re.escape(path)}: ONNX file of [\d.]+ MB, float32, largefov of width [\d.]+, 21 classes\n"
        r"run by onnxruntime on 3 images \(images\): (100|99\.99\d)% of [\d,]+ labels are the network's, scores "
        r"differ by [\de.-]+ at most\n\n"
        rf"next: deeplabctl infer IMAGE --weights {re.escape(path)} --overlay\n",
        out,
    )
    for weights in (TINY, path):
        code, _, err = run_without_tensorflow(
            "infer", "images", "--weights", weights, "--out", f"of-{weights.suffix if weights is TINY else 'onnx'}",
            cwd=images, loaded="numba" if weights is TINY else "",
        )  # fmt: skip
        assert code == 0, err
    for name in ("0", "1", "2"):
        ours, theirs = (read_label(images / f"of-{kind}" / f"{name}.png") for kind in ("onnx", ".caffemodel"))
        assert np.mean(ours == theirs) > 0.9999


def test_json_has_the_agreement(images, deeplabctl):
    code, out, err = deeplabctl(
        "export", TINY, "--to", "onnx", "--float16", "--flip", "--scales", "1,0.5", "--images", "images", "--out",
        "a.onnx", "--json", "--least-agreement", "0.9",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["agreement"]["labels"] >= 0.9
    assert (found["model"], found["precision"], found["scales"], found["flip"]) == ("a.onnx", "float16", [1, 0.5], True)
    assert found["bytes"] == (images / "a.onnx").stat().st_size
    code, out, err = deeplabctl("infer", "images", "--weights", "a.onnx", "--json")
    assert code == 0, err
    settings = json.loads(out)["settings"]
    assert {name: settings[name] for name in ("precision", "scales", "flip", "engine")} == {
        "precision": "float16", "scales": [1, 0.5], "flip": True, "engine": "onnxruntime",
    }  # fmt: skip


@pytest.mark.tf
@pytest.mark.parametrize("format_", ["tflite", "savedmodel"])
def test_formats_of_tensorflow_write_nothing_else_to_the_terminal(images, deeplabctl, format_):
    pytest.importorskip("ai_edge_litert")
    code, _, err = deeplabctl("export", TINY, "--to", format_, "--images", "images", "--out", f"net.{format_}")
    assert code == 0, err
    begun = [line.split(":")[0] for line in err.splitlines()]
    assert begun in ([f"weights {TINY}", "weights"], [f"weights {TINY}", "weights", "comparing"])
    code, _, err = deeplabctl("infer", "images", "--weights", f"net.{format_}", "--crf", "--overlay")
    assert code == 0, err
    lines = [line for line in err.splitlines() if not line.startswith(("compiling", "segmenting"))]
    assert [line for line in lines if not line.endswith("images/s")] == [f"weights: net.{format_}"]


def test_what_an_export_cannot_do_ends_in_one_line(here):
    write_onnx(here / "net.onnx")
    (here / "cut.onnx").write_bytes((here / "net.onnx").read_bytes()[:20_000])
    image = here / "set" / "JPEGImages" / "v0.png"
    make_dataset(here / "five", train=1, val=1, classes=CLASSES)
    for message, *arguments in (
        ("--scales: this ONNX file was exported with scales 1", "infer", image, "--scales", "0.5"),
        ("--engine: this ONNX file was exported with engine onnxruntime", "infer", image, "--engine", "numba"),
        ("--precision: this ONNX file was exported with precision float32", "infer", image, "--precision", "bfloat16"),
        ("--pad: this ONNX file was exported with pad tight", "infer", image, "--pad", "paper"),
        ("expected the 5 classes that the weights know", "eval", "--data", "set"),
        ("a search needs the logits of a network", "crf-search", "--data", "five", "--split", "val", "--out", "search"),
    ):
        fails_with_one_line(message, *arguments, "--weights", "net.onnx", cwd=here)
    fails_with_one_line("the file is damaged or truncated", "infer", image, "--weights", "cut.onnx", cwd=here)
    message = "was exported to be run: eval and infer take it"
    fails_with_one_line(message, "train", "--data", "set", "--init", "net.onnx", cwd=here)
    fails_with_one_line(message, "convert-caffe", "net.onnx", cwd=here)
    fails_with_one_line(message, "convert-caffe", "net.onnx", "--inspect", cwd=here)


def test_usage_is_checked_first(deeplabctl):
    for arguments, text in (
        (["net.keras"], "expected a format: savedmodel, onnx or tflite"),
        (["net.keras", "--to", "coreml"], "'coreml'"),
        (["net.keras", "--to", "onnx", "--int8", "--float16"], "expected --int8 or --float16, not both"),
        (["net.keras", "--to", "onnx", "--scales", "a"], "--scales"),
        (["net.keras", "--to", "onnx", "--least-agreement", "2"], "--least-agreement"),
    ):
        code, _, err = deeplabctl("export", *arguments)
        assert code == 2
        assert text in err
    code, out, _ = deeplabctl("export", "--help")
    assert code == 0
    assert "--calibrate" in out
