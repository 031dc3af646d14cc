"""Read the weights of the TFLite files that DeepLab's authors and TensorFlow published, without their packages.

A TFLite file is a flatbuffer. The norms of such a graph are folded into its convolutions; the kernels and biases of a
quantized one are integers: ``scale * (q - zero_point)``. Source: tensorflow/lite/schema/schema.fbs, and
flatbuffers.dev, "FlatBuffer Internals".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.damage import check_claim
from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights, norm_epsilons
from deeplabctl.protobuf import MAX_TEXT, WireFile
from deeplabctl.weights.sources.exports import TFLiteFile
from deeplabctl.weights.sources.tensorflow_checkpoints import layer_of_scope
from deeplabctl.weights.weight_file import Beginning, WeightFile

_SCOPE = b"MobilenetV2/"  # in the names of tensors
_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4  # of Model
_OLD_CODE, _CODE = 0, 3  # of OperatorCode
_TENSORS, _OPERATORS = 0, 3  # of SubGraph
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTIZATION = 0, 1, 2, 3, 4  # of Tensor
_SCALE, _ZERO_POINT, _AXIS = 2, 3, 6  # of QuantizationParameters
_OPCODE, _INPUTS, _OPTIONS = 0, 1, 4  # of Operator
_DATA = 0  # of Buffer
_CONVOLUTION, _DEPTHWISE = 3, 4  # codes of operators
_DILATION = {_CONVOLUTION: 4, _DEPTHWISE: 5}  # where their options have that of the width; the height's is next
_DTYPES = {0: "<f4", 2: "<i4", 3: "u1", 9: "i1"}
_MOST_AXES = 8


class _Table(NamedTuple):
    """Point to a table of a flatbuffer; every place is compared with the size of the file."""

    wire: WireFile
    at: int

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """Return a number of a struct format, or the default that is not stored."""
        place = self._place(field)
        return _number(self.wire, kind, place) if place else default

    def table(self, field: int) -> _Table | None:
        """Return the table that a field points to."""
        place = self._place(field)
        return _Table(self.wire, place + _number(self.wire, "<I", place)) if place else None

    def tables(self, field: int) -> list[_Table]:
        """Return the tables of a vector."""
        places, start = self.array(field, "<u4"), self._vector(field)
        self.wire.count(start, len(places))
        return [_Table(self.wire, start + 4 * index + int(place)) for index, place in enumerate(places)]

    def array(self, field: int, dtype: str) -> npt.NDArray[Any]:
        """Return a view of a vector of numbers; an empty one if it is not there."""
        start = self._vector(field)
        if not start:
            return np.empty(0, dtype)
        count, size = _number(self.wire, "<I", start - 4), np.dtype(dtype).itemsize
        if count * size > self.wire.size - start:
            raise self.wire.damaged(start, f"a vector of {count} numbers goes beyond the end")
        return np.ndarray((count,), dtype, self.wire.buffer, start)

    def text(self, field: int) -> str:
        """Return a text, as far as it is a name."""
        raw = self.array(field, "u1")[: 16 * MAX_TEXT].tobytes().decode("utf-8", "replace")
        return "".join(char if char.isprintable() else "\ufffd" for char in raw)

    def _vector(self, field: int) -> int:
        """Return where the elements of a vector begin, after their number; 0 if it is not there."""
        place = self._place(field)
        return place + _number(self.wire, "<I", place) + 4 if place else 0

    def _place(self, field: int) -> int:
        """Return where a field is; 0 if it is not there."""
        layout = self.at - _number(self.wire, "<i", self.at)
        slot = 4 + 2 * field
        offset = _number(self.wire, "<H", layout + slot) if slot < _number(self.wire, "<H", layout) else 0
        return self.at + offset if offset else 0


def _number(wire: WireFile, kind: str, at: int) -> int:
    if not 0 <= at <= wire.size - struct.calcsize(kind):
        raise wire.damaged(min(max(at, 0), wire.size), "an offset leads out of the file")
    return int(struct.unpack_from(kind, wire.buffer, at)[0])


class _Convolution(NamedTuple):
    kernel: npt.NDArray[np.float32]  # HWIO, or HWC1
    bias: npt.NDArray[np.float32]
    dilations: tuple[int, int]


class TFLiteWeights(WeightFile):
    """Hold a TFLite file of a DeepLab v3 on MobileNet v2, float32 or quantized, that deeplabctl did not write."""

    words = "TFLite file of another program"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether a graph has tensors of MobileNet v2, and is not an export of ours."""
        if not TFLiteFile.recognises(start) or TFLiteFile(start.path).has_facts:
            return False
        return WireFile(start.path).has(_SCOPE)

    @cached_property
    def _convolutions(self) -> dict[str, _Convolution]:
        wire = WireFile(self.path)
        model = _Table(wire, _number(wire, "<I", 0))
        codes = [max(code.number(_OLD_CODE, "<b"), code.number(_CODE, "<i")) for code in model.tables(_CODES)]
        buffers = model.tables(_BUFFERS)
        found: dict[str, _Convolution] = {}
        claimed = 0
        for graph in model.tables(_SUBGRAPHS)[:1]:
            tensors = graph.tables(_TENSORS)
            for operator in graph.tables(_OPERATORS):
                code = operator.number(_OPCODE, "<I")
                if code >= len(codes) or codes[code] not in _DILATION:
                    continue
                inputs = operator.array(_INPUTS, "<i4")[:4].tolist()
                if not 2 <= len(inputs) <= 3 or not all(-1 <= each < len(tensors) for each in inputs):
                    raise wire.damaged(operator.at, "a convolution has other inputs than a kernel and a bias")
                kernel = tensors[inputs[1]]
                bias = tensors[inputs[2]] if len(inputs) == 3 and inputs[2] >= 0 else None
                layer = _layer(kernel.text(_NAME))
                values = _floats(kernel, buffers)
                if values.ndim != 4 or layer in found:
                    raise wire.damaged(operator.at, f"layer {layer[:80]} has several kernels, or none of four axes")
                outputs = values.shape[3 if codes[code] == _DEPTHWISE else 0]
                biases = np.zeros(outputs, np.float32) if bias is None else _floats(bias, buffers)
                claimed += values.nbytes + biases.nbytes
                check_claim(self.path, claimed)
                options, place = operator.table(_OPTIONS), _DILATION[codes[code]]
                width, height = (options.number(place + each, "<i", 1) if options else 1 for each in (0, 1))
                found[layer] = _Convolution(np.ascontiguousarray(values.transpose(1, 2, 3, 0)), biases, (height, width))
        return found

    def _read_weights(self) -> Weights:
        weights: Weights = {}
        epsilons = norm_epsilons()
        for layer, (kernel, bias, _) in self._convolutions.items():
            weights[f"{layer}/kernel"] = kernel
            norm = f"{layer}_BatchNorm"
            if (epsilon := epsilons.get(norm)) is None:
                weights[f"{layer}/bias"] = bias
                continue
            # The norm is folded into the kernel: what is left of it adds the bias.
            ones = np.ones(bias.shape, np.float32)
            weights[f"{norm}/gamma"] = ones * np.float32(math.sqrt(1 + epsilon))
            weights |= {f"{norm}/beta": bias, f"{norm}/moving_mean": ones * 0, f"{norm}/moving_variance": ones}
        if not weights:
            raise WeightsError(f"weights {self.path}: expected the convolutions of a network, got a graph without any")
        return weights

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return the dilations of all convolutions."""
        return {layer: convolution.dilations for layer, convolution in self._convolutions.items()}


def _layer(tensor: str) -> str:
    """Return our name of the layer of a kernel, from the last of the names that its tensor has."""
    scope = tensor.rpartition(";")[2].replace("MobilenetV2/MobilenetV2/", "MobilenetV2/")
    scope = scope.removesuffix("/weights_quant/FakeQuantWithMinMaxVars")
    return layer_of_scope(scope.removesuffix("/weights").removesuffix("/depthwise_weights"))


def _floats(tensor: _Table, buffers: list[_Table]) -> npt.NDArray[np.float32]:
    """Return the values of a constant tensor."""
    wire, name, kind = tensor.wire, tensor.text(_NAME)[:80], tensor.number(_TYPE, "<b")
    shape, index = tensor.array(_SHAPE, "<i4").tolist(), tensor.number(_BUFFER, "<I")
    content = buffers[index].array(_DATA, "u1") if index < len(buffers) else np.empty(0, np.uint8)
    if kind not in _DTYPES or not content.size:
        raise WeightsError(
            f"weights {wire.path}: tensor {name}: expected float32 or quantized integers in the file, got others; "
            "convert it without float16"
        )
    dtype = np.dtype(_DTYPES[kind])
    if len(shape) > _MOST_AXES or min([0, *shape]) < 0 or math.prod(shape) * dtype.itemsize != content.size:
        raise wire.damaged(tensor.at, f"tensor {name} of shape {shape[:_MOST_AXES]} has {content.size} bytes")
    values = content.view(dtype).reshape(shape)
    if dtype.kind == "f":
        return values
    quantization = tensor.table(_QUANTIZATION)
    scale = quantization.array(_SCALE, "<f4") if quantization else np.empty(0, "<f4")
    zero = quantization.array(_ZERO_POINT, "<i8") if quantization else np.empty(0, "<i8")
    axis = quantization.number(_AXIS, "<i") if quantization else 0
    if not 0 <= axis < values.ndim or scale.size not in (1, values.shape[axis]) or zero.size not in (1, scale.size):
        raise wire.damaged(tensor.at, f"tensor {name} has {scale.size} scales and {zero.size} zero points")
    along = [-1 if each == axis else 1 for each in range(values.ndim)]
    found = scale.astype(np.float64).reshape(along) * (values - zero.astype(np.float64).reshape(along))
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused
        return found.astype(np.float32)
