"""Train a network: the loop over the steps, and what is done after each."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.errors import DataError, LogitsError, RunError
from deeplabctl.network.keras_model import assign_weights, can_compute, is_out_of_memory
from deeplabctl.prediction.engines import report_compiling, training_engine
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.reporting import Note, Reporter, Trained, counted, percent, silent, task
from deeplabctl.training.checkpoint import Checkpoint, Progress
from deeplabctl.training.cluster import Cluster, best_precision, check_workers_agree
from deeplabctl.training.input_pipeline import TrainingPipeline
from deeplabctl.training.optimizers import learning_rate
from deeplabctl.training.plan import Plan
from deeplabctl.training.recorder import Recorder
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.training.signals import TrainingStopped
from deeplabctl.training.step import TrainingStep
from deeplabctl.training.timing import TimeLimit, fit_to_time
from deeplabctl.training.validation import Validator


@dataclass(frozen=True)
class TrainedRun:
    """Hold the result of a training."""

    path: Path | None  # of the run directory; None on a worker other than the chief
    steps: int
    seconds: float  # of this process, in all: with its start, validations and report
    scores: dict[str, Any]  # of the best validation, as `eval --json` has them; empty if there was none
    best_step: int
    stopped: bool = False  # asked to, before its last step
    first_step: int = 0  # where this process began: 0, or where it was resumed
    finished_before: bool = False  # a run to resume that had no steps left

    def __repr__(self) -> str:
        """Return the directory, the steps and the best validation, in a line."""
        best = f"best val mIoU {percent(self.scores['miou'])} at step {self.best_step}" if self.scores else "no scores"
        return f"<TrainedRun {self.path or 'of a worker'}: {counted(self.steps, 'step')}, {best}>"


def train_plan(
    plan: Plan,
    run: RunDirectory | None,
    report: Reporter = silent,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    checkpoint: Checkpoint | None = None,
    cluster: Cluster | None = None,
) -> TrainedRun:
    """Train as planned; leave checkpoints, the best model (by validation mIoU) and the last one in ``run``.

    ``checkpoint`` is where to continue. ``should_stop`` is asked after each step and each validated image; a checkpoint
    is written then, unless steps are still being timed. With a ``cluster`` of several workers each calls this with the
    same plan, and ``run`` is None on all but the chief. Raises RunError for a loss that is not finite,
    DataError for a sample that can no longer be read, WeightsError for initial weights that do not fit.
    """
    import tensorflow as tf

    begin = time.perf_counter()
    cluster = cluster or Cluster()
    recorder = Recorder(run)
    if run is not None:
        facts = {} if plan.recipe_name is None else {"recipe": plan.recipe_name}
        run.record(device=cluster.device, expect=asdict(plan.expect) if plan.expect else None, **facts)
        if cluster.workers > 1:
            run.keep()  # the others say how to resume it
    plan = _with_precision(plan, run, cluster, checkpoint)
    report(Note(f"computing in {plan.recipe.run.precision} on {cluster.device}"))
    if plan.recipe.run.precision in ("float32", "bfloat16"):
        engine = training_engine(plan.recipe.run.engine, plan.recipe.model.architecture)
        report_compiling(engine, PredictionSettings(), report)
    cluster.check_batch(plan.recipe.solver.batch_size)
    try:
        check_workers_agree(cluster, plan, 0, 0)  # of options; the step and the weights are not known yet
        limit = None
        if plan.recipe.run.time:
            plan, limit = fit_to_time(plan, cluster, report, should_stop)
            if run is not None:
                run.record(timed=True)
                run.write_recipe(plan.recipe)
        result = _Training(plan, recorder, report, checkpoint, cluster, limit).run(should_stop)
    except TrainingStopped:
        report(Note(f"stopped before the first step; {recorder.how_to_resume}"))
        result = TrainedRun(recorder.path, 0, 0.0, {}, 0, stopped=True)
    except tf.errors.OpError as error:
        if is_out_of_memory(error):
            raise _out_of_memory(plan, error) from error
        if cluster.workers == 1:
            raise
        raise RunError(
            f"worker {cluster.index} of {cluster.workers}: another worker died or cannot be reached "
            f"({type(error).__name__}); check it, then start all workers again: {recorder.how_to_resume}"
        ) from error
    if result.stopped and run is not None:
        run.end("interrupted")
    return replace(result, seconds=run.seconds if run is not None else time.perf_counter() - begin)


def _with_precision(plan: Plan, run: RunDirectory | None, cluster: Cluster, checkpoint: Checkpoint | None) -> Plan:
    """Return the plan with the precision that "auto" is here; raises RunError for one that cannot be computed in."""
    precision = plan.recipe.run.precision
    if precision == "auto":
        best = best_precision(cluster.gpus)
        plan = plan.with_settings(run={"precision": best if can_compute(best) else "float32"})
        if run is not None:
            run.write_recipe(plan.recipe)
    elif not can_compute(precision):
        advice = "use `precision=float32`, or `precision=auto` for the fastest one"
        if checkpoint is not None:
            advice = "resume it on a machine where it can, or start a new training from the run's weights (`init`)"
        raise RunError(
            f"run.precision: expected a format that TensorFlow can compute in here, got {precision}; {advice}"
        )
    return plan


def _out_of_memory(plan: Plan, error: Exception) -> RunError:
    solver = plan.recipe.solver
    same = " (the same result)" if solver.hard_pixels == 1 and solver.normalization == "step" else ""
    smaller = f"halve solver.batch_size and double solver.accumulate{same}, or " if solver.batch_size > 1 else ""
    return RunError(
        f"out of memory with batches of {counted(solver.batch_size, 'image')}; {smaller}lower augment.crop_size; "
        f"TensorFlow: {str(error).splitlines()[0][:200]}"
    )


class _Training:
    """Hold the parts of a running training."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        report: Reporter,
        checkpoint: Checkpoint | None,
        cluster: Cluster,
        limit: TimeLimit | None,
    ) -> None:
        recipe = plan.recipe
        self.plan, self.recipe, self.recorder, self.report, self.cluster = plan, recipe, recorder, report, cluster
        self.limit = limit
        self.batch_size = recipe.solver.batch_size * recipe.solver.accumulate
        self.pipeline = TrainingPipeline.of(plan)
        self.saved_model = plan.zero_model("float32")  # what is validated and saved, in this process alone
        with cluster.strategy.scope():
            model = plan.zero_model()  # what is trained, with variables for all replicas
        if checkpoint:
            self.new_layers = checkpoint.new_layers
        else:
            weights, self.new_layers, notes = plan.initial_weights()
            if notes:
                report(Note("; ".join(notes)))
                recorder.log(f"new layers: {', '.join(self.new_layers) or 'none'}")
            assign_weights(model, weights)
        self.step = TrainingStep(model, recipe, plan.class_weights(), self.new_layers, cluster)
        self.progress = checkpoint.progress if checkpoint else Progress()
        if checkpoint:
            self.step.restore(checkpoint.arrays)
        recorder.rewind(self.progress.step, keep_validation=self.progress.validated)
        check_workers_agree(cluster, plan, self.progress.step, self.step.checksum() if cluster.workers > 1 else 0)
        frozen = {*recipe.solver.freeze} - {*self.new_layers}
        self.compiling_steps = {self.progress.step, recipe.solver.freeze_steps if frozen else 0}
        steps = counted(recipe.solver.steps, "step")
        if frozen and recipe.solver.freeze_steps >= recipe.solver.steps:
            text = f"solver.freeze_steps: {recipe.solver.freeze_steps} is not less than the {steps}"
            report(Note(f"{text}; the frozen layers are never trained", warning=True))
        if recipe.solver.warmup_steps > recipe.solver.steps and not checkpoint:
            text = f"solver.warmup_steps: {recipe.solver.warmup_steps} is more than the {steps}"
            report(Note(f"{text}; the training ends before its warm-up does", warning=True))
        if recipe.solver.policy == "step" and recipe.solver.step_size >= recipe.solver.steps and not checkpoint:
            text = f"solver.step_size: {recipe.solver.step_size} is not less than the {steps}"
            report(Note(f"{text}; the learning rate is never lowered", warning=True))
        self.validator = Validator(plan, self.saved_model, cluster, report)
        self.averages = StepAverages(recipe.run.log_every, self.progress.losses)
        self.batches = self._batches()
        self.saved_step = -1

    def run(self, should_stop: Callable[[], bool]) -> TrainedRun:
        """Run the steps that are left."""
        progress = self.progress
        first_step = progress.step
        with task(self.report, "training", self.recipe.solver.steps, "steps", progress.step):
            stopped = not progress.validated and self._validate_if_due(should_stop)
            while not stopped and not self._is_finished():
                self._train_step()
                if self.cluster.any(should_stop()) and progress.step < self.recipe.solver.steps:
                    stopped = True
                else:
                    stopped = self._validate_if_due(should_stop)
                if stopped or self._is_finished() or progress.step % self.recipe.run.save_every == 0:
                    self._save()
            if self.saved_step != progress.step and not stopped:
                self._save()
            self.cluster.any(False)  # no worker ends before the chief has written the weights
            if not stopped:
                self.recorder.report()
        if stopped:
            self.report(Note(f"stopped after step {progress.step}; {self.recorder.how_to_resume}"))
        best = progress.best or {}
        return TrainedRun(self.recorder.path, progress.step, 0.0, best, progress.best_step, stopped, first_step)

    def _is_finished(self) -> bool:
        solver, progress = self.recipe.solver, self.progress
        return progress.step >= solver.steps or progress.is_out_of_patience(solver.patience)

    def _batches(self) -> Iterator[Any]:
        """Return the batches that are left."""
        return self.pipeline.distributed(self.cluster.strategy, self.progress.step, self.recipe.solver.steps)

    def _train_step(self) -> None:
        """Train on the next batch, and report it."""
        progress = self.progress
        before = time.perf_counter()
        try:
            images, labels, positions = next(self.batches)
        except DataError as error:
            raise self._resumable(error) from None
        received = time.perf_counter()
        compiles = progress.step in self.compiling_steps
        loss = self.step(images, labels, positions, progress.step)
        if not math.isfinite(loss):
            raise RunError(self._diverged(f"the loss is {loss}", progress.step))
        progress.step += 1
        progress.validated = False
        self.averages.add(loss, received - before, time.perf_counter() - before, compiles=compiles)
        self._report_step()
        if progress.step % self.recipe.run.log_every == 0 and self.step.is_stuck():
            raise RunError(self._diverged("the gradient overflows float16 at any scale", progress.step - 1))

    def _validate_if_due(self, should_stop: Callable[[], bool]) -> bool:
        """Preview and validate if due after a step; returns True if asked to stop, and a resumed run repeats it."""
        settings, progress = self.recipe.run, self.progress
        last = progress.step == self.recipe.solver.steps
        preview_due = last or progress.step % settings.preview_every == 0
        validation_due = last or progress.step % settings.val_every == 0
        if preview_due or validation_due:
            self._publish()
        try:
            if preview_due:
                self.recorder.preview(progress.step, self.validator.preview())
            if validation_due:
                self._validate(should_stop)
        except TrainingStopped:
            return True
        except LogitsError:
            what = "the update left weights whose logits are not finite for an image of the validation"
            raise RunError(self._diverged(what, progress.step - 1)) from None
        except DataError as error:
            raise self._resumable(error) from None
        progress.validated = True
        if validation_due and not self._is_finished():
            self._fit_to_limit()
        return False

    def _validate(self, should_stop: Callable[[], bool]) -> None:
        """Score the validation split, and save the model if it is the best so far."""
        scores = self.validator.score(should_stop)
        best = self.progress.add_validation(scores.to_dict())
        if best:
            info = self.plan.model_info(self.progress.step, scores.matrix.mean_iou())
            self.recorder.save_best(self.saved_model, info)
        self.recorder.validation(self.validator.report(scores, self.progress, self.recipe.solver.steps, best=best))

    def _fit_to_limit(self) -> None:
        """Change the number of steps where the time of the training is no longer enough for it, or is for more.

        Not after a step that compiles: its time is no measure of the next ones.
        """
        if self.limit is None or self.averages.compiled:
            return
        planned, seconds = self.recipe, self.averages.take_step_seconds()
        recipe = self.limit.refitted(self.progress.step, planned, seconds, self.validator, self.cluster)
        if recipe is None:
            return
        self.recipe, self.plan = recipe, replace(self.plan, recipe=recipe)
        self.step.follow(recipe)
        self.batches = self._batches()
        text = f"{recipe.solver.steps:,} steps fit into the time, not {planned.solver.steps:,}"
        self.report(Note(f"a step takes {seconds:.2f} s now: {text}"))
        self._save()  # with these steps, before the run's recipe has them: a resumed run takes the checkpoint's
        self.recorder.write_recipe(recipe)

    def _publish(self) -> None:
        """Give the saved network the weights of this step; raises RunError where one is not finite."""
        weights = self.step.weights()
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise RunError(self._diverged("the update left weights that are not finite", self.progress.step - 1))
        assign_weights(self.saved_model, weights)

    def _save(self) -> None:
        """Write a checkpoint and the last model."""
        self._publish()
        state = self.step.state()  # on every worker: reading a replicated variable may take all of them
        self.recorder.save(
            Checkpoint(self.progress, state, self.new_layers, asdict(self.recipe), self.plan.fingerprint),
            self.saved_model,
            self.plan.model_info(self.progress.step),
        )
        self.saved_step = self.progress.step

    def _resumable(self, error: DataError) -> DataError:
        """Write a checkpoint, as only the data is wrong, and return the error with how to continue."""
        self._save()
        return DataError(f"{error}; restore the data, then {self.recorder.how_to_resume}")

    def _diverged(self, what: str, step: int) -> str:
        files = ", ".join(str(self.pipeline.sample_at(position).image) for position in self.pipeline.positions(step))
        rate = learning_rate(self.recipe.solver, step)
        return (
            f"step {step + 1}: {what}, expected a finite number; {self.recorder.last_checkpoint}; the batch was "
            f"{files}; lower solver.learning_rate (it was {rate:g} here), or set solver.gradient_clip or "
            "solver.warmup_steps"
        )

    def _report_step(self) -> None:
        solver, settings, averages, done = self.recipe.solver, self.recipe.run, self.averages, self.progress.step
        validations = math.ceil(solver.steps / settings.val_every) - done // settings.val_every
        left = (solver.steps - done) * averages.step_seconds + validations * self.validator.seconds
        event = Trained(
            step=done,
            steps=solver.steps,
            loss=averages.loss,
            learning_rate=learning_rate(solver, done - 1),
            images_per_second=self.batch_size / averages.step_seconds,
            waiting=averages.waiting,
            seconds_left=None if averages.compiled else left,
            logged=done % settings.log_every == 0 or done in (1, solver.steps),
        )
        self.progress.losses = list(averages.losses)
        if event.logged:
            self.recorder.step(event)
        self.report(event)


