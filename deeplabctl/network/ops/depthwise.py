"""Depthwise convolutions: every channel has a kernel of its own (arXiv 1704.04861, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.network.ops.convolution import Convolution
from deeplabctl.network.ops.operation import KERNEL, Shapes, gaussian

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from deeplabctl.arrays import Float32


@dataclass(frozen=True)
class DepthwiseConvolution(Convolution):
    """Describe a depthwise convolution; its kernel (height, width, channels, 1) does not decay, as in TF-Slim."""

    channels: int = 0  # those of the input
    decay_multipliers: tuple[float, float] = (0.0, 0.0)

    def channels_of(self, inputs: Sequence[int], num_classes: int, width: float) -> int:
        """Return the channels of the input."""
        return inputs[0]

    def parts(self, incoming: int, outgoing: int) -> Shapes:
        """Return the shapes of the kernel, HWC1, and of the bias."""
        return {**super().parts(incoming, outgoing), KERNEL: (self.kernel, self.kernel, incoming, 1)}

    def new_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Draw a gaussian kernel by He's rule; biases are 0."""
        std = math.sqrt(2 / self.kernel**2)
        return gaussian(shape, std, seed, number) if part == KERNEL else np.zeros(shape, np.float32)

    def random_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Draw the same in a network that starts from nothing."""
        return self.new_array(part, shape, seed, number)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return DepthwiseConv2D with its activation, and ZeroPadding2D before it where it is needed."""
        from keras import layers

        padded = self.is_padded
        found = [layers.ZeroPadding2D(self.pad, dtype=dtype, name=f"{self.name}_pad")] if padded else []
        found.append(
            layers.DepthwiseConv2D(
                self.kernel, strides=self.stride, padding="valid" if padded else "same", dilation_rate=self.dilation,
                activation=self.activation.keras, use_bias=self.bias, depthwise_initializer="zeros", dtype=dtype,
                name=self.name,
            )
        )  # fmt: skip
        return found

    def outputs(self, kernel: Float32) -> int:
        """Return the channels that a kernel gives."""
        return int(kernel.shape[2])

    def groups(self, outgoing: int) -> int:
        """Return a group for each channel."""
        return outgoing

    def scaled_kernel(self, kernel: Any, scale: Any) -> Any:
        """Return a kernel, an array or a tensor, times the factor of each channel."""
        return kernel * scale[:, None]

    def _is_slow(self, layer: keras.Layer) -> bool:
        return False

    def _product(self, x: tf.Tensor, kernel: tf.Tensor, padding: Any) -> tf.Tensor:
        """Convolve without bias."""
        import tensorflow as tf

        strides, dilations = [1, self.stride, self.stride, 1], [self.dilation] * 2
        if padding not in ("SAME", "VALID"):  # TensorFlow 2.21 loses such padding where it fuses the bias, and aborts
            x, padding = tf.pad(x, padding), "VALID"
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=dilations, name=self.name)

    def forward_product(self, x: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
        """Convolve without bias, in a forward pass."""
        return self._product(x, kernel, padding)

    def _onnx_kernel(self, kernel: Float32) -> Float32:
        """Return a kernel as (channels, 1, height, width)."""
        return kernel.transpose(2, 3, 0, 1)
