"""Run exported networks, each by the runtime of its format, and only TensorFlow for a SavedModel."""

from __future__ import annotations

import platform
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import DeepLabError, WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.parallel import FairLock, available_cpus
from deeplabctl.prediction.engines.engine import Engine, Inputs, NetworkSource, Predicted
from deeplabctl.prediction.engines.saved_models import load_signature
from deeplabctl.reporting import captured_stderr
from deeplabctl.weights.model_info import ExportFacts, ExportPrecision, ModelInfo

_OUT_OF_MEMORY = ("alloc", "out of memory", "oom", "resource_exhausted")  # in the errors of native code
_WEIGHT_BYTES = {"float32": 4, "float16": 4, "int8": 1}  # of a value between two layers
_Images = npt.NDArray[np.uint8]  # (N, H, W, 3) RGB


class ExportedEngine(Engine):
    """Compute labels and scores by an exported graph: padding, scales and the mirrored image are inside."""

    precisions = get_args(ExportPrecision)
    gives_logits = False

    def __init__(self, source: NetworkSource, precision: str) -> None:
        assert source.info.export is not None
        self._path, self._info, self._export = source.exported_file, source.info, source.info.export
        with self._errors():
            self._load(self._path, self._export)

    @classmethod
    def computes(cls, info: ModelInfo) -> bool:
        """Tell whether this is the runtime of an export."""
        return info.export is not None and info.export.runtime == cls.name

    @abstractmethod
    def _load(self, path: Path, export: ExportFacts) -> None:
        """Load the file; raises WeightsError where the runtime is not installed, and what the runtime raises."""

    @abstractmethod
    def _run(self, images: _Images) -> tuple[Any, Any]:
        """Return labels (N, H, W) and scores (N, H, W, C) of images."""

    def predict(self, inputs: Inputs, *, scores: bool) -> Predicted:
        """Return the label and the scores of an image."""
        images = np.stack(inputs.images)
        with self._errors():
            labels, found = self._run(images)
        classes = len(self._info.classes)
        if labels.shape != images.shape[:3] or found.shape != (*labels.shape, classes):
            raise self._odd(f"scores of {classes} classes for each pixel, got the shape {found.shape}")
        if labels.dtype != np.uint8 or found.dtype != np.float32:
            raise self._odd(f"labels of uint8 and scores of float32, got {labels.dtype} and {found.dtype}")
        if (largest := int(labels.max())) >= classes:
            raise self._odd(f"labels of {classes} classes, got {largest}")
        if not np.isfinite(found.sum()):
            raise self._odd("finite scores, got some that are not")
        return labels, found

    def _odd(self, what: str) -> WeightsError:
        """Return the error to raise for what no export computes."""
        return WeightsError(f"weights {self._path}: expected {what}; export it again")

    def logits(self, *arguments: object, **options: object) -> NoReturn:
        """Raise WeightsError: the graph gives scores only."""
        raise WeightsError(
            f"weights {self._path}: expected a network that gives its logits, got an {self._export.words}, which gives "
            "scores only; use the weights that it was made of"
        )

    resize = fuse = logits

    def least_memory(self, count: int, height: int, width: int) -> int:
        """Return bytes that arrays take at least."""
        values = ARCHITECTURES[self._info.architecture].most_values(self._info.width) * count * height * width
        return int(_WEIGHT_BYTES[self._export.precision] * values)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what a runtime raises into MemoryError or WeightsError.

        The graph is as it was exported, or was not read at all, so this is another version of the runtime, or a machine
        without enough memory.
        """
        with runtime_errors(f"weights {self._path}: {self.name}", "export it again"):
            yield


class OnnxRuntime(ExportedEngine):
    """Run an ONNX file by onnxruntime, on CPUs."""

    name = "onnxruntime"

    def _load(self, path: Path, export: ExportFacts) -> None:
        with _installed_by("onnx", path):
            import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = available_cpus()
        options.log_severity_level = 4  # what is fatal; errors are raised
        # Slower, and where several scales share kernels, onnxruntime cannot do it.
        if export.precision == "int8" and len(export.scales) == 1 and clips_int8():
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _run(self, images: _Images) -> tuple[Any, Any]:
        labels, scores = self._session.run(["label", "scores"], {"image": images})
        return labels, scores


class LiteRuntime(ExportedEngine):
    """Run a TFLite file by LiteRT, on CPUs; images of another size than the last take a little longer."""

    name = "litert"

    def _load(self, path: Path, export: ExportFacts) -> None:
        with _installed_by("tflite", path):
            from ai_edge_litert.interpreter import Interpreter

        with captured_stderr():  # a line about its delegate
            interpreter = Interpreter(str(path), num_threads=available_cpus())
            interpreter.allocate_tensors()
            self._signature = interpreter.get_signature_runner()
        self._lock = FairLock()

    def _run(self, images: _Images) -> tuple[Any, Any]:
        with self._lock:
            found = self._signature(image=images)
        return found["label"], found["scores"]


class SavedModelRuntime(ExportedEngine):
    """Run a SavedModel by TensorFlow, on its device."""

    name = "tensorflow"
    loads_tensorflow = True
    uses_gpu = True

    def _load(self, path: Path, export: ExportFacts) -> None:
        self._function = load_signature(path)

    def _run(self, images: _Images) -> tuple[Any, Any]:
        import tensorflow as tf

        found = self._function(tf.constant(images))
        return found["label"].numpy(), found["scores"].numpy()


EXPORTED: tuple[type[ExportedEngine], ...] = (OnnxRuntime, LiteRuntime, SavedModelRuntime)


@contextmanager
def runtime_errors(what: str, advice: str) -> Iterator[None]:
    """Turn what runtimes raise, exceptions of their own and plain ones, into MemoryError or WeightsError."""
    try:
        yield
    except (DeepLabError, MemoryError):
        raise
    except Exception as error:
        text = str(error)
        if any(word in text.lower() for word in _OUT_OF_MEMORY):
            raise MemoryError from None
        raise WeightsError(f"{what} cannot run it: {text[:500]}; {advice}") from error


@contextmanager
def _installed_by(extra: str, path: Path) -> Iterator[None]:
    """Turn the error of an import of a runtime into one that names this package's extra."""
    try:
        yield
    except ImportError as error:
        raise WeightsError(
            f"weights {path}: expected the package that runs it, which is not installed ({error}); "
            f"install it: pip install 'deeplabctl[{extra}]'"
        ) from None


def clips_int8(processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor may clip sums of int8 products, as x86 without VNNI does."""
    try:
        return platform.machine() in ("x86_64", "AMD64") and "vnni" not in processor.read_text()
    except OSError:  # not Linux
        return True