class StepAverages:
    """Average the losses and times of the last ``window`` steps; ``losses`` are those before a resumption."""

    def __init__(self, window: int, losses: Sequence[float]) -> None:
        self.losses = deque(losses, maxlen=window)
        self._waits: deque[float] = deque(maxlen=max(20, window))
        self._seconds: deque[float] = deque(maxlen=max(20, window))
        self._sum, self._count = 0.0, 0  # of the times since `take_step_seconds`
        self.compiled = False  # in the last step: the times are no measure of the next ones

    def add(self, loss: float, waited: float, seconds: float, *, compiles: bool = False) -> None:
        """Add a step: its loss, and how long it waited for data of how long it took in all.

        The times up to a step that ``compiles`` count only until the next one.
        """
        if self.compiled:
            self._waits.clear()
            self._seconds.clear()
            self._sum, self._count = 0.0, 0
        self.compiled = compiles
        self.losses.append(loss)
        self._waits.append(waited)
        self._seconds.append(seconds)
        self._sum, self._count = self._sum + seconds, self._count + 1

    def take_step_seconds(self) -> float:
        """Return the mean time of the steps since this was called last."""
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        return mean

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return sum(self.losses) / len(self.losses)

    @property
    def step_seconds(self) -> float:
        """Return the mean time of a step."""
        return sum(self._seconds) / len(self._seconds)

    @property
    def waiting(self) -> float:
        """Return the share of the time that was spent waiting for data."""
        return sum(self._waits) / sum(self._seconds)
