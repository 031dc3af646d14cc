"""Build the network as a Keras model from the layer table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeplabctl.network.atrous import atrous_convolution, is_slow_in_tensorflow
from deeplabctl.network.layers import ARCHITECTURES, Conv, Layer, Weights, weight_shapes

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def build_model(
    architecture: str, num_classes: int, *, width: float = 1.0, dropout: float = 0.5, dtype: str = "float32"
) -> keras.Model:
    """Build a flat functional Keras model of stock layers.

    It maps (N, H, W, 3) float32 images, BGR minus the mean, to logits (N, h, w, classes) at stride 8, for any H and W,
    with ``h = floor(n / 2) + 1`` thrice. The variables are [HWIO kernel, bias] of each convolution of the layer table,
    all zero: `assign_weights` gives them values. ``dtype`` may be a Keras policy: with "mixed_bfloat16" the variables
    are float32 and all results, also the logits, are bfloat16.
    """
    import keras

    shapes = weight_shapes(architecture, num_classes, width)
    x = images = keras.Input((None, None, 3), name="image", dtype=keras.DTypePolicy(dtype).variable_dtype)
    for spec in ARCHITECTURES[architecture]:
        for layer in _keras_layers(spec, shapes, dropout, dtype):
            x = layer(x)
    return keras.Model(images, x, name=architecture)


def _keras_layers(
    spec: Layer, shapes: dict[str, tuple[int, int, int, int]], dropout: float, dtype: str
) -> list[keras.Layer]:
    """Return the stock layers that compute one row of the table."""
    from keras import layers

    if isinstance(spec, Conv):
        convolution = layers.Conv2D(
            shapes[spec.name][-1],
            spec.kernel,
            padding="same",
            dilation_rate=spec.dilation,
            activation=None if spec.classifier else "relu",
            kernel_initializer="zeros",
            dtype=dtype,
            name=spec.name,
        )
        if not spec.dropout:
            return [convolution]
        return [convolution, layers.Dropout(dropout, dtype=dtype, name=f"{spec.name}_dropout")]
    if spec.kind == "max" and spec.stride == 1:
        return [layers.MaxPooling2D(3, 1, padding="same", dtype=dtype, name=spec.name)]
    # One zero before and two after, then a VALID pool, is Caffe's ceil mode for even and odd sizes: windows 2i-1 to
    # 2i+1, and zeros never win after a ReLU. The average divides by 9 at the borders too, as Caffe's does.
    pooling = layers.MaxPooling2D if spec.kind == "max" else layers.AveragePooling2D
    after = 2 if spec.stride == 2 else 1
    return [
        layers.ZeroPadding2D(((1, after), (1, after)), dtype=dtype, name=f"{spec.name}_pad"),
        pooling(3, spec.stride, dtype=dtype, name=spec.name),
    ]


def apply_model(model: keras.Model, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
    """Return the logits as the model itself does, but faster on a CPU, and with dropout if seeds are given.

    ``images`` are (N, H, W, 3), ``seeds`` (N, 2) int32, one for each image; N is static then. The same seed drops the
    same units in any batch, so gradient accumulation and resuming repeat a run exactly. Dropout is inverted, as
    Caffe's: kept units are divided by the probability of keeping them.
    """
    import keras
    import tensorflow as tf

    x = images
    dropouts = 0
    for layer in model.layers[1:]:  # a flat chain, without its input layer
        if isinstance(layer, keras.layers.Dropout):
            dropouts += 1
            if seeds is not None and layer.rate > 0:
                x = _dropout(x, layer.rate, seeds, dropouts)
        elif is_slow_in_tensorflow(layer):
            x, kernel, bias = (tf.cast(value, layer.compute_dtype) for value in (x, layer.kernel, layer.bias))
            x = layer.activation(atrous_convolution(x, kernel, layer.dilation_rate[0]) + bias)
        else:
            x = layer(x)
    return x


def _dropout(x: tf.Tensor, rate: float, seeds: tf.Tensor, number: int) -> tf.Tensor:
    """Drop units by each image's seed and the number of the dropout layer."""
    import tensorflow as tf

    own = [tf.random.experimental.stateless_fold_in(seeds[image], number) for image in range(x.shape[0])]
    uniform = tf.stack([tf.random.stateless_uniform(tf.shape(x)[1:], seed=seed) for seed in own])
    return tf.where(uniform >= rate, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))


def assign_weights(model: keras.Model, weights: Weights) -> None:
    """Set the variables of the layers in ``weights``."""
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
