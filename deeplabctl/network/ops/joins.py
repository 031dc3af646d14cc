"""Operations that join several results: sum, product, concatenation, and the enlargement of a mean of the image.

Sums have a fixed order, so that two runs of a training end with the same bytes. A tensor that is used three times or
more has a gradient that TensorFlow sums with one AddN, and sums of sums in a graph become an AddN as well. Where memory
is short, TensorFlow's optimizer of graphs turns an AddN of three or more into a variable, to which the terms are added
as they come: in any order, and with other last bits in each process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.activation import LINEAR, Activation
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import CaffeSettings, Field, ForwardPass, Operation, differences

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def add_in_order(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the sum of tensors of one shape, from left to right."""
    import tensorflow as tf

    total = values[0]
    for value in values[1:]:
        total = tf.ensure_shape(total + value, value.shape)  # keeps TensorFlow from making an AddN of the sums
    return total


def shared(value: tf.Tensor, uses: int) -> Sequence[tf.Tensor]:
    """Return a tensor once for each of its uses, whose gradients are added from the last use to the first."""
    import tensorflow as tf

    def copies(value: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., tf.Tensor]]:
        def gradient(*above: tf.Tensor) -> tf.Tensor:
            return add_in_order([tf.ensure_shape(one, value.shape) for one in reversed(above)])

        return [tf.identity(value) for _ in range(uses)], gradient

    return tf.custom_gradient(copies)(value) if uses > 2 else [value] * uses


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
        given = ["SUM" if operation == 1 else operation]
        return differences(("operation", "SUM", given), ("coeff", 1, settings.values("coeff", 1)))


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
