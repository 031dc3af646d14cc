"""Import TensorFlow late and quietly, and keep what it writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deeplabctl.errors import DeepLabError
from deeplabctl.network.keras_model import prepare_gpus
from deeplabctl.reporting import captured_stderr


def start_tensorflow() -> None:
    """Import TensorFlow and start its device; raises DeepLabError with what it wrote if it does not start.

    Images have many sizes: cuDNN chooses its algorithms by rules, and does not try all of them for each size.
    """
    os.environ.setdefault("TF_CUDNN_USE_AUTOTUNE", "0")
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

            prepare_gpus()
            yield
            tf.constant(0.0).numpy()  # starts the device, which writes lines too
        except Exception as error:
            raise DeepLabError(f"TensorFlow did not start: {error}; it wrote: {captured()[-2000:]}") from error
        if text := captured().strip():
            log(f"TensorFlow while starting:\n{text}")
