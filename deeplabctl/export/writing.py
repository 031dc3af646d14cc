"""Write the graph of a network in each format."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplabctl.arrays import Image
from deeplabctl.errors import OutputError
from deeplabctl.export.onnx_graph import build_onnx, nodes_of
from deeplabctl.export.tensorflow_graph import build_function
from deeplabctl.native_output import captured_stderr
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Node
from deeplabctl.weights.export_facts import ExportFacts

# What TFLite computes in floats also in an int8 file: all around the network, so that scores are not rounded.
_FLOAT_OPERATIONS = ["RESIZE_BILINEAR", "SOFTMAX", "ARG_MAX", "SLICE", "STRIDED_SLICE", "MAXIMUM", "REVERSE_V2"]


@dataclass(frozen=True)
class Graph:
    """Hold what an exported graph is made of; ``calibration`` are images of one size, for int8 only."""

    architecture: str
    net: Sequence[Node]
    facts: ExportFacts
    calibration: Sequence[Image] = ()

    def build(self, builder: Any, *, half: bool) -> Any:
        """Return what a builder makes of it."""
        return builder(self.net, ARCHITECTURES[self.architecture], self.facts.scales, flip=self.facts.flip, half=half)

    @property
    def quantized(self) -> set[str]:
        """Return the layers that an int8 file computes in int8: all but the classifiers and their sum."""
        rows = ARCHITECTURES[self.architecture].prediction_rows
        return {row.name for row in rows} - {*ARCHITECTURES[self.architecture].classifiers, rows[-1].name}


def write_graph(graph: Graph, path: Path) -> None:
    """Write a graph: a file, or for a SavedModel into an empty folder; without facts beside it."""
    {"onnx": _write_onnx, "tflite": _write_tflite, "savedmodel": _write_saved_model}[graph.facts.format](graph, path)


def _write_onnx(graph: Graph, path: Path) -> None:
    model = graph.build(build_onnx, half=graph.facts.precision == "float16")
    if graph.facts.precision != "int8":
        path.write_bytes(model.SerializeToString())
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(graph.calibration)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image[None]}

    with _quiet():
        quantize_static(
            model, path, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
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
                f"cannot write {path}: TensorFlow's converter failed: {error}; it wrote: {written()[-1000:]}"
            ) from error
    path.write_bytes(content)


def _converted(converter: Any, graph: Graph) -> bytes:
    import tensorflow as tf

    if graph.facts.precision == "float32":
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if graph.facts.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())

    def pictures() -> Iterator[dict[str, Any]]:
        yield from ({"image": image[None]} for image in graph.calibration)

    converter.representative_dataset = pictures
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FLOAT_OPERATIONS)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=pictures, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


def _write_saved_model(graph: Graph, path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.function = graph.build(build_function, half=graph.facts.precision == "float16")
    try:
        with _quiet(), captured_stderr():
            tf.saved_model.save(module, str(path), signatures={"serving_default": module.function})
    except tf.errors.OpError as error:  # a full disk
        raise OutputError(f"cannot write {path}: {error.message}; nothing was left half-written") from None


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
