"""Recognise and read ``.caffemodel`` files: Caffe's NetParameter message, as V1 ``layers`` or V2 ``layer``, or HDF5.

Field numbers are those of caffe.proto in BVLC Caffe and in the DeepLab fork, which agree on all that is read here. They
do not agree on geometry (the fork's ``hole`` is BVLC's ``force_nd_im2col``): of that, only V2's dilations are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.hdf5 import is_hdf5, kind_of_hdf5, read_hdf5
from deeplabctl.caffe.net import CaffeLayer, CaffeNet
from deeplabctl.caffe.wire import BYTES, DOUBLE, FIXED32, FIXED64, FLOAT, MAX_TEXT, VARINT, Field, WireFile, signed
from deeplabctl.errors import WeightsError

MAX_AXES = 32  # kMaxBlobAxes in blob.hpp
MAX_COUNT = 2**31 - 1  # Caffe counts a blob's values in an int


class Layout(NamedTuple):
    """Hold the field numbers of a layer."""

    version: str
    name: int
    type: int
    blobs: int


CONVOLUTION_PARAM, DILATION = 106, 18  # of V2's LayerParameter, and of ConvolutionParameter

LAYOUTS = {2: Layout("V1", 4, 5, 6), 100: Layout("V2", 1, 2, 7)}  # by the number of NetParameter's repeated field

# V1LayerParameter.LayerType under V2's names. From 39 on the DeepLab fork's own; BVLC's 39 is Deconvolution.
V1_TYPES = {
    0: "None", 1: "Accuracy", 2: "BNLL", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 7: "EuclideanLoss",
    8: "Flatten", 9: "HDF5Data", 10: "HDF5Output", 11: "Im2col", 12: "ImageData", 13: "InfogainLoss",
    14: "InnerProduct", 15: "LRN", 16: "MultinomialLogisticLoss", 17: "Pooling", 18: "ReLU", 19: "Sigmoid",
    20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 23: "TanH", 24: "WindowData", 25: "Eltwise", 26: "Power",
    27: "SigmoidCrossEntropyLoss", 28: "HingeLoss", 29: "MemoryData", 30: "ArgMax", 31: "Threshold", 32: "DummyData",
    33: "Slice", 34: "MVN", 35: "AbsVal", 36: "Silence", 37: "ContrastiveLoss", 38: "Exp", 39: "ImageSegData",
    40: "SegAccuracy", 41: "Interp", 42: "Padding", 45: "DenseCRF",
}  # fmt: skip


FIELDS_LOOKED_AT = 64

# Of NetParameter: name, layers, input, force_backward, state, debug_info, input_shape, layer.
NET_FIELDS = {1: BYTES, 2: BYTES, 3: BYTES, 5: VARINT, 6: BYTES, 7: VARINT, 8: BYTES, 100: BYTES}
NET_TEXTS = {1, 3}
LAYER_TEXTS = {2: {2, 3, 4}, 100: {1, 2, 3, 4}}  # bottom, top and name of V1; name, type, bottom and top of V2


def read_caffemodel(path: str | Path) -> CaffeNet:
    """Read a ``.caffemodel`` or ``.caffemodel.h5``; every layer is returned, with or without blobs, in file order.

    Blobs of the binary formats are read-only views of the file, which stays mapped as long as one of them lives;
    ``diff`` fields are not read, and no value is checked (`net_weights` refuses NaN). Where a blob has both
    forms, legacy dimensions go before ``shape`` and double data before float data, as in Caffe. Raises WeightsError,
    in one line, for a damaged file and for a file without a net's weights: a solver state and a mean image are named
    as such.
    """
    path = Path(path)
    if is_hdf5(path):
        return read_hdf5(path)
    wire = WireFile(path)
    if other := _what_else(wire):
        raise WeightsError(f"weights {path}: {other}")
    try:
        return _net(wire)
    except WeightsError as error:
        if _begins_like_net(wire):
            raise
        reason = str(error).removeprefix(f"weights {path}: ")
        raise WeightsError(f"weights {path}: this does not begin like a .caffemodel; read as one, {reason}") from None


def caffe_kind(path: str | Path) -> Literal["net", "solver"] | None:
    """Tell whether a file is a net or a solver state (momenta without weights), binary or HDF5; None for others.

    A binary net may be cut off. A few pages of the file are read at most.
    """
    path = Path(path)
    try:
        if is_hdf5(path):
            return kind_of_hdf5(path)
        wire = WireFile(path)
        return "solver" if _solver_state(wire) is not None else "net" if _begins_like_net(wire) else None
    except WeightsError:
        return None


def _net(wire: WireFile) -> CaffeNet:
    name, versions = "", set()
    layers: list[CaffeLayer] = []
    for field in wire.fields():
        if field.kind != BYTES:
            continue
        if field.number == 1:
            name = wire.text(field)
        elif layout := LAYOUTS.get(field.number):
            versions.add(layout.version)
            layers.append(_layer(wire, field, layout))
    if not any(layer.blobs for layer in layers):
        raise WeightsError(f"weights {wire.path}: there are no weights in it, only {len(layers)} layers without any")
    if len(versions) > 1:
        raise WeightsError(
            f"weights {wire.path}: expected layers of one format, got V1 and V2 ones together: "
            "write the file again with one version of Caffe"
        )
    return CaffeNet(wire.path, name, versions.pop(), tuple(layers))


def _layer(wire: WireFile, layer: Field, layout: Layout) -> CaffeLayer:
    name = type_ = ""
    blobs: list[Field] = []
    dilations: tuple[int, ...] = ()
    for field in wire.fields(layer.start, layer.end):
        if field.kind == BYTES:
            if field.number == layout.name:
                name = wire.text(field)
            elif field.number == layout.type:
                type_ = wire.text(field)
            elif field.number == layout.blobs:
                blobs.append(field)
            elif (layout.version, field.number) == ("V2", CONVOLUTION_PARAM):
                dilations = _dilations(wire, field)
            elif field.number == 1:  # V1's field 1 is a layer of Caffe before 2014 (V0)
                raise WeightsError(
                    f"weights {wire.path}: expected V1 or V2 layers, got V0 ones of Caffe before 2014; "
                    "run Caffe's upgrade_net_proto_binary on it"
                )
        elif field.kind == VARINT and (layout.version, field.number) == ("V1", layout.type):
            type_ = V1_TYPES.get(field.value, f"V1 type {signed(field.value, 32)}")
    arrays = tuple(_blob(wire, blob, f"{name}, blob {n}") for n, blob in enumerate(blobs))
    return CaffeLayer(name, type_, arrays, dilations)


def _dilations(wire: WireFile, settings: Field) -> tuple[int, ...]:
    """Return the dilations of a ConvolutionParameter, at most one for each axis."""
    found: list[int] = []
    for field in wire.fields(settings.start, settings.end):
        if field.number == DILATION and field.kind in (BYTES, VARINT):
            values = [field.value] if field.kind == VARINT else islice(wire.integers(field), MAX_AXES)
            found += values
    return tuple(found[:MAX_AXES])


def _blob(wire: WireFile, blob: Field, where: str) -> npt.NDArray[Any]:
    legacy: dict[int, int] = {}
    dims: list[int] = []
    floats: list[npt.NDArray[Any]] = []
    doubles: list[npt.NDArray[Any]] = []
    for field in wire.fields(blob.start, blob.end):
        if field.number <= 4 and field.kind == VARINT:
            legacy[field.number] = signed(field.value, 32)
        elif field.number == 5 and field.kind in (BYTES, FIXED32):
            floats.append(wire.array(field, FLOAT))
        elif field.number == 8 and field.kind in (BYTES, FIXED64):
            doubles.append(wire.array(field, DOUBLE))
        elif field.number == 7 and field.kind == BYTES:  # a shape given twice is merged: its dimensions follow on
            _add_dims(wire, field, dims, where)
    shape = tuple(legacy.get(axis, 0) for axis in (1, 2, 3, 4)) if legacy else tuple(dims)
    parts = doubles if any(part.size for part in doubles) else floats
    count = sum(part.size for part in parts)
    if min(shape, default=0) < 0 or prod(max(dim, 1) for dim in shape) > MAX_COUNT:
        raise WeightsError(f"weights {wire.path}: layer {where}: expected dimensions of a blob, got {shape}")
    if prod(shape) != count:
        raise WeightsError(
            f"weights {wire.path}: layer {where}: expected {prod(shape)} values for the shape {shape}, got {count}; "
            "the file is damaged: get it again"
        )
    values = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, FLOAT)])
    return values.reshape(shape)


def _add_dims(wire: WireFile, shape: Field, dims: list[int], where: str) -> None:
    for field in wire.fields(shape.start, shape.end):
        if field.number == 1 and field.kind in (BYTES, VARINT):
            for dim in wire.integers(field):
                dims.append(dim)
                if len(dims) > MAX_AXES:
                    raise WeightsError(f"weights {wire.path}: layer {where}: expected {MAX_AXES} axes at most")


def _what_else(wire: WireFile) -> str | None:
    """Describe which other message of Caffe a file holds and what to do; None for a net."""
    if state := _solver_state(wire):
        iteration, net = state
        return (
            f"this is a solver state of iteration {iteration} for the net {net or '(not named)'}; "
            "give the .caffemodel beside it"
        )
    seen = {(field.number, field.kind) for field in _beginning(wire)}
    if {(number, VARINT) for number in (1, 2, 3, 4)} <= seen and seen & {(5, BYTES), (5, FIXED32)}:
        return "this is a mean image (.binaryproto), not weights; give the .caffemodel"
    return None


def _begins_like_net(wire: WireFile) -> bool:
    """Tell whether a first layer with a readable name, type, bottom or top follows fields that a net may have."""
    try:
        for field in islice(wire.fields(), FIELDS_LOOKED_AT):
            if NET_FIELDS.get(field.number, field.kind) != field.kind:
                return False
            if field.number in NET_TEXTS and not _is_text(wire, field):
                return False
            if field.number in LAYER_TEXTS:
                return _is_layer(wire, field.start, field.end, LAYER_TEXTS[field.number])
    except WeightsError:
        return _is_cut_off_in_first_layer(wire)
    return False


def _is_layer(wire: WireFile, start: int, end: int, texts: set[int]) -> bool:
    found = False
    for field in _beginning(wire, start, end):
        if field.number in texts:
            if field.kind != BYTES or not _is_text(wire, field):
                return False
            found = found or field.start < field.end
    return found


def _is_cut_off_in_first_layer(wire: WireFile) -> bool:
    """Tell whether the fields that can be read are followed by a layer that goes beyond the end of the file."""
    after = max((field.end for field in _beginning(wire)), default=0)
    for tag, texts in ((b"\x12", LAYER_TEXTS[2]), (b"\xa2\x06", LAYER_TEXTS[100])):
        if wire.buffer[after : after + len(tag)] == tag:
            after += len(tag)
            while after < wire.size and wire.buffer[after] >= 0x80:
                after += 1
            return _is_layer(wire, after + 1, wire.size, texts)
    return False


def _solver_state(wire: WireFile) -> tuple[int, str] | None:
    """Return the iteration and the net's file of a SolverState: 1 iter, 2 learned_net, 3 history, 4 current_step."""
    kinds = {1: VARINT, 2: BYTES, 3: BYTES, 4: VARINT}
    iteration, net, others = None, "", False
    for field in _beginning(wire):
        if kinds.get(field.number) != field.kind:
            return None
        if field.number == 1:
            iteration = signed(field.value, 32)
        elif field.number == 2:
            net = wire.text(field)
            if "\ufffd" in net:  # TensorFlow's SavedModel has a message here
                return None
        others = others or field.number in (2, 3)
    return (iteration, net) if iteration is not None and others else None


def _beginning(wire: WireFile, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the first fields of a message, as far as they can be read."""
    try:
        yield from islice(wire.fields(start, end), FIELDS_LOOKED_AT)
    except WeightsError:
        return


def _is_text(wire: WireFile, field: Field) -> bool:
    return field.end <= field.start + MAX_TEXT and "\ufffd" not in wire.text(field)
