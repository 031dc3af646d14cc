"""The formats of exports: how the graph of a network is written in each."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deeplabctl.arrays import Image
from deeplabctl.choices import ExportPrecision
from deeplabctl.errors import OutputError
from deeplabctl.export.onnx_graph import build_onnx, nodes_of
from deeplabctl.export.tensorflow_graph import build_function
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Node
from deeplabctl.network.ops.operation import fold
from deeplabctl.reporting import captured_stderr
from deeplabctl.weights.model_info import ExportFacts


@dataclass(frozen=True)
class Graph:
    """Hold what an exported graph is made of; ``calibration`` are images of one size, for int8 only."""

    architecture: str
    nodes: Sequence[Node]
    facts: ExportFacts
    calibration: Sequence[Image] = ()

    @property
    def half(self) -> bool:
        """Tell whether it is computed with weights in float16."""
        return self.facts.precision == "float16"

    def build(self, builder: Any, *, half: bool) -> Any:
        """Return what a builder makes of it."""
        return builder(self.nodes, ARCHITECTURES[self.architecture], self.facts.scales, flip=self.facts.flip, half=half)

    @property
    def quantized(self) -> set[str]:
        """Return the layers that an int8 file computes in int8: all but the classifiers and what is made of them."""
        rows = ARCHITECTURES[self.architecture].prediction_rows
        in_float = fold(rows, False, lambda row, inputs: row.is_classifier or any(inputs))
        return {name for name, is_float in in_float.items() if not is_float}


def _write_onnx(graph: Graph, path: Path) -> None:
    model = graph.build(build_onnx, half=graph.half)
    if not graph.calibration:
        path.write_bytes(model.SerializeToString())
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(graph.calibration)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image[None]}

    with _quiet():
        quantize_static(
            model, path, Images(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, nodes_to_quantize=nodes_of(model, graph.quantized),
        )  # fmt: skip


def _write_tflite(graph: Graph, path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.function = graph.build(build_function, half=False)
    with _quiet(), captured_stderr() as written:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.function.get_concrete_function()], module)
        try:
            content = _converted(converter, graph)
        except Exception as error:
            raise OutputError(
                f"cannot write the TFLite file: TensorFlow's converter failed: {str(error)[:500]}; it wrote: "
                f"{written()[-1000:]}"
            ) from error
    path.write_bytes(content)


def _converted(converter: Any, graph: Graph) -> bytes:
    import tensorflow as tf

    if graph.half or graph.calibration:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if graph.half:
        converter.target_spec.supported_types = [tf.float16]
    if not graph.calibration:
        return bytes(converter.convert())

    def images() -> Iterator[dict[str, Any]]:
        yield from ({"image": image[None]} for image in graph.calibration)

    converter.representative_dataset = images
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=images)
    tensors = tf.lite.Interpreter(model_content=debugger.calibrated_model).get_tensor_details()
    names = [tensor["name"] for tensor in tensors]
    debugger.options.denylisted_nodes = [name for name in names if name.partition("/")[0] not in graph.quantized]
    return bytes(debugger.get_nondebug_quantized_model())


def _write_saved_model(graph: Graph, path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.function = graph.build(build_function, half=graph.half)
    try:
        with _quiet(), captured_stderr():
            tf.saved_model.save(module, str(path), signatures={"serving_default": module.function})
    except tf.errors.OpError as error:  # a full disk
        raise OSError(error.message) from None  # of which `whole_folder` makes a message


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the advice of converters, which is for their callers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Writer:
    """Write exports of one format.

    ``write`` takes a graph and a path: of a file, or of an empty folder; the facts beside the graph come later.
    """

    packages: tuple[str, ...]  # that write or run it, besides TensorFlow
    precisions: tuple[ExportPrecision, ...]
    is_folder: bool
    loads_tensorflow: bool
    write: Callable[[Graph, Path], None]
    install: str = ""  # what pip installs instead of the packages

    def check_packages(self, words: str) -> None:
        """Raise OutputError, which names the packages that are missing; ``words`` are those of the format."""
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise OutputError(
                f"cannot write the {words}: it needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed; pip install {self.install or ' '.join(missing)}"
            )


SAVED_MODEL = Writer((), ("float32", "float16"), True, True, _write_saved_model)
ONNX = Writer(("onnx", "onnxruntime"), ("float32", "float16", "int8"), False, False, _write_onnx)
TFLITE = Writer(
    ("ai_edge_litert",), ("float32", "float16", "int8"), False, True, _write_tflite,
    "'deeplabctl[tflite]'",
)  # fmt: skip
