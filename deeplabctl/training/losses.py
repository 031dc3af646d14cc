"""Compute the loss of a training: a loss is one class here, its entry in `LOSSES`, and its name in `Solver.loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.network.ops import resize
from deeplabctl.recipe import Solver

if TYPE_CHECKING:
    import tensorflow as tf


class Loss(Protocol):
    """Say what a loss is: it is made of the solver's settings, the weight of each class and the dtype to compute in.

    It takes logits (N, h, w, C) and labels (N, S, S) of all pixels, integers with 255 void, and itself chooses the
    pixels that it compares; ``solver.label_stride`` is the distance between them. ``half_pixel`` says how logits are
    upsampled; see `Architecture`.
    """

    def __init__(
        self, solver: Solver, class_weights: Sequence[float], dtype: tf.DType, *, half_pixel: bool = False
    ) -> None: ...

    def weights(self, labels: tf.Tensor) -> tf.Tensor:
        """Return how much each compared pixel counts, (N, h, w): the weight of its class, or 0 for void."""

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (loss to differentiate, loss to report), each a sum over the pixels divided by ``total``.

        ``total`` is the sum of `weights` over the whole batch, as this may be worked through in parts, or by several
        replicas, whose losses and gradients are added. A batch without a valid pixel gives 0.
        """


class CrossEntropy:
    """Compute softmax cross-entropy over valid pixels, as Caffe's SOFTMAX_LOSS with ignore_label.

    Every ``label_stride``-th pixel of the label is compared. At the stride of the logits pixel ``stride * i`` lies on
    their cell i; at a smaller one the logits are upsampled to the compared pixels, as in prediction.

    With ``hard_pixels`` below 1 only that share of the pixels with a weight above 0 counts, the ones with the largest
    ``-log p``, and the sum is divided by that share of the total (the bootstrapped loss of arXiv 1605.06457).
    """

    def __init__(
        self, solver: Solver, class_weights: Sequence[float], dtype: tf.DType, *, half_pixel: bool = False
    ) -> None:
        import tensorflow as tf

        self._half_pixel = half_pixel
        self._stride, self._hard_share = solver.label_stride, solver.hard_pixels
        self._class_weights = tf.constant(class_weights, dtype)

    def weights(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the weights of the compared pixels; see `Loss`."""
        return self._weights(self._compared(labels))

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ``sum(w * -log p) / total`` twice; see `Loss`.

        Caffe divides by the valid pixels of the batch, not by image. The loss to report is clamped at
        ``-log(FLT_MIN)`` (87.3) a pixel, as Caffe's, whose gradient never was.
        """
        import tensorflow as tf

        labels = self._compared(labels)
        if labels.shape[1:] != logits.shape[1:3]:
            logits = tf.cast(resize(logits, labels.shape[1:], half_pixel=self._half_pixel), logits.dtype)
        weights = self._weights(labels)
        known = tf.where(labels != IGNORE_LABEL, tf.cast(labels, tf.int32), 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=known, logits=logits)
        if self._hard_share < 1:
            weights = tf.where(_hardest(losses, weights > 0, self._hard_share), weights, 0)
            total *= self._hard_share
        divisor = tf.where(total > 0, total, tf.ones_like(total))
        worst = tf.constant(-np.log(np.finfo(np.float32).tiny), losses.dtype)
        loss = tf.reduce_sum(weights * losses) / divisor
        # tf.minimum keeps NaN, so that a diverged step is seen.
        return loss, tf.reduce_sum(weights * tf.minimum(losses, worst)) / divisor

    def _compared(self, labels: tf.Tensor) -> tf.Tensor:
        return labels[:, :: self._stride, :: self._stride]

    def _weights(self, labels: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        valid = labels != IGNORE_LABEL
        known = tf.where(valid, tf.cast(labels, tf.int32), 0)
        return tf.where(valid, tf.gather(self._class_weights, known), 0)


LOSSES: dict[str, type[Loss]] = {"cross-entropy": CrossEntropy}


def _hardest(losses: tf.Tensor, counted: tf.Tensor, share: float) -> tf.Tensor:
    """Return which of the counted pixels are in the share with the largest losses; equal losses are all in."""
    import tensorflow as tf

    ranked = tf.where(counted, losses, -1)  # no loss is below 0
    descending = tf.sort(tf.reshape(tf.stop_gradient(ranked), [-1]), direction="DESCENDING")
    count = tf.cast(tf.math.ceil(share * tf.cast(tf.math.count_nonzero(counted), tf.float64)), tf.int32)
    return counted & (ranked >= descending[tf.maximum(count, 1) - 1])
