"""Build the ONNX graph of a network: uint8 RGB images of any size in, labels and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplabctl.network import Architecture, Preprocessing
from deeplabctl.network.ops import Node
from deeplabctl.network.ops.onnx_graph import OnnxGraph, Value, make_model
from deeplabctl.network.ops.operation import export_nodes
from deeplabctl.network.ops.resize import onnx_resize
from deeplabctl.prediction.engines.engine import Fusion

if TYPE_CHECKING:
    import onnx

_LAST = -(1 << 62)  # as the end of a slice backwards


def build_onnx(
    nodes: Sequence[Node], architecture: Architecture, scales: Sequence[float], *, flip: bool, half: bool = False
) -> onnx.ModelProto:
    """Return the model of a network's nodes.

    It takes ``image`` (N, H, W, 3) uint8 RGB and gives ``label`` (N, H, W) uint8 and ``scores`` (N, H, W, C). With
    ``half`` the kernels are stored as float16, of which a runtime makes float32 when it loads the model.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = OnnxGraph(half=half)
    how = Fusion.of(architecture, scales, flip=flip)
    step = graph.ints(architecture.padded_step)
    size = graph.add("Slice", graph.add("Shape", "image"), graph.ints(1), graph.ints(3))
    steps = graph.add("Div", graph.add("Add", size, graph.ints(architecture.padded_step - 2)), step)
    last = graph.add("Mul", steps, step)
    full = graph.add("Add", last, graph.ints(1))
    inputs = _preprocessed(graph, architecture.preprocessing, size, full, flip=flip)
    coarse = []
    for number, scale in enumerate(scales):
        images = inputs if scale == 1 else onnx_resize(graph, inputs, _scaled(graph, steps, scale, step))
        coarse.append(export_nodes(graph, nodes, images, number))
    grid = graph.add("Add", graph.add("Div", last, graph.ints(architecture.output_stride)), graph.ints(1))
    if how.averages:
        coarse = [
            onnx_resize(graph, logits, grid, half_pixel=how.half_pixel) if scale < 1 else logits
            for logits, scale in zip(coarse, scales, strict=True)
        ]
    elif how.on_grid:
        coarse = [graph.add("Max", *(onnx_resize(graph, logits, grid) for logits in coarse))]
    upsampled = [
        _cropped(graph, onnx_resize(graph, logits, full, half_pixel=how.half_pixel), size) for logits in coarse
    ]
    if how.averages:
        upsampled = [graph.add("Softmax", logits, axis=1) for logits in upsampled]
    fused = upsampled[0] if len(upsampled) == 1 else graph.add("Mean" if how.averages else "Max", *upsampled)
    fused = _unmirrored(graph, fused) if flip else fused
    fused = graph.add("Transpose", fused, perm=[0, 2, 3, 1], name="scores" if how.averages else "")
    label = graph.add("ArgMax", fused, axis=-1, keepdims=0)
    graph.add("Cast", label, to=TensorProto.UINT8, name="label")
    if not how.averages:
        graph.add("Softmax", fused, axis=-1, name="scores")

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "height", "width", 3])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.UINT8, ["n", "height", "width"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", "height", "width", nodes[-1].channels]),
    ]
    model = make_model(graph, architecture.name, [image], outputs)
    onnx.checker.check_model(model)
    return model


def _preprocessed(graph: OnnxGraph, preprocessing: Preprocessing, size: Value, full: Value, *, flip: bool) -> Value:
    """Return the network's input (N or 2N, 3, H, W): preprocessed, the mirrored images last, padded."""
    pixels = preprocessing.export_onnx(graph, graph.add("Transpose", "image", perm=[0, 3, 1, 2]))
    if flip:
        pixels = graph.add("Concat", pixels, _mirrored(graph, pixels), axis=0)
    before = graph.ints(0, 0, 0, 0, 0, 0)
    missing = graph.add("Concat", before, graph.add("Sub", full, size), axis=0)
    return graph.add("Pad", pixels, missing)


def _mirrored(graph: OnnxGraph, images: Value) -> Value:
    return graph.add("Slice", images, graph.ints(-1), graph.ints(_LAST), graph.ints(3), graph.ints(-1))


def _unmirrored(graph: OnnxGraph, values: Value) -> Value:
    """Return the mean of the images' logits or scores and the mirrored images', mirrored back."""
    count = graph.add("Slice", graph.add("Shape", "image"), graph.ints(0), graph.ints(1))
    twice = graph.add("Add", count, count)
    images = graph.add("Slice", values, graph.ints(0), count, graph.ints(0))
    mirrored = _mirrored(graph, graph.add("Slice", values, count, twice, graph.ints(0)))
    return graph.add("Div", graph.add("Add", images, mirrored), graph.array("two", np.array(2, np.float32)))


def _scaled(graph: OnnxGraph, steps: Value, scale: float, step: Value) -> Value:
    """Return the size at a scale, as `scaled_size` does: whole steps; in float64, halves to even numbers."""
    from onnx import TensorProto

    exact = graph.add("Cast", steps, to=TensorProto.DOUBLE)
    rounded = graph.add("Round", graph.add("Mul", exact, graph.array(f"scale_{scale}", np.array(scale, np.float64))))
    whole = graph.add("Cast", rounded, to=TensorProto.INT64)
    return graph.add("Add", graph.add("Mul", whole, step), graph.ints(1))


def _cropped(graph: OnnxGraph, images: Value, size: Value) -> Value:
    return graph.add("Slice", images, graph.ints(0, 0), size, graph.ints(2, 3))


def nodes_of(model: onnx.ModelProto, layers: set[str]) -> list[str]:
    """Return the names of the nodes that compute some layers, at all scales."""
    return [node.name for node in model.graph.node if node.name.partition("/")[0] in layers]
