"""``deeplabctl eval``: what it refuses before TensorFlow is loaded."""

import pytest
from command_process import fails_with_one_line, run_without_tensorflow


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
