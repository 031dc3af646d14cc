"""``deeplabctl eval``: what it refuses before TensorFlow is loaded."""

import json

import pytest
from command_process import fails_with_one_line, run_without_tensorflow
from dataset_files import make_dataset
from eval_command import CAFFEMODEL

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.evaluation.network import EvaluationRequest
from deeplabctl.evaluation.scores import METRICS
from deeplabctl.weights.model_info import ModelInfo


def test_missing_weights_are_one_line(tmp_path):
    fails_with_one_line("there are no weights", "eval", cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--crf", "--crf-params", "v3"], "expected largefov-v1, v2-vgg, v2-resnet"),
        (["--scales", "0.5;1"], "expected numbers"),
        (["--pred-dir", "masks"], "needs the data set with the labels: --data DIR"),
    ],
)
def test_options_that_cannot_be_read_or_combined_are_usage_errors(arguments, message, tmp_path):
    code, _, err = run_without_tensorflow("eval", *arguments, cwd=tmp_path)
    assert code == 2
    assert "Usage:" in err
    assert message in err


def test_set_of_the_same_classes_in_another_order_is_refused_and_of_other_names_scored_with_a_warning(tmp_path):
    root = make_dataset(tmp_path / "set", classes=VOC_CLASSES)
    names = [*VOC_CLASSES[:7], "cat", "car", *VOC_CLASSES[9:]]
    (root / "classes.txt").write_text("\n".join(names))
    message = (
        "class 7 is cat, and car in the weights; number labels and classes.txt as the weights do, or name the data"
    )
    fails_with_one_line(message, "eval", "--weights", CAFFEMODEL, "--data", "set", cwd=tmp_path)
    (root / "classes.txt").write_text("\n".join([*VOC_CLASSES[:-1], "screen"]))
    notes = []
    request = EvaluationRequest(data=str(root))
    assert request.dataset(ModelInfo(VOC_CLASSES), notes.append).classes[-1] == "screen"
    assert [note.text for note in notes if note.warning] == [
        "the data set and the weights name their classes differently; scoring by number"
    ]


@pytest.mark.parametrize("arguments", [["--crf-search"], ["--data", "x", "--crf-search", "--crf-grid", "v1"]])
def test_search_for_crf_parameters_is_a_command_of_its_own(arguments, tmp_path):
    code, out, err = run_without_tensorflow("eval", *arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "no such option --crf-search; did you mean deeplabctl crf-search?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--grid", "v3"], "expected v1 or v2"), (["--grid", "bi_w=x"], "bi_w=x: expected numbers 0 to 1e6")],
)
def test_grid_that_cannot_be_read_is_a_usage_error(arguments, message, tmp_path):
    code, _, err = run_without_tensorflow("crf-search", *arguments, cwd=tmp_path)
    assert code == 2
    assert message in err


def test_data_set_of_the_environment_is_scored_where_none_is_named(deeplabctl, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "set")
    monkeypatch.setenv("DEEPLABCTL_DATA", str(root))
    code, out, err = deeplabctl("eval", "--pred-dir", root / "SegmentationClass", "--json")
    assert code == 0, err
    assert json.loads(out)["miou"] == 1


def test_help_explains_every_score(deeplabctl):
    _, out, _ = deeplabctl("eval", "--help")
    names = {name for metric in METRICS for name in (*metric.totals.values(), *metric.columns.values())}
    lines = [" ".join(line.split()) for line in out.splitlines()]
    explained = [name for name in {*names, "trimap"} if any(f"{name} " in line or f"{name}:" in line for line in lines)]
    assert sorted(explained) == sorted({*names, "trimap"})
