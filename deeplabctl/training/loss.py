"""Compute the training loss: softmax cross-entropy over valid pixels, as Caffe's SOFTMAX_LOSS with ignore_label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deeplabctl.classes import IGNORE_LABEL

if TYPE_CHECKING:
    import tensorflow as tf


def pixel_weights(labels: tf.Tensor, class_weights: tf.Tensor) -> tf.Tensor:
    """Return the weight of each pixel: its class's, and 0 for void. (N, h, w) integers -> (N, h, w) floats."""
    import tensorflow as tf

    valid = labels != IGNORE_LABEL
    known = tf.where(valid, tf.cast(labels, tf.int32), 0)
    return tf.where(valid, tf.gather(class_weights, known), 0)


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, class_weights: tf.Tensor, total_weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (loss to differentiate, loss to report) of logits (N, h, w, C) and labels (N, h, w), 255 void.

    Both are ``sum(w * -log p) / total_weight``, where ``total_weight`` is the sum of `pixel_weights` over the whole
    batch, all of its parts and replicas: Caffe divides by the valid pixels of the batch, not by image. A batch without
    a valid pixel gives 0. The reported one is clamped at ``-log(FLT_MIN)`` (87.3) a pixel, as Caffe's, whose gradient
    never was.
    """
    import tensorflow as tf

    weights = pixel_weights(labels, class_weights)
    known = tf.where(labels != IGNORE_LABEL, tf.cast(labels, tf.int32), 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=known, logits=logits)
    divisor = tf.where(total_weight > 0, total_weight, tf.ones_like(total_weight))
    worst = tf.constant(-np.log(np.finfo(np.float32).tiny), losses.dtype)
    loss = tf.reduce_sum(weights * losses) / divisor
    # tf.minimum keeps NaN, so that a diverged step is seen.
    return loss, tf.reduce_sum(weights * tf.minimum(losses, worst)) / divisor
