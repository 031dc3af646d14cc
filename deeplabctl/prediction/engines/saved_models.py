"""Load what a SavedModel computes, and nothing else of it: such a folder is a program, which may also write files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from deeplabctl.errors import WeightsError
from deeplabctl.network.tensorflow_startup import start_tensorflow

# Those that exports have. None of them reads or writes a file, calls Python, or remembers anything.
OPERATIONS = frozenset([
    "AddN", "AddV2", "ArgMax", "AvgPool", "BatchToSpaceND", "BroadcastTo", "Cast", "ConcatV2", "Const", "Conv2D",
    "DepthwiseConv2dNative", "FloorDiv", "FloorMod", "Identity", "MaxPool", "Maximum", "Mean", "Mul", "Pack", "Pad",
    "PartitionedCall", "Placeholder", "RealDiv", "Relu", "Relu6", "Reshape", "ResizeBilinear", "ReverseV2", "Round",
    "Shape", "Softmax", "SpaceToBatchND", "StatefulPartitionedCall", "StridedSlice", "Sub", "Unpack",
])  # fmt: skip


def load_signature(path: Path) -> Callable[..., dict[str, Any]]:
    """Return the function of the serving signature.

    It is built of the operations on the way to its outputs. TensorFlow's own loader would also run what the file wants
    to be run when it is loaded. Raises WeightsError for an operation that no export has.
    """
    start_tensorflow()
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]
    signature = content.signature_def["serving_default"]
    outputs = {name: signature.outputs[name].name for name in ("label", "scores")}
    graph = _part(content.graph_def, outputs.values())
    found = {node.op for part in (graph.node, *(one.node_def for one in graph.library.function)) for node in part}
    if others := found - OPERATIONS:
        raise WeightsError(
            f"weights {path}: expected the operations of an export only, got "
            f"{', '.join(sorted(others))[:200]}: another program wrote or changed it; export it again"
        )
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    tensor = wrapped.graph.as_graph_element
    image = tensor(signature.inputs["image"].name)
    function: Callable[..., dict[str, Any]] = wrapped.prune(image, {name: tensor(at) for name, at in outputs.items()})
    return function


def _part(graph: Any, outputs: Iterable[str]) -> Any:
    """Return the nodes of a GraphDef that the outputs need, with the functions that these call, under new names.

    A process knows each name of a function once, and the functions of two files may have the same names.
    """
    nodes, functions = {node.name: node for node in graph.node}, {f.signature.name: f for f in graph.library.function}
    part, waiting = type(graph)(versions=graph.versions), [output.partition(":")[0] for output in outputs]
    own, called = uuid.uuid4().hex, list[str]()

    def take(node: Any) -> None:
        for value in node.attr.values():
            for one in (*([value.func] if value.HasField("func") else []), *value.list.func):
                called.append(one.name)
                one.name += own

    while waiting:
        if (node := nodes.pop(waiting.pop(), None)) is not None:
            take(node)
            part.node.append(node)
            waiting += [name.removeprefix("^").partition(":")[0] for name in node.input]
    while called:
        if (function := functions.pop(called.pop(), None)) is not None:
            for node in function.node_def:
                take(node)
            function.signature.name += own
            part.library.function.append(function)
    return part
