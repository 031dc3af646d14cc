"""Operations that join several results: sum, product, concatenation, and the enlargement of a mean of the image."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.activation import LINEAR, Activation
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import CaffeSettings, Field, ForwardPass, Operation, differences
from deeplabctl.network.ops.ordered_sums import add_in_order

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Sum(Operation):
    """Describe the sum of the inputs, of equal sizes and channels, in their order (Caffe's Eltwise)."""

    activation: Activation = LINEAR

    caffe_type: ClassVar[str] = "eltwise"
    caffe_settings: ClassVar[str] = "eltwise_param"

    def size(self, inputs: Sequence[Size]) -> Size:
        return _equal_size(self.name, inputs)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        return [layers.Add(dtype=dtype, name=self.name), *self.activation.layers(self.name, dtype)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        total = forward.layers[self.name]([add_in_order(inputs[:-1]), inputs[-1]])
        return self.activation.apply(total, self.name, forward.layers)

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        import tensorflow as tf

        return self.activation.export_tensorflow(functools.reduce(tf.add, inputs))

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        total = inputs[0]
        for number, other in enumerate(inputs[1:], 1):
            total = graph.add("Add", total, other, name=f"{name}/sum/{number}")
        return self.activation.export_onnx(graph, total, name)

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        operation = settings.values("operation", "SUM")[-1]
        return differences(("operation", "SUM", ["SUM" if operation == 1 else operation]))


@dataclass(frozen=True)
class Product(Operation):
    """Describe the first input times the second (1 x 1): a gate for each channel (arXiv 1709.01507)."""

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        return [layers.Multiply(dtype=dtype, name=self.name)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        return inputs[0] * inputs[1]

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return inputs[0] * inputs[1]

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        return graph.add("Mul", *inputs, name=name)


@dataclass(frozen=True)
class Concatenation(Operation):
    """Describe the channels of the inputs, of one size, one after another, in their order."""

    def channels_of(self, inputs: Sequence[int], num_classes: int, width: float) -> int:
        return sum(inputs)

    def size(self, inputs: Sequence[Size]) -> Size:
        return _equal_size(self.name, inputs)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        return [layers.Concatenate(dtype=dtype, name=self.name)]

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        import tensorflow as tf

        return tf.concat(inputs, -1)

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        return graph.add("Concat", *inputs, name=name, axis=1)


@dataclass(frozen=True)
class Broadcast(Operation):
    """Describe the first input (1 x 1) at every place of the second, which has as many channels."""

    def size(self, inputs: Sequence[Size]) -> Size:
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
        return self.export_tensorflow(inputs, {})

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        import tensorflow as tf

        return tf.broadcast_to(inputs[0], tf.shape(inputs[1]))

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        return graph.add("Expand", inputs[0], graph.add("Shape", inputs[1]), name=name)


def _equal_size(name: str, sizes: Sequence[Size]) -> Size:
    """Return the size that all inputs have; raises ValueError for others."""
    if len(set(sizes)) > 1:
        raise ValueError(f"{name}: expected inputs of one size, got {list(sizes)}")
    return sizes[0]
