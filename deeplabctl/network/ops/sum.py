"""The sum of results of equal sizes and channels (Caffe's Eltwise)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.activation import LINEAR, Activation
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import CaffeSettings, ForwardPass, Operation, differences, equal_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Sum(Operation):
    """Describe the sum of the inputs, in their order."""

    activation: Activation = LINEAR

    caffe_type: ClassVar[str] = "eltwise"
    caffe_settings: ClassVar[str] = "eltwise_param"

    def size(self, inputs: Sequence[Size]) -> Size:
        """Return the size that all inputs have; raises ValueError for others."""
        return equal_size(self.name, inputs)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return Add, and the activation."""
        from keras import layers

        return [layers.Add(dtype=dtype, name=self.name), *self.activation.layers(self.name, dtype)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Add."""
        return self.activation.apply(forward.layers[self.name](inputs), self.name, forward.layers)

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Add."""
        import tensorflow as tf

        return self.activation.export_tensorflow(functools.reduce(tf.add, inputs))

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add a node for each input after the first."""
        total = inputs[0]
        for number, other in enumerate(inputs[1:], 1):
            total = graph.add("Add", total, other, name=f"{name}/sum/{number}")
        return self.activation.export_onnx(graph, total, name)

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        """Compare the kind of sum."""
        operation = settings.values("operation", "SUM")[-1]
        return differences(("operation", "SUM", ["SUM" if operation == 1 else operation]))
