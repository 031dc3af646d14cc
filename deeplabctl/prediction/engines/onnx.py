"""Compute a network by ONNX Runtime on CPUs, from a graph that is made of its table, in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from deeplabctl.arrays import Float32
from deeplabctl.errors import RecipeError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import DepthwiseConvolution, Node
from deeplabctl.network.ops.onnx_graph import OnnxGraph, make_model
from deeplabctl.network.ops.operation import export_nodes
from deeplabctl.prediction.engines.engine import Engine, NetworkSource
from deeplabctl.prediction.engines.exported import runtime_errors, start_session
from deeplabctl.prediction.engines.numba import NumbaEngine

if TYPE_CHECKING:
    import onnxruntime

_PACKAGES = "onnx", "onnxruntime"


class OnnxEngine(NumbaEngine):
    """Compute logits by ONNX Runtime; labels and scores are made of them by numba's kernels, and tiles altogether."""

    name = "onnxruntime"
    trains = False
    starts_slowly = True  # its packages take half a second to load
    least_memory = Engine.least_memory

    def __init__(self, source: NetworkSource, precision: str) -> None:
        super().__init__(source, precision)
        with runtime_errors("engine onnxruntime", "use engine=numba"):
            self._session = _session(self._architecture.graph(source.weights()))

    @classmethod
    def is_usual(cls, architecture: str) -> bool:
        """Tell whether it is installed, and faster than numba's kernels: in networks of depthwise convolutions."""
        is_depthwise = any(isinstance(row, DepthwiseConvolution) for row in ARCHITECTURES[architecture].prediction_rows)
        return is_depthwise and all(map(find_spec, _PACKAGES)) and super().is_usual(architecture)

    def logits(self, pixels: Float32, row: str = "", means: Mapping[str, Float32] | None = None) -> Float32:
        if row or means:
            return super().logits(pixels, row, means)
        with runtime_errors("engine onnxruntime", "use engine=numba"):
            logits: Float32 = self._session.run(["logits"], {"pixels": pixels})[0]
        return logits


def _session(nodes: Sequence[Node]) -> onnxruntime.InferenceSession:
    """Return what computes ``logits`` (N, h, w, C) of ``pixels`` (N, H, W, 3)."""
    try:
        import onnxruntime  # noqa: F401
        from onnx import TensorProto, helper
    except ImportError as error:
        raise RecipeError(
            f"`engine`: onnxruntime needs packages that are not installed ({error}); pip install 'deeplabctl[onnx]', "
            "or use engine=numba"
        ) from None
    graph = OnnxGraph()
    logits = export_nodes(graph, nodes, graph.add("Transpose", "pixels", perm=[0, 3, 1, 2]))
    graph.add("Transpose", logits, perm=[0, 2, 3, 1], name="logits")
    shapes: dict[str, list[Any]] = {"pixels": ["n", "H", "W", 3], "logits": ["n", "h", "w", nodes[-1].channels]}
    pixels, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    model = make_model(graph, "network", [pixels], [logits]).SerializeToString()
    return start_session(model, {"session.force_spinning_stop": "1"})  # its threads slow the label's kernels down
