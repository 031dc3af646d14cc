"""Write what a training leaves: checkpoints, models, metrics, previews, curves, TensorBoard events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deeplabctl.arrays import Image
from deeplabctl.data.images import write_image
from deeplabctl.errors import DeepLabError
from deeplabctl.recipe import Recipe
from deeplabctl.reporting import Trained, Validated
from deeplabctl.reports.curves import draw_curves
from deeplabctl.reports.run_records import PREVIEWS, Metrics, append_metrics, rewind_metrics
from deeplabctl.reports.training_run import write_report
from deeplabctl.training.checkpoint import Checkpoint, checkpoint_files
from deeplabctl.training.run_directory import CHECKPOINTS, RunDirectory
from deeplabctl.training.tensorboard_events import TensorBoardEvents
from deeplabctl.weights.locating import BEST, LAST
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.sources.keras_files import save_model

if TYPE_CHECKING:
    import keras


class Recorder:
    """Put the results of a training into its run directory; without one, on all workers but the chief, do nothing."""

    def __init__(self, run: RunDirectory | None) -> None:
        self._run = run
        self.path = run.path if run else None
        self._board: TensorBoardEvents | None = None

    @property
    def how_to_resume(self) -> str:
        """Say how to continue."""
        return f"resume the run{'' if self.path else ' on every worker'} with `resume={self.path or 'RUN'}`"

    @property
    def last_checkpoint(self) -> str:
        """Say which checkpoint there is."""
        if self.path is None:
            return "the chief reports the last good checkpoint"
        files = checkpoint_files(self.path / CHECKPOINTS)
        return f"the last good checkpoint is {files[0]}" if files else "no checkpoint was written yet"

    def rewind(self, step: int, *, keep_validation: bool) -> None:
        """Begin after a step: remove the metrics and the events that were written after it."""
        if self._run:
            rewind_metrics(self._run.path, step, keep_validation=keep_validation)
            self._board = TensorBoardEvents(self._run, step + 1 if keep_validation else step)
            for line in Metrics.read(self._run.path).train:
                if line["step"] == step and not keep_validation:  # it was dropped with the validation
                    self._board.write(step, _scalars("train", line))

    def write_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe of the run."""
        if self._run:
            self._run.write_recipe(recipe)

    def save(self, checkpoint: Checkpoint, model: keras.Model, info: ModelInfo) -> None:
        """Write a checkpoint and the last model."""
        if self.path:
            checkpoint.write(self.path / CHECKPOINTS)
            save_model(self.path / LAST, model, info)

    def save_best(self, model: keras.Model, info: ModelInfo) -> None:
        """Write the best model."""
        if self.path:
            save_model(self.path / BEST, model, info)

    def preview(self, step: int, image: Image) -> None:
        """Write a preview (H, W, 3) uint8 RGB."""
        if self.path:
            write_image(self.path / PREVIEWS / f"step-{step:06d}.png", image)
        if self._board:
            self._board.write(step, {}, image)

    def step(self, event: Trained) -> None:
        """Write the figures of a training step."""
        self._metrics("train", {key: value for key, value in asdict(event).items() if key not in ("steps", "logged")})

    def validation(self, event: Validated) -> None:
        """Write the figures of a validation, and draw the curves."""
        self._metrics("validation", asdict(event))
        if self._run:
            with _optional_pages(self._run):
                draw_curves(self._run.path)

    def report(self) -> None:
        """Write the report of a training that is finished."""
        if self._run:
            with _optional_pages(self._run):
                self._run.record(status="finished")
                draw_curves(self._run.path)
                write_report(self._run.path)

    def _metrics(self, kind: str, values: dict[str, Any]) -> None:
        if self.path:
            append_metrics(self.path, kind, **values)
        if self._board:
            self._board.write(values["step"], _scalars(kind, values))


@contextmanager
def _optional_pages(run: RunDirectory) -> Iterator[None]:
    """Note in log.txt that curves or a page cannot be made; whatever the reason, the training continues."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(DeepLabError):
            run.log(f"no curves or report: {type(error).__name__}: {error}")


def _scalars(kind: str, values: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a line of the metrics that TensorBoard shows."""
    hidden = ("step", "seconds_left")
    shown = {name: value for name, value in values.items() if name not in hidden and isinstance(value, int | float)}
    return {f"{kind}/{name}": float(value) for name, value in shown.items()}
