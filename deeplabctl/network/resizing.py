"""Resize images and logits as Caffe's INTERP layer does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deeplabctl.network.geometry import scaled_size

if TYPE_CHECKING:
    import tensorflow as tf


def resize(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resize (N, h, w, C) bilinearly to ``size`` (height, width) with aligned corners.

    The result is float32, or float64 for float64. TensorFlow's own operation has no float64 results; in float64 the
    weights of the neighbours are float32's all the same, as in Caffe's double program.
    """
    import tensorflow as tf

    if x.dtype != tf.float64:
        return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)
    return _along(_along(x, 2, size[1]), 1, size[0])


def at_scales(images: tf.Tensor, scales: Sequence[float]) -> Iterator[tf.Tensor]:
    """Yield images (N, S, S, 3) of 8k + 1 pixels, of a size that is known, at the scales of a network."""
    for scale in scales:
        yield images if scale == 1 else resize(images, [scaled_size(side, scale) for side in images.shape[1:3]])


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
