"""Recognize and read ``.caffemodel`` files: Caffe's NetParameter message, as V1 ``layers`` or V2 ``layer``, or HDF5.

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

from deeplabctl.caffe.net import CONVOLUTION, INNER_PRODUCT, CaffeLayer, CaffeNet
from deeplabctl.damage import DAMAGED, check_claim, refusing
from deeplabctl.errors import WeightsError
from deeplabctl.protobuf import (
    BYTES,
    DOUBLE,
    DOUBLES,
    FLOAT,
    FLOATS,
    INTEGERS,
    MAX_TEXT,
    VARINT,
    Field,
    WireFile,
    signed,
)

MAX_AXES = 32  # kMaxBlobAxes in blob.hpp
MAX_COUNT = 2**31 - 1  # Caffe counts a blob's values in an int


class Layout(NamedTuple):
    """Hold the field numbers of a layer."""

    version: str
    name: int
    type: int
    blobs: int
    texts: tuple[int, ...]  # of V1 name, bottom and top; of V2 type as well


LAYOUTS = {2: Layout("V1", 4, 5, 6, (2, 3, 4)), 100: Layout("V2", 1, 2, 7, (1, 2, 3, 4))}  # by NetParameter's field
CONVOLUTION_PARAM, DILATION = 106, 18  # of V2's LayerParameter, and of ConvolutionParameter
BATCH_NORM_PARAM, EPSILON = 139, 3  # and of BatchNormParameter
BLOB = {**dict.fromkeys((1, 2, 3, 4), (VARINT,)), 5: FLOATS, 7: (BYTES,), 8: DOUBLES}  # dimensions, data, shape, data

V1_TYPES = {4: CONVOLUTION, 14: INNER_PRODUCT}  # V1LayerParameter.LayerType, as V2 names those with weights

# Of NetParameter: name, layers, input, force_backward, state, debug_info, input_shape, layer.
NET_FIELDS = {1: BYTES, 2: BYTES, 3: BYTES, 5: VARINT, 6: BYTES, 7: VARINT, 8: BYTES, 100: BYTES}
NET_TEXTS = (1, 3)
SOLVER_FIELDS = {1: VARINT, 2: BYTES, 3: BYTES, 4: VARINT}  # of SolverState: iter, learned_net, history, current_step
FIELDS_LOOKED_AT = 64


def read_caffemodel(path: str | Path) -> CaffeNet:
    """Read a ``.caffemodel`` or ``.caffemodel.h5``; every layer is returned, with or without blobs, in file order.

    Blobs of the binary formats are read-only views of the file, which stays mapped as long as one of them lives;
    ``diff`` fields are not read, and no value is checked (`net_weights` refuses NaN). Where a blob has both
    forms, legacy dimensions go before ``shape`` and double data before float data, as in Caffe. Raises WeightsError,
    in one line, for a damaged file and for a file without a net's weights: a solver state is named as such.
    """
    path = Path(path)
    wire = WireFile(path)
    if wire.buffer[: len(SIGNATURE)] == SIGNATURE:
        return read_hdf5(path)
    if state := _solver_state(wire):
        iteration, net = state
        raise WeightsError(
            f"weights {path}: this is a solver state of iteration {iteration} for the net {net or '(not named)'}; "
            "give the .caffemodel beside it"
        )
    return _net(wire)


def caffe_kind(path: str | Path) -> Literal["net", "solver"] | None:
    """Tell whether a file is a net or a solver state (momenta without weights), binary or HDF5; None for others.

    A binary net may be cut off. A few pages of the file are read at most.
    """
    path = Path(path)
    try:
        wire = WireFile(path)
        if wire.buffer[: len(SIGNATURE)] == SIGNATURE:
            return kind_of_hdf5(path)
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
    numbers = {layout.name: (BYTES,), layout.type: (BYTES, VARINT), layout.blobs: (BYTES,)}
    numbers |= dict.fromkeys((CONVOLUTION_PARAM, BATCH_NORM_PARAM), (BYTES,))
    fields = wire.message(layer, numbers)
    name = wire.last_text(fields[layout.name])
    type_ = ""
    for field in fields[layout.type]:
        type_ = wire.text(field) if field.kind == BYTES else V1_TYPES.get(field.value, f"V1 type {field.value}")
    arrays = tuple(_blob(wire, blob, f"{name}, blob {n}") for n, blob in enumerate(fields[layout.blobs]))
    if layout.version == "V1":
        return CaffeLayer(name, type_, arrays)
    norms = [wire.message(settings, {EPSILON: FLOATS})[EPSILON] for settings in fields[BATCH_NORM_PARAM]]
    epsilons = [float(wire.array(part, FLOAT)[-1]) for parts in norms for part in parts if part.start < part.end]
    dilations = tuple(_integers(wire, fields[CONVOLUTION_PARAM], DILATION))
    return CaffeLayer(name, type_, arrays, dilations, epsilons[-1] if epsilons else None)


def _integers(wire: WireFile, messages: list[Field], number: int) -> list[int]:
    """Return the numbers of a repeated field, of a message that may have been given in parts; one too many at most."""
    fields = (field for message in messages for field in wire.message(message, {number: INTEGERS})[number])
    return list(islice((value for field in fields for value in wire.integers(field)), MAX_AXES + 1))


def _blob(wire: WireFile, blob: Field, where: str) -> npt.NDArray[Any]:
    fields = wire.message(blob, BLOB)
    legacy = {axis: signed(fields[axis][-1].value, 32) for axis in (1, 2, 3, 4) if fields[axis]}
    dims = [legacy.get(axis, 0) for axis in (1, 2, 3, 4)] if legacy else _integers(wire, fields[7], 1)
    shape = tuple(dims)
    if len(shape) > MAX_AXES:
        raise WeightsError(f"weights {wire.path}: layer {where}: expected {MAX_AXES} axes at most")
    if min(shape, default=0) < 0 or prod(max(dim, 1) for dim in shape) > MAX_COUNT:
        raise WeightsError(f"weights {wire.path}: layer {where}: expected dimensions of a blob, got {shape}")
    floats, doubles = ([wire.array(part, dtype) for part in fields[n]] for n, dtype in ((5, FLOAT), (8, DOUBLE)))
    parts = doubles if any(part.size for part in doubles) else floats
    count = sum(part.size for part in parts)
    if prod(shape) != count:
        raise WeightsError(
            f"weights {wire.path}: layer {where}: expected {prod(shape)} values for the shape {shape}, got {count}; "
            "the file is damaged: get it again"
        )
    values = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, FLOAT)])
    return values.reshape(shape)


def _begins_like_net(wire: WireFile) -> bool:
    """Tell whether a first layer with a readable name, type, bottom or top follows fields that a net may have."""
    for field in _beginning(wire):
        if NET_FIELDS.get(field.number, field.kind) != field.kind:
            return False
        if field.number in NET_TEXTS and not _is_text(wire, field):
            return False
        if layout := LAYOUTS.get(field.number):
            inside = [each for each in _beginning(wire, field.start, field.end) if each.number in layout.texts]
            return any(each.start < each.end for each in inside) and all(_is_text(wire, each) for each in inside)
    return False


def _solver_state(wire: WireFile) -> tuple[int, str] | None:
    """Return the iteration and the net's file of a solver state; None for any other file."""
    fields = list(_beginning(wire))
    if any(SOLVER_FIELDS.get(field.number) != field.kind for field in fields):
        return None
    iteration = next((signed(field.value, 32) for field in reversed(fields) if field.number == 1), None)
    nets = [wire.text(field) for field in fields if field.number == 2]
    if iteration is None or not any(field.kind == BYTES for field in fields) or any("\ufffd" in net for net in nets):
        return None  # as TensorFlow's SavedModel, which has a message for field 2
    return iteration, "".join(nets[-1:])


