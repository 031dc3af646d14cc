from pathlib import Path

import numpy as np
import pytest

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Dataset
from deeplabctl.data.inspection import LabelFacts
from deeplabctl.data.stats import max_side_for
from deeplabctl.limits import AUTO
from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import Recipe, read_recipe, recipe_from_dict
from deeplabctl.training.plan import (
    Plan,
    crop_size_for,
    fitted_to_images,
    gives_its_score,
    steps_for,
    with_intervals,
    with_steps,
)
from deeplabctl.training.timing import steps_within, validations_within


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(360, 480)], 321),  # 324
        ([(480, 360), (100, 100), (3000, 4000)], 321),  # the median of 360, 100 and 3,000
        ([(300, 200)], 177),  # 180
        ([(3000, 4000)], 321),
        ([(20, 30)], 33),
    ],
)
def test_crop_is_nine_tenths_of_the_median_shorter_side_within_limits(sizes, expected):
    assert crop_size_for(sizes, 8) == expected
    assert ARCHITECTURES["largefov"].is_crop_size(expected)


@pytest.mark.parametrize(
    ("size", "shares", "expected"),
    [
        ((768, 1024), {0: 1.0}, 0),
        ((3000, 4000), {0: 0.9, 1: 0.1}, 640),
        ((3000, 4000), {0: 0.75 - 1e-4, 1: 1e-4}, 1600),  # 16 x 16 of 1,600 x 1,600 pixels are a ten-thousandth
        ((3000, 4000), {0: 0.75 - 1e-6, 1: 1e-6}, 2048),
        ((1000, 1500), {0: 0.5, 1: 1e-5}, 0),
        ((3000, 4000), {0: 0.7, IGNORE_LABEL: 1e-6}, 640),
    ],
)
def test_working_size_shows_the_smallest_class(size, shares, expected):
    pixels = {value: round(share * max(size) ** 2) for value, share in shares.items()}
    assert max_side_for([LabelFacts(*size, pixels)]) == expected


def test_crops_are_chosen_for_the_working_size():
    facts = [LabelFacts(3000, 4000, {0: 9_000_000, 1: 3_000_000})]
    recipe = fitted_to_images(read_recipe("own"), facts)
    assert (recipe.data.max_side, recipe.augment.crop_size) == (640, 321)
    recipe = fitted_to_images(read_recipe("own", ["data.max_side=320"]), facts)
    assert (recipe.data.max_side, recipe.augment.crop_size) == (320, 209)  # 216, nine tenths of 240, as 16k + 1
    assert fitted_to_images(read_recipe("paper-v2"), facts).data.max_side == 0


def test_steps_grow_with_the_root_of_the_number_of_images():
    assert steps_for(400, 4) == 2 * steps_for(100, 4)
    assert steps_for(400, 8) == steps_for(400, 4) // 2
    assert steps_for(1, 10_000) == 1


@pytest.mark.parametrize("val_every", ["auto", 1, 7, 100, 10_000])
@pytest.mark.parametrize(("seconds", "step", "validation"), [(600, 1.3, 20.0), (100, 0.1, 0.0), (2700, 3.0, 90.0)])
def test_steps_and_their_validations_fill_the_time_without_going_beyond_it(seconds, step, validation, val_every):
    recipe = recipe_from_dict({"run": {"val_every": val_every}}, "test")

    def needed(steps):
        run = with_steps(recipe, steps, validations_within(seconds, validation)).run
        return steps * step + len({*range(run.val_every, steps + 1, run.val_every), steps}) * validation

    steps, _ = steps_within(seconds, step, validation, recipe.run.val_every)
    assert needed(steps) <= seconds
    assert needed(steps) >= 0.9 * seconds - validation - step


@pytest.mark.parametrize("val_every", ["auto", 90])
@pytest.mark.parametrize("validation", [0.1, 5, 15, 30, 60, 75, 90])
def test_steps_that_are_left_on_a_steady_machine_are_those_that_were_planned(validation, val_every):
    recipe, left, done = recipe_from_dict({"run": {"val_every": val_every}}, "test"), 291.0, 0
    steps, validations = steps_within(left, 0.25, validation, recipe.run.val_every)
    every = with_steps(recipe, steps, validations).run.val_every
    for step in [*range(every, steps, every), steps]:
        left, done = 291 - step * 0.25 - (done + 1) * validation, done + 1
        assert steps_within(left, 0.25, validation, recipe.run.val_every, step, done) == (steps, validations)
    assert -0.25 <= left < 0.25 + (val_every == 90) * validation


