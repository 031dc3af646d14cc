"""Time the steps and the validation of a training, and find how many steps fit into a given time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import cast

import numpy as np

from deeplabctl.errors import RunError
from deeplabctl.network.keras_model import assign_weights
from deeplabctl.network.precision import Precision
from deeplabctl.recipes.limits import AUTO, parse_duration
from deeplabctl.reporting import Note, Reporter, silent
from deeplabctl.training.budget import steps_for, steps_within, validations_within, with_steps
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.input_pipeline import TrainingPipeline
from deeplabctl.training.networks import Networks, initial_weights
from deeplabctl.training.plan import Plan
from deeplabctl.training.step import TrainingStep
from deeplabctl.training.validation import Validator

_TIMED_STEPS = 5
_TIMED_IMAGES = 8  # of the validation split
_RESERVE = 0.04  # share of the time for checkpoints, previews, the report, and a machine that slows down
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Timing:
    """Hold the seconds of a training's parts."""

    first_step: float  # which compiles the graph
    step: float
    validation: float


def fit_to_time(plan: Plan, cluster: Cluster, report: Reporter) -> Plan:
    """Return the plan with the steps that fit into ``run.time``, which is counted from this call, and without it.

    Nothing is trained: a network of its own is timed and thrown away. Of several workers the chief's times count.
    Raises RunError for a time that is too short.
    """
    begin = time.perf_counter()
    recipe = plan.recipe
    images = recipe.solver.batch_size * recipe.solver.accumulate
    steps = steps_for(len(plan.samples), images) if recipe.solver.steps == AUTO else recipe.solver.steps
    draft = with_steps(recipe, steps)
    timing = _measure(replace(plan, recipe=draft), cluster)
    budget = parse_duration(recipe.run.time)
    left = (1 - _RESERVE) * budget - (time.perf_counter() - begin) - timing.first_step
    steps = steps_within(left, timing.step, timing.validation, recipe.run.val_every)
    steps = int(cluster.sum(np.array(steps if cluster.index == 0 else 0, np.int64)))
    found = f"a step takes {timing.step:.2f} s here, a validation {timing.validation:.0f} s"
    if steps < _FEWEST_STEPS:
        raise RunError(
            f"run.time: expected enough for {_FEWEST_STEPS} steps, got {recipe.run.time}; {found}; give more time, or "
            "make a step cheaper (`crop_size`, `batch_size`, `width`)"
        )
    report(Note(f"{found}: {steps:,} steps fit into {recipe.run.time}"))
    validations = validations_within(left, timing.validation)
    return replace(plan, recipe=with_steps(recipe, steps, validations).with_settings(run={"time": ""}))


def _measure(plan: Plan, cluster: Cluster) -> Timing:
    """Time some steps, of the kind that most of the training has, and the validation of some images."""
    recipe = plan.recipe
    networks = Networks(plan, cast(Precision, recipe.run.precision), cluster)
    weights, new_layers, _ = initial_weights(plan)
    assign_weights(networks.trained, weights)
    step = TrainingStep(networks.trained, recipe, plan.class_weights(), new_layers, cluster)
    batches = TrainingPipeline.of(plan).distributed(cluster.strategy, 0, _TIMED_STEPS + 1)
    seconds = []
    trained = min(recipe.solver.freeze_steps, recipe.solver.steps - 1)  # a step in which all layers are trained
    for images, labels, positions in batches:
        begin = time.perf_counter()
        step(images, labels, positions, trained)
        seconds.append(time.perf_counter() - begin)
    own = plan.val_samples[cluster.index :: cluster.workers]
    few = replace(plan, val_samples=plan.val_samples[: _TIMED_IMAGES * cluster.workers])
    validator = Validator(few, networks.saved, cluster, silent)
    for _ in range(2):  # the first one compiles
        validator.score(lambda: False)
    share = len(own) / len(few.val_samples[cluster.index :: cluster.workers])
    return Timing(seconds[0], median(seconds[1:]), validator.seconds * share)
