"""The product of a feature map and a gate for each of its channels (the excitation of arXiv 1709.01507)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplabctl.arrays import Float32
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import ForwardPass, Operation

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Product(Operation):
    """Describe the first input times the second (1 x 1), which has as many channels."""

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return Multiply."""
        from keras import layers

        return [layers.Multiply(dtype=dtype, name=self.name)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Multiply."""
        return inputs[0] * inputs[1]

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Multiply."""
        return inputs[0] * inputs[1]

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add Mul."""
        return graph.add("Mul", *inputs, name=name)
