"""Resize images and logits as Caffe's INTERP layer does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def resize(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resize (N, h, w, C) float32 or float64 bilinearly to ``size`` (height, width) with aligned corners.

    The result is float32, whatever the input is.
    """
    import tensorflow as tf

    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)