@pytest.mark.parametrize("step", range(1, 270, 3))
def test_next_validation_is_half_an_interval_away_when_steps_are_fitted_again(step):
    left, validation, recipe = 275 - step * 0.9, 20, recipe_from_dict({}, "test")  # slower than was planned
    steps, validations = steps_within(left, 0.75, validation, AUTO, step, 1)
    every = with_steps(recipe, steps, validations).run.val_every
    coming = {*range((step // every + 1) * every, steps, every), max(steps, step + 1)}
    assert (steps - step) * 0.75 + len(coming) * validation <= max(left, 0.75 + validation)
    assert min(coming) - step >= min(every / 2, steps - step)


def test_validations_take_a_tenth_of_the_time_but_two_are_made():
    assert validations_within(2700, 45) == 6
    assert validations_within(2700, 0.1) == validations_within(2700, 0) == 10
    assert validations_within(100, 60) == 2


def test_time_that_is_too_short_gives_no_step():
    assert steps_within(1, 10, 10, AUTO)[0] == steps_within(1, 10, 10, 5)[0] == steps_within(-5, 1, 0, AUTO)[0] == 0
    assert steps_within(60, 1, 10, 50)[0] == 50


def test_previews_that_the_recipe_leaves_open_are_drawn_with_the_validations():
    recipe = with_steps(read_recipe("own"), 100, 2)
    assert (recipe.run.val_every, recipe.run.preview_every, recipe.run.save_every) == (50, 50, 10)


def test_step_policy_and_warm_up_keep_their_share_and_open_intervals_become_a_tenth():
    recipe = with_steps(read_recipe("paper-v1"), 600)
    assert (recipe.solver.steps, recipe.solver.step_size, recipe.run.val_every) == (600, 200, 1000)
    recipe = with_steps(read_recipe("own"), 105)
    assert (recipe.solver.warmup_steps, recipe.run.val_every, recipe.run.save_every) == (10, 11, 11)
    assert with_steps(read_recipe("own"), 1).run.preview_every == 1
    recipe = with_steps(read_recipe("own"), 3831)
    assert (recipe.run.val_every, recipe.run.save_every, recipe.run.preview_every) == (384, 200, 384)


def test_recipe_that_says_its_steps_is_not_changed():
    recipe = read_recipe("paper-v1")
    assert with_steps(recipe, recipe.solver.steps) == recipe
    short = read_recipe("shapes", ["solver.steps=30"])  # with a warm-up of 50
    assert with_intervals(short) == short


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", [1, 1, 1]),
        ("median", [0.5 / 0.8, 0.5 / 0.2, 0]),
        ("sqrt-median", [(0.5 / 0.8) ** 0.5, (0.5 / 0.2) ** 0.5, 0]),
        ((3.0, 2.0, 1.0), [3, 2, 1]),
    ],
)
def test_classes_have_the_weights_of_the_recipe(given, expected):
    recipe = Recipe().with_settings(solver={"class_weights": given})
    plan = Plan(recipe, Dataset(Path(), ("a", "b", "c")), [], [], [LabelFacts(2, 5, {0: 8, 1: 2})], {}, None)
    np.testing.assert_allclose(plan.class_weights(), expected)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("paper-v2", {"data.root": "set", "run.seed": 1, "run.strategy": "single"}, True),
        ("paper-v2", {"solver.batch_size": 10, "model.init": "imagenet"}, True),  # the recipe's own values
        ("paper-v2", {"solver.batch_size": 5}, False),
        ("paper-v2", {"run.precision": "bfloat16"}, False),
        ("paper-v2", {"model.init": "random"}, False),
        ("msc-largefov", {}, False),  # the published score starts from a trained LargeFOV,
        ("msc-largefov", {"model.init": "runs/largefov"}, True),
        ("resnet101", {}, False),  # and this one from weights of COCO
        ("resnet101", {"model.init": "imagenet"}, False),
        ("resnet101", {"model.init": "init.caffemodel"}, True),
        ("resnet101", {"model.init": "init.caffemodel", "solver.steps": 10}, False),
    ],
)
def test_score_is_expected_of_the_settings_and_the_start_that_gave_it(name, settings, expected):
    assert gives_its_score(read_recipe(name, options=settings), read_recipe(name)) == expected
