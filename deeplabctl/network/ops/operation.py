"""What every operation knows of itself, and the defaults of operations that have no weights.

A table lists operations in order. An operation names those whose results it takes; without names it takes the one
above. Everything that is computed of a network is one loop over its operations, each of which does its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32, Size
from deeplabctl.network.ops.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
INPUT = "data"  # the name under which operations take the image
KERNEL, BIAS = "kernel", "bias"

Shapes = dict[str, tuple[int, ...]]
T = TypeVar("T")
# Of a row, its Keras layer and the shape of its images: a function that computes the row in place of TensorFlow, of
# images (N, H, W, I), a float32 kernel, a bias (O,) or None, and an activation; or None.
Convolve = Callable[[Any, "keras.Layer", "tf.TensorShape"], Callable[..., "tf.Tensor"] | None]


@dataclass(frozen=True)
class Field:
    """Hold which pixels of the image a value sees: value i those from ``i * stride - reach`` to ``i * stride + reach``.

    ``grid`` is the largest stride on the way from the image. A value that sees the ``whole`` image, by its mean, also
    sees these.
    """

    stride: int
    reach: int
    grid: int
    whole: bool = False

    def through(self, stride: int, pad: int) -> Field:
        """Return the field of windows on these values, with a stride and ``pad`` values on each side of the centre."""
        strides, reach = self.stride * stride, self.reach + pad * self.stride
        return replace(self, stride=strides, reach=reach, grid=max(self.grid, strides))


@dataclass(frozen=True, eq=False)
class Node:
    """Hold an operation of a network in prediction, with its inputs and its arrays; norms are in their convolutions."""

    op: Operation
    inputs: tuple[Node, ...]
    channels: int
    arrays: Mapping[str, Float32] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the operation's name."""
        return self.op.name


def export_nodes(graph: OnnxGraph, nodes: Sequence[Node], images: str, number: int = 0) -> str:
    """Add a network's nodes to a graph; returns the logits (N, C, h, w) of ``images`` (N, 3, H, W).

    ``number`` tells the nodes of several scales apart, which share their weights.
    """
    values = {nodes[0]: images}
    for node in nodes[1:]:
        name = node.name if number == 0 else f"{node.name}/{number + 1}"
        values[node] = node.op.export_onnx(graph, [values[below] for below in node.inputs], node.arrays, name)
    return values[nodes[-1]]


@dataclass
class ForwardPass:
    """Hold what a forward pass through a Keras model needs beside the images.

    With ``seeds`` (N, 2) int32, one for each image, there is dropout.
    """

    layers: Mapping[str, keras.Layer]
    norms: Mapping[str, Any]  # of a convolution, the `Norm` that follows it
    seeds: tf.Tensor | None = None
    convolve: Convolve | None = None
    dropouts: int = 0  # so far


class CaffeSettings(Protocol):
    """Hold the settings of a Caffe layer, each a list of values, as a prototxt may repeat them."""

    def values(self, name: str, default: object) -> Sequence[object]:
        """Return the values of a setting."""

    def extents(self, names: Sequence[str], axis_name: str, default: object) -> Sequence[object]:
        """Return the values of a setting for height and width, under any of its names."""


def differences(*compared: tuple[str, object, Sequence[object]]) -> list[str]:
    """Describe the settings (name, expected, got) of a Caffe layer that differ from the table."""
    return [
        f"{name} expected {expected}, got {' and '.join(dict.fromkeys(map(shown, values)))}"
        for name, expected, values in compared
        if any(value != expected for value in values)
    ]


def shown(value: object) -> str:
    """Return a value of a prototxt on one line."""
    text = "none" if value is None else "a message" if isinstance(value, dict) else str(value)[:40]
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


