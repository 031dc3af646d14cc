"""Import TensorFlow late and quietly, and keep what it writes."""

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
    """Import TensorFlow, with its stderr passed to ``log``, and return the devices to work on.

    No environment variable stops all of the lines that it writes. Raises DeepLabError with them if it does not start.
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
            tf.constant(0.0).numpy()  # starts the device, which writes lines too
        except Exception as error:
            raise DeepLabError(f"TensorFlow did not start: {error}; it wrote: {captured()[-2000:]}") from error
        if text := captured().strip():
            log(f"TensorFlow while starting:\n{text}")
    return cluster


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect file descriptor 2, which native code also writes to, into a file; yields a function that reads it."""
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
