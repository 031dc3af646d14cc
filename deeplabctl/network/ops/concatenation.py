"""The concatenation of the channels of results of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import ForwardPass, Node, Operation, equal_size

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf


@dataclass(frozen=True)
class Concatenation(Operation):
    """Describe the channels of the inputs one after another, in their order."""

    def channels_of(self, inputs: Sequence[int], num_classes: int, width: float) -> int:
        """Return the channels of all inputs."""
        return sum(inputs)

    def size(self, inputs: Sequence[Size]) -> Size:
        """Return the size that all inputs have; raises ValueError for others."""
        return equal_size(self.name, inputs)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return Concatenate."""
        from keras import layers

        return [layers.Concatenate(dtype=dtype, name=self.name)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Concatenate."""
        return forward.layers[self.name](inputs)

    def node(self, inputs: tuple[Node, ...], weights: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Return its node, with the channels of all inputs."""
        return Node(self, inputs, sum(below.channels for below in inputs))

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Concatenate."""
        import tensorflow as tf

        return tf.concat(inputs, -1)

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add Concat."""
        return graph.add("Concat", *inputs, name=name, axis=1)