def _beginning(wire: WireFile, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the first fields of a message, as far as they can be read."""
    try:
        yield from islice(wire.fields(start, end), FIELDS_LOOKED_AT)
    except WeightsError:
        return


def _is_text(wire: WireFile, field: Field) -> bool:
    return field.kind == BYTES and field.end <= field.start + MAX_TEXT and "\ufffd" not in wire.text(field)


SIGNATURE = b"\x89HDF\r\n\x1a\n"


def kind_of_hdf5(path: Path) -> Literal["net", "solver"] | None:
    """Return 'net' for a ``.caffemodel.h5``, 'solver' for a ``.solverstate.h5``; None for others, as Keras' are."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "iter" in file and "history" in file:
                return "solver"
            inside = isinstance(file.get("data", getlink=True), h5py.HardLink)
            found = inside and file["data"].visititems(lambda name, _: True if name.endswith("/0") else None)
    except DAMAGED:
        return None
    return "net" if found else None


def read_hdf5(path: Path) -> CaffeNet:
    """Read a net's weights; ``diff`` and links to other files are left out.

    Raises WeightsError for damaged files and for HDF5 files of other programs.
    """
    import h5py

    kind = kind_of_hdf5(path)
    if kind == "solver":
        raise WeightsError(f"weights {path}: this is a solver state; give the .caffemodel.h5 beside it")
    if kind is None:
        raise WeightsError(f"weights {path}: expected Caffe's HDF5 layout (data/<layer>/0), got another HDF5 file")
    found: dict[str, dict[str, Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, index = name.rpartition("/")
            found.setdefault(layer, {})[index] = item
        else:
            found.setdefault(name, {})

    with refusing(path), h5py.File(path, "r") as file:
        file["data"].visititems(visit)  # hard links only: nothing outside the file
        check_claim(path, sum(blob.nbytes for blobs in found.values() for blob in blobs.values()))
        layers = [CaffeLayer(name, "", tuple(_blobs(path, name, blobs))) for name, blobs in found.items()]
    return CaffeNet(path, "", "HDF5", tuple(layers))


def _blobs(path: Path, layer: str, datasets: dict[str, Any]) -> list[npt.NDArray[Any]]:
    expected = [str(index) for index in range(len(datasets))]
    if set(datasets) != set(expected):
        raise WeightsError(f"weights {path}: layer {layer}: expected blobs {expected}, got {sorted(datasets)}")
    blobs = []
    for index in expected:
        dataset = datasets[index]
        if dataset.dtype.kind != "f" or dataset.external or dataset.is_virtual:
            raise WeightsError(
                f"weights {path}: layer {layer}, blob {index}: expected floats in the file itself, got {dataset.dtype}"
            )
        blobs.append(np.asarray(dataset[()], np.float64 if dataset.dtype.itemsize > 4 else np.float32))
    return blobs
