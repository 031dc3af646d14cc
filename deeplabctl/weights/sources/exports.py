"""Read and write the facts that an exported file has beside its graph, without the packages of its format.

An ONNX file has them as an entry of its ``metadata_props``, a TFLite file in a zip archive after the graph, a
SavedModel as a file among its assets; the entry is named ``deeplabctl.json`` everywhere. The checksums among them are
those of the bytes that a runtime reads: no damaged graph gets as far as its native code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import zipfile
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, NoReturn

from deeplabctl import choices
from deeplabctl.damage import DAMAGED, refusing
from deeplabctl.errors import WeightsError
from deeplabctl.protobuf import BYTES, VARINT, WireFile, bytes_field
from deeplabctl.weights.model_info import INFO_ENTRY, LARGEST_INFO, ModelInfo, info_entry
from deeplabctl.weights.weight_file import Beginning, WeightFile

_ASSETS = "assets"  # a folder of SavedModels
_GRAPH = 7  # of ModelProto, and the fields before it
_BEFORE_GRAPH = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES}
_METADATA, _KEY, _VALUE = 14, 1, 2  # ModelProto.metadata_props, and the fields of its entries
_EXTERNAL = b"location"  # the key under which a tensor names another file; no name of our graphs has it


class Export(WeightFile):
    """Hold an export: facts and a graph, which is run and has no weights to read."""

    format: ClassVar[choices.ExportFormat]

    def _read_weights(self) -> NoReturn:
        raise WeightsError(
            f"weights {self.path}: this {self.words} was exported to be run: eval and infer take it, but it cannot be "
            "converted or trained further; give the weights that it was made from"
        )

    def width(self, architecture: str) -> NoReturn:
        """Raise WeightsError: no training starts from an export."""
        self._read_weights()

    def _read_info(self) -> ModelInfo:
        """Return the facts, after the graph has been compared with their checksums.

        Raises WeightsError for a file that another program wrote or changed, and for a damaged one.
        """
        text, checksums = self._read_facts()
        if text is None:
            raise WeightsError(
                f"weights {self.path}: expected the {self.words} that deeplabctl export writes, got one without its "
                f"{INFO_ENTRY}: it is cut off, or another program's; export it again"
            )
        info = ModelInfo.from_json(text, self.path)
        if info.export is None or info.export.format != self.format:
            raise ValueError("facts of another file")
        for name in sorted(info.export.sha256.keys() | checksums.keys()):
            if info.export.sha256.get(name) != checksums.get(name):
                raise WeightsError(
                    f"weights {self.path}: expected the {name} that was exported, got another: the file is damaged, or "
                    "was changed by another program; export it again"
                )
        if self._leads_elsewhere():
            raise WeightsError(
                f"weights {self.path}: expected all arrays in the file itself, got some in other files: another "
                "program wrote or changed it; export it again"
            )
        return info

    def _leads_elsewhere(self) -> bool:
        """Tell whether the graph names other files to be read."""
        return False

    def write_facts(self, info: ModelInfo) -> ModelInfo:
        """Write facts in place of those that the file has; returns them with the checksums of the graph."""
        assert info.export is not None
        info = dataclasses.replace(info, export=dataclasses.replace(info.export, sha256=self._read_facts()[1]))
        self._write_facts(info.to_json())
        return info

    @abstractmethod
    def _read_facts(self) -> tuple[bytes | None, dict[str, str]]:
        """Return the text of the facts, if there are any, and the checksums of the other parts by their names."""

    @abstractmethod
    def _write_facts(self, text: str) -> None: ...


class SavedModel(Export):
    """Hold TensorFlow's SavedModel, a folder."""

    words, format = choices.EXPORTS["savedmodel"].words, "savedmodel"
    suffix = ".savedmodel"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it is a folder with a graph."""
        return is_saved_model(start.path)

    @property
    def content(self) -> Path:
        """Return the file with the facts, among them the checksums of all other files."""
        return self.path / _ASSETS / INFO_ENTRY

    def _read_facts(self) -> tuple[bytes | None, dict[str, str]]:
        facts, checksums = self.content, {}
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and path != facts and not path.name.startswith("."):  # .DS_Store
                with path.open("rb") as content:
                    checksum = hashlib.file_digest(content, "sha256").hexdigest()
                checksums[path.relative_to(self.path).as_posix()] = checksum
        if not facts.is_file():
            return None, checksums
        if facts.stat().st_size > LARGEST_INFO:
            raise ValueError(f"{INFO_ENTRY} of {facts.stat().st_size} bytes")
        return facts.read_bytes(), checksums

    def _write_facts(self, text: str) -> None:
        self.content.parent.mkdir(exist_ok=True)
        self.content.write_text(text, "utf-8")


class _GraphFile(Export):
    """Hold a file that begins with the graph and ends with the facts."""

    def _read_facts(self) -> tuple[bytes | None, dict[str, str]]:
        size, text = self._ending()
        return text, {"graph": hashlib.sha256(WireFile(self.path).buffer[:size]).hexdigest()}

    def _write_facts(self, text: str) -> None:
        if (size := self._ending()[0]) is not None:
            with self.path.open("r+b") as file:
                file.truncate(size)
        self._append(text)

    @abstractmethod
    def _ending(self) -> tuple[int | None, bytes | None]:
        """Return where the facts begin, and their text; None where there are none."""

    @abstractmethod
    def _append(self, text: str) -> None:
        """Write the facts at the end."""


class OnnxFile(_GraphFile):
    """Hold an ONNX file."""

    words, format = choices.EXPORTS["onnx"].words, "onnx"
    suffix = ".onnx"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether a graph, even one cut off, follows the version and the names that a ModelProto begins with."""
        if start.head[:1] != b"\x08":
            return False
        wire, at = WireFile(start.path), 0
        try:
            while (tag := wire.varint(at, wire.size)[0]) >> 3 != _GRAPH:
                if _BEFORE_GRAPH.get(tag >> 3) != tag & 7:
                    return False
                at = next(wire.fields(at)).end
        except WeightsError:
            return False
        return tag & 7 == BYTES

    def _leads_elsewhere(self) -> bool:
        return WireFile(self.path).has(_EXTERNAL, self._ending()[0])

    def _ending(self) -> tuple[int | None, bytes | None]:
        wire = WireFile(self.path)
        last = max(wire.fields(), key=lambda field: field.position, default=None)
        if last is None or last.number != _METADATA or last.kind != BYTES:
            return None, None
        entry = {field.number: field for field in wire.fields(last.start, last.end) if field.kind == BYTES}
        if not {_KEY, _VALUE} <= entry.keys() or wire.text(entry[_KEY]) != INFO_ENTRY:
            return None, None
        return last.position, bytes(wire.buffer[entry[_VALUE].start : entry[_VALUE].end])

    def _append(self, text: str) -> None:
        entry = bytes_field(_KEY, INFO_ENTRY.encode()) + bytes_field(_VALUE, text.encode())
        with self.path.open("ab") as file:
            file.write(bytes_field(_METADATA, entry))


class TFLiteFile(_GraphFile):
    """Hold a TFLite file."""

    words, format = choices.EXPORTS["tflite"].words, "tflite"
    suffix = ".tflite"
    begins = re.compile(rb"(?s).{4}TFL3")  # after an offset

    @property
    def has_facts(self) -> bool:
        """Tell whether it is an export of ours, not a graph of another program."""
        return self._ending()[1] is not None

    def _ending(self) -> tuple[int | None, bytes | None]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except DAMAGED:
            return None, None
        if [entry.filename for entry in entries] != [INFO_ENTRY] or entries[0].header_offset <= 0:
            return None, None
        with refusing(self.path), zipfile.ZipFile(self.path) as archive:
            return entries[0].header_offset, info_entry(archive)

    def _append(self, text: str) -> None:
        with zipfile.ZipFile(self.path, "a") as archive:
            archive.writestr(INFO_ENTRY, text)


def is_saved_model(path: Path) -> bool:
    """Tell whether a path is the folder of a SavedModel."""
    return os.path.isfile(path / "saved_model.pb")  # noqa: PTH113 - Path.is_file raises for names that are too long
