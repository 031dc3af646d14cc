"""Read PyTorch's files of tensors (``.pth`` of ``torch.save``, ``.safetensors``), without calling anything.

A new .pth is a zip archive: a pickle ``data.pkl`` that names storages, and an entry ``data/KEY`` for each. An old one
(before 1.6) is a sequence of pickles (a magic number, a version, the sizes of types, the object, the storages' keys),
and then, for each key, a number of elements and the elements themselves. A .safetensors has the length of a header
(8 bytes, little-endian), the header, a JSON object {name: {dtype, shape, data_offsets}}, and the numbers. Source:
github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.damage import check_claim
from deeplabctl.network import Weights, layer_of
from deeplabctl.protobuf import WireFile
from deeplabctl.weights.sources.pickles import STATE_DICT, Built, Named, PickleError, mapped, read_pickle
from deeplabctl.weights.sources.torch_names import (
    LAST_BLOCK,
    from_bfloat16,
    have_scales,
    stated_facts,
    weights_of_tensors,
)
from deeplabctl.weights.weight_file import ZIP, Beginning, WeightFile

# Types by the names that a .pth and a .safetensors give them; bfloat16 as integers.
_TYPES = (
    ("FloatStorage", "F32", "<f4"), ("DoubleStorage", "F64", "<f8"), ("HalfStorage", "F16", "<f2"),
    ("BFloat16Storage", "BF16", "<u2"), ("LongStorage", "I64", "<i8"), ("IntStorage", "I32", "<i4"),
    ("ShortStorage", "I16", "<i2"), ("CharStorage", "I8", "i1"), ("ByteStorage", "U8", "u1"),
    ("BoolStorage", "BOOL", "u1"),
)  # fmt: skip
_DTYPES = {storage: dtype for storage, _, dtype in _TYPES}
_CODES = {code: dtype for _, code, dtype in _TYPES}
_REBUILD = ("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = ("torch._utils", "_rebuild_parameter")
_ORDERED_DICT = ("collections", "OrderedDict")
_NAMESPACE = ("argparse", "Namespace")  # of a program's options, which torchvision's puts beside the tensors
_INSIDE = ("state_dict", "model", "model_state_dict")  # under which training programs put the tensors
# Of a number of NumPy, as programs put a best score beside the tensors.
_NUMBER = {
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip
_ALLOWED = {_REBUILD, _PARAMETER, _ORDERED_DICT, _NAMESPACE, *_NUMBER, *(("torch", name) for name in _DTYPES)}


class _Storage(NamedTuple):
    """Name a storage: its element type, and how many elements it has."""

    type: str
    key: str
    size: int


class TorchFile(WeightFile):
    """Hold a ``.pth`` file with the ``state_dict`` of a network."""

    words = "PyTorch file (.pth)"
    suffix = ".pth"
    refused = "the PyTorch file is refused"
    begins = re.compile(re.escape(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."))  # a pickle of an old one's magic number

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it is a zip archive with a pickle, or begins as it must."""
        return super().recognises(start) or any(name.endswith("data.pkl") for name in start.entries)

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return what is stated beside the file."""
        return stated_facts(self.path)[0]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Return what is stated beside the file, if that is of this network."""
        return stated_facts(self.path)[1] if LAST_BLOCK in map(layer_of, self.shapes) else ()

    def _read_weights(self) -> Weights:
        """Return the weights; floats of half precision become float32.

        Nothing that the file names is called: whatever is not a tensor, a dictionary, a list or a number is refused.
        """
        with self.path.open("rb") as file:
            tree, read = _read_zip(file) if file.read(len(ZIP)) == ZIP else _read_legacy(file)
            return self._named(_tensors(tree, read, self.path))

    def _named(self, tensors: Mapping[str, npt.NDArray[Any]]) -> Weights:
        self.has_scales = have_scales(tensors)
        return weights_of_tensors(tensors, self.path)


Reader = Callable[[str], bytes]  # of the content of a storage, by its key; raises KeyError for one that is not there


