"""Sums in a fixed order, so that two runs of a training end with the same bytes.

A tensor that is used three times or more has a gradient that TensorFlow sums with one AddN, and sums of sums in a graph
become an AddN as well. Where memory is short, TensorFlow's optimizer of graphs turns an AddN of three or more into a
variable, to which the terms are added as they come: in any order, and with other last bits in each process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def add_in_order(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the sum of tensors of one shape, from left to right."""
    import tensorflow as tf

    total = values[0]
    for value in values[1:]:
        total = tf.ensure_shape(total + value, value.shape)  # keeps TensorFlow from making an AddN of the sums
    return total


def shared(value: tf.Tensor, uses: int) -> Sequence[tf.Tensor]:
    """Return a tensor once for each of its uses, whose gradients are added from the last use to the first."""
    import tensorflow as tf

    def copies(value: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., tf.Tensor]]:
        def gradient(*above: tf.Tensor) -> tf.Tensor:
            return add_in_order([tf.ensure_shape(one, value.shape) for one in reversed(above)])

        return [tf.identity(value) for _ in range(uses)], gradient

    return tf.custom_gradient(copies)(value) if uses > 2 else [value] * uses
