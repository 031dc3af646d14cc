"""Time the steps and the validation of a training, and find how many steps fit into a given time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from deeplabctl.data.dataset import spread_evenly
from deeplabctl.errors import RunError
from deeplabctl.limits import AUTO
from deeplabctl.network.keras_model import assign_weights
from deeplabctl.parallel import available_cpus
from deeplabctl.recipe import Recipe, Run, parse_duration
from deeplabctl.reporting import Note, Reporter, counted, silent
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.input_pipeline import TrainingPipeline
from deeplabctl.training.plan import INTERVALS, Plan, steps_for, with_steps
from deeplabctl.training.signals import TrainingStopped
from deeplabctl.training.step import TrainingStep
from deeplabctl.training.validation import PREVIEW_ROWS, Validator

_TIMED_STEPS = 5
_TIMED_CROPS = 8
_TIMED_IMAGES = 8  # of the validation split, at most
_TIMING_SHARE = 0.03  # of the time, for these images
_RESERVE = 0.03  # share of the time for checkpoints, the report, and a machine that slows down
_VALIDATION_SHARE = 0.1  # of the time, unless two validations take more
_FEWEST_STEPS = 10
_DEVIATION = 0.05  # share of the steps
_CHEAPER = "make a step cheaper (`crop_size`, `batch_size`, `width`)"


@dataclass(frozen=True)
class Timing:
    """Hold the seconds of a training's parts."""

    start: float  # to read the initial weights, and large photos for the first time
    compiling: float  # the first step, and that in which layers are frozen no longer
    step: float
    loading: float  # the part of it to read and augment its images
    validation: float
    preview: float


@dataclass(frozen=True)
class TimeLimit:
    """Hold the time at which a training has to end, to fit its steps again where its machine turns out otherwise."""

    recipe: Recipe  # whose number of steps and intervals may be "auto"
    end: float  # as time.perf_counter() gives it

    def refitted(
        self, step: int, planned: Recipe, step_seconds: float, validator: Validator, cluster: Cluster
    ) -> Recipe | None:
        """Return the recipe with the steps that fit after ``step``, a step having taken ``step_seconds`` of late.

        None where they differ by less than a twentieth from those ``planned``; where there is no time for another step
        and its validation, they end with this one.
        """
        left, run = self.end - time.perf_counter(), self.recipe.run
        seconds, validation = _with_previews(run, step_seconds, validator.seconds, validator.preview_seconds)
        done = step // planned.run.val_every
        steps, validations = _chiefs(steps_within(left, seconds, validation, run.val_every, step, done), cluster)
        if steps > step and abs(steps - planned.solver.steps) < _DEVIATION * planned.solver.steps:
            return None
        return with_steps(self.recipe, steps, validations)


def fit_to_time(
    plan: Plan, cluster: Cluster, report: Reporter, should_stop: Callable[[], bool]
) -> tuple[Plan, TimeLimit]:
    """Return the plan with the steps that fit into ``run.time``, which is counted from this call, and without it.

    Nothing is trained: a network of its own is timed and thrown away. Of several workers the chief's times count.
    Raises RunError for a time that is too short, TrainingStopped if it was asked to stop.
    """
    begin = time.perf_counter()
    recipe = plan.recipe.with_settings(run={"time": ""})
    budget = parse_duration(plan.recipe.run.time)
    report(Note("timing some steps and some images of the validation"))
    timing = _measure(plan, cluster, budget, should_stop)
    taken, start = time.perf_counter() - begin, timing.start + timing.compiling
    left = (1 - _RESERVE) * budget - taken - start
    step, validation = _with_previews(recipe.run, timing.step, timing.validation, timing.preview)
    steps, validations = _chiefs(steps_within(left, step, validation, recipe.run.val_every), cluster)
    found = f"a step takes {step:.2f} s here, a validation {validation:.0f} s"
    if steps < _FEWEST_STEPS:
        advice = _CHEAPER
        if timing.loading > timing.step / 2:
            advice = "use smaller images: most of a step is reading and augmenting them"
        elif validation > _FEWEST_STEPS * step:
            advice = "validate fewer images (data.val_split), or smaller ones"
        raise _too_short(plan, f"{found}, timing took {taken:.0f} s, and the start would take {start:.0f} s", advice)
    report(Note(f"{found}: {steps:,} steps fit into {plan.recipe.run.time}"))
    limit = TimeLimit(recipe, begin + (1 - _RESERVE) * budget)
    return replace(plan, recipe=with_steps(recipe, steps, validations)), limit


def _with_previews(run: Run, step: float, validation: float, preview: float) -> tuple[float, float]:
    """Return the seconds of a step and of a validation with their share of the previews."""
    if run.preview_every == AUTO:  # one with each validation
        return step, validation + preview
    return step + preview / run.preview_every, validation


def validations_within(seconds: float, validation_seconds: float) -> int:
    """Return how many validations a given time should have: at most 10 and a tenth of the time, but 2 at least."""
    return int(min(max(2, _VALIDATION_SHARE * seconds / max(validation_seconds, 1e-9)), INTERVALS))


