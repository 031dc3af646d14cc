"""Read and write the facts that an exported file has beside its graph, without the packages of its format.

An ONNX file has them as an entry of its ``metadata_props``, a TFLite file in a zip archive after the graph, a
SavedModel as a file among its assets; the entry is named ``deeplabctl.json`` everywhere. The checksums among them are
those of the bytes that a runtime reads: no damaged graph gets as far as its native code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import zipfile
from pathlib import Path

from deeplabctl.caffe.wire import BYTES, Field, WireFile
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.errors import WeightsError
from deeplabctl.weights.export_facts import WORDS, ExportFormat
from deeplabctl.weights.formats import DAMAGED_ZIP, INFO_ENTRY
from deeplabctl.weights.model_info import ModelInfo, damaged, info_from_json

ASSETS = "assets"  # a folder of SavedModels
_METADATA, _KEY, _VALUE = 14, 1, 2  # ModelProto.metadata_props, and the fields of its entries
_LARGEST = 16 << 20  # bytes of the facts, which have some thousands
_WHOLE = "graph"  # the part of an ONNX or a TFLite file that is not the facts


def read_export(path: Path, format_: ExportFormat) -> ModelInfo:
    """Read the facts of an exported file, and compare the graph with their checksums.

    Raises WeightsError for a file that another program wrote or changed, and for a damaged one.
    """
    try:
        text, parts = _READERS[format_](path)
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror or error})") from None
    if text is None:
        raise WeightsError(
            f"weights {path}: expected the {WORDS[format_]} that deeplabctl export writes, got one without its "
            f"{INFO_ENTRY}: it is cut off, or another program's; export it again"
        )
    info = info_from_json(text, path)
    possible = 1 <= len(info.classes) <= IGNORE_LABEL and 0 < info.width < math.inf
    if info.export is None or info.export.format != format_ or not possible:
        raise damaged(path, ValueError("facts of another file"))
    for name in info.export.sha256.keys() | parts.keys():
        if info.export.sha256.get(name) != parts.get(name):
            raise WeightsError(
                f"weights {path}: expected the {name} that was exported, got another: the file is damaged, or was "
                "changed by another program; export it again"
            )
    return info


def write_facts(path: Path, info: ModelInfo) -> ModelInfo:
    """Write facts into an exported file, in place of those that it has; returns them with the graph's checksums."""
    assert info.export is not None
    format_ = info.export.format
    _without_facts(path, format_)
    info = dataclasses.replace(info, export=dataclasses.replace(info.export, sha256=_READERS[format_](path)[1]))
    text = info.to_json()
    if format_ == "savedmodel":
        (path / ASSETS).mkdir(exist_ok=True)
        (path / ASSETS / INFO_ENTRY).write_text(text, "utf-8")
    elif format_ == "tflite":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(INFO_ENTRY, text)
    else:
        entry = b"".join(_bytes_field(*pair) for pair in ((_KEY, INFO_ENTRY.encode()), (_VALUE, text.encode())))
        with path.open("ab") as file:
            file.write(_bytes_field(_METADATA, entry))
    return info


def _without_facts(path: Path, format_: ExportFormat) -> None:
    """Remove the facts that a file ends with."""
    end = None
    if format_ == "onnx":
        found = _facts_field(WireFile(path))
        end = None if found is None else found[0].position
    elif format_ == "tflite":
        end = _graph_size(path)
    if end is not None:
        with path.open("r+b") as file:
            file.truncate(end)


Parts = dict[str, str]  # the parts of a file, the facts apart, and their checksums


def _read_onnx(path: Path) -> tuple[bytes | None, Parts]:
    wire = WireFile(path)
    found = _facts_field(wire)
    end = wire.size if found is None else found[0].position
    return None if found is None else found[1], {_WHOLE: hashlib.sha256(wire.buffer[:end]).hexdigest()}


def _facts_field(wire: WireFile) -> tuple[Field, bytes] | None:
    """Return the field of an ONNX file with the facts, its last one, and the facts; None where it has none."""
    last = max(wire.fields(), key=lambda field: field.position, default=None)
    if last is None or last.number != _METADATA or last.kind != BYTES:
        return None
    entry = {field.number: field for field in wire.fields(last.start, last.end) if field.kind == BYTES}
    if not {_KEY, _VALUE} <= entry.keys() or wire.text(entry[_KEY]) != INFO_ENTRY:
        return None
    return last, bytes(wire.buffer[entry[_VALUE].start : entry[_VALUE].end])


def _read_tflite(path: Path) -> tuple[bytes | None, Parts]:
    size = _graph_size(path)
    text = None
    if size is not None:
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(INFO_ENTRY).file_size > _LARGEST:
                    raise ValueError(f"{INFO_ENTRY} of {archive.getinfo(INFO_ENTRY).file_size} bytes")
                text = archive.read(INFO_ENTRY)
        except DAMAGED_ZIP as error:
            raise damaged(path, error) from None
    with path.open("rb") as file:
        return text, {_WHOLE: hashlib.sha256(file.read(-1 if size is None else size)).hexdigest()}


def _graph_size(path: Path) -> int | None:
    """Return where the zip archive with the facts of a TFLite file begins; None where it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (*DAMAGED_ZIP, NotImplementedError):
        return None
    if [entry.filename for entry in entries] != [INFO_ENTRY] or entries[0].header_offset <= 0:
        return None
    return entries[0].header_offset


def _read_saved_model(path: Path) -> tuple[bytes | None, Parts]:
    facts = path / ASSETS / INFO_ENTRY
    parts = {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file != facts and not file.name.startswith("."):  # .DS_Store
            with file.open("rb") as content:
                parts[file.relative_to(path).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    if not facts.is_file():
        return None, parts
    if facts.stat().st_size > _LARGEST:
        raise damaged(path, ValueError(f"{INFO_ENTRY} of {facts.stat().st_size} bytes"))
    return facts.read_bytes(), parts


def _bytes_field(number: int, content: bytes) -> bytes:
    """Return a field of bytes in protobuf's wire format."""
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


_READERS = {"savedmodel": _read_saved_model, "onnx": _read_onnx, "tflite": _read_tflite}
