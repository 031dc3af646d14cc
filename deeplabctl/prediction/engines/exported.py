"""Run exported networks, each by the runtime of its format, and only TensorFlow for a SavedModel."""

from __future__ import annotations

import platform
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from deeplabctl.choices import EXPORTS
from deeplabctl.errors import DeepLabError, WeightsError
from deeplabctl.network.tensorflow_startup import start_tensorflow
from deeplabctl.parallel import FairLock, available_cpus
from deeplabctl.prediction.engines.engine import Engine, Inputs, NetworkSource, Predicted
from deeplabctl.reporting import captured_stderr
from deeplabctl.weights.model_info import ExportFacts, ModelInfo

if TYPE_CHECKING:
    import onnxruntime

_OUT_OF_MEMORY = ("alloc", "out of memory", "oom", "resource_exhausted")  # in the errors of native code
# Of SavedModels. None of them reads or writes a file, calls Python, or remembers anything.
_SAVED_OPERATIONS = frozenset([
    "AddN", "AddV2", "ArgMax", "AvgPool", "BatchToSpaceND", "BroadcastTo", "Cast", "ConcatV2", "Const", "Conv2D",
    "DepthwiseConv2dNative", "FloorDiv", "FloorMod", "GatherV2", "Identity", "MaxPool", "Maximum", "Mean", "Mul",
    "Pack", "Pad", "PartitionedCall", "Placeholder", "RealDiv", "Relu", "Relu6", "Reshape", "ResizeBilinear",
    "ReverseV2", "Round", "Shape", "Softmax", "SpaceToBatchND", "StatefulPartitionedCall", "StridedSlice", "Sub",
    "Unpack",
])  # fmt: skip
_Images = npt.NDArray[np.uint8]  # (N, H, W, 3) RGB
_functions = attrgetter("library.function")  # of a GraphDef: a list that grows with what is appended


class ExportedEngine(Engine):
    """Compute labels and scores by an exported graph: padding, scales and the mirrored image are inside."""

    precisions: ClassVar = {"float32": 4, "float16": 4, "int8": 1}  # only weights are float16
    gives_logits = False

    def __init__(self, source: NetworkSource, precision: str) -> None:
        super().__init__(source, precision)
        assert source.info.export is not None
        self._path, self._info, self._export = source.exported_file, source.info, source.info.export
        with self._errors():
            self._load(self._path, self._export)

    @classmethod
    def computes(cls, info: ModelInfo) -> bool:
        return info.export is not None and info.export.runtime == cls.name

    @abstractmethod
    def _load(self, path: Path, export: ExportFacts) -> None:
        """Load the file; raises WeightsError where the runtime is not installed, and what the runtime raises."""

    @abstractmethod
    def _run(self, images: _Images) -> tuple[Any, Any]:
        """Return labels (N, H, W) and scores (N, H, W, C) of images."""

    def predict(self, inputs: Inputs, *, scores: bool) -> Predicted:
        images = np.stack(inputs.images)
        with self._errors():
            labels, found = self._run(images)
        classes = len(self._info.classes)
        if labels.shape != images.shape[:3] or found.shape != (*labels.shape, classes):
            raise self._odd(f"scores of {classes} classes for each pixel, got the shape {found.shape}")
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
            "scores only; use the weights that it was made from"
        )

    resize = fuse = logits

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

    name = EXPORTS["onnx"].runtime

    def _load(self, path: Path, export: ExportFacts) -> None:
        with _installed("onnxruntime", path):
            import onnxruntime  # noqa: F401

        # Slower, and where several scales share kernels, onnxruntime cannot do it.
        is_exact = export.precision == "int8" and len(export.scales) == 1 and clips_int8()
        self._session = start_session(path, {"session.x64quantprecision": "1"} if is_exact else {}, available_cpus())

    def _run(self, images: _Images) -> tuple[Any, Any]:
        labels, scores = self._session.run(["label", "scores"], {"image": images})
        return labels, scores


