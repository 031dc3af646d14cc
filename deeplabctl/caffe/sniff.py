"""Tell Caffe's files from others by their first bytes, never by their names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from deeplabctl.caffe.hdf5 import is_hdf5, kind_of_hdf5
from deeplabctl.caffe.wire import BYTES, FIXED32, MAX_TEXT, VARINT, Field, WireFile, signed
from deeplabctl.errors import WeightsError

FIELDS_LOOKED_AT = 64

# Of NetParameter: name, layers, input, force_backward, state, debug_info, input_shape, layer.
NET_FIELDS = {1: BYTES, 2: BYTES, 3: BYTES, 5: VARINT, 6: BYTES, 7: VARINT, 8: BYTES, 100: BYTES}
NET_TEXTS = {1, 3}
LAYER_TEXTS = {2: {2, 3, 4}, 100: {1, 2, 3, 4}}  # bottom, top and name of V1; name, type, bottom and top of V2


def caffe_kind(path: str | Path) -> Literal["net", "solver"] | None:
    """Tell whether a file is a net or a solver state (momenta without weights), binary or HDF5; None for others.

    A binary net may be cut off. A few pages of the file are read at most.
    """
    path = Path(path)
    try:
        if is_hdf5(path):
            return kind_of_hdf5(path)
        wire = WireFile(path)
        return "solver" if _solver_state(wire) is not None else "net" if begins_like_caffemodel(wire) else None
    except WeightsError:
        return None


def what_else(wire: WireFile) -> str | None:
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


def begins_like_caffemodel(wire: WireFile) -> bool:
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
