"""Build the ONNX graph of a network from its operations: uint8 pictures of any size in, labels and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.engine.operations import Addition, Convolution, Operation, Picture, Pooling
from deeplabctl.network.layers import ARCHITECTURES, OUTPUT_STRIDE
from deeplabctl.network.preprocessing import MEAN_BGR
from deeplabctl.version import __version__

if TYPE_CHECKING:
    import onnx

_OPSET, _IR_VERSION = 17, 8  # of the year 2022: runtimes of that year and all later ones read them
_KINDS = ("Conv", "Relu", "MaxPool", "AveragePool", "Add")
_LAST = -(1 << 62)  # as the end of a slice backwards

Value = str  # the name of a tensor


def build_onnx(
    net: Sequence[Operation], architecture: str, scales: Sequence[float], *, flip: bool, half: bool = False
) -> onnx.ModelProto:
    """Return the model of a network's operations.

    It takes ``image`` (N, H, W, 3) uint8 RGB and gives ``label`` (N, H, W) uint8 and ``scores`` (N, H, W, C). With
    ``half`` the kernels are stored as float16, of which a runtime makes float32 when it loads the model.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    size = graph.add("Slice", graph.add("Shape", "image"), graph.ints(1), graph.ints(3))
    full = graph.add(
        "Add", graph.add("Mul", graph.add("Div", graph.add("Add", size, graph.ints(6)), _eight(graph)), _eight(graph)),
        graph.ints(1),
    )  # fmt: skip
    cells = graph.add("Div", graph.add("Sub", full, graph.ints(1)), _eight(graph))
    inputs = _preprocessed(graph, size, full, flip=flip)
    coarse = [
        _network(graph, net, inputs if scale == 1 else _resized(graph, inputs, _scaled(graph, cells, scale)), n, half)
        for n, scale in enumerate(scales)
    ]
    if len(ARCHITECTURES[architecture].scales) > 1 and len(coarse) > 1:
        grid = graph.add("Add", cells, graph.ints(1))
        coarse = [graph.add("Max", *(_resized(graph, logits, grid) for logits in coarse))]
    upsampled = [_cropped(graph, _resized(graph, logits, full), size) for logits in coarse]
    fused = upsampled[0] if len(upsampled) == 1 else graph.add("Max", *upsampled)
    logits = graph.add("Transpose", _unmirrored(graph, fused) if flip else fused, perm=[0, 2, 3, 1])
    label = graph.add("ArgMax", logits, axis=-1, keepdims=0)
    graph.add("Cast", label, to=TensorProto.UINT8, name="label")
    graph.add("Softmax", logits, axis=-1, name="scores")

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "height", "width", 3])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.UINT8, ["n", "height", "width"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", "height", "width", net[-1].channels]),
    ]
    made = helper.make_graph(graph.nodes, architecture, [image], outputs, graph.initializers)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="deeplabctl",
        producer_version=__version__,
    )  # fmt: skip
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Collect nodes and constants; a node's result has the node's name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[str, Value] = {}

    def add(self, kind: str, *inputs: Value, name: str = "", **attributes: Any) -> Value:
        """Add a node with one result; returns its name."""
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def array(self, name: str, values: npt.NDArray[Any]) -> Value:
        """Add a constant, once for each name."""
        from onnx import numpy_helper

        if name not in self._constants:
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
            self._constants[name] = name
        return name

    def ints(self, *values: int) -> Value:
        """Add whole numbers, as sizes and axes are."""
        return self.array(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))


def _eight(graph: _Graph) -> Value:
    return graph.ints(OUTPUT_STRIDE)


def _preprocessed(graph: _Graph, size: Value, full: Value, *, flip: bool) -> Value:
    """Return the network's input (N or 2N, 3, H, W): BGR minus the mean, the mirrored images last, padded with 0."""
    from onnx import TensorProto

    bgr = graph.add("Gather", graph.add("Transpose", "image", perm=[0, 3, 1, 2]), graph.ints(2, 1, 0), axis=1)
    mean = graph.array("mean", np.array(MEAN_BGR, np.float32).reshape(1, 3, 1, 1))
    pixels = graph.add("Sub", graph.add("Cast", bgr, to=TensorProto.FLOAT), mean)
    if flip:
        pixels = graph.add("Concat", pixels, _mirrored(graph, pixels), axis=0)
    before = graph.ints(0, 0, 0, 0, 0, 0)
    return graph.add("Pad", pixels, graph.add("Concat", before, graph.add("Sub", full, size), axis=0))


def _mirrored(graph: _Graph, images: Value) -> Value:
    return graph.add("Slice", images, graph.ints(-1), graph.ints(_LAST), graph.ints(3), graph.ints(-1))


