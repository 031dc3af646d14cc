"""Let numba's kernels compute the convolutions of a training step on a CPU, inside of TensorFlow's graph."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class WinogradConvolution:
    """Compute 3x3 convolutions of stride 1 in float32, on a number of threads; see `BatchConvolutions`."""

    def __init__(self, threads: int) -> None:
        from deeplabctl.engine.gradients import BatchConvolutions

        self._batches = BatchConvolutions(threads)

    def computes(self, layer: keras.Layer, shape: tf.TensorShape) -> bool:
        """Tell whether these kernels compute a layer of images (N, H, W, I), and are faster than TensorFlow."""
        from deeplabctl.engine.gradients import is_worthwhile

        if layer.kernel_size != (3, 3) or layer.strides != (1, 1) or layer.compute_dtype != "float32" or None in shape:
            return False
        batch, *size, incoming = shape
        return is_worthwhile(batch, (size[0], size[1]), incoming, layer.filters, layer.dilation_rate[0])

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, dilation: int, relu: bool) -> tf.Tensor:
        """Convolve (N, H, W, I) with a kernel (3, 3, I, O), padded to keep the size, and add the bias (O,)."""
        import tensorflow as tf

        batches = self._batches

        def compute(function: Any, shape: Any, *tensors: tf.Tensor) -> tf.Tensor:
            """Return what a function of arrays returns; it has no state, so that what nothing needs is left out."""

            def run(*arrays: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
                found: npt.NDArray[np.float32] = function(*arrays, dilation)
                return found

            return tf.ensure_shape(tf.numpy_function(run, tensors, tf.float32, stateful=False), shape)

        def convolve(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> Any:
            result = compute(partial(batches.convolve, relu=relu), (*x.shape[:3], kernel.shape[3]), x, kernel, bias)

            def gradient(above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                if relu:
                    above = tf.raw_ops.ReluGrad(gradients=above, features=result)
                return (
                    compute(batches.gradient_of_images, x.shape, above, kernel),
                    compute(batches.gradient_of_kernel, kernel.shape, x, above),
                    tf.raw_ops.BiasAddGrad(out_backprop=above),
                )

            return result, gradient

        return tf.custom_gradient(convolve)(x, kernel, tf.zeros(kernel.shape[3]) if bias is None else bias)
