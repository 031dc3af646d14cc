"""Name the number formats that a network can compute in, and tell whether one can be computed in here."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "bfloat16", "float16"]

# Keras' policies: variables stay float32, and so do the loss and the updates of a training.
POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def can_compute(precision: Precision) -> bool:
    """Tell whether TensorFlow's convolutions run in a format.

    They do not for bfloat16 where TensorFlow finds its instructions but oneDNN may not use them, as in some virtual
    machines and with $ONEDNN_MAX_CPU_ISA.
    """
    import tensorflow as tf

    try:
        tf.nn.conv2d(tf.ones((1, 9, 9, 16), precision), tf.ones((3, 3, 16, 16), precision), 1, "SAME").numpy()
    except tf.errors.OpError:
        return False
    return True
