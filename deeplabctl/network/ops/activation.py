"""The functions that an operation applies to its result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tensorflow as tf

    from deeplabctl.network.ops.onnx_graph import OnnxGraph


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
        import numpy as np

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
