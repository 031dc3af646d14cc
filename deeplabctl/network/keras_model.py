"""Build networks as Keras models from their tables, and apply them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from deeplabctl.network.atrous import atrous_convolution, is_slow_in_tensorflow
from deeplabctl.network.layers import ARCHITECTURES, Weights, channels, layer_of, weight_shapes
from deeplabctl.network.resizing import resize
from deeplabctl.network.rows import NORM_EPSILON, Conv, Norm, Pool, Row, Rows, Zoom, fold

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Convolve(Protocol):
    """Compute convolutions of stride 1, with zero padding that keeps the size, and their gradients."""

    def computes(self, layer: keras.Layer, shape: tf.TensorShape) -> bool:
        """Tell whether it computes a layer of images (N, H, W, I)."""

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, dilation: int, relu: bool) -> tf.Tensor:
        """Convolve (N, H, W, I) with a kernel (k, k, I, O), add the bias (O,), and apply a ReLU if asked for."""


def build_model(
    architecture: str, num_classes: int, *, width: float = 1.0, dropout: float = 0.5, dtype: str = "float32"
) -> keras.Model:
    """Build a flat functional Keras model of stock layers, for one scale.

    It maps (N, H, W, 3) float32 images, BGR minus the mean, to logits (N, h, w, classes) at stride 8, for any H and W.
    The variables are those of `weight_shapes`, all zero: `assign_weights` gives them values. ``dtype`` may be a Keras
    policy: with "mixed_bfloat16" the variables are float32 and all results, also the logits, are bfloat16.
    """
    import keras

    outgoing = channels(architecture, num_classes, width)
    images = keras.Input((None, None, 3), name="image", dtype=keras.DTypePolicy(dtype).variable_dtype)

    def build(row: Row, inputs: list[Any]) -> Any:
        value = inputs[0] if len(inputs) == 1 else inputs
        for layer in _keras_layers(row, outgoing[row.name], dropout, dtype):
            value = layer(value)
        return value

    outputs = fold(ARCHITECTURES[architecture].rows, images, build)
    return keras.Model(images, list(outputs.values())[-1], name=architecture)


def _keras_layers(row: Row, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
    """Return the stock layers that compute one row of the table; their names begin with the row's."""
    from keras import layers

    if isinstance(row, Conv):
        return _convolution_layers(row, outgoing, dropout, dtype)
    if isinstance(row, Pool):
        if row.kind == "max" and row.stride == 1:
            return [layers.MaxPooling2D(3, 1, padding="same", dtype=dtype, name=row.name)]
        # One zero before and two after, then a VALID pool, is Caffe's ceil mode for even and odd sizes: windows 2i-1
        # to 2i+1, and zeros never win after a ReLU. The average divides by 9 at the borders too, as Caffe's does.
        pooling = layers.MaxPooling2D if row.kind == "max" else layers.AveragePooling2D
        after = 2 if row.stride == 2 else 1
        return [
            layers.ZeroPadding2D(((1, after), (1, after)), dtype=dtype, name=f"{row.name}_pad"),
            pooling(3, row.stride, dtype=dtype, name=row.name),
        ]
    if isinstance(row, Zoom):
        raise TypeError("no stock layer enlarges with aligned corners: only prediction does")
    if isinstance(row, Norm):
        layer = layers.BatchNormalization(epsilon=NORM_EPSILON, trainable=False, dtype=dtype, name=row.name)
    else:
        layer = layers.Add(dtype=dtype, name=row.name)
    return [layer, layers.ReLU(dtype=dtype, name=f"{row.name}_relu")] if row.relu else [layer]


