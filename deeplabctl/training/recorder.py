"""Write what a training leaves: checkpoints, models, metrics, previews, curves, TensorBoard events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.arrays import Image
from deeplabctl.data.images import write_image
from deeplabctl.errors import DeepLabError
from deeplabctl.reporting import Trained, Validated
from deeplabctl.reports.curves import draw_curves
from deeplabctl.reports.metrics_log import Metrics, append_metrics, rewind_metrics
from deeplabctl.reports.training_run import write_report
from deeplabctl.training.checkpoint import Checkpoint, checkpoint_files
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.training.tensorboard_events import TensorBoardEvents
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.sources.model_files import save_model

if TYPE_CHECKING:
    import keras


class Recorder:
    """Put the results of a training into its run directory; without one, on all workers but the chief, do nothing."""

    def __init__(self, run: RunDirectory | None) -> None:
        self._run = run
        self._board: TensorBoardEvents | None = None

    @property
    def path(self) -> Path | None:
        """Return the run directory."""
        return self._run.path if self._run else None

    @property
    def how_to_resume(self) -> str:
        """Say how to continue."""
        where = self._run.path if self._run else "RUN"
        return f"resume the run{'' if self._run else ' on every worker'} with `resume={where}`"

    @property
    def last_checkpoint(self) -> str:
        """Say which checkpoint there is."""
        if self._run is None:
            return "the chief reports the last good checkpoint"
        files = checkpoint_files(self._run.checkpoints)
        return f"the last good checkpoint is {files[0]}" if files else "no checkpoint was written yet"

    def rewind(self, step: int, *, keep_validation: bool) -> None:
        """Begin after a step: remove the metrics and the events that were written after it."""
        if self._run:
            rewind_metrics(self._run.path, step, keep_validation=keep_validation)
            self._board = TensorBoardEvents(self._run, step + 1 if keep_validation else step)
            for line in Metrics.read(self._run.path).train:
                if line["step"] == step and not keep_validation:  # it was dropped with the validation
                    self._board.scalars("train", line)

    def save(self, checkpoint: Checkpoint, model: keras.Model, info: ModelInfo) -> None:
        """Write a checkpoint and the last model."""
        if self._run:
            checkpoint.write(self._run.checkpoints)
            save_model(self._run.last, model, info)

    def save_best(self, model: keras.Model, info: ModelInfo) -> None:
        """Write the best model."""
        if self._run:
            save_model(self._run.best, model, info)

    def preview(self, step: int, picture: Image) -> None:
        """Write a preview."""
        if self._run:
            write_image(self._run.preview(step), picture)
        if self._board:
            self._board.picture(step, picture)

    def step(self, event: Trained) -> None:
        """Write the figures of a training step."""
        values = {key: value for key, value in asdict(event).items() if key not in ("steps", "logged")}
        self._metrics("train", values)

    def validation(self, event: Validated) -> None:
        """Write the figures of a validation, and draw the curves."""
        self._metrics("validation", asdict(event))
        if self._run:
            with self._pictures_are_optional(self._run):
                draw_curves(self._run.path)

    def report(self) -> None:
        """Write the report of a training that is finished."""
        if self._run:
            with self._pictures_are_optional(self._run):
                self._run.record(status="finished")
                draw_curves(self._run.path)
                write_report(self._run.path)

    @contextmanager
    def _pictures_are_optional(self, run: RunDirectory) -> Iterator[None]:
        """Note in log.txt that a picture or a page cannot be made; whatever the reason, the training continues."""
        try:
            yield
        except Exception as error:
            with contextlib.suppress(DeepLabError):
                run.log(f"no curves or report: {type(error).__name__}: {error}")

    def _metrics(self, kind: str, values: dict[str, Any]) -> None:
        if self._run:
            append_metrics(self._run.path, kind, **values)
        if self._board:
            self._board.scalars(kind, values)
