"""Read the variables of a TensorFlow checkpoint of the first format (V1: one file) without TensorFlow.

The file is a sorted table, as the index of a V2 checkpoint is; its values are SavedTensorSlices messages: under the
empty key the variables' names and shapes, under every other key the numbers of a variable.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.wire import BYTES, DOUBLE, FIXED32, FIXED64, FLOAT, Field, WireFile
from deeplabctl.errors import WeightsError
from deeplabctl.weights.tf_checkpoint import MAGIC, MOST_AXES, table_entries

_META, _DATA = 1, 2  # of SavedTensorSlices
_FLOATS, _DOUBLES = 5, 6  # of TensorProto; other types are counters, which are left out


def is_checkpoint_v1(path: Path) -> bool:
    """Tell whether a file ends as such a checkpoint does; the index of a V2 one does, too."""
    try:
        with path.open("rb") as file:
            file.seek(-len(MAGIC), 2)
            return file.read() == MAGIC
    except (OSError, ValueError):
        return False


def read_checkpoint_v1(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the variables of floats by name; raises WeightsError for a checkpoint that is damaged."""
    wire = WireFile(path)
    shapes: dict[str, tuple[int, ...]] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for _, (start, end) in table_entries(wire):
        for field in wire.fields(start, end):
            if field.kind == BYTES and field.number == _META:
                shapes |= _shapes(wire, field)
            elif field.kind == BYTES and field.number == _DATA:
                name, values = _slice(wire, field)
                if values is not None:
                    arrays[name] = values
    found = {}
    for name, values in arrays.items():
        shape = shapes.get(name)
        if shape is None or math.prod(shape) != values.size:
            raise WeightsError(
                f"weights {path}: variable {name[:80]}: expected {shape or 'a shape'}, got {values.size} numbers; the "
                "file is damaged, or a part of a variable that was saved in parts"
            )
        found[name] = values.reshape(shape)
    if not found:
        raise WeightsError(f"weights {path}: expected a checkpoint with variables, got a table without any")
    return found


def _shapes(wire: WireFile, meta: Field) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a SavedTensorSliceMeta: 1 tensor { 1 name, 2 shape { 2 dim { 1 size } } }."""
    found = {}
    for tensor in wire.fields(meta.start, meta.end):
        if tensor.kind != BYTES or tensor.number != 1:
            continue
        name, shape = "", []
        for field in wire.fields(tensor.start, tensor.end):
            if field.kind == BYTES and field.number == 1:
                name = wire.text(field)
            elif field.kind == BYTES and field.number == 2:
                for dim in wire.fields(field.start, field.end):
                    if dim.kind == BYTES and dim.number == 2:
                        sizes = [size.value for size in wire.fields(dim.start, dim.end) if size.number == 1]
                        shape.append(sizes[0] if sizes else 0)
        if len(shape) > MOST_AXES:
            raise wire.damaged(tensor.position, f"a variable has {len(shape)} axes")
        found[name] = tuple(shape)
    return found


def _slice(wire: WireFile, data: Field) -> tuple[str, npt.NDArray[Any] | None]:
    """Return name and numbers of a SavedSlice: 1 name, 3 TensorProto; None for numbers that are no floats."""
    name, parts = "", []
    for field in wire.fields(data.start, data.end):
        if field.kind == BYTES and field.number == 1:
            name = wire.text(field)
        elif field.kind == BYTES and field.number == 3:
            for values in wire.fields(field.start, field.end):
                if values.number == _FLOATS and values.kind in (BYTES, FIXED32):
                    parts.append(wire.array(values, FLOAT))
                elif values.number == _DOUBLES and values.kind in (BYTES, FIXED64):
                    parts.append(wire.array(values, DOUBLE))
    return name, np.concatenate(parts) if parts else None
