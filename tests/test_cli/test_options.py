"""The options' choices are those of `deeplabctl.choices`."""

import re

import pytest
from caffe_files import TINY

from deeplabctl import choices
from deeplabctl.cli.infer import Format
from deeplabctl.prediction.engines import ENGINES


def test_engines_are_chosen_by_their_own_names():
    assert [engine.name for engine in ENGINES] == list(choices.ENGINES)


@pytest.mark.parametrize(("command", "names"), [(["infer"], Format), (["data", "convert"], choices.ANNOTATIONS)])
def test_help_explains_every_format(deeplabctl, command, names):
    text = deeplabctl(*command, "--help")[1].split("--format NAME")[1].split("  --")[0]
    assert set(names) <= set(re.findall(r"\w+", text))


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        (["train"], "--precision", "'auto', 'float32', 'bfloat16', 'float16'"),
        (["train"], "--strategy", "'auto', 'single', 'mirrored', 'multi-worker'"),
        (["eval"], "--pad", "'paper', 'tight'"),
        (["infer", "a.png"], "--pad", "'paper', 'tight'"),
        (["infer", "a.png"], "--precision", "'float32', 'bfloat16', 'float16'"),
    ],
)
def test_wrong_choice_is_a_usage_error_that_names_the_choices(deeplabctl, command, option, choices):
    code, _, err = deeplabctl(*command, option, "other")
    assert code == 2
    assert f"Invalid value for '{option}'" in err
    assert choices in err


LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        "data check LONG", "data check set --fix LONG", "data stats set --out LONG.png",
        "data preview set --out LONG.png",
        "data convert LONG --out out", "data convert masks --out LONG", "data convert masks --out out --images LONG",
        "data convert masks --out out --palette LONG", "data convert masks --out out --classes LONG",
        "data shapes LONG --train 1 --val 1",
        "data prepare-voc --voc LONG --sbd LONG", "data prepare-voc --voc set --sbd set --out LONG",
        "train --data LONG", "train --data set --recipe LONG", "train --data set --run-dir LONG", "train --resume LONG",
        "train --data set --init LONG", "eval --weights LONG", "eval --data set --weights NET --out LONG",
        "eval --data set --weights NET --voc-zip LONG", "eval --data set --pred-dir LONG",
        "eval --data set --pred-dir set --out LONG", "infer LONG", "infer set/JPEGImages --weights LONG",
        "infer set/JPEGImages --weights NET --out LONG", "report LONG", "convert-caffe LONG",
        "convert-caffe NET --out LONG.keras", "convert-caffe NET --prototxt LONG", "convert-caffe NET --classes LONG",
    ],
)  # fmt: skip
def test_names_that_are_too_long_are_refused_in_one_line(here, deeplabctl, arguments):
    words = [word.replace("LONG", LONG).replace("NET", str(TINY)) for word in arguments.split()]
    code, out, err = deeplabctl(*words)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--engine", "xyz"],
            f"Error: Invalid value for '--engine': 'xyz' is not one of 'auto', {', '.join(map(repr, choices.ENGINES))}",
        ),
        (["--scales", "9"], "Error: Invalid value for --scales: expected numbers above 0, at most 4, got (9.0,)"),
        (["--crf-params", "bi_w=-1"], "Error: Invalid value for --crf-params: bi_w: expected 0 to 1e6, got -1.0"),
        (["--batch-size", "x"], "Error: Invalid value for '--batch-size': expected a whole number, got 'x'"),
        (["--batch-size", "0"], "Error: Invalid value for '--batch-size': expected at least 1, got '0'"),
    ],
)
def test_usage_errors_say_once_what_is_wrong(deeplabctl, options, said):
    code, _, err = deeplabctl("infer", "x.jpg", *options)
    assert (code, err.splitlines()[-1]) == (2, said)
