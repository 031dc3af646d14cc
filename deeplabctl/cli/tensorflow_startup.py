"""Import TensorFlow late and quietly, and keep what it writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deeplabctl.errors import DeepLabError
from deeplabctl.reporting import captured_stderr


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
    with captured_stderr() as captured:
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