def _read_zip(file: BinaryIO) -> tuple[Any, Reader]:
    archive, size = zipfile.ZipFile(file), file.seek(0, 2)
    entries = {info.filename: info for info in archive.infolist()}
    name = next(name for name in entries if name == "data.pkl" or name.endswith("/data.pkl"))
    folder = name.removesuffix("data.pkl")
    if any(entry.compress_type or entry.file_size > size for entry in entries.values()):
        raise PickleError("its entries are compressed; PyTorch's are not")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder").strip() != b"little":
        raise PickleError("its numbers are big-endian; save it on another machine")
    tree = read_pickle(BytesIO(archive.read(name)), _ALLOWED, _persistent)
    return tree, cache(lambda key: archive.read(f"{folder}data/{key}"))


def _read_legacy(file: BinaryIO) -> tuple[Any, Reader]:
    content = mapped(file)
    for _ in range(3):  # the magic number, the version of the format, sizes of types
        read_pickle(content, _ALLOWED)
    used: dict[str, _Storage] = {}

    def persistent(value: Any) -> _Storage:
        storage = _persistent(value)
        return used.setdefault(storage.key, storage)

    tree = read_pickle(content, _ALLOWED, persistent)
    keys = read_pickle(content, _ALLOWED)
    if not isinstance(keys, list):
        raise PickleError("expected a list of storages")
    places: dict[str, slice] = {}
    position = content.tell()
    for key in keys:
        storage = used.get(str(key))
        if storage is None:
            raise PickleError(f"storage {str(key)[:40]} belongs to no tensor")
        count = int.from_bytes(content[position : position + 8], "little", signed=True)
        size = count * np.dtype(_DTYPES[storage.type]).itemsize
        if count != storage.size or position + 8 + size > len(content):
            raise PickleError(
                f"storage {storage.key[:40]}: expected {storage.size} numbers; the file is damaged or truncated"
            )
        places[storage.key] = slice(position + 8, position + 8 + size)
        position += 8 + size
    return tree, lambda key: content[places[key]]


def _persistent(value: Any) -> _Storage:
    """Return the storage that a pickle names: ("storage", class, key, device, number of elements, ...)."""
    if not isinstance(value, tuple) or len(value) < 5 or value[0] != "storage" or not isinstance(value[1], Named):
        raise PickleError("expected the name of a storage")
    type_, key, count = value[1], value[2], value[4]
    if type_.module != "torch" or type_.name not in _DTYPES or not isinstance(key, str) or not isinstance(count, int):
        raise PickleError(f"expected a storage of numbers, got {type_}")
    return _Storage(type_.name, key, count)


def _elements(storage: _Storage, content: bytes) -> npt.NDArray[Any]:
    values = np.frombuffer(content, _DTYPES[storage.type])
    if len(values) != storage.size:
        raise PickleError(f"storage {storage.key[:40]}: expected {storage.size} numbers, got {len(values)}")
    if storage.type == "BFloat16Storage":
        return from_bfloat16(values)
    return values.astype(np.float32) if storage.type == "HalfStorage" else values


def _tensors(tree: Any, read: Reader, path: Path) -> dict[str, npt.NDArray[Any]]:
    tree = _mapping(tree)
    for key in _INSIDE:
        if key in tree and not (isinstance(tree[key], Built) and tree[key].function != _ORDERED_DICT):
            count = _tensor_count(tree[key])
            others = [str(name)[:40] for name in tree if name != key and 2 * _tensor_count(tree[name]) >= count > 0]
            if others:
                raise PickleError(f"expected the tensors of one network, got those of {key} and {others[0]}; save one")
            tree = _mapping(tree[key])
    found, claimed = {}, 0
    for name, value in tree.items():
        if not isinstance(name, str) or not isinstance(value, Built) or value.function == _ORDERED_DICT:
            kind = value.function.name if isinstance(value, Built) else type(value).__name__
            raise PickleError(f"expected names and tensors, got {str(name)[:40]!r}: {kind}; {STATE_DICT}")
        found[name] = _tensor(value, read, name)
        claimed += found[name].nbytes
        check_claim(path, claimed)
    return found


