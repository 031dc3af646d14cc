"""Write a training's figures and previews as events for TensorBoard, where the package tensorboard is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeplabctl.arrays import Image
from deeplabctl.errors import DeepLabError
from deeplabctl.training.run_directory import RunDirectory

_FOLDER = "tensorboard"


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

            folder = run.path / _FOLDER
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