@dataclass(frozen=True)
class Operation:
    """Describe one operation of a table: its facts are fields, and its methods what can be computed of them."""

    name: str
    inputs: tuple[str, ...] = field(default=(), kw_only=True)

    takes_image_mean: ClassVar[bool] = False  # its result is one value for each channel, of the whole image

    # Caffe's type of layer in lower case, and the message with its settings; "" for what its nets do not have.
    caffe_type: ClassVar[str] = ""
    caffe_settings: ClassVar[str] = ""

    @property
    def caffe_scale(self) -> str:
        """Return the name of the Scale layer that Caffe needs beside its own; "" for none."""
        return ""

    @property
    def is_classifier(self) -> bool:
        """Tell whether it gives the classes' logits."""
        return False

    def channels_of(self, inputs: Sequence[int], num_classes: int, width: float) -> int:
        """Return the channels of the result."""
        return inputs[0]

    def parts(self, incoming: int, outgoing: int) -> Shapes:
        """Return the shapes of its weights by their names."""
        return {}

    def multipliers(self, part: str) -> tuple[float, float]:
        """Return Caffe's ``lr_mult`` and ``decay_mult`` of one of its weights; 0: it is never trained."""
        return 0.0, 0.0

    def size(self, inputs: Sequence[Size]) -> Size:
        """Return the size of the result for inputs of these sizes."""
        return inputs[0]

    def field(self, inputs: Sequence[Field]) -> Field:
        """Return the field of the result."""
        reach, grid = max(field.reach for field in inputs), max(field.grid for field in inputs)
        return Field(inputs[0].stride, reach, grid, any(field.whole for field in inputs))

    def new_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Draw weights on top of trained layers; ``number`` is its place among the operations with a kernel."""
        raise KeyError(part)

    def random_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Draw weights in a network that starts from nothing."""
        return self.new_array(part, shape, seed, number)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        """Return the stock Keras layers that compute it, one after another; their names begin with its own."""
        raise TypeError(f"{self.name}: no stock Keras layer computes this; it is for prediction only")

    def build(self, inputs: list[Any], outgoing: int, dropout: float, dtype: str) -> Any:
        """Return its result in a functional Keras model, made by `keras_layers`."""
        value = inputs[0] if len(inputs) == 1 else inputs
        for layer in self.keras_layers(outgoing, dropout, dtype):
            value = layer(value)
        return value

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Compute it with the layers of a Keras model, as `keras_layers` do but faster on a CPU, and with dropout."""
        return forward.layers[self.name](inputs[0] if len(inputs) == 1 else inputs)

    def node(self, inputs: tuple[Node, ...], weights: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Return its node in the graph of prediction."""
        return Node(self, inputs, self.channels_of([below.channels for below in inputs], 0, 1.0))

    def constants(self, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        """Return the weights that an export has of its node's arrays."""
        return {}

    def export_tensorflow(self, inputs: list[tf.Tensor], constants: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Compute it with the weights of `constants`, for inputs of the sizes that padded images have on their way."""
        raise TypeError(self.name)

    def export_onnx(self, graph: OnnxGraph, inputs: list[str], arrays: Mapping[str, Float32], name: str) -> str:
        """Add its nodes to an ONNX graph, under a name that tells scales apart."""
        raise TypeError(self.name)

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        """Describe what differs in the settings of a Caffe layer; ``outputs`` are the channels, if they are known."""
        return []


@dataclass(frozen=True)
class Input(Operation):
    """Stand for the image in a graph."""

    name: str = INPUT


def inputs_of(operations: Sequence[Operation]) -> dict[str, tuple[str, ...]]:
    """Return, by each operation's name, the names of those whose results it takes."""
    above = (INPUT, *(operation.name for operation in operations))
    return {operation.name: operation.inputs or (name,) for operation, name in zip(operations, above, strict=False)}


def fold(operations: Sequence[Operation], data: T, compute: Callable[[Operation, list[T]], T]) -> dict[str, T]:
    """Return what ``compute`` makes of every operation and of the values of its inputs, by name, in order.

    ``data`` is the image's value. The value of the network is the last one.
    """
    inputs, values = inputs_of(operations), {INPUT: data}
    for operation in operations:
        values[operation.name] = compute(operation, [values[name] for name in inputs[operation.name]])
    return values


def gaussian(shape: Sequence[int], std: float, seed: int, number: int) -> Float32:
    """Draw normal numbers."""
    return np.random.default_rng((seed, number)).normal(0, std, shape).astype(np.float32)
