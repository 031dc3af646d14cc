"""Compute the loss of a training: a loss is one class, and its entry in `LOSSES` of deeplabctl.choices."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.network.ops import resize
from deeplabctl.recipe import Solver

if TYPE_CHECKING:
    import tensorflow as tf


class Loss(ABC):
    """Compute a loss of logits (N, h, w, C) and labels (N, S, S) of all pixels, integers with 255 void.

    Every ``solver.label_stride``-th pixel of the label is compared. At the stride of the logits pixel ``stride * i``
    lies on their cell i; at a smaller one the logits are upsampled to the compared pixels, as in prediction;
    ``half_pixel`` says how, see `Architecture`. Losses are computed in ``dtype``, by numba's kernels on a number of
    ``threads`` if they can; with 0 by TensorFlow.
    """

    is_of_pixels: ClassVar[bool] = False  # so that the hardest ones alone may count (``solver.hard_pixels``)

    def __init__(
        self,
        solver: Solver,
        class_weights: Sequence[float],
        dtype: tf.DType,
        *,
        half_pixel: bool = False,
        threads: int = 0,
    ) -> None:
        import tensorflow as tf

        self._solver, self._half_pixel, self._threads = solver, half_pixel, threads
        self._class_weights = tf.constant(class_weights, dtype)

    def weights(self, labels: tf.Tensor) -> tf.Tensor:
        """Return how much each compared pixel counts, (N, h, w): the weight of its class, or 0 for void."""
        return self._compared(labels)[1]

    @abstractmethod
    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (loss to differentiate, loss to report), each a sum over the pixels divided by ``total``.

        ``total`` is the sum of `weights` over the whole batch, as this may be worked through in parts, or by several
        replicas, whose losses and gradients are added. A batch without a valid pixel gives 0.
        """

    def _compared(self, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the class ids of the compared pixels, 0 where they are void, and their weights."""
        import tensorflow as tf

        stride = self._solver.label_stride
        labels = labels[:, ::stride, ::stride]
        valid = labels != IGNORE_LABEL
        known = tf.where(valid, tf.cast(labels, tf.int32), 0)
        return known, tf.where(valid, tf.gather(self._class_weights, known), 0)

    def _upsampled(self, logits: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        if known.shape[1:] == logits.shape[1:3]:
            return logits
        return tf.cast(resize(logits, known.shape[1:], half_pixel=self._half_pixel), logits.dtype)


class CrossEntropy(Loss):
    """Compute softmax cross-entropy over valid pixels, as Caffe's SOFTMAX_LOSS with ignore_label.

    With ``hard_pixels`` below 1 only that share of the pixels with a weight above 0 counts, the ones with the largest
    losses, and the sum is divided by that share of the total (the bootstrapped loss of arXiv 1605.06457).
    """

    is_of_pixels = True

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ``sum(w * -log p) / total`` twice; see `Loss`.

        Caffe divides by the valid pixels of the batch, not by image. The loss to report is clamped at
        ``-log(FLT_MIN)`` (87.3) a pixel, as Caffe's, whose gradient never was.
        """
        import tensorflow as tf

        known, weights = self._compared(labels)
        is_plain = type(self) is CrossEntropy and self._solver.hard_pixels == 1  # a sum over all pixels
        if self._threads and is_plain and known.shape[1:] != logits.shape[1:3]:
            loss, reported = self._sums(logits, known, weights)
            return tf.math.divide_no_nan(loss, total), tf.math.divide_no_nan(reported, total)
        losses = self._of_pixels(self._upsampled(logits, known), known)
        if self._solver.hard_pixels < 1:
            weights = tf.where(_hardest(losses, weights > 0, self._solver.hard_pixels), weights, 0)
            total *= self._solver.hard_pixels
        divisor = tf.where(total > 0, total, tf.ones_like(total))
        worst = tf.constant(-np.log(np.finfo(np.float32).tiny), losses.dtype)
        loss = tf.reduce_sum(weights * losses) / divisor
        # tf.minimum keeps NaN, so that a diverged step is seen.
        return loss, tf.reduce_sum(weights * tf.minimum(losses, worst)) / divisor

    def _sums(self, logits: tf.Tensor, known: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ``sum(w * -log p)``, and the same with the losses clamped, by numba's kernels."""
        import tensorflow as tf

        from deeplabctl.engine.cross_entropy import UpsampledCrossEntropy

        compute = UpsampledCrossEntropy(self._threads, half_pixel=self._half_pixel)

        def cross_entropy(logits: tf.Tensor) -> Any:
            formats = [tf.float32, tf.float32]
            sums, gradient = tf.numpy_function(compute, [logits, known, weights], formats, stateful=False)
            gradient = tf.ensure_shape(gradient, logits.shape)
            return tf.ensure_shape(sums, (2,)), lambda above: above[0] * gradient

        loss, reported = tf.unstack(tf.custom_gradient(cross_entropy)(logits))
        return loss, reported

    def _of_pixels(self, logits: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=known, logits=logits)


class Focal(CrossEntropy):
    """Compute the focal loss, ``(1 - p) ** focal_gamma * -log p`` (arXiv 1708.02002, equation 4)."""

    def _of_pixels(self, logits: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        losses = super()._of_pixels(logits, known)
        missing = tf.maximum(-tf.math.expm1(-losses), losses.dtype.as_numpy_dtype(1e-12))  # 0 has no gradient
        return missing ** tf.cast(self._solver.focal_gamma, losses.dtype) * losses


class _RegionLoss(Loss):
    """Compute a loss of each image and class that is labelled in it; pixels without a weight are left out.

    An image's loss is the mean over these classes, with the classes' weights. The loss of a batch is the mean over its
    images, with the sums of their pixels' weights.
    """

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the loss twice; see `Loss`."""
        import tensorflow as tf

        known, weights = self._compared(labels)
        probabilities = tf.nn.softmax(self._upsampled(logits, known))
        pixels = [-1, math.prod(known.shape[1:])]
        counted = tf.cast(tf.reshape(weights, pixels) > 0, probabilities.dtype)[..., None]
        truth = tf.one_hot(tf.reshape(known, pixels), probabilities.shape[-1], dtype=probabilities.dtype) * counted
        probabilities = tf.reshape(probabilities, [*pixels, probabilities.shape[-1]]) * counted
        present = tf.cast(tf.reduce_any(truth > 0, 1), probabilities.dtype) * self._class_weights  # (N, C)
        losses = self._of_classes(probabilities, truth)
        images = tf.math.divide_no_nan(tf.reduce_sum(present * losses, 1), tf.reduce_sum(present, 1))
        loss = tf.math.divide_no_nan(tf.reduce_sum(images * tf.reduce_sum(weights, [1, 2])), total)
        return loss, loss

    @abstractmethod
    def _of_classes(self, probabilities: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """Return the loss of each class, (N, C), of probabilities and 0 or 1, both (N, pixels, C), 0 where void."""


class Dice(_RegionLoss):
    """Compute ``1 - 2 sum(p g) / (sum(p) + sum(g))``, the soft Dice loss (arXiv 1606.04797, without its squares)."""

    def _of_classes(self, probabilities: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        common = tf.reduce_sum(probabilities * truth, 1)
        both = tf.reduce_sum(probabilities, 1) + tf.reduce_sum(truth, 1)
        return 1 - tf.math.divide_no_nan(2 * common, both)


class Lovasz(_RegionLoss):
    """Compute the Lovasz-Softmax loss, of each image (arXiv 1705.08790, equations 8 and 12, and algorithm 1)."""

    def _of_classes(self, probabilities: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        errors = tf.transpose(tf.abs(truth - probabilities), [0, 2, 1])  # (N, C, pixels)
        errors, order = tf.math.top_k(errors, errors.shape[-1])
        truth = tf.gather(tf.transpose(truth, [0, 2, 1]), order, batch_dims=2)
        missed, labelled = tf.cumsum(truth, -1), tf.reduce_sum(truth, -1, keepdims=True)
        union = labelled + tf.cumsum(1 - truth, -1)
        jaccard = 1 - tf.math.divide_no_nan(labelled - missed, union)  # of the first 1, 2, ... pixels taken as wrong
        steps = tf.concat([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], -1)
        return tf.reduce_sum(errors * steps, -1)


class CrossEntropyAndDice(Loss):
    """Add cross-entropy and the Dice loss."""

    is_of_pixels = True
    kinds: ClassVar[tuple[type[Loss], type[Loss]]] = CrossEntropy, Dice

    def __init__(self, *settings: Any, **options: Any) -> None:
        super().__init__(*settings, **options)
        self._losses = [kind(*settings, **options) for kind in self.kinds]

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return both sums; see `Loss`."""
        (first, reported), (second, reported_too) = (loss(logits, labels, total) for loss in self._losses)
        return first + second, reported + reported_too


class CrossEntropyAndLovasz(CrossEntropyAndDice):
    """Add cross-entropy and the Lovasz-Softmax loss."""

    kinds = CrossEntropy, Lovasz


def _hardest(losses: tf.Tensor, counted: tf.Tensor, share: float) -> tf.Tensor:
    """Return which of the counted pixels are in the share with the largest losses; equal losses are all in."""
    import tensorflow as tf

    ranked = tf.where(counted, losses, -1)  # no loss is below 0
    descending = tf.sort(tf.reshape(tf.stop_gradient(ranked), [-1]), direction="DESCENDING")
    count = tf.cast(tf.math.ceil(share * tf.cast(tf.math.count_nonzero(counted), tf.float64)), tf.int32)
    return counted & (ranked >= descending[tf.maximum(count, 1) - 1])
