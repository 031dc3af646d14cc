"""``deeplabctl eval``: what it refuses before TensorFlow is loaded."""

import pytest
from command_process import fails_with_one_line, run_without_tensorflow


def test_missing_weights_are_one_line(tmp_path):
    fails_with_one_line("there are no weights", "eval", cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--crf", "--crf-params", "v3"], "expected largefov-v1, v2-vgg, v2-resnet"),
        (["--crf-search", "--crf-grid", "v3"], "expected v1 or v2"),
        (["--scales", "0.5;1"], "expected numbers"),
        (["--crf-images", "9"], "needs --crf-search"),
        (["--pred-dir", "masks"], "needs the data set with the labels: --data DIR"),
    ],
)
def test_options_that_cannot_be_read_or_combined_are_usage_errors(arguments, message, tmp_path):
    code, _, err = run_without_tensorflow("eval", *arguments, cwd=tmp_path)
    assert code == 2
    assert "Usage:" in err
    assert message in err