def _tensor_count(value: Any) -> int:
    """Return the number of tensors in a dictionary; 0 for anything else."""
    items = value.items if isinstance(value, Built) else value if isinstance(value, dict) else {}
    return sum(isinstance(each, Built) and each.function in (_REBUILD, _PARAMETER) for each in items.values())


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Built) and value.function == _ORDERED_DICT:
        return value.items
    if isinstance(value, dict):
        return value
    raise PickleError(f"expected a dictionary of names and tensors, got {type(value).__name__}")


def _tensor(value: Built, read: Reader, name: str) -> npt.NDArray[Any]:
    """Return the view of a storage that a tensor is."""
    if value.function == _PARAMETER and value.arguments and isinstance(value.arguments[0], Built):
        value = value.arguments[0]
    if value.function != _REBUILD or len(value.arguments) < 4:
        raise PickleError(f"it asks to call {value.function}, which a file of weights does not need")
    storage, offset, shape, strides = value.arguments[:4]
    numbers = [offset, *shape, *strides] if isinstance(shape, tuple) and isinstance(strides, tuple) else [None]
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and 0 <= n < 2**40 for n in numbers):
        raise PickleError(f"tensor {name[:80]}: expected a storage, an offset, sizes and strides")
    count = int(np.prod([float(size) for size in shape]))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if len(shape) > 8 or count > storage.size or (count and last >= storage.size):
        raise PickleError(f"tensor {name[:80]} of sizes {shape} lies outside its storage of {storage.size} numbers")
    elements = _elements(storage, read(storage.key))
    if not count:
        return np.empty(shape, elements.dtype)
    view = np.lib.stride_tricks.as_strided(
        elements[offset:], shape, [stride * elements.itemsize for stride in strides], writeable=False
    )
    return np.array(view)


_LENGTH = 8  # bytes
_LARGEST_HEADER = 2 << 20  # bytes; those of our networks have some ten thousands
_MOST_AXES = 8


class SafetensorsFile(TorchFile):
    """Hold the tensors of transformers' DeepLab v3, or of others that a ``.pth`` may have."""

    words, refused = "safetensors file", WeightFile.refused
    suffix = ".safetensors"
    begins = re.compile(rb"(?s).{4}\0{4}\{")  # a JSON object, after a length of fewer than 2^32 bytes

    def _read_weights(self) -> Weights:
        wire = WireFile(self.path)
        size = int.from_bytes(wire.buffer[:_LENGTH], "little")
        begin = _LENGTH + size
        if size > _LARGEST_HEADER or begin > wire.size:
            raise wire.damaged(0, f"a header of {size} bytes in a file of {wire.size}")
        header = json.loads(bytes(wire.buffer[_LENGTH:begin]))
        facts = {str(name): entry for name, entry in header.items() if name != "__metadata__"}
        tensors, after = dict[str, npt.NDArray[Any]](), begin
        for name, entry in sorted(facts.items(), key=lambda item: item[1]["data_offsets"][0]):
            dtype, shape = str(entry["dtype"]), [int(size) for size in entry["shape"]]
            start, end = (begin + int(offset) for offset in entry["data_offsets"])
            if dtype not in _CODES or len(shape) > _MOST_AXES or min([1, *shape]) < 0:
                raise ValueError(f"tensor {name[:80]} is of {dtype[:20]} and shape {shape[:_MOST_AXES]}")
            size = math.prod(shape) * np.dtype(_CODES[dtype]).itemsize
            if not after <= start <= end <= wire.size or end - start != size:
                raise ValueError(f"tensor {name[:80]} of shape {shape} has the bytes {start} to {end} of the file")
            values = np.ndarray(tuple(shape), _CODES[dtype], wire.buffer, start)
            tensors[name], after = from_bfloat16(values) if dtype == "BF16" else values, end
        return self._named(tensors)
