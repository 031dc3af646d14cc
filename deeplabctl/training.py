"""Train a network: the loop, its validations, and what it leaves in the run directory."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.data.dataset import Sample
from deeplabctl.data.images import read_image, read_label, write_picture
from deeplabctl.data.labels import median_frequency_weights
from deeplabctl.errors import RunError
from deeplabctl.evaluation import Evaluation, evaluate
from deeplabctl.model import assign_weights, build_model
from deeplabctl.model_file import imagenet_layers, save_model
from deeplabctl.origins import read_origin, to_architecture
from deeplabctl.pipeline import TrainingPipeline
from deeplabctl.plan import Plan
from deeplabctl.prediction import Segmenter
from deeplabctl.recipe import Recipe
from deeplabctl.render import panels
from deeplabctl.reporting import Finished, Note, Reporter, Started, Trained, Validated, silent
from deeplabctl.run_dir import RunDirectory
from deeplabctl.schedule import learning_rate
from deeplabctl.training_step import TrainingStep
from deeplabctl.weights import ModelInfo, Weights, fit_weights, random_weights

_PREVIEWS = 4  # images in a preview


@dataclass(frozen=True)
class TrainingResult:
    """Hold what a training came to."""

    steps: int
    seconds: float
    best: Evaluation | None  # the best validation; None if there was none before it was stopped
    best_step: int
    stopped: bool  # asked to, before its last step


def train(
    plan: Plan, run: RunDirectory, report: Reporter = silent, should_stop: Callable[[], bool] = lambda: False
) -> TrainingResult:
    """Train as planned, and leave the best (by validation mIoU) and the last model, previews and metrics in ``run``.

    ``should_stop`` is asked after each step; the last model is saved then too. Raises RunError for a loss that is not
    finite, DataError for a sample that cannot be read any more, WeightsError for a start that does not fit.
    """
    return _Training(plan, run, report).loop(should_stop)


def start_weights(recipe: Recipe, num_classes: int, report: Reporter) -> tuple[Weights, list[str]]:
    """Return the weights that ``model.init`` names, and the names of the layers that start random."""
    model = recipe.model
    if model.init == "random":
        weights = random_weights(model.architecture, num_classes, model.width, recipe.run.seed)
        return weights, list(weights)
    origin = imagenet_layers() if model.init == "imagenet" else read_origin(Path(model.init))
    layers, said = to_architecture(origin, model.architecture, recipe.run.seed)
    weights, new = fit_weights(layers, model.architecture, num_classes, model.width, recipe.run.seed, model.init)
    report(Note("; ".join([f"weights from {model.init}", *said, f"new: {', '.join(new) or 'none'}"])))
    return weights, new


class _Training:
    """Hold the parts of a running training."""

    def __init__(self, plan: Plan, run: RunDirectory, report: Reporter) -> None:
        recipe, dataset = plan.recipe, plan.dataset
        solver, num_classes = recipe.solver, len(dataset.classes)
        self.plan, self.recipe, self.run, self.report = plan, recipe, run, report
        weights, new_layers = start_weights(recipe, num_classes, report)
        self.model = build_model(
            recipe.model.architecture, num_classes, width=recipe.model.width, dropout=recipe.model.dropout
        )
        assign_weights(self.model, weights)
        self.step = TrainingStep(self.model, recipe, _class_weights(plan), new_layers)
        self.pipeline = TrainingPipeline(
            plan.samples,
            recipe.augment,
            batch_size=solver.batch_size * solver.accumulate,
            seed=recipe.run.seed,
        )
        self.segmenter = Segmenter(self.model, self._info(0, None), recipe.eval.pad)
        self.best: tuple[Evaluation, int] | None = None
        self.validations_without_gain = 0
        self.validation_seconds = 0.0

    def loop(self, should_stop: Callable[[], bool]) -> TrainingResult:
        """Run all steps."""
        solver, settings = self.recipe.solver, self.recipe.run
        begin = time.perf_counter()
        batches = iter(self.pipeline.batches(0, solver.steps))
        clock = _Clock(settings.log_every)
        done, stopped = 0, False
        self.report(Started("training", solver.steps, "steps"))
        while done < solver.steps:
            before = time.perf_counter()
            images, labels, positions = self._next(batches)
            received = time.perf_counter()
            loss = self.step(images, labels, positions, done)
            if not math.isfinite(loss):
                raise RunError(self._diverged(loss, done, [int(position) for position in positions]))
            done += 1
            clock.add(loss, received - before, time.perf_counter() - before)
            self._report_step(clock, done)
            last = done == solver.steps
            stopped = should_stop() and not last
            if done % settings.save_every == 0 or last or stopped:
                save_model(self.run.last, self.model, self._info(done, None))
            if stopped:
                self.report(Note(f"stopped after step {done}; the model is {self.run.last}"))
                break
            if done % settings.preview_every == 0 or last:
                write_picture(self.run.preview(done), self._preview())
            if done % settings.val_every == 0 or last:
                self._validate(done)
                if 0 < solver.patience <= self.validations_without_gain:
                    save_model(self.run.last, self.model, self._info(done, None))
                    break
        self.report(Finished())
        best, best_step = self.best or (None, 0)
        return TrainingResult(done, time.perf_counter() - begin, best, best_step, stopped)

    def _next(self, batches: Iterator[Any]) -> Any:
        import tensorflow as tf

        try:
            return next(batches)
        except tf.errors.OpError:
            self.pipeline.reraise()
            raise

    def _diverged(self, loss: float, step: int, positions: Sequence[int]) -> str:
        files = ", ".join(str(self.pipeline.sample_at(position).image) for position in positions)
        rate = learning_rate(self.recipe.solver, step)
        saved = f"the last good model is {self.run.last}" if self.run.last.exists() else "no model was saved yet"
        return (
            f"step {step + 1}: the loss is {loss}, expected a finite number; {saved}; the batch was {files}; "
            f"lower solver.learning_rate (it was {rate:g} here), or set solver.gradient_clip or solver.warmup_steps"
        )

    def _report_step(self, clock: _Clock, done: int) -> None:
        solver, settings = self.recipe.solver, self.recipe.run
        validations = math.ceil(solver.steps / settings.val_every) - done // settings.val_every
        event = Trained(
            step=done,
            steps=solver.steps,
            loss=clock.loss,
            learning_rate=learning_rate(solver, done - 1),
            images_per_second=solver.batch_size * solver.accumulate / clock.step_seconds,
            waiting=clock.waiting,
            seconds_left=(solver.steps - done) * clock.step_seconds + validations * self.validation_seconds,
            logged=done % settings.log_every == 0 or done in (1, solver.steps),
        )
        if event.logged:
            values = {key: value for key, value in asdict(event).items() if key not in ("steps", "logged")}
            self.run.metrics(kind="train", **values)
        self.report(event)

    def _validate(self, done: int) -> None:
        """Score the validation split, and keep the model if it is the best so far."""
        begin = time.perf_counter()
        scores = evaluate(self.segmenter, self.plan.dataset, self.plan.val_samples, self.report)
        self.validation_seconds = time.perf_counter() - begin
        matrix = scores.matrix
        best = self.best is None or matrix.mean_iou() > self.best[0].matrix.mean_iou()
        self.validations_without_gain = 0 if best else self.validations_without_gain + 1
        if best:
            self.best = scores, done
            save_model(self.run.best, self.model, self._info(done, matrix.mean_iou()))
        event = Validated(
            step=done,
            miou=matrix.mean_iou(),
            pixel_accuracy=matrix.pixel_accuracy(),
            best=best,
            predicted=int((matrix.predicted() > 0).sum()),
            present=int((matrix.pixels() > 0).sum()),
        )
        self.run.metrics(kind="validation", **asdict(event))
        self.report(event)

    def _preview(self) -> npt.NDArray[np.uint8]:
        rows = []
        for sample in _spread(self.plan.val_samples, _PREVIEWS):
            image = read_image(sample.image)
            rows.append((image, read_label(sample.label), self.segmenter.label(image)))
        return panels(rows, self.plan.dataset.classes)

    def _info(self, step: int, miou: float | None) -> ModelInfo:
        """Return what the model files say of themselves."""
        recipe = self.recipe
        provenance = {
            "source": f"trained by deeplabctl from {recipe.model.init}",
            "data": recipe.data.root,
            "split": recipe.data.split,
            "step": step,
            "val_miou": miou,
            "recipe": asdict(recipe),
        }
        return ModelInfo(self.plan.dataset.classes, recipe.model.architecture, recipe.model.width, provenance)


class _Clock:
    """Average losses and times over the last steps."""

    def __init__(self, window: int) -> None:
        self._losses: deque[float] = deque(maxlen=window)
        self._waits: deque[float] = deque(maxlen=max(20, window))
        self._seconds: deque[float] = deque(maxlen=max(20, window))

    def add(self, loss: float, waited: float, seconds: float) -> None:
        """Add a step: its loss, and how long it waited for data of how long it took in all."""
        if len(self._seconds) == 1 and self._seconds[0] > 2 * seconds:
            self._waits.clear()  # the first step also compiled
            self._seconds.clear()
        self._losses.append(loss)
        self._waits.append(waited)
        self._seconds.append(seconds)

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return sum(self._losses) / len(self._losses)

    @property
    def step_seconds(self) -> float:
        """Return the mean time of a step."""
        return sum(self._seconds) / len(self._seconds)

    @property
    def waiting(self) -> float:
        """Return the share of the time that was spent waiting for data."""
        return sum(self._waits) / sum(self._seconds)


def _class_weights(plan: Plan) -> list[float]:
    given, num_classes = plan.recipe.solver.class_weights, len(plan.dataset.classes)
    if given == "none":
        return [1.0] * num_classes
    if given == "median":
        return median_frequency_weights(plan.facts, num_classes)
    return [float(weight) for weight in given]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return ``count`` samples spread evenly over the split."""
    return [samples[index * len(samples) // count] for index in range(min(count, len(samples)))]
