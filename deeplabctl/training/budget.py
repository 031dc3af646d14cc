"""Fit a recipe to a data set and to the time that there is: crop size, number of steps, and what depends on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from deeplabctl.data.file_facts import LabelFacts
from deeplabctl.network.layers import OUTPUT_STRIDE
from deeplabctl.recipe import Recipe
from deeplabctl.recipes.limits import AUTO

_LARGEST_CROP = 321  # the papers'
_SMALLEST_CROP = 33
_CROP_SHARE = 2 / 3  # of the shorter side of the images
_STEPS_PER_ROOT = 640  # steps times images in a step, for each square root of an image: 3,065 of 4 for 367 images
_INTERVALS = 10  # validations, checkpoints and previews of a training that does not say how many
_WARMUP_SHARE = 10  # the warm-up is at most a tenth of the steps


def crop_size_for(facts: Sequence[LabelFacts], step: int = OUTPUT_STRIDE) -> int:
    """Return a crop size for images of these sizes: two thirds of the median shorter side, to 8k + 1, at most 321.

    ``step`` takes the place of 8, see `crop_step`.
    """
    side = _CROP_SHARE * median(min(fact.height, fact.width) for fact in facts)
    cells = round((side - 1) / step)
    return min(max(step * cells + 1, _SMALLEST_CROP), _LARGEST_CROP)


def steps_for(images: int, images_per_step: int) -> int:
    """Return a number of steps, which grows with the root of the number of images."""
    return max(1, round(_STEPS_PER_ROOT * math.sqrt(images) / images_per_step))


def steps_within(seconds: float, step_seconds: float, validation_seconds: float, val_every: int) -> int:
    """Return the number of steps, at least 1, that fit into a time with their validations.

    ``val_every`` is the steps from one validation to the next; AUTO: as many validations as `with_steps` gives. The
    last step is always validated.
    """
    if val_every == AUTO:
        return max(1, int((seconds - _INTERVALS * validation_seconds) / step_seconds))
    steps = int((seconds - validation_seconds) / (step_seconds + validation_seconds / val_every))
    return max(1, steps)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe with another number of steps, to which its schedule and its open intervals are fitted.

    A step policy keeps its shape: ``step_size`` is the same share of the steps. The warm-up is at most a tenth of them.
    """
    solver = recipe.solver
    step_size = solver.step_size
    if solver.policy == "step" and solver.steps != AUTO:
        step_size = max(1, round(step_size * steps / solver.steps))
    warmup_steps = min(solver.warmup_steps, steps // _WARMUP_SHARE)
    changed = recipe.with_settings(solver={"steps": steps, "step_size": step_size, "warmup_steps": warmup_steps})
    return with_intervals(changed)


def with_intervals(recipe: Recipe) -> Recipe:
    """Return a recipe with a tenth of its steps as the intervals that are "auto"."""
    tenth = max(1, math.ceil(recipe.solver.steps / _INTERVALS))
    names = ("val_every", "save_every", "preview_every")
    return recipe.with_settings(run={name: tenth for name in names if getattr(recipe.run, name) == AUTO})
