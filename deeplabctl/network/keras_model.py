"""Build networks as Keras models from their tables, and apply them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise, repeat
from typing import TYPE_CHECKING

from deeplabctl.choices import Precision
from deeplabctl.errors import DeepLabError
from deeplabctl.network import ARCHITECTURES, Weights, architecture_named, layer_of, part_of
from deeplabctl.network.architecture import Rows
from deeplabctl.network.ops import Norm, Operation
from deeplabctl.network.ops.joins import shared
from deeplabctl.network.ops.operation import Convolve, ForwardPass, fold, inputs_of
from deeplabctl.network.tensorflow_startup import start_tensorflow

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Keras' policies: variables stay float32, and so do the loss and the updates of a training.
POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of TensorFlow says that memory is full, as cuDNN says it in other words."""
    import tensorflow as tf

    words = ("no algorithm worked", "out of memory", "alloc_failed", "failed to allocate")
    return isinstance(error, tf.errors.ResourceExhaustedError) or any(word in str(error).lower() for word in words)


def zero_model(
    architecture: str, num_classes: int, *, width: float = 1.0, dropout: float = 0.5, dtype: str = "float32"
) -> keras.Model:
    """Build a flat functional Keras model of stock layers, for one scale.

    It maps (N, H, W, 3) float32 images, preprocessed, to logits (N, h, w, classes) at the output stride, for any H and
    W. The variables are those of `Architecture.weight_shapes`, all zero: `assign_weights` gives them values. ``dtype``
    may be a Keras policy: with "mixed_bfloat16" the variables are float32 and all results, also the logits, bfloat16.
    """
    start_tensorflow()
    import keras

    table = ARCHITECTURES[architecture]
    outgoing = table.channels(num_classes, width)
    images = keras.Input((None, None, 3), name="image", dtype=keras.DTypePolicy(dtype).variable_dtype)

    outputs = fold(table.rows, images, lambda row, inputs: row.build(inputs, outgoing[row.name], dropout, dtype))
    return keras.Model(images, list(outputs.values())[-1], name=architecture)


def apply_model(
    model: keras.Model, images: tf.Tensor, seeds: tf.Tensor | None = None, convolve: Convolve | None = None
) -> tf.Tensor:
    """Return the logits as the model itself does, but faster on a CPU, and with dropout if seeds are given.

    ``images`` are (N, H, W, 3), ``seeds`` (N, 2) int32, one for each image; N is static then. ``convolve`` computes the
    convolutions that it can, in place of TensorFlow.
    """
    return list(apply_rows(model, images, ARCHITECTURES[model.name].rows, seeds, convolve).values())[-1]


def predict_logits(
    model: keras.Model, images: tf.Tensor, row: str = "", means: Mapping[str, tf.Tensor] | None = None
) -> tf.Tensor:
    """Return the logits of prediction: at the output stride, or of the images' size, as the table says.

    Or, of a tile, the values of another ``row``, where the ``means`` (N, 1, 1, C) of the whole image are known.
    """
    found = apply_rows(model, images, ARCHITECTURES[model.name].prediction_rows, means=means)
    return found[row or list(found)[-1]]


def apply_rows(
    model: keras.Model,
    images: tf.Tensor,
    rows: Rows,
    seeds: tf.Tensor | None = None,
    convolve: Convolve | None = None,
    means: Mapping[str, tf.Tensor] | None = None,
) -> dict[str, tf.Tensor]:
    """Return the value of every row of a table; a convolution's is that of the norm on it.

    ``means`` are used in place of those rows' own.
    """
    layers = {layer.name: layer for layer in model.layers}
    norms = {above.name: row for above, row in pairwise(rows) if isinstance(row, Norm)}
    forward = ForwardPass(layers, norms, seeds, convolve)
    given = means or {}
    uses = Counter(chain.from_iterable(inputs_of(rows).values()))
    copies: dict[int, Iterator[tf.Tensor]] = {}

    def compute(row: Operation, inputs: list[tf.Tensor]) -> tf.Tensor:
        if row.name in given:
            return given[row.name]
        value = row.compute([next(copies.get(id(one), repeat(one))) for one in inputs], forward)
        if uses[row.name] > 2 and seeds is not None:
            copies[id(value)] = iter(shared(value, uses[row.name]))
        return value

    return fold(rows, images, compute)


def shared_variables(model: keras.Model, names: Sequence[str], passes: int) -> list[keras.StatelessScope]:
    """Return the contexts of several passes through a model, over which the named variables' gradients are summed."""
    import keras
    import tensorflow as tf

    variables = model_variables(model)
    copies = [shared(tf.convert_to_tensor(variables[name]), passes) for name in names]
    return [
        keras.StatelessScope([(variables[name], copy[number]) for name, copy in zip(names, copies, strict=True)])
        for number in range(passes)
    ]


def check_model(model: keras.Model, architecture: str, num_classes: int, width: float) -> None:
    """Raise ValueError for a model other than the one that `zero_model` makes of these."""
    network = architecture_named(architecture)
    if (name := getattr(model, "name", model)) != architecture:
        raise ValueError(f"model: expected one with the name of its architecture, {architecture}, got {name!r}")
    layers = {layer.name: layer for layer in model.layers}
    for name, shape in network.weight_shapes(num_classes, width).items():
        variable = getattr(layers.get(layer_of(name)), part_of(name), None)
        if variable is None or tuple(variable.shape) != shape:
            raise ValueError(
                f"model: expected {architecture} of width {width:g} with {num_classes} classes, whose {name} has the "
                f"shape {shape}, got {'none' if variable is None else tuple(variable.shape)}"
            )


def model_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the model's variables by the names of its weights, in the table's order."""
    names = ARCHITECTURES[model.name].weight_shapes(1)
    return {name: getattr(model.get_layer(layer_of(name)), part_of(name)) for name in names}


def assign_weights(model: keras.Model, weights: Weights) -> None:
    """Set the variables that are named in ``weights``."""
    variables = model_variables(model)
    for name, values in weights.items():
        variables[name].assign(values)


def can_compute(precision: Precision) -> bool:
    """Tell whether TensorFlow's convolutions run in a format.

    They do not for bfloat16 where TensorFlow finds its instructions but oneDNN may not use them, as in some virtual
    machines and with $ONEDNN_MAX_CPU_ISA. Raises DeepLabError where none runs, as on a GPU without cuDNN.
    """
    import tensorflow as tf

    try:
        tf.nn.conv2d(tf.ones((1, 9, 9, 16), precision), tf.ones((3, 3, 16, 16), precision), 1, "SAME").numpy()
    except tf.errors.OpError as error:
        if precision == "float32":
            raise DeepLabError(
                f"TensorFlow cannot compute a convolution here ({str(error).splitlines()[0][:300]}); install the CUDA "
                "and cuDNN that it asks for, or hide the GPU from it: CUDA_VISIBLE_DEVICES=-1"
            ) from error
        can_compute("float32")  # else it is not the format that is missing
        return False
    return True
