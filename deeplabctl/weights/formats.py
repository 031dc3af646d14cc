"""Identify weight files by their content, never by their name."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from enum import Enum
from pathlib import Path

from deeplabctl.caffe.sniff import is_caffemodel, looks_like_solverstate
from deeplabctl.caffe.wire import BYTES, VARINT, WireFile
from deeplabctl.errors import WeightsError
from deeplabctl.weights.export_facts import ExportFormat
from deeplabctl.weights.tf_checkpoint import checkpoint_prefix
from deeplabctl.weights.tf_checkpoint_v1 import is_checkpoint_v1


class Format(Enum):
    """List the formats that can be read."""

    OURS = "deeplabctl model file (.keras)"
    KERAS = "Keras model file (.keras)"
    KERAS_H5 = "Keras weights (HDF5)"
    CAFFE = "caffemodel"
    TENSORFLOW = "TensorFlow checkpoint"
    PICKLE = "weight pickle"
    TORCH = "PyTorch file (.pth)"
    SAVED_MODEL = "SavedModel"
    ONNX = "ONNX file"
    TFLITE = "TFLite file"


EXPORTS: dict[Format, ExportFormat] = {
    Format.SAVED_MODEL: "savedmodel", Format.ONNX: "onnx", Format.TFLITE: "tflite",
}  # fmt: skip

INFO_ENTRY = "deeplabctl.json"  # in our own .keras archives and exports, beside the entries of the format
SAVED_MODEL_FILE = "saved_model.pb"  # in the folder that a SavedModel is

# What zipfile and json raise for an archive that is damaged, cut off, compressed in another way or encrypted.
DAMAGED_ZIP = (zipfile.BadZipFile, OSError, zlib.error, RuntimeError, ValueError, KeyError, TypeError, EOFError)

ZIP = b"PK\x03\x04"
TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of the number with which an old .pth begins
_TFLITE = b"TFL3"  # after the four bytes of an offset
_ONNX = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES}  # the fields of a ModelProto before its graph
_GRAPH = 7
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(dp?\d*\n|\(lp?\d*\n|ccopy_reg|\}q")

# What people give instead of a weight file, by its first bytes, and what to do then.
_WRONG = (
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"\x89PNG", "a PNG picture"),
    (rb"GIF8", "a GIF picture"),
    (rb"\x1f\x8b", "a gzip archive; unpack it first"),
    (rb"BZh|\xfd7zXZ|Rar!|7z\xbc\xaf", "a packed archive; unpack it first"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with: git lfs pull"),
    (
        rb"(?is)\s*(<\?xml|<!doctype|<html|<head)",
        "a web page, perhaps an error message of the server; download it again",
    ),
    (
        rb"(?s)(\s*#[^\n]*\n)*\s*(name|layers?|input|input_dim|force_backward)\s*[:{]",
        "a prototxt: the net's definition without weights; give the .caffemodel",
    ),
    (rb"\s*\{", "a JSON text"),
    (rb"%PDF", "a PDF"),
)


def identify(path: Path) -> Format:
    """Return the format of a weight file; raises WeightsError, which says what the file is, for other files.

    A TensorFlow checkpoint may be given by its prefix, its ``.index`` or its ``.data-...`` file; a SavedModel is a
    folder.
    """
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises OSError for a name that is too long
        if checkpoint_prefix(path) is not None:
            return Format.TENSORFLOW
        raise WeightsError(f"weights {path}: there is no such file")
    if is_saved_model(path):
        return Format.SAVED_MODEL
    if not path.is_file():
        raise WeightsError(f"weights {path}: expected a file, got a folder or a device")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None
    if not head:
        raise _wrong(path, "an empty file; get it again")
    if head.startswith(ZIP):
        return _zip_format(path)
    if head[4:8] == _TFLITE:
        return Format.TFLITE
    if checkpoint_prefix(path) is not None or is_checkpoint_v1(path):
        return Format.TENSORFLOW
    if head.startswith(TORCH_MAGIC):
        return Format.TORCH
    if _is_onnx(path):
        return Format.ONNX
    if looks_like_solverstate(path) or is_caffemodel(path):
        return Format.CAFFE  # its reader refuses a solver state with a hint
    if head.startswith(_HDF5):
        return Format.KERAS_H5
    if _PICKLE.match(head):
        return Format.PICKLE
    for pattern, what in _WRONG:
        if re.match(pattern, head):
            raise _wrong(path, what)
    if _is_text(head):
        raise _wrong(path, "a text file, perhaps a list")
    raise _wrong(path, "an unknown format")


def is_saved_model(path: Path) -> bool:
    """Tell whether a path is the folder of a SavedModel."""
    return os.path.isfile(path / SAVED_MODEL_FILE)  # noqa: PTH113 - Path.is_file raises for names that are too long


def _is_onnx(path: Path) -> bool:
    """Tell whether a graph, even one cut off, follows the version and the names that a ModelProto begins with."""
    wire = WireFile(path)
    at = 0
    try:
        while at < wire.size:
            tag, _ = wire.varint(at, wire.size)
            number = tag >> 3
            if number == _GRAPH or _ONNX.get(number) != tag & 7:
                return number == _GRAPH and tag & 7 == BYTES and at > 0 and wire.buffer[0] == 1 << 3
            at = next(wire.fields(at)).end
    except (WeightsError, StopIteration):
        pass
    return False


def _zip_format(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        raise _wrong(path, "a zip archive that is damaged or cut off; get it again") from None
    if INFO_ENTRY in names:
        return Format.OURS
    if {"config.json", "model.weights.h5"} <= names:
        return Format.KERAS
    if any(name.endswith("data.pkl") for name in names):
        return Format.TORCH
    raise _wrong(path, "a zip archive; unpack it first")


def _is_text(head: bytes) -> bool:
    return not re.search(rb"[\x00-\x08\x0e-\x1f]", head)


def _wrong(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"weights {path}: expected a model file (.keras), a run directory, a .caffemodel, a TensorFlow checkpoint, "
        f"a weight pickle, a .pth, Keras VGG-16 or ResNet-101 weights or an export, got {what}"
    )
