"""Build the network from the layer table."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    are float32 and what is computed with them, the logits too, is bfloat16.
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
    """Return the logits, as the model itself does, but faster on a CPU, and with dropout where seeds are given.

    ``images`` are (N, H, W, 3), ``seeds`` (N, 2) int32, one for each image; N is static then. The same seed drops the
    same units, whatever the batch that the image stands in, so gradient accumulation and resuming repeat a run exactly.
    Dropout is inverted, as Caffe's: kept units are divided by the probability of keeping them.
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
        elif _is_slow_on_this_device(layer):
            x, kernel, bias = (tf.cast(value, layer.compute_dtype) for value in (x, layer.kernel, layer.bias))
            x = layer.activation(shifted_convolution(x, kernel, layer.dilation_rate[0]) + bias)
        else:
            x = layer(x)
    return x


def _dropout(x: tf.Tensor, rate: float, seeds: tf.Tensor, number: int) -> tf.Tensor:
    """Drop units by each image's seed and the number of the layer among those that drop."""
    import tensorflow as tf

    own = [tf.random.experimental.stateless_fold_in(seeds[image], number) for image in range(x.shape[0])]
    uniform = tf.stack([tf.random.stateless_uniform(tf.shape(x)[1:], seed=seed) for seed in own])
    return tf.where(uniform >= rate, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))


def _is_slow_on_this_device(layer: keras.Layer) -> bool:
    """Tell whether `shifted_convolution` is faster: for fc6 (dilation 12) on a CPU; dilation 2 gains nothing."""
    import tensorflow as tf

    dilated = getattr(layer, "dilation_rate", (1, 1))[0] > 2
    return dilated and not tf.config.list_physical_devices("GPU")


def shifted_convolution(x: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """Convolve (N, H, W, I) with a kernel (k, k, I, O), stride 1, zero padding that keeps the size, without bias.

    Each of the k * k taps is a matrix product of the part of the image that the tap sees, and nothing is spent on the
    padding. TensorFlow's own dilated convolution goes through space-to-batch on a CPU: at fc6's full size its forward
    pass takes twice as long and its gradient eight times (benchmarks/atrous_convolution.py).
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(x)[1:3])
    reach = kernel.shape[0] // 2
    taps = []
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            down, right = row * dilation, column * dilation
            above, below = tf.minimum(max(-down, 0), height), tf.minimum(max(down, 0), height)
            left, beside = tf.minimum(max(-right, 0), width), tf.minimum(max(right, 0), width)
            seen = x[:, below : height - above, beside : width - left]
            # A plain matrix product: one with a batch dimension has a slow gradient.
            product = tf.matmul(tf.reshape(seen, (-1, kernel.shape[2])), kernel[row + reach, column + reach])
            tap = tf.reshape(product, tf.concat([tf.shape(seen)[:3], [kernel.shape[3]]], 0))
            taps.append(tf.pad(tap, ((0, 0), (above, below), (left, beside), (0, 0))))
    return tf.ensure_shape(tf.add_n(taps), (*x.shape[:3], kernel.shape[-1]))


def assign_weights(model: keras.Model, weights: Weights) -> None:
    """Set the variables of the layers that ``weights`` names."""
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
