"""Train a network: the loop, its validations, and what it leaves in the run directory."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from deeplabctl.errors import DataError, RunError
from deeplabctl.evaluation.network_scores import evaluate
from deeplabctl.network.keras_model import assign_weights, build_model
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.reporting import Advanced, Event, Finished, Note, Reporter, Started, Trained, Validated, silent
from deeplabctl.training import precision
from deeplabctl.training.checkpoint import Checkpoint, Progress
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.initial_weights import class_weights, start_weights
from deeplabctl.training.input_pipeline import TrainingPipeline
from deeplabctl.training.plan import Plan, with_precision
from deeplabctl.training.previews import preview
from deeplabctl.training.recorder import RunRecord
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.training.schedule import learning_rate
from deeplabctl.training.step import TrainingStep
from deeplabctl.training.step_averages import Clock
from deeplabctl.weights.fitting import ModelInfo


@dataclass(frozen=True)
class TrainingResult:
    """Hold what a training came to; ``seconds`` are those of this process."""

    steps: int
    seconds: float
    best: dict[str, Any] | None  # `Evaluation.to_dict` of the best validation; None if there was none
    best_step: int
    stopped: bool  # asked to, before its last step


def train(
    plan: Plan,
    run: RunDirectory | None,
    report: Reporter = silent,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    checkpoint: Checkpoint | None = None,
    cluster: Cluster | None = None,
) -> TrainingResult:
    """Train as planned, and leave checkpoints, the best (by validation mIoU) and the last model in ``run``.

    ``checkpoint`` is where to go on. ``should_stop`` is asked after each step and each image that is validated; a
    checkpoint is written then too. With a ``cluster`` of several workers each calls this with the same plan, and
    ``run`` is None on all but the chief. Raises RunError for a loss that is not finite, DataError for a sample that
    cannot be read any more, WeightsError for a start that does not fit.
    """
    import tensorflow as tf

    cluster = cluster or Cluster()
    record = RunRecord(run)
    if plan.recipe.run.precision == "auto":
        plan = with_precision(plan, precision.best_precision(cluster.gpus))
        if run is not None:
            run.settle(plan.recipe)
    report(Note(f"computing in {plan.recipe.run.precision} on {cluster.device}"))
    try:
        return _Training(plan, record, report, checkpoint, cluster).loop(should_stop)
    except tf.errors.ResourceExhaustedError as error:
        raise RunError(
            f"out of memory with batches of {plan.recipe.solver.batch_size} images; halve --batch-size and double "
            f"--accumulate (the same result), or lower --crop-size; TensorFlow: {str(error).splitlines()[0][:200]}"
        ) from error
    except tf.errors.OpError as error:
        if cluster.workers == 1:
            raise
        raise RunError(
            f"worker {cluster.index} of {cluster.workers}: another worker died or cannot be reached "
            f"({type(error).__name__}); look there, then start all workers again: {record.how_to_resume}"
        ) from error


class _Stopped(Exception):  # noqa: N818 - not an error
    """Leave a validation because the training was asked to stop."""


class _Training:
    """Hold the parts of a running training."""

    def __init__(
        self, plan: Plan, record: RunRecord, report: Reporter, checkpoint: Checkpoint | None, cluster: Cluster
    ) -> None:
        recipe = plan.recipe
        self.plan, self.recipe, self.record, self.report, self.cluster = plan, recipe, record, report, cluster
        batch = recipe.solver.batch_size * recipe.solver.accumulate
        self.share = cluster.share(recipe.solver.batch_size) * recipe.solver.accumulate
        self.pipeline = TrainingPipeline(
            plan.samples,
            recipe.augment,
            batch_size=batch,
            seed=recipe.run.seed,
            num_classes=len(plan.dataset.classes),
        )
        # The model that is validated and saved is float32 and lives here alone; its twin may compute in another format
        # and on several devices.
        self.model = self._build("float32")
        with cluster.scope():
            self.trained = self._build(precision.POLICIES[recipe.run.precision])
        self.new_layers = checkpoint.new_layers if checkpoint else self._start()
        self.step = TrainingStep(self.trained, recipe, class_weights(plan), self.new_layers, cluster)
        self.progress = checkpoint.progress if checkpoint else Progress()
        if checkpoint:
            self.step.restore(checkpoint.arrays)
        record.rewind(self.progress.step, settled=self.progress.settled)
        self._check_workers()
        self.segmenter = Segmenter(self.model, self._info(), recipe.eval.pad, recipe.eval.scales, recipe.eval.flip)
        self.validation_seconds = 0.0
        self.saved_step = -1

    def _build(self, dtype: str) -> Any:
        model, classes = self.recipe.model, len(self.plan.dataset.classes)
        return build_model(model.architecture, classes, width=model.width, dropout=model.dropout, dtype=dtype)

    def _check_workers(self) -> None:
        """Raise RunError if the workers do not begin alike."""
        if self.cluster.workers == 1:
            return
        sections = json.dumps(asdict(replace(self.recipe, model=replace(self.recipe.model, init=""))), sort_keys=True)
        begin = {
            "recipe": [json.loads(sections)[name] for name in ("model", "augment", "solver")]
            + [self.recipe.run.seed, self.recipe.run.precision],
            "data": [self.plan.fingerprint, self.plan.dataset.classes],
            "step or weights": [self.progress.step, self.step.checksum()],
        }
        for what, value in begin.items():
            row = np.zeros(self.cluster.workers, np.int64)
            row[self.cluster.index] = zlib.crc32(json.dumps(value, sort_keys=True).encode())
            rows = self.cluster.sum(row)
            if others := [index for index, mark in enumerate(rows) if mark != rows[0]]:
                raise RunError(
                    f"worker{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}: expected the {what} of "
                    "worker 0, got another; start all workers with the same options, data and files"
                )

    def _start(self) -> list[str]:
        weights, new_layers = start_weights(self.recipe, len(self.plan.dataset.classes), self.report)
        assign_weights(self.trained, weights)
        return new_layers

    def loop(self, should_stop: Callable[[], bool]) -> TrainingResult:
        """Run the steps that are left."""
        solver, settings, progress = self.recipe.solver, self.recipe.run, self.progress
        begin = time.perf_counter()
        clock = Clock(settings.log_every, progress.losses)
        self.report(Started("training", solver.steps, "steps", progress.step))
        stopped = not progress.settled and self._settle(should_stop)
        batches = self._batches(progress.step)
        while progress.step < solver.steps and not stopped and not self._out_of_patience():
            before = time.perf_counter()
            images, labels, positions = self._next(batches)
            received = time.perf_counter()
            loss = self.step(images, labels, positions, progress.step)
            if not math.isfinite(loss):
                raise RunError(self._diverged(f"the loss is {loss}", progress.step))
            progress.step += 1
            progress.settled = False
            clock.add(loss, received - before, time.perf_counter() - before)
            self._report_step(clock)
            if progress.step % settings.log_every == 0 and self.step.is_stuck():
                raise RunError(self._diverged("the gradient overflows float16 at any scale", progress.step - 1))
            if self.cluster.any(should_stop()) and progress.step < solver.steps:
                stopped = True
            else:
                stopped = self._settle(should_stop)
            last = progress.step == solver.steps or self._out_of_patience()
            if stopped or last or progress.step % settings.save_every == 0:
                self._save()
        if self.saved_step != progress.step and not stopped:
            self._save()
        self.cluster.any(False)  # nobody leaves before the chief has written all
        self.report(Finished())
        if stopped:
            self.report(Note(f"stopped after step {progress.step}; {self.record.how_to_resume}"))
        return TrainingResult(progress.step, time.perf_counter() - begin, progress.best, progress.best_step, stopped)

    def _batches(self, start: int) -> Iterator[Any]:
        def own(context: Any) -> Any:
            return self.pipeline.batches(
                start,
                self.recipe.solver.steps,
                worker=context.input_pipeline_id,
                workers=context.num_input_pipelines,
                replicas=context.num_replicas_in_sync,
            )

        return iter(self.cluster.strategy.distribute_datasets_from_function(own))

    def _next(self, batches: Iterator[Any]) -> Any:
        import tensorflow as tf

        try:
            return next(batches)
        except tf.errors.OpError:
            try:
                self.pipeline.reraise()
            except DataError as error:
                raise self._kept(error) from None
            raise

    def _settle(self, should_stop: Callable[[], bool]) -> bool:
        """Draw and validate what is due after a step; True if it was asked to stop meanwhile, and is to be redone."""
        settings, step = self.recipe.run, self.progress.step
        last = step == self.recipe.solver.steps
        due = last or step % settings.val_every == 0
        if due or step % settings.preview_every == 0:
            self._publish()
        try:
            return self._settled(last, due, should_stop)
        except DataError as error:
            raise self._kept(error) from None

    def _kept(self, error: DataError) -> DataError:
        """Write a checkpoint, as nothing is wrong with the training itself, and return the error with the way on."""
        self._save()
        return DataError(f"{error}; put the data back as it was, then {self.record.how_to_resume}")

    def _settled(self, last: bool, due: bool, should_stop: Callable[[], bool]) -> bool:
        settings, step = self.recipe.run, self.progress.step
        if last or step % settings.preview_every == 0:
            self.record.preview(step, preview(self.segmenter, self.plan.val_samples, self.plan.dataset.classes))
        if due:
            try:
                self._validate(should_stop)
            except _Stopped:
                return True
        self.progress.settled = True
        return False

    def _out_of_patience(self) -> bool:
        return 0 < self.recipe.solver.patience <= self.progress.validations_without_gain

    def _publish(self) -> None:
        """Bring the model that is validated and saved up to date; raises RunError where a weight is not finite."""
        weights = self.trained.get_weights()
        if not all(np.isfinite(array).all() for array in weights):
            raise RunError(self._diverged("the update left weights that are not finite", self.progress.step - 1))
        self.model.set_weights(weights)

    def _save(self) -> None:
        """Write a checkpoint and the last model."""
        self._publish()
        state = self.step.state()  # on every worker: reading a replicated variable may take all of them
        self.record.save(
            Checkpoint(self.progress, state, self.new_layers, asdict(self.recipe), self.plan.fingerprint),
            self.model,
            self._info(),
        )
        self.saved_step = self.progress.step

    def _diverged(self, what: str, step: int) -> str:
        files = ", ".join(str(self.pipeline.sample_at(position).image) for position in self.pipeline.positions(step))
        rate = learning_rate(self.recipe.solver, step)
        return (
            f"step {step + 1}: {what}, expected a finite number; {self.record.last_good}; the batch was {files}; lower "
            f"solver.learning_rate (it was {rate:g} here), or set solver.gradient_clip or solver.warmup_steps"
        )

    def _report_step(self, clock: Clock) -> None:
        solver, settings, done = self.recipe.solver, self.recipe.run, self.progress.step
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
        self.progress.losses = clock.losses
        if event.logged:
            self.record.step(event)
        self.report(event)

    def _validate(self, should_stop: Callable[[], bool]) -> None:
        """Score the validation split, each worker its share, and keep the model if it is the best so far."""

        def report(event: Event) -> None:
            self.report(event)
            if self.cluster.workers == 1 and isinstance(event, Advanced) and should_stop():
                raise _Stopped

        begin = time.perf_counter()
        progress, samples = self.progress, self.plan.val_samples
        own = samples[self.cluster.index :: self.cluster.workers]
        scores = evaluate(self.segmenter, self.plan.dataset, own, report)
        matrix = scores.matrix
        if self.cluster.workers > 1:
            matrix.counts, scores.images = self.cluster.sum(matrix.counts), len(samples)
        self.validation_seconds = time.perf_counter() - begin
        best = progress.best is None or matrix.mean_iou() > (progress.best["miou"] or 0.0)
        progress.validations_without_gain = 0 if best else progress.validations_without_gain + 1
        if best:
            progress.best, progress.best_step = scores.to_dict(), progress.step
            self.record.best(self.model, self._info(matrix.mean_iou()))
        event = Validated(
            step=progress.step,
            miou=matrix.mean_iou(),
            pixel_accuracy=matrix.pixel_accuracy(),
            best=best,
            predicted=int((matrix.predicted() > 0).sum()),
            present=int((matrix.pixels() > 0).sum()),
        )
        self.record.validation(event)
        self.report(event)
        missed = [
            name
            for name, found, labelled in zip(
                self.plan.dataset.classes, matrix.predicted(), matrix.pixels(), strict=True
            )
            if labelled and not found
        ]
        if missed:
            said = f"step {progress.step}: the model predicts no {', no '.join(missed)}"
            hint = (
                "; if that lasts, set solver.class_weights (median)" if progress.step < self.recipe.solver.steps else ""
            )
            self.report(Note(said + hint, warning=True))

    def _info(self, miou: float | None = None) -> ModelInfo:
        """Return what the model files say of themselves."""
        recipe, expect = self.recipe, self.plan.expect
        provenance = {
            "source": f"trained by deeplabctl from {recipe.model.init}",
            "data": recipe.data.root,
            "split": recipe.data.split,
            "step": self.progress.step,
            "val_miou": miou,
            "recipe": asdict(recipe),
            "expect": asdict(expect) if expect else None,
        }
        return ModelInfo(self.plan.dataset.classes, recipe.model.architecture, recipe.model.width, provenance)
