"""Read the variables of a TensorFlow checkpoint (V2, in several files, as tf.train.Saver writes it) without TensorFlow.

A checkpoint is a sorted table in ``PREFIX.index`` (LevelDB's format, not compressed), whose values are protobuf
messages (BundleEntryProto), and the numbers themselves in ``PREFIX.data-00000-of-00001``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.wire import BYTES, VARINT, WireFile
from deeplabctl.errors import WeightsError

MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_FOOTER = 48  # bytes: two block handles, padding, magic
_MOST_SHARDS, MOST_AXES = 1000, 32
_TRAILER = 5  # bytes after a block: its compression and a checksum
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}


def checkpoint_prefix(path: Path) -> Path | None:
    """Return the prefix of the checkpoint that a path names (prefix, .index, .meta or .data file), if there is one."""
    name = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)
    try:
        with path.with_name(name + ".index").open("rb") as file:
            file.seek(-len(MAGIC), 2)
            return path.with_name(name) if file.read() == MAGIC else None
    except (OSError, ValueError):
        return None


def read_checkpoint(prefix: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the numeric variables by name; raises WeightsError for a checkpoint that is damaged or incomplete."""
    index = WireFile(prefix.with_name(prefix.name + ".index"))
    entries = dict(table_entries(index))
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
    variables = {}
    for key, (start, end) in entries.items():
        values = _variable(index, files, start, end, key.decode("utf-8", "replace"))
        if values is not None:
            variables[key.decode("utf-8", "replace")] = values
    return variables


def _variable(index: WireFile, files: list[WireFile], start: int, end: int, name: str) -> npt.NDArray[Any] | None:
    """Return the array of a BundleEntryProto: 1 dtype, 2 shape { 2 dim { 1 size } }, 3 shard, 4 offset, 5 size."""
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: list[int] = []
    for field in index.fields(start, end):
        if field.kind == VARINT and field.number in numbers:
            numbers[field.number] = field.value
        elif field.kind == BYTES and field.number == 2:
            for dim in index.fields(field.start, field.end):
                if dim.number == 2:
                    shape.append(next((size.value for size in index.fields(dim.start, dim.end) if size.number == 1), 0))
    kind, shard, offset, size = numbers.values()
    dtype = _DTYPES.get(kind)
    if dtype is None:
        return None  # texts and the like
    if len(shape) > MOST_AXES or 0 in shape:
        return None
    if shard >= len(files) or offset + size > files[shard].size or size != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"weights {index.path}: variable {name[:80]} of shape {shape} lies outside its data file")
    return np.ndarray(tuple(shape), dtype, files[shard].buffer, offset)


def table_entries(file: WireFile) -> Iterator[tuple[bytes, tuple[int, int]]]:
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
        shared, position = file.varint(position, end)
        own, position = file.varint(position, end)
        length, position = file.varint(position, end)
        if shared > len(key) or position + own + length > end:
            raise file.damaged(at, "an entry of a table goes beyond its block")
        key = key[:shared] + bytes(file.buffer[position : position + own])
        yield key, (position + own, position + own + length)
        position += own + length
