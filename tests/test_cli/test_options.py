"""The options' choices are those of the recipe's settings, and of a prediction's."""

from typing import get_args, get_type_hints

import pytest

from deeplabctl.cli import options
from deeplabctl.prediction import settings
from deeplabctl.recipe import Evaluation, Run


def test_choices_are_those_of_the_recipe():
    assert options.Precision == get_type_hints(Run)["precision"]
    assert options.Engine == settings.Engine
    assert options.Strategy == get_type_hints(Run)["strategy"]
    assert {"auto", *get_args(options.Pad)} == set(get_args(get_type_hints(Evaluation)["pad"]))


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        (["train"], "--precision", "'auto', 'float32', 'bfloat16', 'float16'"),
        (["train"], "--strategy", "'auto', 'single', 'mirrored', 'multi-worker'"),
        (["eval"], "--pad", "'paper', 'tight'"),
        (["infer", "a.png"], "--pad", "'paper', 'tight'"),
    ],
)
def test_wrong_choice_is_a_usage_error_that_names_the_choices(deeplabctl, command, option, choices):
    code, _, err = deeplabctl(*command, option, "other")
    assert code == 2
    assert f"Invalid value for '{option}'" in err
    assert choices in err
