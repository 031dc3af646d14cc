"""Read protobuf's wire format straight from a memory-mapped file.

No memory is allocated because a file claims a length: every length is compared with the bytes that are left, arrays are
views of the file, and only the fields that are asked for are read. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # of the others, groups, no format here has any
WIDTH = {FIXED64: 8, FIXED32: 4}
INTEGERS, FLOATS, DOUBLES = (BYTES, VARINT), (BYTES, FIXED32), (BYTES, FIXED64)  # packed, or one by one

FLOAT, DOUBLE = np.dtype("<f4"), np.dtype("<f8")

MAX_VARINT = 10  # bytes
MAX_TAG = 0xFFFFFFFF
MAX_TEXT = 256  # bytes of a name that are shown; real names are shorter
MAX_FIELDS = 500_000  # of a file: the graph of the largest network has a fifth of it


class Field(NamedTuple):
    """Point to one field, or to an unbroken run of FIXED32 or FIXED64 fields of the same number.

    ``position``, ``start`` and ``end`` are byte offsets in the file: of the tag, of the content, and of the first byte
    after the field.
    """

    number: int
    kind: int
    position: int
    start: int
    end: int
    value: int = 0  # of a VARINT, unsigned


class WireFile:
    """Hold a file mapped into memory, read-only; it stays mapped as long as an array views it.

    Replace such a file by renaming another over it: if it is truncated in place, reading it ends this program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise WeightsError(f"weights {path}: expected a file, got a folder or a device")
        try:
            with path.open("rb") as file:
                if path.stat().st_size == 0:
                    raise WeightsError(f"weights {path}: the file is empty; download or copy it again")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self.buffer = memoryview(self._map)
        except OSError as error:
            raise WeightsError(f"weights {path}: cannot be read ({error.strerror or error})") from None
        self.size = len(self.buffer)
        self._left = MAX_FIELDS

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[Field]:
        """Yield the fields of the message between two offsets.

        Raises WeightsError, with the offset, for bytes that are not a message, and for more fields than weights have.
        """
        end = self.size if end is None else end
        while start < end:
            self.count(start)
            yield (field := self._field(start, end))
            start = field.end

    def message(self, field: Field, kinds: Mapping[int, tuple[int, ...]]) -> Mapping[int, list[Field]]:
        """Return the fields of a message by their numbers: those in ``kinds``, where they are of such a kind."""
        found: dict[int, list[Field]] = {number: [] for number in kinds}
        for inside in self.fields(field.start, field.end):
            if inside.kind in kinds.get(inside.number, ()):
                found[inside.number].append(inside)
        return found

    def count(self, position: int, more: int = 1) -> None:
        """Count fields or entries; raises WeightsError for too many."""
        self._left -= more
        if self._left < 0:
            raise self.damaged(position, f"expected at most {MAX_FIELDS} fields")

    def array(self, field: Field, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """View the numbers of a packed field, or of a run of fixed ones, as a read-only one-dimensional array."""
        length, step = field.end - field.start, dtype.itemsize
        if field.kind != BYTES:
            length, step = length + 1, step + 1  # a tag of one byte stands before each number
        if length % step:
            raise self.damaged(field.position, f"expected a multiple of {step} bytes, got {length}")
        return np.ndarray((length // step,), dtype, self.buffer, field.start, (step,))

    def integers(self, field: Field) -> Iterator[int]:
        """Yield the int64 numbers of a packed field, or the number of a VARINT."""
        at = field.start
        while at < field.end:
            value, at = self.varint(at, field.end)
            yield signed(value, 64)

    def has(self, content: bytes, end: int | None = None) -> bool:
        """Tell whether bytes are anywhere in the file, or before ``end``."""
        return self._map.find(content, 0, self.size if end is None else end) >= 0

    def text(self, field: Field) -> str:
        """Return a text, at most 256 bytes of it, with U+FFFD for what cannot be printed on one line."""
        raw = bytes(self.buffer[field.start : min(field.end, field.start + MAX_TEXT)])
        return "".join(char if char.isprintable() else "\ufffd" for char in raw.decode("utf-8", "replace"))

    def last_text(self, fields: list[Field]) -> str:
        """Return the text of a field that a message has once: the last; "" without any."""
        return self.text(fields[-1]) if fields else ""

    def damaged(self, position: int, what: str) -> WeightsError:
        """Return the error to raise for bytes that cannot be read."""
        return WeightsError(
            f"weights {self.path}: the file is damaged or truncated at byte {position}: {what}; download or copy it "
            "again"
        )

    def _field(self, position: int, end: int) -> Field:
        tag, start = self.varint(position, end)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag > MAX_TAG or kind not in (VARINT, FIXED64, BYTES, FIXED32):
            raise self.damaged(position, f"expected the tag of a field, got {tag:#x}")
        if kind == VARINT:
            value, after = self.varint(start, end)
            return Field(number, kind, position, start, after, value)
        if kind == BYTES:
            length, start = self.varint(start, end)
        else:
            length = WIDTH[kind]
        if length > end - start:
            raise self.damaged(position, f"expected {length} bytes in field {number}, got {end - start}")
        after = start + length
        if kind != BYTES and start - position == 1:
            after = self._end_of_run(position, end, length + 1)
        return Field(number, kind, position, start, after)

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """Return the unsigned number at a position, and where it ends."""
        if position < end and self.buffer[position] < 0x80:  # most are this short
            return self.buffer[position], position + 1
        value = 0
        for index, byte in enumerate(self.buffer[position : min(end, position + MAX_VARINT)]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position + index + 1
        if end - position < MAX_VARINT:
            raise self.damaged(position, f"the {'file' if end == self.size else 'message'} ends inside a number")
        raise self.damaged(position, f"a number is longer than {MAX_VARINT} bytes")

    def _end_of_run(self, position: int, end: int, step: int) -> int:
        """Return the end of the fields of ``step`` bytes with the tag at ``position``: millions in unpacked data."""
        tags = np.ndarray(((end - position) // step,), np.uint8, self.buffer, position, (step,))
        done, block = 1, 64
        while done < len(tags):
            other = tags[done : done + block] != tags[0]
            first = int(other.argmax())
            if other[first]:
                return position + (done + first) * step
            done, block = done + len(other), block * 4
        return position + len(tags) * step


def signed(value: int, bits: int) -> int:
    """Return the two's complement number in the lowest bits, as protobuf reads int32 and int64."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def bytes_field(number: int, content: bytes) -> bytes:
    """Return a field of bytes in protobuf's wire format."""
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
