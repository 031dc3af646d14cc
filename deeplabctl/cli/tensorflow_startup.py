"""Import TensorFlow late and quietly, and keep what it writes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deeplabctl.errors import DeepLabError


def start_tensorflow() -> None:
    """Import TensorFlow and start its device; raises DeepLabError with what it wrote if it does not start."""
    with tensorflow_startup():
        pass


@contextmanager
def tensorflow_startup(log: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Import TensorFlow, run the block, and start the device, with what is written to stderr meanwhile for ``log``.

    The block is for what must come before TensorFlow does anything else, as several workers' strategy must. No
    environment variable stops all of the lines that TensorFlow writes. Raises DeepLabError with them if it fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _captured_stderr() as captured:
        try:
            import tensorflow as tf

            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)
            yield
            tf.constant(0.0).numpy()  # starts the device, which writes lines too
        except Exception as error:
            raise DeepLabError(f"TensorFlow did not start: {error}; it wrote: {captured()[-2000:]}") from error
        if text := captured().strip():
            log(f"TensorFlow while starting:\n{text}")


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
