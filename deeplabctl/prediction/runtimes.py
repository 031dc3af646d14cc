"""Run exported networks, each by the runtime of its format, and only TensorFlow for a SavedModel."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.errors import DeepLabError, WeightsError
from deeplabctl.native_output import captured_stderr
from deeplabctl.network import ARCHITECTURES
from deeplabctl.parallel import available_cpus
from deeplabctl.weights.model_info import ExportFacts, ModelInfo, Runtime

_OUT_OF_MEMORY = ("alloc", "out of memory", "oom", "resource_exhausted")  # in the errors of native code
_WEIGHT_BYTES = {"float32": 4, "float16": 4, "int8": 1}  # of a value between two layers


class Output(NamedTuple):
    """Hold the labels (N, H, W) uint8 and the scores (N, H, W, C) float32 of images."""

    label: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]


class ExportRuntime(Protocol):
    """Describe what computes an exported graph."""

    def run(self, images: npt.NDArray[np.uint8]) -> Output:
        """Return labels and scores of images (N, H, W, 3) uint8 RGB."""


class OnnxRuntime:
    """Run an ONNX file by onnxruntime, on CPUs."""

    def __init__(self, path: Path, export: ExportFacts) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise _missing(path, error, "onnx") from None
        options = ort.SessionOptions()
        options.intra_op_num_threads = available_cpus()
        options.log_severity_level = 4  # what is fatal; errors are raised
        # Slower, and where several scales share kernels, onnxruntime cannot do it.
        if export.precision == "int8" and len(export.scales) == 1 and clips_int8():
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, images: npt.NDArray[np.uint8]) -> Output:
        """Return labels and scores."""
        return Output(*self._session.run(["label", "scores"], {"image": images}))


class LiteRuntime:
    """Run a TFLite file by LiteRT, on CPUs; images of another size than the last take a little longer."""

    def __init__(self, path: Path, export: ExportFacts) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise _missing(path, error, "tflite") from None
        with captured_stderr():  # a line about its delegate
            interpreter = Interpreter(str(path), num_threads=available_cpus())
            interpreter.allocate_tensors()
            self._signature = interpreter.get_signature_runner()
        self._lock = threading.Lock()

    def run(self, images: npt.NDArray[np.uint8]) -> Output:
        """Return labels and scores."""
        with self._lock:
            found = self._signature(image=images)
        return Output(found["label"], found["scores"])


class SavedModelRuntime:
    """Run a SavedModel by TensorFlow, on its device."""

    def __init__(self, path: Path, export: ExportFacts) -> None:
        import tensorflow as tf

        self._model = tf.saved_model.load(str(path))
        self._function = self._model.signatures["serving_default"]

    def run(self, images: npt.NDArray[np.uint8]) -> Output:
        """Return labels and scores."""
        import tensorflow as tf

        found = self._function(image=tf.constant(images))
        return Output(found["label"].numpy(), found["scores"].numpy())


class ExportedGraphs:
    """Compute label and scores by an exported graph, with the methods of `Graphs`.

    Its ``inputs`` are images (1, H, W, 3) uint8 RGB as they are; padding, scales and the mirrored image are inside.
    """

    on_device = False  # of which images are put together

    def __init__(self, path: Path, info: ModelInfo) -> None:
        assert info.export is not None
        self._path, self._info, self._export = path, info, info.export
        with _errors(path, self._export):
            self._runtime = _RUNTIMES[self._export.runtime](path, self._export)

    def label(self, inputs: npt.NDArray[np.uint8], sizes: object, size: object) -> Label:
        """Return the label (H, W)."""
        return self.scores(inputs, sizes, size)[0]

    def scores(self, inputs: npt.NDArray[np.uint8], sizes: object, size: object) -> tuple[Label, Scores]:
        """Return the label (H, W) and the scores (H, W, C)."""
        images = np.ascontiguousarray(inputs)
        with _errors(self._path, self._export):
            label, scores = self._runtime.run(images)
        if label.shape != images.shape[:3] or scores.shape != (*label.shape, len(self._info.classes)):
            raise WeightsError(
                f"weights {self._path}: expected scores of {len(self._info.classes)} classes for each pixel, got the "
                f"shape {scores.shape}; export it again"
            )
        return label[0], scores[0]

    def coarse(self, inputs: Image, sizes: object) -> NoReturn:
        """Raise WeightsError: the graph gives scores only."""
        raise WeightsError(
            f"weights {self._path}: expected a network that gives its logits, got an {self._export.words}, which gives "
            "scores only; use the weights that it was made of"
        )

    def fused_scores(self, coarse: Sequence[Scores], full: object, size: object) -> NoReturn:
        """Raise WeightsError, as `coarse` does."""
        self.coarse(np.empty(0, np.uint8), size)

    def least_memory(self, height: int, width: int) -> int:
        """Return bytes that an image of a padded size takes at least: the most that a layer reads and writes."""
        architecture, export = ARCHITECTURES[self._info.architecture], self._export
        values = architecture.most_values(self._info.width) * max(export.scales) ** 2 * (1 + export.flip)
        return int(_WEIGHT_BYTES[export.precision] * values * height * width)


_RUNTIMES: dict[Runtime, Callable[[Path, ExportFacts], ExportRuntime]] = {
    "onnxruntime": OnnxRuntime, "litert": LiteRuntime, "tensorflow": SavedModelRuntime,
}  # fmt: skip


def clips_int8(processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor may clip sums of int8 products, as x86 without VNNI does."""
    try:
        return platform.machine() in ("x86_64", "AMD64") and "vnni" not in processor.read_text()
    except OSError:  # not Linux
        return True


@contextmanager
def _errors(path: Path, export: ExportFacts) -> Iterator[None]:
    """Turn what a runtime raises into MemoryError or WeightsError.

    They raise exceptions of their own, and plain ones. The graph is as it was exported, or was not read at all, so this
    is another version of the runtime, or a machine without enough memory.
    """
    try:
        yield
    except (DeepLabError, MemoryError):
        raise
    except Exception as error:
        text = str(error)
        if any(word in text.lower() for word in _OUT_OF_MEMORY):
            raise MemoryError from None
        raise WeightsError(f"weights {path}: {export.runtime} cannot run it: {text[:500]}; export it again") from error


def _missing(path: Path, error: ImportError, extra: str) -> WeightsError:
    return WeightsError(
        f"weights {path}: expected the package that runs it, which is not installed ({error}); "
        f"install it: pip install 'deeplabctl[{extra}]'"
    )
