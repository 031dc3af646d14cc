"""Read the weights of TensorFlow's frozen graphs (``frozen_inference_graph.pb``), without TensorFlow.

Such a graph is a protobuf message (GraphDef), in which the variables have become constants of their names. A dilated
convolution is one between two operations that move pixels to the batch and back, or has an attribute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.wire import BYTES, FIXED32, FLOAT, VARINT, Field, WireFile
from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights
from deeplabctl.weights.sources.tensorflow_checkpoints import sizes_of_shape
from deeplabctl.weights.sources.tensorflow_names import layer_of_scope, weights_of_variables
from deeplabctl.weights.weight_file import Beginning, WeightFile, check_claim

_NODE = 1  # of GraphDef
_NAME, _OPERATION, _INPUT, _ATTRIBUTE = 1, 2, 3, 5  # of NodeDef
_KEY, _VALUE = 1, 2  # of its attributes
_LIST, _TENSOR = 1, 8  # of AttrValue
_LIST_INTEGERS = 3
_TYPE, _SHAPE, _CONTENT, _FLOATS, _INTEGERS = 1, 2, 4, 5, 7  # of TensorProto
_DTYPES = {1: FLOAT, 3: np.dtype("<i4")}
_MOST_AXES, _MOST_NODES = 32, 100_000
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


class _Node(NamedTuple):
    operation: str
    inputs: tuple[str, ...]
    value: npt.NDArray[Any] | None  # of a constant of numbers
    dilations: tuple[int, ...]  # of height and width


class FrozenGraph(WeightFile):
    """Hold a graph whose variables are constants."""

    words = "TensorFlow frozen graph (.pb)"

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
                    check_claim(self.path, claimed, wire.size)
                if len(nodes) > _MOST_NODES:
                    raise wire.damaged(field.position, f"expected at most {_MOST_NODES} nodes")
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


def _node(wire: WireFile, node: Field) -> tuple[str, _Node]:
    """Return the name and the content of a NodeDef."""
    name, operation, value = "", "", None
    inputs: list[str] = []
    dilations: tuple[int, ...] = ()
    for field in wire.fields(node.start, node.end):
        if field.kind != BYTES:
            continue
        if field.number == _NAME:
            name = wire.text(field)
        elif field.number == _OPERATION:
            operation = wire.text(field)
        elif field.number == _INPUT:
            inputs.append(wire.text(field).removesuffix(":0"))
        elif field.number == _ATTRIBUTE:
            entry = {part.number: part for part in wire.fields(field.start, field.end) if part.kind == BYTES}
            if not {_KEY, _VALUE} <= entry.keys():
                continue
            key, content = wire.text(entry[_KEY]), entry[_VALUE]
            if key == "value" and operation == "Const":
                value = next((_array(wire, tensor, name) for tensor in _inside(wire, content, _TENSOR)), None)
            elif key == "dilations":
                dilations = _numbers(wire, content)[1:3]
    return name, _Node(operation, tuple(inputs), value, dilations)


def _inside(wire: WireFile, message: Field, number: int) -> Iterator[Field]:
    for field in wire.fields(message.start, message.end):
        if field.kind == BYTES and field.number == number:
            yield field


def _numbers(wire: WireFile, attribute: Field) -> tuple[int, ...]:
    """Return the numbers of an attribute that is a list of them: of batch, height, width and channels."""
    numbers: list[int] = []
    for values in _inside(wire, attribute, _LIST):
        for field in wire.fields(values.start, values.end):
            if field.number == _LIST_INTEGERS:
                numbers += [field.value] if field.kind == VARINT else islice(wire.integers(field), 4)
    return tuple(numbers)


def _array(wire: WireFile, tensor: Field, name: str) -> npt.NDArray[Any] | None:
    """Return the numbers of a TensorProto; None for other types. One number may stand for equal ones."""
    kind, shape, parts = 0, list[int](), list[npt.NDArray[Any]]()
    for field in wire.fields(tensor.start, tensor.end):
        if field.number == _TYPE and field.kind == VARINT:
            kind = field.value
        elif field.number == _SHAPE and field.kind == BYTES:
            shape += sizes_of_shape(wire, field)
        elif field.number == _CONTENT and field.kind == BYTES and kind in _DTYPES:
            parts.append(wire.array(field, _DTYPES[kind]))
        elif field.number == _FLOATS and field.kind in (BYTES, FIXED32):
            parts.append(wire.array(field, FLOAT))
        elif field.number == _INTEGERS and field.kind in (BYTES, VARINT):
            numbers = [field.value] if field.kind == VARINT else list(islice(wire.integers(field), 8))
            parts.append(np.array([number & 0x7FFFFFFF for number in numbers], "<i4"))
    if kind not in _DTYPES:
        return None
    values = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, _DTYPES[kind]), *parts])
    count = math.prod(shape)
    if len(shape) > _MOST_AXES or count > wire.size or len(values) not in (1, count):
        raise wire.damaged(tensor.position, f"constant {name[:80]} of shape {shape[:8]} has {len(values)} numbers")
    return values.reshape(shape) if len(values) == count else np.broadcast_to(values, shape)
