"""Collect what an ONNX graph is made of: nodes and constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32
from deeplabctl.version import __version__

if TYPE_CHECKING:
    import onnx

_OPSET, _IR_VERSION = 17, 8  # of the year 2022: runtimes of that year and all later ones read them

Value = str  # the name of a tensor


class OnnxGraph:
    """Collect the nodes and the constants of an ONNX graph; values are names of tensors (N, C, H, W).

    A node's result has the node's name. With ``half`` kernels are stored as float16.
    """

    def __init__(self, *, half: bool = False) -> None:
        self._half = half
        self.nodes: list[Any] = []
        self.constants: dict[Value, Any] = {}

    def add(self, kind: str, *inputs: Value, name: str = "", **attributes: Any) -> Value:
        """Add a node with one result; returns its name."""
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def array(self, name: str, values: npt.NDArray[Any]) -> Value:
        """Add a constant, once for each name."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def kernel(self, name: str, values: Float32) -> Value:
        """Add the weights of a kernel, once for each name; with ``half`` as float16, which become float32 when used."""
        stored = self.array(name, values.astype(np.float16 if self._half else np.float32))
        return self.floats(stored) if self._half else stored

    def floats(self, values: Value) -> Value:
        """Add a cast to float32."""
        from onnx import TensorProto

        return self.add("Cast", values, to=TensorProto.FLOAT)

    def ints(self, *values: int) -> Value:
        """Add integers, as sizes and axes are."""
        return self.array(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))


def make_model(
    graph: OnnxGraph, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """Return the model of a graph."""
    from onnx import helper

    made = helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.constants.values()))
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="deeplabctl",
        producer_version=__version__,
    )  # fmt: skip
