"""Convolutions with zero padding, dilated (atrous) or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.activation import LINEAR, RELU, Activation, drop_units
from deeplabctl.network.ops.joins import add_in_order, shared
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import (
    BIAS,
    KERNEL,
    CaffeSettings,
    Field,
    ForwardPass,
    Node,
    Operation,
    Shapes,
    differences,
    gaussian,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SCALE = "scale"  # of a node: a factor of each sum, before the bias is added

Widths = Callable[[int, int, float], int]  # (channels of width 1.0, channels of the input, width) -> channels

# Pixels minus the mean have a standard deviation of about 70: the first layer brings them to about 10, and the gain of
# each later layer, below 1, brings that down on the way to the classifier.
PIXELS_SCALE = 1 / 7
_GAIN = 0.8
_DIRAC_SHARE = 0.5  # of a kernel's variance


def scaled(channels: int, incoming: int, width: float) -> int:
    """Return the channels times the width."""
    return max(1, round(channels * width))


def constant(channels: int, incoming: int, width: float) -> int:
    """Return the same channels at any width."""
    return channels


@dataclass(frozen=True)
class Convolution(Operation):
    """Describe a convolution with zero padding ``dilation * (kernel - 1) // 2``, bias and activation.

    With ``same`` and stride 2, that of an even size is 0 before and 1 after (TensorFlow's "SAME"). ``channels`` are
    those of width 1.0, and ``widths`` the rule for others; a classifier has one for each class.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    bias: bool = True
    activation: Activation = RELU
    dropout: bool = False
    classifier: bool = False
    first_std: float = 0.01  # of the gaussian kernel, where it starts new on trained layers; 0: He's rule
    first_scale: float = 1.0  # of the kernel of a network that starts random
    same: bool = False
    widths: Widths = scaled

    kernel_axes: ClassVar[tuple[int, ...]] = 3, 2, 0, 1  # as ONNX orders them: outputs, inputs, height, width
    is_depthwise: ClassVar[bool] = False
    caffe_type: ClassVar[str] = "convolution"
    caffe_settings: ClassVar[str] = "convolution_param"

    @classmethod
    def to_classes(cls, name: str, kernel: int = 1, dilation: int = 1, inputs: tuple[str, ...] = ()) -> Convolution:
        """Return a classifier."""
        return cls(name, 0, kernel=kernel, dilation=dilation, activation=LINEAR, classifier=True, inputs=inputs)

    @property
    def is_classifier(self) -> bool:
        return self.classifier

    @property
    def pad(self) -> int:
        """Return the zeros on each side."""
        return self.dilation * (self.kernel - 1) // 2

    def zeros_before(self, length: int) -> int:
        """Return the zeros above, or on the left of, an image of this height or width."""
        return max(0, self.pad - 1) if self.same and self.stride == 2 and length % 2 == 0 else self.pad

    @property
    def is_padded(self) -> bool:
        """Tell whether the zeros have to be given: "SAME" would have others for even sizes."""
        return self.stride > 1 and self.kernel > 1 and not self.same

    def channels_of(self, inputs: Sequence[int], num_classes: int, width: float) -> int:
        return num_classes if self.classifier else self.widths(self.channels, inputs[0], width)

    def parts(self, incoming: int, outgoing: int) -> Shapes:
        bias = {BIAS: (outgoing,)} if self.bias else {}
        return {KERNEL: (self.kernel, self.kernel, incoming, outgoing), **bias}

    def multipliers(self, part: str) -> tuple[float, float]:
        """Return the multipliers (rate, decay) of the authors' nets, without the recipe's ``head_multiplier``."""
        return (2.0, 0.0) if part == BIAS else (1.0, 1.0)

    def size(self, inputs: Sequence[Size]) -> Size:
        reach = self.dilation * (self.kernel - 1)
        height, width = ((length + 2 * self.pad - reach - 1) // self.stride + 1 for length in inputs[0])
        return height, width

    def field(self, inputs: Sequence[Field]) -> Field:
        return inputs[0].through(self.stride, self.pad)

    def new_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Draw a gaussian kernel as the original prototxt says, or by He's rule; biases are 0."""
        if part != KERNEL:
            return np.zeros(shape, np.float32)
        return gaussian(shape, self.first_std or math.sqrt(2 / math.prod(shape[:3])), seed, number)

    def random_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Draw a gaussian kernel by He's rule (arXiv 1502.01852); biases are 0, classifiers as `new_array` has them.

        A plain network of 16 layers without norms hardly learns from that, so in it half of each kernel's variance is
        given to a kernel that passes its input through (a Dirac kernel, arXiv 1706.00388), and the gaussian part has
        mean 0 for each output channel. A residual network passes its input through anyway.
        """
        if part != KERNEL or self.classifier or self.is_depthwise:
            return self.new_array(part, shape, seed, number)
        height, wide, incoming, outgoing = shape
        kernel = gaussian(shape, math.sqrt(2 / (height * wide * incoming)), seed, number)
        if self.first_scale != 1:
            kernel *= self.first_scale
        elif self.activation != LINEAR:  # no norm follows
            dirac = np.zeros_like(kernel)
            channels = np.arange(outgoing)
            dirac[height // 2, wide // 2, channels % incoming, channels] = 1
            noise = kernel - kernel.mean((0, 1, 2), keepdims=True)
            kernel = _GAIN * (math.sqrt(1 - _DIRAC_SHARE) * noise + math.sqrt(_DIRAC_SHARE) * dirac)
        return kernel.astype(np.float32)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        # Keras' "same" with a stride pads as much as the size asks for, Caffe always the same.
        padded = self.is_padded
        found = [layers.ZeroPadding2D(self.pad, dtype=dtype, name=f"{self.name}_pad")] if padded else []
        layer = self._keras_layer(
            outgoing, strides=self.stride, padding="valid" if padded else "same", dilation_rate=self.dilation,
            activation=self.activation.keras, use_bias=self.bias, dtype=dtype, name=self.name,
        )  # fmt: skip
        after = [layers.Dropout(dropout, dtype=dtype, name=f"{self.name}_dropout")] if self.dropout else []
        return [*found, layer, *after]

    def _keras_layer(self, outgoing: int, **settings: Any) -> keras.Layer:
        from keras import layers

        return layers.Conv2D(outgoing, self.kernel, kernel_initializer="zeros", **settings)

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Convolve, apply the norm that follows, and drop units."""
        x, layers = inputs[0], forward.layers
        if self.stride > 1 and f"{self.name}_pad" in layers:
            x = layers[f"{self.name}_pad"](x)
        x = self._convolve(x, forward)
        return drop_units(x, f"{self.name}_dropout", forward) if self.dropout else x

    def _convolve(self, x: tf.Tensor, forward: ForwardPass) -> tf.Tensor:
        """Return the convolution with its norm and activation; the stride may be another than the layer's.

        A norm goes into the kernel first where its table says so, and in a smaller format than the variables': float16
        would overflow before it.
        """
        import tensorflow as tf

        layer, norm, own = forward.layers[self.name], forward.norms.get(self.name), None
        is_own_stride = layer.strides == (self.stride, self.stride)
        if forward.convolve is not None and is_own_stride and None not in x.shape:
            own = forward.convolve(self, layer, x.shape)
        slow = self.is_slow_in_tensorflow()
        if norm is None and own is None and not slow and is_own_stride:
            return layer(x)
        kernel, bias, scale = tf.convert_to_tensor(layer.kernel), layer.bias, None
        if norm is not None:
            scale, bias = norm.affine(forward.layers[norm.name], bias)
            if norm.in_kernel or layer.compute_dtype != layer.variable_dtype:
                kernel, scale = self.scaled_kernel(kernel, tf.cast(scale, kernel.dtype)), None
        x = tf.cast(x, layer.compute_dtype)
        if own is not None and scale is None:
            return own(x, kernel, bias, self.activation if norm is None else norm.activation)
        if own is not None:
            x = own(x, kernel, None, LINEAR)
        elif slow:
            x = atrous_convolution(x, tf.cast(kernel, x.dtype), layer.dilation_rate[0])
        else:
            padding = layer.padding.upper() if is_own_stride else "SAME"
            x = self.forward_product(x, tf.cast(kernel, x.dtype), padding)
        x = x if scale is None else x * tf.cast(scale, x.dtype)
        x = x if bias is None else x + tf.cast(bias, x.dtype)
        return layer.activation(x) if norm is None else norm.activation.apply(x, norm.name, forward.layers)

    def is_slow_in_tensorflow(self) -> bool:
        """Tell whether `atrous_convolution` is faster: on a CPU for dilation 12 (fc6), not for 2."""
        import tensorflow as tf

        return self.dilation > 2 and not self.is_depthwise and not tf.config.list_physical_devices("GPU")

    def _product(self, x: tf.Tensor, kernel: tf.Tensor, padding: Any) -> tf.Tensor:
        """Convolve without bias."""
        import tensorflow as tf

        return tf.nn.conv2d(x, kernel, self.stride, padding, dilations=self.dilation, name=self.name)

    def forward_product(self, x: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
        """Convolve without bias in a forward pass; a dilated one is rounded otherwise than by `_product`."""
        import tensorflow as tf

        return tf.nn.convolution(x, kernel, self.stride, padding, dilations=self.dilation)

    def scaled_kernel(self, kernel: Any, scale: Any) -> Any:
        """Return a kernel, an array or a tensor, times the factor of each of its outputs."""
        return kernel * scale

    def node(self, inputs: tuple[Node, ...], weights: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Return a node with kernel (side, side, in, out), scale and bias.

        The scale, a norm's, does not go into the kernel, whose values would be rounded once more: ResNet-101's logits
        would differ from Caffe's by up to twice as much.
        """
        kernel = weights[f"{self.name}/{KERNEL}"]
        outgoing = kernel.shape[self.kernel_axes[0]]
        bias = weights[f"{self.name}/{BIAS}"] if self.bias else np.zeros(outgoing, np.float32)
        return Node(self, inputs, outgoing, {KERNEL: kernel, SCALE: np.ones(outgoing, np.float32), BIAS: bias})

    def constants(self, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        return {KERNEL: self.scaled_kernel(arrays[KERNEL], arrays[SCALE]), BIAS: arrays[BIAS]}

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        zeros = [self.pad, self.pad]
        padding: Any = [[0, 0], zeros, zeros, [0, 0]] if self.is_padded else "SAME"
        x = self._product(inputs[0], constants[KERNEL], padding)
        return self.activation.export_tensorflow(x + constants[BIAS])

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add Conv, whose weights the scales share."""
        constants = self.constants(arrays)
        kernel = graph.kernel(f"{self.name}/{KERNEL}", constants[KERNEL].transpose(self.kernel_axes))
        same = self.same and self.stride > 1
        zeros: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if same else {"pads": [self.pad] * 4}
        bias = graph.array(f"{self.name}/{BIAS}", constants[BIAS])
        total = graph.add(
            "Conv", inputs[0], kernel, bias, name=f"{name}/sum", kernel_shape=[self.kernel] * 2,
            strides=[self.stride] * 2, dilations=[self.dilation] * 2, **zeros,
            group=len(constants[BIAS]) if self.is_depthwise else 1,
        )  # fmt: skip
        return self.activation.export_onnx(graph, total, name)

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        """Compare the window, and the channels where they are known and not a template's place for them."""
        count = settings.values("num_output", None)[-1]
        known = outputs is not None and not str(count).startswith("${")
        return differences(
            ("kernel", self.kernel, settings.extents(["kernel_size"], "kernel", None)),
            ("pad", self.pad, settings.extents(["pad"], "pad", 0)),
            ("stride", self.stride, settings.extents(["stride"], "stride", 1)),
            ("dilation", self.dilation, settings.extents(["hole", "dilation"], "hole", 1)),
            ("group", 1, settings.values("group", 1)),
            *([("num_output", outputs, [count])] if known else []),
        )


@dataclass(frozen=True)
class DepthwiseConvolution(Convolution):
    """Describe a depthwise convolution: every channel has a kernel of its own (arXiv 1704.04861, section 3.1).

    The kernel (height, width, channels, 1) does not decay, as in TF-Slim.
    """

    channels: int = 0  # those of the input

    kernel_axes: ClassVar[tuple[int, ...]] = 2, 3, 0, 1
    is_depthwise: ClassVar[bool] = True

    def channels_of(self, inputs: Sequence[int], num_classes: int, width: float) -> int:
        return inputs[0]

    def parts(self, incoming: int, outgoing: int) -> Shapes:
        return {**super().parts(incoming, outgoing), KERNEL: (self.kernel, self.kernel, incoming, 1)}

    def multipliers(self, part: str) -> tuple[float, float]:
        return super().multipliers(part)[0], 0.0

    def new_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        std = math.sqrt(2 / self.kernel**2)
        return gaussian(shape, std, seed, number) if part == KERNEL else np.zeros(shape, np.float32)

    def _keras_layer(self, outgoing: int, **settings: Any) -> keras.Layer:
        from keras import layers

        return layers.DepthwiseConv2D(self.kernel, depthwise_initializer="zeros", **settings)

    def scaled_kernel(self, kernel: Any, scale: Any) -> Any:
        return kernel * scale[:, None]

    def _product(self, x: tf.Tensor, kernel: tf.Tensor, padding: Any) -> tf.Tensor:
        """Convolve without bias."""
        import tensorflow as tf

        strides, dilations = [1, self.stride, self.stride, 1], [self.dilation] * 2
        if padding not in ("SAME", "VALID"):  # TensorFlow 2.21 loses such padding where it fuses the bias, and aborts
            x, padding = tf.pad(x, padding), "VALID"
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=dilations, name=self.name)

    def forward_product(self, x: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
        return self._product(x, kernel, padding)


def atrous_convolution(x: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """Convolve (N, H, W, I) with a kernel (k, k, I, O), stride 1, zero padding that keeps the size, without bias.

    Each of the k * k taps is a matrix product with the part of the image under the tap, shifted into place; no product
    is spent on the padding. TensorFlow's own dilated convolution goes through space-to-batch on a CPU: at fc6's full
    size its forward pass takes twice as long and its gradient eight times (benchmarks/atrous_convolution.py).
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(x)[1:3])
    size, reach = kernel.shape[0], kernel.shape[0] // 2
    copies = iter(shared(x, size * size))
    planes = tf.unstack(tf.reshape(kernel, (-1, *kernel.shape[2:])))  # for the gradient, too: it stacks them again
    taps: list[tf.Tensor] = []
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            down, right = row * dilation, column * dilation
            above, below = tf.minimum(max(-down, 0), height), tf.minimum(max(down, 0), height)
            left, beside = tf.minimum(max(-right, 0), width), tf.minimum(max(right, 0), width)
            # Its gradient is a padding; that of x[...] takes eight times as long.
            extents = -1, height - above - below, width - left - beside, -1
            seen = tf.slice(next(copies), (0, below, beside, 0), extents)
            # A plain matrix product: one with a batch dimension has a slow gradient.
            product = tf.matmul(tf.reshape(seen, (-1, kernel.shape[2])), planes[len(taps)])
            tap = tf.reshape(product, tf.concat([tf.shape(seen)[:3], [kernel.shape[3]]], 0))
            tap = tf.pad(tap, ((0, 0), (above, below), (left, beside), (0, 0)))
            taps.append(tf.ensure_shape(tap, (*x.shape[:3], kernel.shape[-1])))
    return add_in_order(taps)
