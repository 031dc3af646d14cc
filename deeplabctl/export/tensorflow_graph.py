"""Build the TensorFlow graph of a network: uint8 RGB images of any size in, labels and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplabctl.network import Architecture
from deeplabctl.network.ops import KERNEL, Node, resize
from deeplabctl.prediction.engines.engine import Fusion
from deeplabctl.prediction.engines.tensorflow import fuse_logits

if TYPE_CHECKING:
    import tensorflow as tf

_LARGEST_SIDE = 1 << 15  # of an image, in pixels, at scales other than 1


def build_function(
    nodes: Sequence[Node], architecture: Architecture, scales: Sequence[float], *, flip: bool, half: bool = False
) -> Any:
    """Return a ``tf.function`` of a network's nodes.

    It takes ``image`` (N, H, W, 3) uint8 RGB and gives ``label`` (N, H, W) uint8 and ``scores`` (N, H, W, C). The
    weights are constants of the graph; with ``half`` they are float16 and become float32 when they are used.
    """
    import tensorflow as tf

    stride, step = architecture.output_stride, architecture.padded_step
    how = Fusion.of(architecture, scales, flip=flip)

    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = tf.shape(image)
        count, size = shape[0], shape[1:3]
        steps = (size + step - 2) // step
        full = steps * step + 1
        pixels = architecture.preprocessing.export_tensorflow(image)
        if flip:
            pixels = tf.concat([pixels, tf.reverse(pixels, [2])], 0)
        inputs = _padded(pixels, full - size, [count * (1 + flip), full[0], full[1], 3])
        constants = _constants(nodes, half=half)  # which the scales share
        coarse = [
            _network(nodes, constants, inputs if scale == 1 else resize(inputs, _scaled(steps, scale, architecture)))
            for scale in scales
        ]
        label, scores = fuse_logits(coarse, tf.stack([full, size, (full - 1) // stride + 1]), how, scores=True)
        return {"label": label, "scores": scores}

    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")]
    return tf.function(segment, input_signature=signature, autograph=False)


def _padded(pixels: tf.Tensor, missing: tf.Tensor, shape: list[Any]) -> tf.Tensor:
    """Pad images at the bottom and right.

    The result is given its shape, as TFLite's converter forgets the number of channels here and knows no such
    convolution.
    """
    import tensorflow as tf

    margins = tf.stack([[0, 0], tf.stack([0, missing[0]]), tf.stack([0, missing[1]]), [0, 0]])
    return tf.reshape(tf.pad(pixels, margins), tf.stack(shape))


def _scaled(steps: tf.Tensor, scale: float, architecture: Architecture) -> tf.Tensor:
    """Return the size at a scale, from a table: TFLite cannot compute `Architecture.scaled_size` in float64."""
    import tensorflow as tf

    step = architecture.padded_step
    most = _LARGEST_SIDE // step
    sizes = tf.constant([architecture.scaled_size(number * step + 1, scale) for number in range(most + 1)])
    return tf.gather(sizes, steps)  # unlike an index, it is checked by TFLite, too


Constants = dict[Node, dict[str, Any]]


def _constants(nodes: Sequence[Node], *, half: bool) -> Constants:
    import tensorflow as tf

    def constant(part: str, array: Any) -> tf.Tensor:
        if part == KERNEL and half:
            return tf.cast(tf.constant(array.astype(np.float16)), tf.float32)
        return tf.constant(array)

    return {
        node: {part: constant(part, array) for part, array in node.op.constants(node.arrays).items()} for node in nodes
    }


def _network(nodes: Sequence[Node], constants: Constants, images: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    values = {nodes[0]: images}
    for node in nodes[1:]:
        inputs = [values[below] for below in node.inputs]
        with tf.name_scope(f"{node.name}/"):  # at all scales: with "/" no number is added
            values[node] = node.op.export_tensorflow(inputs, constants[node])
    return values[nodes[-1]]