def steps_within(
    left: float, step_seconds: float, validation_seconds: float, val_every: int, step: int = 0, done: int = 0
) -> tuple[int, int]:
    """Return the number of all steps that fit into a time with their validations, and of "auto" validations.

    ``left`` seconds are left after ``step`` steps and ``done`` validations: the same number where there is no time for
    another one. ``val_every`` is the interval of validations; AUTO: there are about as many as `validations_within`
    says of the whole time, and the next one is half an interval away, if it can be. The last step is always validated.
    """
    if val_every != AUTO:
        both = val_every * step_seconds + validation_seconds
        whole = max(0, int(left // both))
        rest = left - whole * both - validation_seconds
        return step + whole * val_every + max(0, int(rest / step_seconds)), INTERVALS
    usual = validations_within(left + step * step_seconds + done * validation_seconds, validation_seconds)
    fitting = []
    for validations in sorted(range(1, usual + 2), key=lambda count: abs(count - usual)):
        to_come = max(1, validations - done)
        for _ in range(3):  # the number of steps gives their interval, and so how many of them are still to come
            steps = step + max(0, int((left - to_come * validation_seconds) / step_seconds))
            interval = max(1, math.ceil(steps / validations))
            to_come = max(1, math.ceil(steps / interval) - step // interval)
        if steps == step or interval - step % interval >= interval / 2:
            return steps, validations
        fitting.append((steps, validations))
    return fitting[0]


def _measure(plan: Plan, cluster: Cluster, budget: float, should_stop: Callable[[], bool]) -> Timing:
    """Time some steps, in which all layers are trained if there are such, and the validation of some images.

    Raises RunError as soon as the fewest steps cannot fit.
    """
    end = time.perf_counter() + budget
    solver = plan.recipe.solver
    thawed = min(solver.freeze_steps, 1)  # a step in which all layers are trained, if there is one
    steps = steps_for(len(plan.samples), solver.batch_size * solver.accumulate)
    draft = with_steps(plan.recipe, max(steps, 2)).with_settings(solver={"freeze_steps": thawed})
    plan = replace(plan, recipe=draft)
    with cluster.strategy.scope():
        model = plan.zero_model()
    begin = time.perf_counter()
    weights, new_layers, _ = plan.initial_weights()
    start = time.perf_counter() - begin
    assign_weights(model, weights)
    step = TrainingStep(model, draft, plan.class_weights(), new_layers, cluster)
    pipeline, seconds = TrainingPipeline.of(plan), []
    for images, labels, positions in pipeline.distributed(cluster.strategy, 0, _TIMED_STEPS + 1):
        begin = time.perf_counter()
        step(images, labels, positions, thawed)
        seconds.append(time.perf_counter() - begin)
        if cluster.any(should_stop()):
            raise TrainingStopped
        left = end - time.perf_counter()
        if cluster.any(_FEWEST_STEPS * min(seconds[1:], default=0.0) > left):
            raise _too_short(plan, f"timing {counted(len(seconds), 'step')} took {budget - left:.0f} s", _CHEAPER)
    validator = Validator(plan, plan.zero_model("float32"), cluster, silent)
    image = _seconds_of_an_image(validator, plan, cluster, budget, should_stop)
    validation = image * math.ceil(len(plan.val_samples) / cluster.workers)
    first, loading = (part / cluster.workers for part in _seconds_to_load(pipeline))
    computing = median(seconds[1:])
    return Timing(
        start + first,
        seconds[0] * (2 if solver.freeze and solver.freeze_steps else 1),
        max(loading, computing) if cluster.gpus else loading + computing,  # on a CPU they take turns
        loading,
        validation,
        image * min(PREVIEW_ROWS, len(plan.val_samples)),
    )


def _too_short(plan: Plan, found: str, advice: str) -> RunError:
    """Return the error of a time that is too short, which names what was found and what helps."""
    return RunError(
        f"`time`: expected enough for {_FEWEST_STEPS} steps, got {plan.recipe.run.time}; {found}; give more time, or "
        f"{advice}"
    )


def _seconds_to_load(pipeline: TrainingPipeline) -> tuple[float, float]:
    """Return what reading takes once, of photos that are kept, and reading and augmenting the images of each step.

    On all CPUs: steps find their first images ready.
    """
    positions = pipeline.positions(2 * _TIMED_STEPS)[:_TIMED_CROPS]

    def load() -> float:
        begin = time.perf_counter()
        for position in positions:
            pipeline.load(position)
        return (time.perf_counter() - begin) / len(positions) / available_cpus()

    once = load()
    kept = pipeline.kept_share
    again = load() if kept else once
    saved = kept * (once - again)
    return saved * len(pipeline.samples), (once - saved) * pipeline.batch_size


def _seconds_of_an_image(
    validator: Validator, plan: Plan, cluster: Cluster, budget: float, should_stop: Callable[[], bool]
) -> float:
    """Return what an image of the validation takes a worker, on average over some that are spread over the split."""

    def score(count: int) -> float:
        validator.score(should_stop, spread_evenly(plan.val_samples, count * cluster.workers))
        return validator.seconds / count

    score(1)  # which compiles
    once = score(1)
    count = min(max(int(_TIMING_SHARE * budget / once), 1), _TIMED_IMAGES, len(plan.val_samples) // cluster.workers)
    (count,) = _chiefs((count,), cluster)
    return score(count) if count > 1 else once


def _chiefs(numbers: tuple[int, ...], cluster: Cluster) -> list[int]:
    """Return the chief's numbers, on all workers."""
    found: list[int] = cluster.sum(np.array(numbers, np.int64) * (cluster.index == 0)).tolist()
    return found
