"""The functions that an operation applies to its result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

    from deeplabctl.network.ops.operation import OnnxGraph


@dataclass(frozen=True)
class Activation:
    """Raise values below ``least`` to it; ``keras`` is its name in Keras, None for no activation at all."""

    keras: str | None
    least: float

    def layers(self, name: str, dtype: str) -> list[Any]:
        """Return the stock Keras layer that applies it, named after its operation; none for no activation."""
        from keras import layers

        return [layers.ReLU(dtype=dtype, name=f"{name}_relu")] if self.keras else []

    def export_tensorflow(self, x: tf.Tensor) -> tf.Tensor:
        """Apply it to a tensor."""
        import tensorflow as tf

        return tf.nn.relu(x) if self.keras else x

    def export_onnx(self, graph: OnnxGraph, value: str, name: str) -> str:
        """Add its node."""
        return graph.add("Relu", value, name=name) if self.keras else value


LINEAR = Activation(None, -math.inf)
RELU = Activation("relu", 0.0)
