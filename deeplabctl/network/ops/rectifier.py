"""An activation on its own, where the values before it are needed as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplabctl.arrays import Float32
from deeplabctl.network.ops.activation import RELU, Activation
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import ForwardPass, Operation

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Rectifier(Operation):
    """Describe a ReLU, or another activation."""

    activation: Activation = RELU

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return the activation's layer."""
        return self.activation.layers(self.name, dtype)

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Apply the activation."""
        return self.activation.apply(inputs[0], self.name, forward.layers)

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Apply the activation."""
        return self.activation.export_tensorflow(inputs[0])

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add the activation's node."""
        return self.activation.export_onnx(graph, inputs[0], name)
