"""Compute atrous (dilated) convolutions fast on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def is_slow_in_tensorflow(layer: keras.Layer) -> bool:
    """Tell whether `atrous_convolution` is faster than the layer: on a CPU for dilation 12 (fc6), not for 2."""
    import tensorflow as tf

    dilated = getattr(layer, "dilation_rate", (1, 1))[0] > 2
    return dilated and not tf.config.list_physical_devices("GPU")


def atrous_convolution(x: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """Convolve (N, H, W, I) with a kernel (k, k, I, O), stride 1, zero padding that keeps the size, without bias.

    Each of the k * k taps is a matrix product with the part of the image under the tap, shifted into place; no product
    is spent on the padding. TensorFlow's own dilated convolution goes through space-to-batch on a CPU: at fc6's full
    size its forward pass takes twice as long and its gradient eight times (benchmarks/atrous_convolution.py).
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(x)[1:3])
    reach = kernel.shape[0] // 2
    planes = tf.unstack(tf.reshape(kernel, (-1, *kernel.shape[2:])))  # for the gradient, too: it stacks them again
    taps: list[tf.Tensor] = []
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            down, right = row * dilation, column * dilation
            above, below = tf.minimum(max(-down, 0), height), tf.minimum(max(down, 0), height)
            left, beside = tf.minimum(max(-right, 0), width), tf.minimum(max(right, 0), width)
            # Its gradient is a padding; that of x[...] takes eight times as long.
            seen = tf.slice(x, (0, below, beside, 0), (-1, height - above - below, width - left - beside, -1))
            # A plain matrix product: one with a batch dimension has a slow gradient.
            product = tf.matmul(tf.reshape(seen, (-1, kernel.shape[2])), planes[len(taps)])
            tap = tf.reshape(product, tf.concat([tf.shape(seen)[:3], [kernel.shape[3]]], 0))
            taps.append(tf.pad(tap, ((0, 0), (above, below), (left, beside), (0, 0))))
    return tf.ensure_shape(tf.add_n(taps), (*x.shape[:3], kernel.shape[-1]))
