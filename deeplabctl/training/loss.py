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
    logits: tf.Tensor, labels: tf.Tensor, class_weights: tf.Tensor, total_weight: tf.Tensor, hard_share: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (loss to differentiate, loss to report) of logits (N, h, w, C) and labels (N, h, w), 255 void.

    Both are ``sum(w * -log p) / total_weight``, where ``total_weight`` is the sum of `pixel_weights` over the whole
    batch, all of its parts and replicas: Caffe divides by the valid pixels of the batch, not by image. A batch without
    a valid pixel gives 0. The reported one is clamped at ``-log(FLT_MIN)`` (87.3) a pixel, as Caffe's, whose gradient
    never was.

    With a ``hard_share`` below 1 only that share of the pixels with a weight above 0 counts, the ones with the largest
    ``-log p``, and the sum is divided by ``hard_share * total_weight`` (the bootstrapped loss of arXiv 1605.06457).
    """
    import tensorflow as tf

    weights = pixel_weights(labels, class_weights)
    known = tf.where(labels != IGNORE_LABEL, tf.cast(labels, tf.int32), 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=known, logits=logits)
    if hard_share < 1:
        weights = tf.where(_hardest(losses, weights > 0, hard_share), weights, 0)
        total_weight *= hard_share
    divisor = tf.where(total_weight > 0, total_weight, tf.ones_like(total_weight))
    worst = tf.constant(-np.log(np.finfo(np.float32).tiny), losses.dtype)
    loss = tf.reduce_sum(weights * losses) / divisor
    # tf.minimum keeps NaN, so that a diverged step is seen.
    return loss, tf.reduce_sum(weights * tf.minimum(losses, worst)) / divisor


def _hardest(losses: tf.Tensor, counts: tf.Tensor, share: float) -> tf.Tensor:
    """Tell which pixels are among the share of those that count with the largest losses; equal losses are all in."""
    import tensorflow as tf

    counted = tf.where(counts, losses, -1)  # no loss is below 0
    descending = tf.sort(tf.reshape(tf.stop_gradient(counted), [-1]), direction="DESCENDING")
    count = tf.cast(tf.math.ceil(share * tf.cast(tf.math.count_nonzero(counts), tf.float64)), tf.int32)
    return counts & (counted >= descending[tf.maximum(count, 1) - 1])
