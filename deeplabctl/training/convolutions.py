"""Compute the convolutions of a training step on a CPU, or their gradients, where TensorFlow is slower.

Convolutions of 3x3 in float32 are computed by Winograd's method, the gradients of depthwise ones in bfloat16 in one
pass over the images: by numba's kernels, inside of TensorFlow's graph. The gradients of 1x1 ones in bfloat16 are
products of matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.engine.layers import limits_of, window_of
from deeplabctl.network.ops import LINEAR, RELU, RELU6, Activation, Convolution, DepthwiseConvolution
from deeplabctl.network.ops.operation import Convolve

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Gradients = tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]  # with respect to images, kernel and bias


def training_convolutions(threads: int) -> Convolve:
    """Return what finds the kind that computes a convolution, on a number of threads."""
    kinds: tuple[_Kind, ...] = _Winograd(threads), _Depthwise(threads), _Pointwise()

    def find(row: Convolution, layer: keras.Layer, shape: tf.TensorShape) -> Callable[..., tf.Tensor] | None:
        return next((partial(kind, row, layer) for kind in kinds if kind.computes(row, layer, shape)), None)

    return find


class _Kind(ABC):
    """Compute one kind of convolution; the variables are float32, and so are their gradients."""

    activations: tuple[Activation, ...] = (LINEAR, RELU, RELU6)  # that it computes, too

    @abstractmethod
    def computes(self, row: Convolution, layer: keras.Layer, shape: tf.TensorShape) -> bool:
        """Tell whether it computes a row of images (N, H, W, I), and is faster than TensorFlow."""

    def __call__(
        self, row: Convolution, layer: keras.Layer, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None,
        activation: Activation,
    ) -> tf.Tensor:  # fmt: skip
        """Convolve (N, H, W, I) with a kernel, add the bias (O,) and apply the activation."""
        import tensorflow as tf

        within = activation if activation in self.activations else LINEAR
        bias = tf.zeros(layer.output.shape[-1], kernel.dtype) if bias is None else tf.cast(bias, kernel.dtype)

        def convolve(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Gradients]]:
            result = self.forward(row, x, kernel, bias, within)
            return result, lambda above: self.gradients(row, x, kernel, result, above, within)

        result = tf.custom_gradient(convolve)(x, kernel, bias)
        return result if within is activation else activation.export_tensorflow(result)

    def forward(
        self, row: Convolution, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, activation: Activation
    ) -> tf.Tensor:
        """Return the convolution with its bias and activation: by TensorFlow, which computes the three as one."""
        import tensorflow as tf

        product = row.forward_product(x, tf.cast(kernel, x.dtype), "SAME")
        return activation.export_tensorflow(product + tf.cast(bias, x.dtype))

    @abstractmethod
    def gradients(
        self, row: Convolution, x: tf.Tensor, kernel: tf.Tensor, result: tf.Tensor, above: tf.Tensor,
        activation: Activation,
    ) -> Gradients:  # fmt: skip
        """Return the gradients, given that with respect to the result."""


class _Winograd(_Kind):
    """Compute convolutions of 3x3 with stride 1 in float32; see `BatchConvolutions`."""

    activations = (LINEAR, RELU)

    def __init__(self, threads: int) -> None:
        from deeplabctl.engine.gradients import BatchConvolutions

        self._batches = BatchConvolutions(threads)

    def computes(self, row: Convolution, layer: keras.Layer, shape: tf.TensorShape) -> bool:
        from deeplabctl.engine.gradients import is_worthwhile

        if type(row) is not Convolution or (row.kernel, row.stride) != (3, 1) or layer.compute_dtype != "float32":
            return False
        batch, *size, incoming = shape
        return is_worthwhile(batch, (size[0], size[1]), incoming, layer.filters, row.dilation)

    def forward(
        self, row: Convolution, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, activation: Activation
    ) -> tf.Tensor:
        convolve = partial(self._batches.convolve, dilation=row.dilation, relu=activation is RELU)
        return _compute(convolve, [x, kernel, bias], (*x.shape[:3], kernel.shape[3]))

    def gradients(
        self, row: Convolution, x: tf.Tensor, kernel: tf.Tensor, result: tf.Tensor, above: tf.Tensor,
        activation: Activation,
    ) -> Gradients:  # fmt: skip
        import tensorflow as tf

        above = _through(activation, above, result)
        of_images = partial(self._batches.gradient_of_images, dilation=row.dilation)
        of_kernel = partial(self._batches.gradient_of_kernel, dilation=row.dilation)
        return (
            _compute(of_images, [above, kernel], x.shape),
            _compute(of_kernel, [x, above], kernel.shape),
            tf.raw_ops.BiasAddGrad(out_backprop=above),
        )


class _Depthwise(_Kind):
    """Compute the gradients of depthwise convolutions of 3x3 in bfloat16; see `DepthwiseGradients`."""

    def __init__(self, threads: int) -> None:
        from deeplabctl.engine.depthwise_gradients import DepthwiseGradients

        self._gradients = DepthwiseGradients(threads)

    def computes(self, row: Convolution, layer: keras.Layer, shape: tf.TensorShape) -> bool:
        from deeplabctl.engine.depthwise_gradients import is_possible

        is_depthwise = isinstance(row, DepthwiseConvolution) and row.kernel == 3 and not row.is_padded
        return is_depthwise and layer.compute_dtype == "bfloat16" and is_possible(shape[3], row.stride, row.dilation)

    def gradients(
        self, row: Convolution, x: tf.Tensor, kernel: tf.Tensor, result: tf.Tensor, above: tf.Tensor,
        activation: Activation,
    ) -> Gradients:  # fmt: skip
        import tensorflow as tf

        window = window_of(row, (x.shape[1], x.shape[2]))
        compute = partial(self._gradients, window=window, limits=limits_of(activation))
        inputs = [x, tf.cast(tf.cast(kernel, x.dtype), kernel.dtype), result, above]
        found = tf.numpy_function(compute, inputs, [x.dtype, kernel.dtype, kernel.dtype], stateful=False)
        shapes = x.shape, kernel.shape, kernel.shape[2:3]
        of_images, of_kernel, of_bias = (tf.ensure_shape(*pair) for pair in zip(found, shapes, strict=True))
        return of_images, of_kernel, of_bias


class _Pointwise(_Kind):
    """Compute the gradients of 1x1 convolutions in bfloat16 as products of matrices, which oneDNN has faster."""

    def computes(self, row: Convolution, layer: keras.Layer, shape: tf.TensorShape) -> bool:
        return row.kernel == row.stride == 1 and layer.compute_dtype == "bfloat16"

    def gradients(
        self, row: Convolution, x: tf.Tensor, kernel: tf.Tensor, result: tf.Tensor, above: tf.Tensor,
        activation: Activation,
    ) -> Gradients:  # fmt: skip
        import tensorflow as tf

        incoming, outgoing = kernel.shape[2:]
        above = tf.reshape(_through(activation, above, result), (-1, outgoing))
        weights = tf.cast(tf.reshape(kernel, (incoming, outgoing)), x.dtype)
        of_kernel = tf.matmul(tf.reshape(x, (-1, incoming)), above, transpose_a=True)
        of_bias = tf.matmul(tf.ones((1, above.shape[0]), x.dtype), above)
        return (
            tf.reshape(tf.matmul(above, weights, transpose_b=True), x.shape),
            tf.cast(tf.reshape(of_kernel, kernel.shape), kernel.dtype),
            tf.cast(tf.reshape(of_bias, (outgoing,)), kernel.dtype),
        )


def _through(activation: Activation, above: tf.Tensor, result: tf.Tensor) -> tf.Tensor:
    """Return the gradient with respect to what an activation is applied to."""
    import tensorflow as tf

    if activation is RELU:
        return tf.raw_ops.ReluGrad(gradients=above, features=result)
    return tf.raw_ops.Relu6Grad(gradients=above, features=result) if activation is RELU6 else above


def _compute(function: Callable[..., npt.NDArray[np.float32]], tensors: list[tf.Tensor], shape: Any) -> tf.Tensor:
    """Return what a function of arrays returns; it has no state, so that what nothing needs is left out."""
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(function, tensors, tf.float32, stateful=False), shape)
