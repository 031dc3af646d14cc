"""The command weights, and names of published weights where commands take files."""

import json

import pytest
from caffe_files import TINY
from command_process import on_a_terminal
from dataset_files import draw_few_shapes
from PIL import Image
from web_host import web_host

from deeplabctl.weights.published import published

FILE = "deeplabv2_resnet101_msc-vocaug-20000.pth"  # of resnet101-voc, which has no published checksum


@pytest.fixture
def host(monkeypatch):
    """Serve tiny weights in the place of those of resnet101-voc."""
    with web_host(**{FILE: TINY.read_bytes()}) as serving:
        monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", f"{serving.base}/whole")
        yield serving


def test_list_has_every_name_and_says_what_is_here(deeplabctl, host):
    code, out, err = deeplabctl("weights")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["name", "classes", "mIoU", "%", "size"]
    assert [line.split()[0] for line in lines[: len(published())]] == list(published())
    assert "here" not in out
    assert lines[-1] == "next: deeplabctl infer IMAGE --weights NAME"
    _, _, err = deeplabctl("weights", "resnet101-voc")
    assert err.startswith("fetching the weights resnet101-voc (size: unknown) into ")
    (line,) = (line for line in deeplabctl("weights")[1].splitlines() if line.startswith("resnet101-voc "))
    assert line.split()[1:] == ["voc", "(21)", "76.65", "here", "unknown"]
    facts = json.loads(deeplabctl("weights", "--json")[1])
    assert list(facts) == list(published())
    assert facts["deeplabv3-mnv2-trainaug-voc"]["miou"] == 0.7532
    assert facts["resnet101-voc"]["path"].endswith(FILE)
    assert facts["deeplabv3-mnv2-voc"]["path"] is None
    assert host.asked == [("whole", 0)]


def test_list_needs_no_home(deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.weights.published.user_cache", lambda: None)
    code, out, err = deeplabctl("weights")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split()[0] == next(iter(published()))
    assert {one["path"] for one in json.loads(deeplabctl("weights", "--json")[1]).values()} == {None}


def test_names_are_fetched_and_their_paths_printed(deeplabctl, host):
    code, out, err = deeplabctl("weights", "resnet101-voc")
    assert code == 0
    assert out.splitlines()[0].endswith(f"/deeplabctl/weights/{FILE}")
    assert f"downloading {host.base}/whole/{FILE}" in err
    code, again, err = deeplabctl("weights", "resnet101-voc", "--json", "--quiet")
    assert (json.loads(again), err) == ({"resnet101-voc": out.strip()}, "")
    code, out, err = deeplabctl("weights", "resnet101-voc", "deeplabv3-mnv2-voc")
    assert (code, out) == (1, "")
    assert "deeplabv3_mnv2_pascal_quant.tflite (127.0.0.1: 404 Not Found)" in err.splitlines()[-1]
    code, _, err = deeplabctl("weights", "resnet-voc")
    assert code == 1
    assert err.startswith(
        "error: there are no published weights 'resnet-voc'; did you mean the published weights resnet"
    )


def test_commands_take_a_name_for_a_file(deeplabctl, host, monkeypatch):
    draw_few_shapes(monkeypatch)
    Image.new("RGB", (9, 9)).save("a.png")
    code, out, err = deeplabctl("infer", "a.png", "--weights", "resnet101-voc", "--json", "--out", "one")
    assert code == 0, err
    assert json.loads(out)["weights"].endswith(FILE)
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS", "resnet101-voc")
    assert deeplabctl("infer", "a.png", "--out", "two", "--quiet")[0] == 0
    code, out, err = deeplabctl("convert-caffe", "resnet101-voc", "--inspect", "--json")
    assert json.loads(out)["format"] == "caffemodel", err
    for command, message in (
        (["eval", "--data", "shapes"], "expected the 21 classes that the weights know"),
        (["crf-search", "--data", "shapes"], "expected the 21 classes that the weights know"),
        (["export", "--to", "onnx", "--int8", "--calibrate", "gone"], "gone: there is no such file"),
        (
            ["train", "--data", "shapes", "--init", "resnet101-voc", "--width", "0.5"],
            f"{FILE}: expected weights of width",
        ),
    ):
        code, _, err = deeplabctl(*command)
        assert code == 1
        assert message in err.splitlines()[-1]
    assert host.asked == [("whole", 0)]


def test_list_is_on_a_narrow_terminal_as_it_is_in_a_pipe(deeplabctl):
    screen = on_a_terminal("weights").replace("\x1b[1m", "").replace("\x1b[0m", "")  # of 80 columns
    assert screen == deeplabctl("weights")[1]
    assert max(map(len, screen.splitlines())) <= 80
