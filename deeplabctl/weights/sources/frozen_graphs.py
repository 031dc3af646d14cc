"""Read the weights of TensorFlow's frozen graphs (``frozen_inference_graph.pb``), without TensorFlow.

Such a graph is a protobuf message (GraphDef), in which the variables have become constants of their names. A dilated
convolution is one between two operations that move pixels to the batch and back, or has an attribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.damage import check_claim
from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights
from deeplabctl.protobuf import BYTES, FLOAT, FLOATS, INTEGERS, VARINT, Field, WireFile
from deeplabctl.weights.sources.tensorflow_checkpoints import layer_of_scope, sizes_of_shape, weights_of_variables
from deeplabctl.weights.weight_file import Beginning, WeightFile

_NODE = 1  # of GraphDef
_NAME, _OPERATION, _INPUT, _ATTRIBUTE = 1, 2, 3, 5  # of NodeDef
_KEY, _VALUE = 1, 2  # of its attributes
_LIST, _NUMBER, _TENSOR = 1, 4, 8  # of AttrValue
_LIST_INTEGERS = 3
_TYPE, _SHAPE, _CONTENT, _FLOATS, _INTEGERS = 1, 2, 4, 5, 7  # of TensorProto
_NODE_FIELDS = dict.fromkeys((_NAME, _OPERATION, _INPUT, _ATTRIBUTE), (BYTES,))
_ENTRY_FIELDS = dict.fromkeys((_KEY, _VALUE), (BYTES,))
_TENSOR_FIELDS = {_TYPE: (VARINT,), _SHAPE: (BYTES,), _CONTENT: (BYTES,), _FLOATS: FLOATS, _INTEGERS: INTEGERS}
_DTYPES = {1: FLOAT, 3: np.dtype("<i4")}
_MOST_AXES = 32
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


class _Node(NamedTuple):
    operation: str
    inputs: tuple[str, ...]
    value: npt.NDArray[Any] | None  # of a constant of numbers
    dilations: tuple[int, ...]  # of height and width
    epsilon: float | None  # of a norm


class FrozenGraph(WeightFile):
    """Hold a graph whose variables are constants."""

    words = "TensorFlow frozen graph (.pb)"
    suffix = ".pb"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it begins with a node: a name and an operation; a Caffe net begins with a text."""
        if start.head[:1] != b"\x0a":
            return False
        wire = WireFile(start.path)
        try:
            node = next(wire.fields())
            first = list(islice(wire.fields(node.start, node.end), 2))
        except (WeightsError, StopIteration):
            return False
        return [(field.number, field.kind) for field in first] == [(_NAME, BYTES), (_OPERATION, BYTES)]

    @cached_property
    def _nodes(self) -> dict[str, _Node]:
        wire, nodes, claimed = WireFile(self.path), dict[str, _Node](), 0
        for field in wire.fields():
            if field.kind == BYTES and field.number == _NODE:
                name, node = _node(wire, field)
                nodes[name] = node
                if node.value is not None:
                    claimed += node.value.size * FLOAT.itemsize
                    check_claim(self.path, claimed)
        return nodes

    def _read_weights(self) -> Weights:
        constants = {name: node.value for name, node in self._nodes.items() if node.value is not None}
        if not any(values.dtype == FLOAT and values.ndim for values in constants.values()):
            raise WeightsError(
                f"weights {self.path}: expected a frozen graph, got one without constants: its variables are in a "
                "checkpoint; give that"
            )
        return weights_of_variables(constants, self.path)

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return the dilations of all convolutions."""
        found = {}
        for node in self._nodes.values():
            if node.operation not in _CONVOLUTIONS or len(node.inputs) < 2:
                continue
            kernel = node.inputs[1].removesuffix("/read")
            before = self._nodes.get(node.inputs[0])
            dilations = node.dilations
            if before is not None and before.operation == "SpaceToBatchND" and len(before.inputs) > 1:
                block = self._nodes.get(before.inputs[1])
                dilations = () if block is None or block.value is None else tuple(block.value.flat[:2].tolist())
            found[layer_of_scope(kernel.rpartition("/")[0])] = dilations or (1,)
        return found

    @cached_property
    def epsilons(self) -> Mapping[str, float]:
        """Return the epsilons of all norms."""
        norms = (node for node in self._nodes.values() if node.epsilon is not None and len(node.inputs) > 1)
        scopes = ((node.inputs[1].removesuffix("/read").rpartition("/")[0], node.epsilon) for node in norms)
        return {layer_of_scope(scope): epsilon for scope, epsilon in scopes if epsilon is not None}


def _node(wire: WireFile, node: Field) -> tuple[str, _Node]:
    """Return the name and the content of a NodeDef."""
    fields = wire.message(node, _NODE_FIELDS)
    name, operation = (wire.last_text(fields[number]) for number in (_NAME, _OPERATION))
    inputs = tuple(wire.text(field).removesuffix(":0") for field in fields[_INPUT])
    value, dilations, epsilon = None, list[int](), None
    for field in fields[_ATTRIBUTE]:
        entry = wire.message(field, _ENTRY_FIELDS)
        key = wire.last_text(entry[_KEY])
        for content in entry[_VALUE][-1:]:
            if key == "value" and operation == "Const":
                tensors = wire.message(content, {_TENSOR: (BYTES,)})[_TENSOR]
                value = _array(wire, tensors[0], name) if tensors else None
            elif key == "epsilon":
                numbers = wire.message(content, {_NUMBER: FLOATS})[_NUMBER]
                epsilon = float(wire.array(numbers[-1], FLOAT)[-1]) if numbers else None
            elif key == "dilations":  # of batch, height, width and channels
                for values in wire.message(content, {_LIST: (BYTES,)})[_LIST]:
                    for integers in wire.message(values, {_LIST_INTEGERS: INTEGERS})[_LIST_INTEGERS]:
                        dilations += islice(wire.integers(integers), 4)
    return name, _Node(operation, inputs, value, tuple(dilations[1:3]), epsilon)


def _array(wire: WireFile, tensor: Field, name: str) -> npt.NDArray[Any] | None:
    """Return the numbers of a TensorProto; None for other types. A list may lack equal last ones, or all zeros."""
    fields = wire.message(tensor, _TENSOR_FIELDS)
    dtype = _DTYPES.get(fields[_TYPE][-1].value if fields[_TYPE] else 0)
    if dtype is None:
        return None
    shape = [size for field in fields[_SHAPE] for size in sizes_of_shape(wire, field)]
    count = math.prod(shape)
    content = [part for part in (wire.array(field, dtype) for field in fields[_CONTENT]) if part.size]
    numbers = [number for field in fields[_INTEGERS] for number in islice(wire.integers(field), count + 1)]
    listed = [wire.array(field, FLOAT) for field in fields[_FLOATS]]
    listed.append(np.array([number & 0x7FFFFFFF for number in numbers], "<i4"))
    parts = [part for part in (*content, *listed) if part.size] or [np.zeros(1, dtype)]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)  # one part stays a view of the file
    fits = len(values) in (1, count) or (not content and len(values) < count)
    if len(shape) > _MOST_AXES or count > wire.size or not fits:
        raise wire.damaged(tensor.position, f"constant {name[:80]} of shape {shape[:8]} has {len(values)} numbers")
    if len(values) == 1:
        return np.broadcast_to(values, shape)
    if len(values) < count:
        values = np.pad(values, (0, count - len(values)), "edge")
    return values.reshape(shape)
