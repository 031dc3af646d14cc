import dataclasses
import math

import pytest

from deeplabctl.crf import PRESETS, CrfParams
from deeplabctl.errors import RecipeError
from deeplabctl.limits import limits
from deeplabctl.recipe import recipe_from_dict


def test_presets_are_within_the_limits():
    for params in PRESETS.values():
        params.check()


def test_every_parameter_has_limits():
    assert list(limits(CrfParams)) == [field.name for field in dataclasses.fields(CrfParams)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("pos_w", -0.1), ("bi_w", math.inf), ("bi_w", math.nan), ("pos_xy_std", 0.0), ("bi_xy_std", math.inf),
     ("bi_rgb_std", -1.0), ("iterations", -1), ("iterations", 1001)],
)  # fmt: skip
def test_values_outside_of_the_limits_are_refused_by_the_crf_and_by_a_recipe(name, value):
    with pytest.raises(ValueError, match=f"CRF: {name}: expected") as caught:
        CrfParams(**{name: value}).check()
    expected = str(caught.value).removeprefix("CRF: ")
    with pytest.raises(RecipeError) as refused:
        recipe_from_dict({"crf": {name: value}}, "test")
    assert str(refused.value) == f"test: crf.{expected}"
