"""Compute one training step: forward, loss, backward and update, as one TensorFlow graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from deeplabctl.losses import cross_entropy, pixel_weights
from deeplabctl.model import apply_model
from deeplabctl.recipe import Recipe
from deeplabctl.schedule import learning_rate
from deeplabctl.solver import Optimizer, trained_parameters

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class TrainingStep:
    """Train a model on a batch.

    A batch of ``batch_size * accumulate`` images is worked through in ``accumulate`` parts, one after another, whose
    gradients are those of the whole batch: the loss is divided by the valid pixels of all parts together.
    """

    def __init__(
        self, model: keras.Model, recipe: Recipe, class_weights: Sequence[float], new_layers: Collection[str] = ()
    ) -> None:
        import tensorflow as tf

        self._model = model
        self._recipe = recipe
        self._dtype = tf.as_dtype(model.output.dtype)
        self._class_weights = tf.constant(class_weights, self._dtype)
        self._optimizer = Optimizer(trained_parameters(model, recipe, new_layers), recipe)
        self._graph = tf.function(self._update)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, step: int) -> float:
        """Update the model and return the loss that it had.

        ``images`` (N, S, S, 3) BGR minus the mean, ``labels`` (N, h, h) integers with 255 void, ``positions`` (N,)
        int64 of the images in the stream of samples, on which their dropout hangs; ``step`` counts from 0.
        """
        import tensorflow as tf

        rate = tf.constant(learning_rate(self._recipe.solver, step), self._dtype)
        return float(self._graph(images, labels, positions, rate, tf.constant(step, tf.int64)))

    def _update(
        self, images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, rate: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        import tensorflow as tf

        total = tf.reduce_sum(pixel_weights(labels, self._class_weights))
        seeds = tf.stack([tf.fill(tf.shape(positions), self._recipe.run.seed), tf.cast(positions, tf.int32)], axis=1)
        parts = self._recipe.solver.accumulate
        size = images.shape[0] // parts
        loss, gradients = self._gradients(images[:size], labels[:size], seeds[:size], total)
        for part in tf.range(1, parts) if parts > 1 else ():
            window = slice(part * size, (part + 1) * size)
            inputs = tf.ensure_shape(images[window], (size, *images.shape[1:]))
            part_loss, part_gradients = self._gradients(inputs, labels[window], seeds[window], total)
            loss += part_loss
            gradients = [whole + added for whole, added in zip(gradients, part_gradients, strict=True)]
        self._optimizer.apply(gradients, rate, step)
        return loss

    def _gradients(
        self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, total: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        import tensorflow as tf

        variables = [parameter.variable for parameter in self._optimizer.parameters]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = apply_model(self._model, images, seeds)
            loss, reported = cross_entropy(logits, labels, self._class_weights, total)
        return reported, tape.gradient(loss, variables)
