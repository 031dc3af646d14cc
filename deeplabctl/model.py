"""Build the network from the layer table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeplabctl.layers import ARCHITECTURES, Conv, Layer, weight_shapes
from deeplabctl.weights import Weights

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def build_model(
    architecture: str, num_classes: int, *, width: float = 1.0, dropout: float = 0.5, dtype: str = "float32"
) -> keras.Model:
    """Build a flat functional Keras model of stock layers.

    It maps (N, H, W, 3) float32 images, BGR minus the mean, to logits (N, h, w, classes) at stride 8, for any H and W,
    with ``h = floor(n / 2) + 1`` thrice. The variables are [HWIO kernel, bias] of each convolution of the layer table,
    all zero: `assign_weights` gives them values.
    """
    import keras

    shapes = weight_shapes(architecture, num_classes, width)
    x = images = keras.Input((None, None, 3), name="image", dtype=dtype)
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


def apply_with_dropout(model: keras.Model, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Return the logits of the training pass, whose dropout is a function of a seed for each image.

    ``images`` are (N, H, W, 3) with a static N, ``seeds`` (N, 2) int32: the same seed drops the same units, whatever
    the batch that the image stands in, so gradient accumulation and resuming repeat a run exactly. Dropout is inverted,
    as Caffe's: kept units are divided by the probability of keeping them.
    """
    import keras
    import tensorflow as tf

    x = images
    dropouts = 0
    for layer in model.layers[1:]:  # a flat chain, without its input layer
        if not isinstance(layer, keras.layers.Dropout):
            x = layer(x)
        elif layer.rate > 0:
            dropouts += 1
            uniform = tf.stack(
                [
                    tf.random.stateless_uniform(tf.shape(x)[1:], seed=seeds[image] + [0, dropouts << 16])
                    for image in range(images.shape[0])
                ]
            )
            x = tf.where(uniform >= layer.rate, x / tf.cast(1 - layer.rate, x.dtype), tf.zeros((), x.dtype))
    return x


def assign_weights(model: keras.Model, weights: Weights) -> None:
    """Set the variables of the layers that ``weights`` names."""
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)


def get_weights(model: keras.Model) -> Weights:
    """Return [kernel, bias] of every convolution, as numpy arrays."""
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
