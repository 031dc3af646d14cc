"""What is done to each value by itself: the functions that operations apply to their results, and dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import ForwardPass, Node, Operation

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Activation:
    """Keep values between ``least`` and ``most``; ``keras`` is the activation's name in Keras, None for none at all."""

    keras: str | None
    least: float = -math.inf
    most: float = math.inf

    @property
    def is_hard(self) -> bool:
        """Tell whether it is relu6(x + 3) / 6, or x times that."""
        return self in (HARD_SWISH, HARD_SIGMOID)

    def layers(self, name: str, dtype: str) -> list[Any]:
        """Return the stock Keras layer that applies it, named after its operation; none for no activation."""
        from keras import layers

        if self is RELU:
            return [layers.ReLU(dtype=dtype, name=f"{name}_relu")]
        return [layers.Activation(self.keras, dtype=dtype, name=f"{name}_{self.keras}")] if self.keras else []

    def apply(self, x: tf.Tensor, name: str, layers: Mapping[str, Any]) -> tf.Tensor:
        """Apply the layer that `layers` made for an operation."""
        return layers[f"{name}_{self.keras}"](x) if self.keras else x

    def export_tensorflow(self, x: tf.Tensor) -> tf.Tensor:
        """Apply it to a tensor."""
        import tensorflow as tf

        if self.is_hard:
            gate = tf.nn.relu6(x + 3) * (1 / 6)
            return x * gate if self is HARD_SWISH else gate
        return {None: tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}[self.keras](x)

    def export_onnx(self, graph: OnnxGraph, value: str, name: str) -> str:
        """Add its node."""
        if self is RELU6:
            limits = (graph.array(f"float_{limit}", np.array(limit, np.float32)) for limit in (0, 6))
            return graph.add("Clip", value, *limits, name=name)
        kind = {"relu": "Relu", "hard_silu": "HardSwish", "hard_sigmoid": "HardSigmoid"}.get(self.keras or "")
        settings = {"alpha": 1 / 6} if self is HARD_SIGMOID else {}
        return graph.add(kind, value, name=name, **settings) if kind else value


LINEAR = Activation(None)
RELU = Activation("relu", 0.0)
RELU6 = Activation("relu6", 0.0, 6.0)
HARD_SWISH = Activation("hard_silu")  # x * relu6(x + 3) / 6
HARD_SIGMOID = Activation("hard_sigmoid")  # relu6(x + 3) / 6


@dataclass(frozen=True)
class Rectifier(Operation):
    """Describe a ReLU, or another activation, on its own: the values before it are needed as well."""

    activation: Activation = RELU

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        return self.activation.layers(self.name, dtype)

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        return self.activation.apply(inputs[0], self.name, forward.layers)

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.activation.export_tensorflow(inputs[0])

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        return self.activation.export_onnx(graph, inputs[0], name)


@dataclass(frozen=True)
class Dropout(Operation):
    """Describe the dropout of single values, in training only, at the rate that the recipe gives."""

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        return [layers.Dropout(dropout, dtype=dtype, name=self.name)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        return drop_units(inputs[0], self.name, forward)

    def node(self, inputs: tuple[Node, ...], weights: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Return its input's node: prediction drops nothing."""
        return inputs[0]


def drop_units(x: tf.Tensor, layer: str, forward: ForwardPass) -> tf.Tensor:
    """Drop units by each image's seed and the number of the dropout layer.

    The same seed drops the same units in any batch, so gradient accumulation and resuming repeat a run exactly. Dropout
    is inverted, as Caffe's: kept units are divided by the probability of keeping them.
    """
    import tensorflow as tf

    forward.dropouts += 1
    rate, seeds, number = forward.layers[layer].rate, forward.seeds, forward.dropouts
    if seeds is None or rate <= 0:
        return x
    own = [tf.random.experimental.stateless_fold_in(seeds[image], number) for image in range(x.shape[0])]
    uniform = tf.stack([tf.random.stateless_uniform(tf.shape(x)[1:], seed=seed) for seed in own])
    return tf.where(uniform >= rate, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))