def _convolution_layers(row: Conv, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
    from keras import layers

    # Keras' "same" with a stride pads as much as the size asks for, Caffe always the same.
    padded = row.stride > 1 and row.kernel > 1
    convolution = layers.Conv2D(
        outgoing,
        row.kernel,
        strides=row.stride,
        padding="valid" if padded else "same",
        dilation_rate=row.dilation,
        activation="relu" if row.relu else None,
        use_bias=row.bias,
        kernel_initializer="zeros",
        dtype=dtype,
        name=row.name,
    )
    found = [convolution]
    if padded:
        found.insert(0, layers.ZeroPadding2D(row.pad, dtype=dtype, name=f"{row.name}_pad"))
    if row.dropout:
        found.append(layers.Dropout(dropout, dtype=dtype, name=f"{row.name}_dropout"))
    return found


def apply_model(
    model: keras.Model, images: tf.Tensor, seeds: tf.Tensor | None = None, convolve: Convolve | None = None
) -> tf.Tensor:
    """Return the logits as the model itself does, but faster on a CPU, and with dropout if seeds are given.

    ``images`` are (N, H, W, 3), ``seeds`` (N, 2) int32, one for each image; N is static then. The same seed drops the
    same units in any batch, so gradient accumulation and resuming repeat a run exactly. Dropout is inverted, as
    Caffe's: kept units are divided by the probability of keeping them. ``convolve`` computes the convolutions that it
    can, in place of TensorFlow.
    """
    return list(apply_rows(model, images, ARCHITECTURES[model.name].rows, seeds, convolve).values())[-1]


def predict_logits(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Return the logits of prediction: at stride 8, or of the images' size, as the architecture's table says."""
    return list(apply_rows(model, images, ARCHITECTURES[model.name].prediction_rows).values())[-1]


def apply_rows(
    model: keras.Model,
    images: tf.Tensor,
    rows: Rows,
    seeds: tf.Tensor | None = None,
    convolve: Convolve | None = None,
) -> dict[str, tf.Tensor]:
    """Return the value of every row of a table; a convolution's is that of the norm on it."""
    import tensorflow as tf

    layers = {layer.name: layer for layer in model.layers}
    norms = {above.name: row.name for above, row in pairwise(rows) if isinstance(row, Norm)}
    dropouts = 0

    def compute(row: Row, inputs: list[tf.Tensor]) -> tf.Tensor:
        nonlocal dropouts
        x = inputs[0]
        if isinstance(row, Conv):
            if row.stride > 1 and f"{row.name}_pad" in layers:
                x = layers[f"{row.name}_pad"](x)
            x = _convolve(layers[row.name], x, row.stride, layers.get(norms.get(row.name, "")), convolve)
            if row.dropout:
                dropouts += 1
                rate = layers[f"{row.name}_dropout"].rate
                if seeds is not None and rate > 0:
                    x = _dropout(x, rate, seeds, dropouts)
        elif isinstance(row, Pool):
            for name in (f"{row.name}_pad", row.name):
                x = layers[name](x) if name in layers else x
        elif isinstance(row, Zoom):
            x = resize(x, [row.factor * (side - 1) + 1 for side in tf.unstack(tf.shape(x)[1:3])])
        elif not isinstance(row, Norm):
            x = layers[row.name](inputs)
        return layers[f"{row.name}_relu"](x) if f"{row.name}_relu" in layers else x

    return fold(rows, images, compute)


def _convolve(
    layer: keras.Layer, x: tf.Tensor, stride: int, norm: keras.Layer | None, convolve: Convolve | None
) -> tf.Tensor:
    """Return a convolution, and the norm that follows it; the stride may be another than the layer's.

    In a smaller format than the variables' the norm goes into the kernel first: float16 would overflow before it.
    """
    import keras
    import tensorflow as tf

    if convolve is not None and not (layer.strides == (stride, stride) and convolve.computes(layer, x.shape)):
        convolve = None
    slow = is_slow_in_tensorflow(layer)
    if norm is None and convolve is not None:
        relu = layer.activation is keras.activations.relu
        bias = None if layer.bias is None else tf.convert_to_tensor(layer.bias)
        return convolve(x, tf.convert_to_tensor(layer.kernel), bias, layer.dilation_rate[0], relu)
    if norm is None and not slow and layer.strides == (stride, stride):
        return layer(x)
    kernel, bias, scale = tf.convert_to_tensor(layer.kernel), layer.bias, None
    if norm is not None:
        gamma, beta, mean, variance = (tf.cast(value, tf.float64) for value in norm.variables)
        scale = gamma / tf.sqrt(variance + norm.epsilon)
        bias = beta - mean * scale
        if layer.compute_dtype != layer.variable_dtype:
            kernel, scale = kernel * tf.cast(scale, kernel.dtype), None
    x, kernel = (tf.cast(value, layer.compute_dtype) for value in (x, kernel))
    if convolve is not None:
        x = convolve(x, kernel, None, layer.dilation_rate[0], False)
    elif slow:
        x = atrous_convolution(x, kernel, layer.dilation_rate[0])
    else:
        padding = layer.padding.upper() if layer.strides == (stride, stride) else "SAME"
        x = tf.nn.convolution(x, kernel, stride, padding, dilations=layer.dilation_rate)
    x = x if scale is None else x * tf.cast(scale, x.dtype)
    return layer.activation(x if bias is None else x + tf.cast(bias, x.dtype))


def _dropout(x: tf.Tensor, rate: float, seeds: tf.Tensor, number: int) -> tf.Tensor:
    """Drop units by each image's seed and the number of the dropout layer."""
    import tensorflow as tf

    own = [tf.random.experimental.stateless_fold_in(seeds[image], number) for image in range(x.shape[0])]
    uniform = tf.stack([tf.random.stateless_uniform(tf.shape(x)[1:], seed=seed) for seed in own])
    return tf.where(uniform >= rate, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))


def model_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the model's variables by the names of its weights, in the table's order."""
    names = weight_shapes(model.name, 1)
    return {name: getattr(model.get_layer(layer_of(name)), name.rpartition("/")[2]) for name in names}


def assign_weights(model: keras.Model, weights: Weights) -> None:
    """Set the variables that are named in ``weights``."""
    variables = model_variables(model)
    for name, values in weights.items():
        variables[name].assign(values)
