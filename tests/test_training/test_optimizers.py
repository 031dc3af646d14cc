import pytest

from deeplabctl.recipe import recipe_from_dict
from deeplabctl.training.optimizers import learning_rate


def solver(**values):
    return recipe_from_dict({"solver": values}, "test").solver


def test_step_policy_falls_at_every_step_size():
    rates = [learning_rate(solver(policy="step", learning_rate=1, step_size=3), step) for step in range(7)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_poly_policy_ends_above_zero():
    settings = solver(policy="poly", learning_rate=2, power=0.5, steps=4)
    assert [learning_rate(settings, step) for step in range(4)] == pytest.approx([2, 2 * 0.75**0.5, 2 * 0.5**0.5, 1])


def test_warm_up_rises_linearly_to_the_policys_rate():
    settings = solver(policy="fixed", learning_rate=8, warmup_steps=4)
    assert [learning_rate(settings, step) for step in range(6)] == [2, 4, 6, 8, 8, 8]
