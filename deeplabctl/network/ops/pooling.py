"""The pooling of 3x3 windows with pad 1, sizes rounded up as Caffe does it or down, and that of the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import CaffeSettings, Field, ForwardPass, Operation, differences, shown

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_WINDOW, _PAD = 3, 1
_CAFFE_METHODS: dict[object, str] = {"MAX": "max", "AVE": "average", 0: "max", 1: "average", 2: "stochastic"}


@dataclass(frozen=True)
class Pooling(Operation):
    """Describe a maximum, or an average, which divides by 9 at the borders too."""

    kind: Literal["max", "average"]
    stride: int
    rounds_up: bool = True  # the size

    caffe_type: ClassVar[str] = "pooling"
    caffe_settings: ClassVar[str] = "pooling_param"

    @property
    def _after(self) -> int:
        """Return the zeros at the bottom and right.

        One zero before and two after, then a VALID pool, is Caffe's ceil mode for even and odd sizes: windows 2i-1 to
        2i+1, and zeros never win after a ReLU.
        """
        return 2 if self.stride == 2 and self.rounds_up else 1

    def size(self, inputs: Sequence[Size]) -> Size:
        more = self._after - 1
        height, width = (length if self.stride == 1 else (length - 1 + more) // 2 + 1 for length in inputs[0])
        return height, width

    def field(self, inputs: Sequence[Field]) -> Field:
        return inputs[0].through(self.stride, _PAD)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        if self.kind == "max" and self.stride == 1:
            return [layers.MaxPooling2D(_WINDOW, 1, padding="same", dtype=dtype, name=self.name)]
        pooling = layers.MaxPooling2D if self.kind == "max" else layers.AveragePooling2D
        return [
            layers.ZeroPadding2D(((_PAD, self._after), (_PAD, self._after)), dtype=dtype, name=f"{self.name}_pad"),
            pooling(_WINDOW, self.stride, dtype=dtype, name=self.name),
        ]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        x = inputs[0]
        for name in (f"{self.name}_pad", self.name):
            x = forward.layers[name](x) if name in forward.layers else x
        return x

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Pool; for the average "SAME" would not count the zeros."""
        import tensorflow as tf

        if self.kind == "max" and self.rounds_up:
            return tf.nn.max_pool2d(inputs[0], _WINDOW, self.stride, "SAME")
        padded = tf.pad(inputs[0], [[0, 0], [_PAD, _PAD], [_PAD, _PAD], [0, 0]])  # TFLite pads no maximum like this
        pool = tf.nn.max_pool2d if self.kind == "max" else tf.nn.avg_pool2d
        return pool(padded, _WINDOW, self.stride, "VALID")

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        shape: dict[str, Any] = {
            "kernel_shape": [_WINDOW] * 2, "strides": [self.stride] * 2, "pads": [_PAD, _PAD, self._after, self._after]
        }  # fmt: skip
        if self.kind == "max":
            return graph.add("MaxPool", *inputs, name=name, **shape)
        return graph.add("AveragePool", *inputs, name=name, count_include_pad=1, **shape)

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        method = settings.values("pool", "MAX")[-1]
        if isinstance(method, dict) or _CAFFE_METHODS.get(method) != self.kind:
            return [f"expected {self.kind} pooling, got {shown(method)}"]
        is_global, rounding = settings.values("global_pooling", None)[-1], settings.values("round_mode", None)[-1]
        if is_global in ("true", 1) or rounding in ("FLOOR", 1):
            return ["expected pooling in windows, its size rounded up, got global_pooling or round_mode: FLOOR"]
        return differences(
            ("kernel", _WINDOW, settings.extents(["kernel_size"], "kernel", None)),
            ("pad", _PAD, settings.extents(["pad"], "pad", 0)),
            ("stride", self.stride, settings.extents(["stride"], "stride", 1)),
        )


@dataclass(frozen=True)
class ImageMean(Operation):
    """Describe the mean of each channel, (N, 1, 1, C).

    It is image pooling (arXiv 1706.05587, section 3.3), and the squeeze of arXiv 1709.01507.
    """

    takes_image_mean = True

    def size(self, inputs: Sequence[Size]) -> Size:
        return 1, 1

    def field(self, inputs: Sequence[Field]) -> Field:
        """Return the field of the input, and the whole image."""
        return replace(inputs[0], whole=True)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        return [layers.GlobalAveragePooling2D(keepdims=True, dtype=dtype, name=self.name)]

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        import tensorflow as tf

        return tf.reduce_mean(inputs[0], [1, 2], keepdims=True)

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        return graph.add("GlobalAveragePool", inputs[0], name=name)
