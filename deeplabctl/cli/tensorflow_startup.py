"""Start TensorFlow: late, quietly, and with what it wrote kept for whoever needs it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deeplabctl.errors import DeepLabError

if TYPE_CHECKING:
    from deeplabctl.training.cluster import Cluster


def start_tensorflow(log: Callable[[str], None] = lambda text: None, strategy: str = "single") -> Cluster:
    """Import TensorFlow with its stderr captured for ``log``, and return the devices to work on.

    No environment variable stops all of its lines. They are shown if the import or the look at the devices fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _captured_stderr() as captured:
        try:
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
            from deeplabctl.training.cluster import Cluster

            cluster = Cluster.of_kind(strategy)  # before TensorFlow does anything else, as several workers must
            tf.constant(0.0).numpy()  # brings the device up, with the lines that this costs
        except Exception as error:
            raise DeepLabError(f"TensorFlow does not start: {error}; it wrote: {captured()[-2000:]}") from error
        if text := captured().strip():
            log(f"TensorFlow while starting:\n{text}")
    return cluster


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Turn file descriptor 2 into a temporary file, for native code too; yields a function that reads it."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:

        def read() -> str:
            sys.stderr.flush()
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        os.dup2(file.fileno(), 2)
        try:
            yield read
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
