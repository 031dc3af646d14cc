"""The mean of the whole image: image pooling (arXiv 1706.05587, section 3.3), and the squeeze of arXiv 1709.01507."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import Field, ForwardPass, Operation

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class ImageMean(Operation):
    """Describe the mean of each channel: (N, 1, 1, C)."""

    takes_image_mean = True

    def size(self, inputs: Sequence[Size]) -> Size:
        """Return 1 x 1."""
        return 1, 1

    def field(self, inputs: Sequence[Field]) -> Field:
        """Return the field of the input, and the whole image."""
        return replace(inputs[0], whole=True)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return GlobalAveragePooling2D."""
        from keras import layers

        return [layers.GlobalAveragePooling2D(keepdims=True, dtype=dtype, name=self.name)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Take the mean."""
        return forward.layers[self.name](inputs[0])

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Take the mean."""
        import tensorflow as tf

        return tf.reduce_mean(inputs[0], [1, 2], keepdims=True)

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add GlobalAveragePool."""
        return graph.add("GlobalAveragePool", inputs[0], name=name)
