"""Dropout, which is a function of each image's seed: the same in any batch, and after a training was resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deeplabctl.network.ops.operation import ForwardPass, Node, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras
    import numpy.typing as npt
    import tensorflow as tf


@dataclass(frozen=True)
class Dropout(Operation):
    """Describe the dropout of single values, in training only, at the rate that the recipe gives."""

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return Dropout."""
        from keras import layers

        return [layers.Dropout(dropout, dtype=dtype, name=self.name)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Drop units, in training."""
        return drop_units(inputs[0], self.name, forward)

    def node(self, inputs: tuple[Node, ...], weights: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Return its input's node: prediction drops nothing."""
        return inputs[0]


def drop_units(x: tf.Tensor, layer: str, forward: ForwardPass) -> tf.Tensor:
    """Drop units by each image's seed and the number of the dropout layer.

    The same seed drops the same units in any batch, so gradient accumulation and resuming repeat a run exactly. Dropout
    is inverted, as Caffe's: kept units are divided by the probability of keeping them.
    """
    import tensorflow as tf

    forward.dropouts += 1
    rate, seeds, number = forward.layers[layer].rate, forward.seeds, forward.dropouts
    if seeds is None or rate <= 0:
        return x
    own = [tf.random.experimental.stateless_fold_in(seeds[image], number) for image in range(x.shape[0])]
    uniform = tf.stack([tf.random.stateless_uniform(tf.shape(x)[1:], seed=seed) for seed in own])
    return tf.where(uniform >= rate, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))
