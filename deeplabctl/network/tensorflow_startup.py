"""Import TensorFlow late and quietly, keep what it writes, and tell whether it may use a GPU."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeplabctl.errors import DeepLabError
from deeplabctl.reporting import captured_stderr

_GPUS = ("nvidia[0-9]*", "kfd", "dxg")  # devices in /dev: NVIDIA's, AMD's, and WSL's


def start_tensorflow() -> None:
    """Import TensorFlow and start its device; raises DeepLabError with what it wrote if it does not start.

    Where TensorFlow is loaded already, only its GPUs are prepared.
    """
    if "tensorflow" in sys.modules:
        prepare_gpus()
        return
    with tensorflow_startup():
        pass


@contextmanager
def tensorflow_startup(log: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Import TensorFlow, run the block, and start the device, with what is written to stderr meanwhile for ``log``.

    The block is for what must come before TensorFlow does anything else, as several workers' strategy must. No
    environment variable stops all of the lines that TensorFlow writes. Raises DeepLabError with them if it fails.
    """
    with captured_stderr() as captured:
        try:
            import tensorflow as tf

            prepare_gpus()
            yield
            tf.constant(0.0).numpy()  # starts the device, which writes lines too
        except DeepLabError:
            raise
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            raise DeepLabError(
                "TensorFlow is not installed, and this needs it: pip install tensorflow (infer, eval, serve and export "
                "to ONNX do without it, with `engine=numba` or an ONNX file)"
            ) from None
        except Exception as error:
            raise DeepLabError(f"TensorFlow did not start: {error}; it wrote: {captured()[-2000:]}") from error
        if text := captured().strip():
            log(f"TensorFlow while starting:\n{text}")


def prepare_gpus() -> None:
    """Let TensorFlow take memory of GPUs as it needs it, and compute float32 in float32 there, not in TF32's 10 bits.

    Nothing is done without a GPU. The memory is as it was where TensorFlow has started its devices before.
    """
    import tensorflow as tf

    if gpus := tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_tensor_float_32_execution(False)
        with suppress(RuntimeError):
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)


@functools.cache
def has_gpu() -> bool:
    """Tell whether TensorFlow is installed and finds a GPU. It is loaded to be asked only where there may be one."""
    if not may_have_gpu():
        return False
    with captured_stderr(), suppress(ImportError):
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    return False


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Tell whether there is a device that TensorFlow may use: AMD's APUs have one too, and WSL without a GPU."""
    return any(next(devices.glob(pattern), None) for pattern in _GPUS)
