"""Bilinear resizing: with aligned corners, as Caffe's INTERP layer and DeepLab v3 do it, or with half pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import CaffeSettings, Field, ForwardPass, Operation, differences

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Resize(Operation):
    """Describe an enlargement from m to ``factor * (m - 1) + 1``, or to the size of a second input.

    These are equal where all sizes on the way are odd. The stock Keras layers compute the first.
    """

    factor: int

    caffe_type: ClassVar[str] = "interp"
    caffe_settings: ClassVar[str] = "interp_param"

    def size(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) > 1:
            return inputs[1]
        height, width = (self.factor * (length - 1) + 1 for length in inputs[0])
        return height, width

    def field(self, inputs: Sequence[Field]) -> Field:
        """Return the field: a value lies between two."""
        field = inputs[0]
        return replace(field, stride=field.stride // self.factor, reach=field.reach + field.stride)

    def build(self, inputs: list[Any], outgoing: int, dropout: float, dtype: str) -> Any:
        """Repeat values and take means of ``factor``: at place p, of (factor - p) copies of one and p of the next."""
        from keras import layers

        repeated = layers.UpSampling2D(self.factor, dtype=dtype, name=f"{self.name}_repeat")(inputs[0])
        return layers.AveragePooling2D(self.factor, strides=1, dtype=dtype, name=self.name)(repeated)

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Enlarge; the result has the input's format."""
        import tensorflow as tf

        return tf.cast(self.export_tensorflow(inputs, {}), inputs[0].dtype)

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        import tensorflow as tf

        if len(inputs) > 1:
            return resize(inputs[0], tf.shape(inputs[1])[1:3])
        return resize(inputs[0], self.factor * (tf.shape(inputs[0])[1:3] - 1) + 1)

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        size = graph.add("Slice", graph.add("Shape", inputs[-1]), graph.ints(2), graph.ints(4))
        if len(inputs) > 1:
            return onnx_resize(graph, inputs[0], size)
        one = graph.ints(1)
        larger = graph.add("Mul", graph.add("Sub", size, one), graph.ints(self.factor))
        return onnx_resize(graph, inputs[0], graph.add("Add", larger, one))

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        return differences(("zoom_factor", self.factor, settings.values("zoom_factor", None)))


def resize(x: tf.Tensor, size: tf.Tensor, *, half_pixel: bool = False) -> tf.Tensor:
    """Resize (N, h, w, C) bilinearly to ``size`` (height, width) with aligned corners, or with half pixels.

    The result is float32, or float64 for float64. TensorFlow's own operation has no float64 results; in float64 the
    weights of the neighbours are float32's all the same, as in Caffe's double program.
    """
    import tensorflow as tf

    if half_pixel:
        return tf.raw_ops.ResizeBilinear(images=x, size=size, half_pixel_centers=True)
    if x.dtype != tf.float64:
        return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)
    return _along(_along(x, 2, size[1]), 1, size[0])


def _along(x: tf.Tensor, axis: int, size: tf.Tensor) -> tf.Tensor:
    """Resize one axis: each value between its two neighbours, in Caffe's order of rounding."""
    import tensorflow as tf

    before = tf.shape(x)[axis]
    last = tf.cast(before - 1, tf.float32)
    step = tf.math.divide_no_nan(last, tf.cast(size - 1, tf.float32))
    position = step * tf.cast(tf.range(size), tf.float32)
    left = tf.cast(position, tf.int32)
    share = tf.cast(position - tf.cast(left, tf.float32), x.dtype)
    share = tf.reshape(share, [-1 if index == axis else 1 for index in range(4)])
    right = tf.minimum(left + 1, before - 1)
    return (1 - share) * tf.gather(x, left, axis=axis) + share * tf.gather(x, right, axis=axis)


def onnx_resize(graph: OnnxGraph, images: str, size: str, *, half_pixel: bool = False) -> str:
    """Add nodes that resize images (N, C, H, W), as `resize` does."""
    outer = graph.add("Slice", graph.add("Shape", images), graph.ints(0), graph.ints(2))
    sizes = graph.add("Concat", outer, size, axis=0)
    how = "half_pixel" if half_pixel else "align_corners"
    attributes = {"mode": "linear", "coordinate_transformation_mode": how}
    return graph.add("Resize", images, "", "", sizes, **attributes)
