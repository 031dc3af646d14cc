"""Write what a training leaves: checkpoints, models, metrics, previews, curves, TensorBoard events."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.arrays import Image
from deeplabctl.errors import DeepLabError
from deeplabctl.recipe import Recipe
from deeplabctl.render import write_image
from deeplabctl.reporting import Trained, Validated
from deeplabctl.reports.curves import draw_curves
from deeplabctl.reports.run_records import Metrics, append_metrics, rewind_metrics
from deeplabctl.reports.training_run import write_report
from deeplabctl.run_layout import BEST, CHECKPOINTS, LAST, PREVIEWS, TENSORBOARD
from deeplabctl.training.checkpoint import Checkpoint, checkpoint_files
from deeplabctl.training.run_directory import RunDirectory
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

    def log(self, text: str) -> None:
        """Write a line into the log alone."""
        if self._run:
            self._run.log(text)

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
                self._run.end("finished")
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


class TensorBoardEvents:
    """Write events into a run directory.

    They are a convenience: where they cannot be written, log.txt says so, and the training continues without.
    """

    def __init__(self, run: RunDirectory, first_step: int) -> None:
        """Begin at a step: of a resumed run, TensorBoard drops what it has of this step and later ones."""
        self._run = run
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard"):
            import tensorflow as tf

            folder = run.path / TENSORBOARD
            with self._give_up_on_errors():
                if any(folder.glob("*tfevents*")):
                    _write_start(folder, first_step)
                self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, step: int, scalars: Mapping[str, float], preview: Image | None = None) -> None:
        """Write numbers and a preview (H, W, 3) uint8 RGB of a step."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._give_up_on_errors(), self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
            if preview is not None:
                tf.summary.image("preview", preview[None])
            self._writer.flush()

    @contextmanager
    def _give_up_on_errors(self) -> Iterator[None]:
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            self._writer = None
            with contextlib.suppress(DeepLabError):
                self._run.log(f"no more TensorBoard events: {error.message}")


def _write_start(folder: Path, step: int) -> None:
    """Write the event at which TensorBoard drops the events of a step and of later ones.

    It is in a file of its own, as TensorFlow 2's writers cannot write it. TensorBoard reads the files in the order of
    their names, and TensorFlow's names begin with the same time and are longer. It drops nothing at the first start
    that it reads, so there are two.
    """
    import tensorflow as tf

    if any(path.name >= _name(time.time()) for path in folder.glob("*tfevents*")):  # of this second
        time.sleep(1)
    now, events = time.time(), tf.compat.v1
    with tf.io.TFRecordWriter(str(folder / _name(now))) as file:
        file.write(events.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        start = events.SessionLog(status=events.SessionLog.START)
        for _ in range(2):
            file.write(events.Event(wall_time=now, step=step, session_log=start).SerializeToString())


def _name(now: float) -> str:
    return f"events.out.tfevents.{int(now):010d}"
