"""Compute a network by ONNX Runtime on CPUs, from a graph that is made of its table, in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplabctl.arrays import Float32
from deeplabctl.interpolation import CORNERS, HALF_PIXELS, enlarge, label_of
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import DepthwiseConvolution, Node
from deeplabctl.network.ops.onnx_graph import OnnxGraph, make_model
from deeplabctl.network.ops.operation import export_nodes
from deeplabctl.network.tensorflow_startup import has_gpu
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction.engines.engine import Engine, Inputs, NetworkSource, Predicted
from deeplabctl.prediction.engines.exported import runtime_errors, start_session
from deeplabctl.prediction.engines.numba import NumbaEngine
from deeplabctl.prediction.settings import PredictionSettings

if TYPE_CHECKING:
    import onnxruntime


class OnnxEngine(NumbaEngine):
    """Compute logits by ONNX Runtime, and labels and scores of them in numpy.

    Only tiles, scales and mirrored images need numba's kernels, whose labels are the same.
    """

    name = "onnxruntime"
    trains = False
    in_threads = True
    least_memory = Engine.least_memory

    def __init__(self, source: NetworkSource, precision: str) -> None:
        super().__init__(source, precision)
        self._session = self._start(available_cpus())

    @classmethod
    def compiles(cls, settings: PredictionSettings) -> bool:
        return settings.scales != (1.0,) or settings.flip or isinstance(settings.tile, int)

    @classmethod
    def is_usual(cls, architecture: str) -> bool:
        """Tell whether it is faster than the others: in networks of depthwise convolutions, without a GPU."""
        is_depthwise = any(isinstance(row, DepthwiseConvolution) for row in ARCHITECTURES[architecture].prediction_rows)
        return is_depthwise and not has_gpu()

    def on_one_cpu(self) -> Engine:
        engine = copy(self)
        engine._session = self._start(1)
        return engine

    def logits(self, pixels: Float32, row: str = "", means: Mapping[str, Float32] | None = None) -> Float32:
        if row or means:
            return super().logits(pixels, row, means)
        with runtime_errors("engine onnxruntime", "use engine=numba"):
            logits: Float32 = self._session.run(["logits"], {"pixels": pixels})[0]
        return logits

    def _start(self, threads: int) -> onnxruntime.InferenceSession:
        with runtime_errors("engine onnxruntime", "use engine=numba"):
            return _session(self._architecture.graph(self._weights), threads)

    def fuse(self, coarse: Sequence[Float32], inputs: Inputs, *, scores: bool) -> Predicted:
        how = inputs.fusion
        if len(how.scales) > 1 or how.flip:
            return super().fuse(coarse, inputs, scores=scores)
        (logits,), rule = coarse[0], HALF_PIXELS if how.half_pixel else CORNERS
        if not scores:
            return label_of(logits, inputs.padded, rule, inputs.size)[None], None
        found = enlarge(logits, inputs.padded, rule, inputs.size)
        label = found.argmax(-1).astype(np.uint8)
        found = np.exp(found - found.max(-1, keepdims=True))
        found /= found.sum(-1, keepdims=True)
        return label[None], found[None]


def _session(nodes: Sequence[Node], threads: int) -> onnxruntime.InferenceSession:
    """Return what computes ``logits`` (N, h, w, C) of ``pixels`` (N, H, W, 3)."""
    from onnx import TensorProto, helper

    graph = OnnxGraph()
    logits = export_nodes(graph, nodes, graph.add("Transpose", "pixels", perm=[0, 3, 1, 2]))
    graph.add("Transpose", logits, perm=[0, 2, 3, 1], name="logits")
    shapes: dict[str, list[Any]] = {"pixels": ["n", "H", "W", 3], "logits": ["n", "h", "w", nodes[-1].channels]}
    pixels, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    model = make_model(graph, "network", [pixels], [logits]).SerializeToString()
    entries = {"session.force_spinning_stop": "1"}  # threads that wait slow others down
    return start_session(model, entries, threads)
