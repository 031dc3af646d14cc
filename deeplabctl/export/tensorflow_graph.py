"""Build the TensorFlow graph of a network from its operations: uint8 pictures of any size in, labels and scores out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplabctl.engine.operations import Addition, Convolution, Operation, Picture, Pooling
from deeplabctl.network.layers import ARCHITECTURES, OUTPUT_STRIDE
from deeplabctl.network.preprocessing import MEAN_BGR
from deeplabctl.network.resizing import resize

if TYPE_CHECKING:
    import tensorflow as tf


def build_function(
    net: Sequence[Operation], architecture: str, scales: Sequence[float], *, flip: bool, half: bool = False
) -> Any:
    """Return a ``tf.function`` of a network's operations.

    It takes ``image`` (N, H, W, 3) uint8 RGB and gives ``label`` (N, H, W) uint8 and ``scores`` (N, H, W, C). The
    weights are constants of the graph; with ``half`` they are float16 and become float32 when they are used.
    """
    import tensorflow as tf

    fuses_coarse = len(ARCHITECTURES[architecture].scales) > 1

    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = tf.shape(image)
        count, size = shape[0], shape[1:3]
        cells = (size + OUTPUT_STRIDE - 2) // OUTPUT_STRIDE
        full = cells * OUTPUT_STRIDE + 1
        pixels = tf.cast(image, tf.float32)[..., ::-1] - tf.constant(MEAN_BGR, tf.float32)
        if flip:
            pixels = tf.concat([pixels, tf.reverse(pixels, [2])], 0)
        inputs = _padded(pixels, full - size, [count * (1 + flip), full[0], full[1], 3])
        constants = _constants(net, half=half)  # which the scales share
        coarse = [
            _network(net, constants, inputs if scale == 1 else resize(inputs, _scaled(cells, scale)))
            for scale in scales
        ]
        if fuses_coarse and len(coarse) > 1:
            coarse = [functools.reduce(tf.maximum, [resize(logits, cells + 1) for logits in coarse])]
        upsampled = [resize(logits, full)[:, : size[0], : size[1]] for logits in coarse]
        logits = functools.reduce(tf.maximum, upsampled)
        if flip:
            logits = (logits[:count] + tf.reverse(logits[count:], [2])) / 2
        label = tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8)
        return {"label": label, "scores": tf.nn.softmax(logits)}

    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")]
    return tf.function(segment, input_signature=signature, autograph=False)


def _padded(pixels: tf.Tensor, missing: tf.Tensor, shape: list[Any]) -> tf.Tensor:
    """Pad images with 0 at the bottom and right.

    The result is given its shape, as TFLite's converter forgets the number of channels here and knows no such
    convolution.
    """
    import tensorflow as tf

    padded = tf.pad(pixels, tf.stack([[0, 0], tf.stack([0, missing[0]]), tf.stack([0, missing[1]]), [0, 0]]))
    return tf.reshape(padded, tf.stack(shape))


def _scaled(cells: tf.Tensor, scale: float) -> tf.Tensor:
    """Return the size at a scale, as `scaled_size` does: the nearest 8k + 1, halves to even numbers."""
    import tensorflow as tf

    rounded = tf.round(tf.cast(cells, tf.float32) * tf.constant(scale, tf.float32))
    return tf.cast(rounded, tf.int32) * OUTPUT_STRIDE + 1


Constants = dict[int, tuple[Any, Any]]  # kernel and bias by the id of their convolution


def _constants(net: Sequence[Operation], *, half: bool) -> Constants:
    import tensorflow as tf

    found = {}
    for operation in net:
        if isinstance(operation, Convolution):
            kernel = tf.constant((operation.kernel * operation.scale).astype(np.float16 if half else np.float32))
            found[id(operation)] = tf.cast(kernel, tf.float32) if half else kernel, tf.constant(operation.bias)
    return found


def _network(net: Sequence[Operation], constants: Constants, images: tf.Tensor) -> tf.Tensor:
    values = {id(net[0]): images}
    for operation in net[1:]:
        before = [values[id(below)] for below in operation.inputs]
        values[id(operation)] = _operation(operation, constants, before)
    return values[id(net[-1])]


def _operation(operation: Operation, constants: Constants, before: list[tf.Tensor]) -> tf.Tensor:
    """Compute one operation. "SAME" is Caffe's padding for the odd sizes that 8k + 1 becomes: equal on both sides."""
    import tensorflow as tf

    assert not isinstance(operation, Picture)
    x = before[0]
    if isinstance(operation, Convolution):
        kernel, bias = constants[id(operation)]
        x = tf.nn.conv2d(x, kernel, operation.stride, "SAME", dilations=operation.dilation, name=operation.name) + bias
    elif isinstance(operation, Pooling) and operation.is_max:
        x = tf.nn.max_pool2d(x, 3, operation.stride, "SAME")
    elif isinstance(operation, Pooling):  # "SAME" would not count the zeros
        x = tf.nn.avg_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, operation.stride, "VALID")
    elif isinstance(operation, Addition):
        x = functools.reduce(tf.add, before)
    else:
        return resize(x, operation.factor * (tf.shape(x)[1:3] - 1) + 1)
    return tf.nn.relu(x) if getattr(operation, "relu", False) else x
