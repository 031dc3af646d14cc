"""Write what a training leaves: checkpoints, models, metrics, previews; nothing on workers other than the chief."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.data.images import write_picture
from deeplabctl.reporting import Trained, Validated
from deeplabctl.training.checkpoint import Checkpoint
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.weights.fitting import ModelInfo
from deeplabctl.weights.model_file import save_model

if TYPE_CHECKING:
    import keras


class RunRecord:
    """Put the results of a training into its run directory, if this worker has it."""

    def __init__(self, run: RunDirectory | None) -> None:
        self._run = run
        self._board = _TensorBoard(run) if run else None

    @property
    def how_to_resume(self) -> str:
        """Say how to go on."""
        return f"go on with deeplabctl train --resume {self._run.path if self._run else 'RUN (on every worker)'}"

    @property
    def last_good(self) -> str:
        """Say which checkpoint there is."""
        if self._run is None:
            return "the chief says which checkpoint is the last good one"
        files = sorted(self._run.checkpoints.glob("step-*.npz"))
        return f"the last good checkpoint is {files[-1]}" if files else "no checkpoint was written yet"

    def save(self, checkpoint: Checkpoint, model: keras.Model, info: ModelInfo) -> None:
        """Write a checkpoint and the last model."""
        if self._run:
            checkpoint.write(self._run.checkpoints)
            save_model(self._run.last, model, info)

    def best(self, model: keras.Model, info: ModelInfo) -> None:
        """Write the best model."""
        if self._run:
            save_model(self._run.best, model, info)

    def preview(self, step: int, picture: npt.NDArray[np.uint8]) -> None:
        """Write a preview."""
        if self._run and self._board:
            write_picture(self._run.preview(step), picture)
            self._board.picture(step, picture)

    def step(self, event: Trained) -> None:
        """Write the figures of a training step."""
        values = {key: value for key, value in asdict(event).items() if key not in ("steps", "logged")}
        self._metrics("train", values)

    def validation(self, event: Validated) -> None:
        """Write the figures of a validation."""
        self._metrics("validation", asdict(event))

    def rewind(self, step: int, *, settled: bool) -> None:
        """Forget what was written after a step."""
        if self._run:
            self._run.rewind(step, settled=settled)

    def _metrics(self, kind: str, values: dict[str, Any]) -> None:
        if self._run and self._board:
            self._run.metrics(kind=kind, **values)
            self._board.scalars(kind, values)


class _TensorBoard:
    """Write events for TensorBoard, where the package tensorboard is installed (the extra of the same name).

    They are a convenience: where they cannot be written, log.txt says so, and the training goes on without.
    """

    def __init__(self, run: RunDirectory) -> None:
        import importlib.util

        self._run = run
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard"):
            import tensorflow as tf

            with self._give_up_on_errors():
                self._writer = tf.summary.create_file_writer(str(run.path / "tensorboard"))

    def scalars(self, kind: str, values: dict[str, Any]) -> None:
        """Write numbers under their names, at the step among them."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._give_up_on_errors(), self._writer.as_default(step=values["step"]):
            for name, value in values.items():
                if name not in ("step", "seconds_left"):
                    tf.summary.scalar(f"{kind}/{name}", float(value))
            self._writer.flush()

    def picture(self, step: int, picture: npt.NDArray[np.uint8]) -> None:
        """Write a picture (H, W, 3) uint8 RGB."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._give_up_on_errors(), self._writer.as_default(step=step):
            tf.summary.image("preview", picture[None])
            self._writer.flush()

    @contextmanager
    def _give_up_on_errors(self) -> Iterator[None]:
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            self._writer = None
            self._run.log(f"no more TensorBoard events: {error.message}")