def _unmirrored(graph: _Graph, logits: Value) -> Value:
    """Return the mean of the images' logits and the mirrored images', mirrored back."""
    count = graph.add("Slice", graph.add("Shape", "image"), graph.ints(0), graph.ints(1))
    twice = graph.add("Add", count, count)
    images = graph.add("Slice", logits, graph.ints(0), count, graph.ints(0))
    mirrored = _mirrored(graph, graph.add("Slice", logits, count, twice, graph.ints(0)))
    return graph.add("Div", graph.add("Add", images, mirrored), graph.array("two", np.array(2, np.float32)))


def _scaled(graph: _Graph, cells: Value, scale: float) -> Value:
    """Return the size at a scale, as `scaled_size` does: the nearest 8k + 1; in float64, halves to even numbers."""
    from onnx import TensorProto

    exact = graph.add("Cast", cells, to=TensorProto.DOUBLE)
    rounded = graph.add("Round", graph.add("Mul", exact, graph.array(f"scale_{scale:g}", np.array(scale, np.float64))))
    whole = graph.add("Cast", rounded, to=TensorProto.INT64)
    return graph.add("Add", graph.add("Mul", whole, _eight(graph)), graph.ints(1))


def _resized(graph: _Graph, images: Value, size: Value) -> Value:
    """Return images (N, C, H, W) of another size, bilinear with aligned corners."""
    outer = graph.add("Slice", graph.add("Shape", images), graph.ints(0), graph.ints(2))
    sizes = graph.add("Concat", outer, size, axis=0)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return graph.add("Resize", images, "", "", sizes, **attributes)


def _cropped(graph: _Graph, images: Value, size: Value) -> Value:
    return graph.add("Slice", images, graph.ints(0, 0), size, graph.ints(2, 3))


def _network(graph: _Graph, net: Sequence[Operation], images: Value, number: int, half: bool) -> Value:
    """Return the logits of images; ``number`` tells the scales' nodes apart, which share their weights."""
    values = {id(net[0]): images}
    for operation in net[1:]:
        before = [values[id(below)] for below in operation.inputs]
        name = operation.name if number == 0 else f"{operation.name}/{number + 1}"
        values[id(operation)] = _operation(graph, operation, before, name, half)
    return values[id(net[-1])]


def _operation(graph: _Graph, operation: Operation, before: list[Value], name: str, half: bool) -> Value:
    assert not isinstance(operation, Picture)
    if isinstance(operation, Convolution):
        return _relu(graph, _convolution(graph, operation, before[0], name, half), operation.relu, name)
    if isinstance(operation, Pooling):
        after = 2 if operation.stride == 2 else 1
        shape = {"kernel_shape": [3, 3], "strides": [operation.stride] * 2, "pads": [1, 1, after, after]}
        if operation.is_max:
            return graph.add("MaxPool", *before, name=name, **shape)
        return graph.add("AveragePool", *before, name=name, count_include_pad=1, **shape)
    if isinstance(operation, Addition):
        total = before[0]
        for number, other in enumerate(before[1:], 1):
            total = graph.add("Add", total, other, name=f"{name}/sum/{number}")
        return _relu(graph, total, operation.relu, name)
    size = graph.add("Slice", graph.add("Shape", before[0]), graph.ints(2), graph.ints(4))
    one = graph.ints(1)
    larger = graph.add("Mul", graph.add("Sub", size, one), graph.ints(operation.factor))
    return _resized(graph, before[0], graph.add("Add", larger, one))


def _convolution(graph: _Graph, operation: Convolution, before: Value, name: str, half: bool) -> Value:
    from onnx import TensorProto

    kernel = (operation.kernel * operation.scale).transpose(3, 2, 0, 1)
    stored = graph.array(f"{operation.name}/kernel", kernel.astype(np.float16 if half else np.float32))
    if half:
        stored = graph.add("Cast", stored, to=TensorProto.FLOAT)
    bias = graph.array(f"{operation.name}/bias", operation.bias)
    side = operation.kernel.shape[0]
    pad = operation.dilation * (side - 1) // 2
    return graph.add(
        "Conv", before, stored, bias, name=f"{name}/sum", kernel_shape=[side, side],
        strides=[operation.stride] * 2, dilations=[operation.dilation] * 2, pads=[pad] * 4,
    )  # fmt: skip


def _relu(graph: _Graph, value: Value, relu: bool, name: str) -> Value:
    return graph.add("Relu", value, name=name) if relu else value


def nodes_of(model: onnx.ModelProto, layers: set[str]) -> list[str]:
    """Return the names of the nodes that compute some layers, at all scales."""
    return [node.name for node in model.graph.node if node.name.partition("/")[0] in layers and node.op_type in _KINDS]
