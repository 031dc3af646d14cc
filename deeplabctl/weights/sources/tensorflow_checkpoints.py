"""Read the variables of TensorFlow 1's checkpoints, as tf.train.Saver writes them, without TensorFlow.

The second format (V2) is a sorted table in ``PREFIX.index`` (LevelDB's, not compressed), whose values are protobuf
messages (BundleEntryProto), and the numbers themselves in ``PREFIX.data-00000-of-00001``. The first (V1) is one file, a
table of SavedTensorSlices messages: under the empty key the variables' names and shapes, under every other key the
numbers of a variable.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights, layer_of
from deeplabctl.network.ops.norm import NORM_PARTS
from deeplabctl.protobuf import BYTES, DOUBLE, DOUBLES, FLOAT, FLOATS, VARINT, Field, WireFile
from deeplabctl.weights.weight_file import Beginning, WeightFile

MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # at the end of a table
_FOOTER = 48  # bytes: two block handles, padding, magic
_TRAILER = 5  # bytes after a block: its compression and a checksum
_MOST_SHARDS, _MOST_AXES = 1000, 32
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}
_ENTRY = {1: (VARINT,), 2: (BYTES,), 3: (VARINT,), 4: (VARINT,), 5: (VARINT,)}  # of BundleEntryProto, see below
_META, _DATA = 1, 2  # of V1's SavedTensorSlices
_NUMBERS = {5: FLOATS, 6: DOUBLES}  # of TensorProto; other types are counters, which are left out

Variables = dict[str, npt.NDArray[Any]]


class TensorFlowCheckpoint(WeightFile):
    """Hold a checkpoint of V2, given by its prefix or any of its files, or of V1."""

    words = "TensorFlow checkpoint"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether the file, or the index beside it, ends as a table does."""
        return _prefix(start.path) is not None or _is_table(start.path)

    def _read_weights(self) -> Weights:
        prefix = _prefix(self.path)
        return weights_of_variables(_read_v1(self.path) if prefix is None else _read_v2(prefix), self.path)

    @property
    def content(self) -> Path:
        """Return V2's first data file, or V1's only file."""
        prefix = _prefix(self.path)
        if prefix is None:
            return self.path
        return next(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-00000-of-*"), self.path)


def _is_table(path: Path) -> bool:
    """Tell whether a file ends as a sorted table does."""
    try:
        return WireFile(path).buffer[-len(MAGIC) :] == MAGIC
    except (WeightsError, OSError, ValueError):
        return False


def _prefix(path: Path) -> Path | None:
    """Return the prefix of the V2 checkpoint that a path names (prefix, .index, .meta or .data file), if it is one."""
    prefix = path.with_name(re.sub(r"(?<=.)\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)) if path.name else path
    return prefix if path.name and _is_table(prefix.with_name(f"{prefix.name}.index")) else None


def _read_v2(prefix: Path) -> Variables:
    """Return the numeric variables by name; raises WeightsError for a checkpoint that is damaged or incomplete."""
    index = WireFile(prefix.with_name(prefix.name + ".index"))
    entries = dict(_table_entries(index))
    header = entries.pop(b"", (0, 0))
    shards = next((field.value for field in index.fields(*header) if field.number == 1), 1)
    if shards > _MOST_SHARDS:
        raise WeightsError(
            f"weights {prefix}: expected at most {_MOST_SHARDS} data files, got {shards}; the index is damaged"
        )
    names = [f"{prefix.name}.data-{shard:05}-of-{shards:05}" for shard in range(shards)]
    for name in names:
        if not prefix.with_name(name).is_file():
            raise WeightsError(f"weights {prefix}: expected {name} beside {prefix.name}.index; keep the files together")
    files = [WireFile(prefix.with_name(name)) for name in names]
    named = {key.decode("utf-8", "replace"): place for key, place in entries.items()}
    variables = {name: _variable(index, files, *place, name) for name, place in named.items()}
    return {name: values for name, values in variables.items() if values is not None}


def _variable(index: WireFile, files: list[WireFile], start: int, end: int, name: str) -> npt.NDArray[Any] | None:
    """Return the array of a BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size; None for texts and such."""
    fields = index.message(Field(0, BYTES, start, start, end), _ENTRY)
    kind, shard, offset, size = (fields[number][-1].value if fields[number] else 0 for number in (1, 3, 4, 5))
    shape = [size for field in fields[2] for size in sizes_of_shape(index, field)]
    dtype = _DTYPES.get(kind)
    if dtype is None or len(shape) > _MOST_AXES or 0 in shape:
        return None
    if shard >= len(files) or offset + size > files[shard].size or size != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"weights {index.path}: variable {name[:80]} of shape {shape} lies outside its data file")
    return np.ndarray(tuple(shape), dtype, files[shard].buffer, offset)


def _read_v1(path: Path) -> Variables:
    """Return the variables of floats by name; raises WeightsError for a checkpoint that is damaged."""
    wire = WireFile(path)
    shapes: dict[str, list[int]] = {}
    arrays: Variables = {}
    for _, (start, end) in _table_entries(wire):
        fields = wire.message(Field(0, BYTES, start, start, end), {_META: (BYTES,), _DATA: (BYTES,)})
        for meta in fields[_META]:
            shapes |= _shapes(wire, meta)
        for data in fields[_DATA]:
            arrays |= _numbers(wire, data)
    for name, values in arrays.items():
        shape = shapes.get(name)
        if shape is None or math.prod(shape) != values.size:
            raise WeightsError(
                f"weights {path}: variable {name[:80]}: expected {tuple(shape) if shape else 'a shape'}, got "
                f"{values.size} numbers; the file is damaged, or a part of a variable that was saved in parts"
            )
        arrays[name] = values.reshape(shape)
    if not arrays:
        raise WeightsError(f"weights {path}: expected a checkpoint with variables, got a table without any")
    return arrays


def _shapes(wire: WireFile, meta: Field) -> dict[str, list[int]]:
    """Return the shapes of a SavedTensorSliceMeta: 1 tensor { 1 name, 2 shape }."""
    found = {}
    for tensor in wire.message(meta, {1: (BYTES,)})[1]:
        fields = wire.message(tensor, {1: (BYTES,), 2: (BYTES,)})
        shape = [size for field in fields[2] for size in sizes_of_shape(wire, field)]
        if len(shape) > _MOST_AXES:
            raise wire.damaged(tensor.position, f"a variable has {len(shape)} axes")
        found[wire.last_text(fields[1])] = shape
    return found


def _numbers(wire: WireFile, data: Field) -> Variables:
    """Return {name: numbers} of a SavedSlice: 1 name, 3 TensorProto; nothing for numbers that are not floats."""
    fields, parts = wire.message(data, {1: (BYTES,), 3: (BYTES,)}), []
    for tensor in fields[3]:
        values = wire.message(tensor, _NUMBERS)
        parts += [wire.array(field, dtype) for n, dtype in ((5, FLOAT), (6, DOUBLE)) for field in values[n]]
    return {wire.last_text(fields[1]): np.concatenate(parts)} if parts else {}


def sizes_of_shape(wire: WireFile, shape: Field) -> Iterator[int]:
    """Yield the sizes of a TensorShapeProto: 2 dim { 1 size }."""
    for dim in wire.message(shape, {2: (BYTES,)})[2]:
        yield next((size.value for size in wire.fields(dim.start, dim.end) if size.number == 1), 0)


def _table_entries(file: WireFile) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield (key, (start, end) of its value in the file) of a sorted table."""
    if file.size < _FOOTER:
        raise file.damaged(0, f"expected a table of at least {_FOOTER} bytes, got {file.size}")
    position = file.size - _FOOTER
    for _ in range(2):  # the handle of the metaindex
        _, position = file.varint(position, file.size)
    for _, (start, _) in _block(file, *_handle(file, position)):
        yield from _block(file, *_handle(file, start))


def _handle(file: WireFile, position: int) -> tuple[int, int]:
    """Return where the block of a handle (offset, size) begins and ends."""
    start, position = file.varint(position, file.size)
    size, position = file.varint(position, file.size)
    if start + size + _TRAILER > file.size:
        raise file.damaged(position, f"a block of {size} bytes at {start} goes beyond the end")
    if file.buffer[start + size]:
        raise WeightsError(
            f"weights {file.path}: expected a table that is not compressed; write it with tf.train.Saver"
        )
    return start, start + size


def _block(file: WireFile, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield the entries of a block; keys share their beginnings with the one before."""
    restarts = int.from_bytes(file.buffer[max(start, end - 4) : end], "little")
    end -= 4 * (restarts + 1)
    if end < start:
        raise file.damaged(start, f"a block has {restarts} restarts, more than fit into it")
    key, position = b"", start
    while position < end:
        at = position
        file.count(at)
        shared, position = file.varint(position, end)
        own, position = file.varint(position, end)
        length, position = file.varint(position, end)
        if shared > len(key) or position + own + length > end:
            raise file.damaged(at, "an entry of a table goes beyond its block")
        key = key[:shared] + bytes(file.buffer[position : position + own])
        yield key, (position + own, position + own + length)
        position += own + length


_PARTS = {"w": "kernel", "weights": "kernel", "depthwise_weights": "kernel", "b": "bias", "biases": "bias"}
_PARTS |= {name: name for name in NORM_PARTS}

# What our names leave out of a scope: that of the network, and a level of Xception's without a second branch.
_LEFT_OUT = re.compile("^(MobilenetV2|xception_65)/|/xception_module(?=/)")


def layer_of_scope(scope: str) -> str:
    """Return our name of a scope: ``expanded_conv_1_expand`` of ``MobilenetV2/expanded_conv_1/expand``."""
    return _LEFT_OUT.sub("", scope).replace("/", "_")


def weights_of_variables(variables: Mapping[str, npt.NDArray[Any]], path: Path) -> Weights:
    """Rename ``conv1_1/w``, ``MobilenetV2/Conv/weights`` and the like; optimizers' slots and counters are left out."""
    weights: Weights = {}
    for name, values in variables.items():
        scope, _, part = name.removesuffix(":0").rpartition("/")
        if part in _PARTS and scope:
            ours = f"{layer_of_scope(scope)}/{_PARTS[part]}"
            if ours in weights:
                raise WeightsError(f"weights {path}: variable {name[:80]}: expected one {ours[:80]}, got several")
            weights[ours] = np.asarray(values, np.float32)
    for layer in dict.fromkeys(map(layer_of, weights)):
        if f"{layer}/gamma" in weights or f"{layer}/moving_mean" in weights:
            continue
        kernel, bias = (weights.get(f"{layer}/{part}", np.empty(0)) for part in ("kernel", "bias"))
        if kernel.ndim != 4 or (f"{layer}/bias" in weights and bias.shape != kernel.shape[-1:]):
            raise WeightsError(
                f"weights {path}: layer {layer}: expected a kernel (height, width, in, out) and its bias, got "
                f"{kernel.shape} and {bias.shape}"
            )
    if not weights:
        some = ", ".join(sorted(variables)[:4]) or "nothing"
        raise WeightsError(f"weights {path}: expected variables named like conv1_1/w and conv1_1/b, got {some}")
    return weights
