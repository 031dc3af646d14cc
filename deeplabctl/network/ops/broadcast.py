"""The enlargement of a mean of the whole image to the size of a feature map: the same value everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import Field, ForwardPass, Operation

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Broadcast(Operation):
    """Describe the first input (1 x 1) at every place of the second, which has as many channels."""

    def size(self, inputs: Sequence[Size]) -> Size:
        """Return the size of the second input."""
        return inputs[1]

    def field(self, inputs: Sequence[Field]) -> Field:
        """Return the field of the second input, and the whole image."""
        return replace(super().field(inputs[::-1]), whole=True)

    def build(self, inputs: list[Any], outgoing: int, dropout: float, dtype: str) -> Any:
        """Add the first input to zeros of the second one's shape: no stock layer broadcasts."""
        from keras import layers

        zeros = layers.Rescaling(0.0, dtype=dtype, name=f"{self.name}_zeros")(inputs[1])
        return layers.Add(dtype=dtype, name=self.name)([zeros, inputs[0]])

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Broadcast."""
        return self.export_tensorflow(inputs, {})

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Broadcast."""
        import tensorflow as tf

        return tf.broadcast_to(inputs[0], tf.shape(inputs[1]))

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add Expand."""
        return graph.add("Expand", inputs[0], graph.add("Shape", inputs[1]), name=name)
