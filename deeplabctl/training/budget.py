"""Fit a recipe to a data set and to the time that there is: crop size, number of steps, and what depends on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from deeplabctl.data.inspection import LabelFacts
from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import Recipe
from deeplabctl.recipes.limits import AUTO

_LARGEST_CROP = 321  # the papers'
_SMALLEST_CROP = 33
_CROP_SHARE = 0.9  # of the shorter side of the images
_STEPS_PER_ROOT = 400  # steps times images in a step, for each square root of an image: 3,831 of 2 for 367 images
INTERVALS = 10  # validations, checkpoints and previews of a training that does not say how many
_MOST_STEPS_AT_RISK = 200  # from one checkpoint to the next: minutes of a training on two CPU cores
_VALIDATION_SHARE = 0.1  # of a given time, unless two validations take more
_WARMUP_SHARE = 10  # the warm-up is at most a tenth of the steps


def with_crop_size(recipe: Recipe, facts: Sequence[LabelFacts]) -> Recipe:
    """Return a recipe with a crop size for the images of the training split, if its own is "auto"."""
    if recipe.augment.crop_size != AUTO:
        return recipe
    step = ARCHITECTURES[recipe.model.architecture].crop_step
    return recipe.with_settings(augment={"crop_size": crop_size_for(facts, step)})


def crop_size_for(facts: Sequence[LabelFacts], step: int = 8) -> int:
    """Return a crop size for images of these sizes: nine tenths of the median shorter side, to 8k + 1, at most 321.

    ``step`` takes the place of 8, see `Architecture.crop_step`.
    """
    side = _CROP_SHARE * median(min(fact.height, fact.width) for fact in facts)
    cells = round((side - 1) / step)
    return min(max(step * cells + 1, _SMALLEST_CROP), _LARGEST_CROP)


def steps_for(images: int, images_per_step: int) -> int:
    """Return a number of steps, which grows with the root of the number of images."""
    return max(1, round(_STEPS_PER_ROOT * math.sqrt(images) / images_per_step))


def validations_within(seconds: float, validation_seconds: float) -> int:
    """Return how many validations a given time should have: at most 10 and a tenth of the time, but 2 at least."""
    return int(min(max(2, _VALIDATION_SHARE * seconds / max(validation_seconds, 1e-9)), INTERVALS))


def steps_within(seconds: float, step_seconds: float, validation_seconds: float, val_every: int) -> int:
    """Return the number of steps, at least 1, that fit into a time with their validations.

    ``val_every`` is the steps from one validation to the next; AUTO: as many as `validations_within` says. The last
    step is always validated.
    """
    if val_every == AUTO:
        validations = validations_within(seconds, validation_seconds)
        return max(1, int((seconds - validations * validation_seconds) / step_seconds))
    steps = int((seconds - validation_seconds) / (step_seconds + validation_seconds / val_every))
    return max(1, steps)


def with_steps(recipe: Recipe, steps: int, validations: int = INTERVALS) -> Recipe:
    """Return a recipe with another number of steps, to which its schedule and its open intervals are fitted.

    A step policy keeps its shape: ``step_size`` is the same share of the steps. The warm-up is at most a tenth of them.
    """
    solver = recipe.solver
    step_size = solver.step_size
    if solver.policy == "step" and solver.steps != AUTO:
        step_size = max(1, round(step_size * steps / solver.steps))
    warmup_steps = min(solver.warmup_steps, steps // _WARMUP_SHARE)
    changed = recipe.with_settings(solver={"steps": steps, "step_size": step_size, "warmup_steps": warmup_steps})
    return with_intervals(changed, validations)


def with_intervals(recipe: Recipe, validations: int = INTERVALS) -> Recipe:
    """Return a recipe with intervals for those that are "auto".

    There are so many validations, ten previews, and ten checkpoints or one every 200 steps.
    """
    counts = {"val_every": validations, "save_every": INTERVALS, "preview_every": INTERVALS}
    steps = {name: max(1, math.ceil(recipe.solver.steps / count)) for name, count in counts.items()}
    steps["save_every"] = min(steps["save_every"], _MOST_STEPS_AT_RISK)
    return recipe.with_settings(run={name: steps[name] for name in steps if getattr(recipe.run, name) == AUTO})