def start_session(model: Path | bytes, entries: Mapping[str, str], threads: int) -> onnxruntime.InferenceSession:
    """Return what runs an ONNX model on some CPUs, with entries of a session's configuration."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is fatal; errors are raised
    for entry in entries.items():
        options.add_session_config_entry(*entry)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class LiteRuntime(ExportedEngine):
    """Run a TFLite file by LiteRT, on CPUs; images of another size than the last take a little longer."""

    name = EXPORTS["tflite"].runtime

    def _load(self, path: Path, export: ExportFacts) -> None:
        with _installed("ai-edge-litert", path):  # by this name: the extra of deeplabctl would bring TensorFlow, too
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

    name = EXPORTS["savedmodel"].runtime
    loads_tensorflow = True
    uses_gpu = True

    def _load(self, path: Path, export: ExportFacts) -> None:
        self._function = _load_signature(path)

    def _run(self, images: _Images) -> tuple[Any, Any]:
        import tensorflow as tf

        found = self._function(tf.constant(images))
        return found["label"].numpy(), found["scores"].numpy()


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
def _installed(package: str, path: Path) -> Iterator[None]:
    """Turn the error of an import of a runtime into one that names its package."""
    try:
        yield
    except ImportError as error:
        raise WeightsError(
            f"weights {path}: expected the package that runs it, which is not installed ({error}); "
            f"install it: pip install {package}"
        ) from None


def clips_int8(processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor may clip sums of int8 products, as x86 without VNNI does."""
    try:
        return platform.machine() in ("x86_64", "AMD64") and "vnni" not in processor.read_text()
    except OSError:  # not Linux
        return True


def _load_signature(path: Path) -> Callable[..., dict[str, Any]]:
    """Return the function of a SavedModel's serving signature: what it computes, and nothing else of it.

    Such a folder is a program, which may also write files. The function is built of the operations on the way to its
    outputs. TensorFlow's own loader would also run what the file wants to be run when it is loaded. Raises WeightsError
    for an operation that no export has.
    """
    start_tensorflow()
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]
    signature = content.signature_def["serving_default"]
    outputs = {name: signature.outputs[name].name for name in ("label", "scores")}
    graph = _part(content.graph_def, outputs.values())
    found = {node.op for part in (graph.node, *(one.node_def for one in _functions(graph))) for node in part}
    if others := found - _SAVED_OPERATIONS:
        raise WeightsError(
            f"weights {path}: expected the operations of an export only, got "
            f"{', '.join(sorted(others))[:200]}: another program wrote or changed it; export it again"
        )
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    tensor = wrapped.graph.as_graph_element
    image = tensor(signature.inputs["image"].name)
    function: Callable[..., dict[str, Any]] = wrapped.prune(image, {name: tensor(at) for name, at in outputs.items()})
    return function


def _part(graph: Any, outputs: Iterable[str]) -> Any:
    """Return the nodes of a GraphDef that the outputs need, with the functions that these call, under new names.

    A process knows each name of a function once, and the functions of two files may have the same names.
    """
    nodes, functions = {node.name: node for node in graph.node}, {f.signature.name: f for f in _functions(graph)}
    part, waiting = type(graph)(versions=graph.versions), [output.partition(":")[0] for output in outputs]
    own, called = uuid.uuid4().hex, list[str]()

    def take(node: Any) -> None:
        for value in node.attr.values():
            for one in (*([value.func] if value.HasField("func") else []), *value.list.func):
                called.append(one.name)
                one.name += own

    while waiting:
        if (node := nodes.pop(waiting.pop(), None)) is not None:
            take(node)
            part.node.append(node)
            waiting += [name.removeprefix("^").partition(":")[0] for name in node.input]
    while called:
        if (function := functions.pop(called.pop(), None)) is not None:
            for node in function.node_def:
                take(node)
            function.signature.name += own
            _functions(part).append(function)
    return part
