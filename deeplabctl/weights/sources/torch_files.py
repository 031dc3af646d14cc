"""Read PyTorch's files of tensors (``.pth``, ``torch.save``), without PyTorch or calling anything.

A new file is a zip archive: a pickle ``data.pkl`` that names storages, and an entry ``data/KEY`` for each. An old one
(before 1.6) is a sequence of pickles (a magic number, a version, the sizes of types, the object, the storages' keys),
and then, for each key, a number of elements and the elements themselves.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights
from deeplabctl.weights.sources.pickles import Built, Named, PickleError, mapped, read_pickle
from deeplabctl.weights.sources.torch_names import from_bfloat16, stated_dilations, weights_of_tensors
from deeplabctl.weights.weight_file import DAMAGED_ZIP, ZIP, Beginning, WeightFile, check_claim

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of the number with which an old .pth begins

# Storage classes by their names; bfloat16 as integers.
_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "u1",
}  # fmt: skip
_REBUILD = ("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = ("torch._utils", "_rebuild_parameter")
_ORDERED_DICT = ("collections", "OrderedDict")
_INSIDE = ("state_dict", "model", "model_state_dict")  # under which training programs put the tensors
_ALLOWED = {_REBUILD, _PARAMETER, _ORDERED_DICT, *(("torch", name) for name in _DTYPES)}
_MOST_KEYS = 100_000

# What reading a damaged file can raise.
_DAMAGED = (*DAMAGED_ZIP, PickleError, IndexError, OverflowError, AttributeError, MemoryError)


class _Storage(NamedTuple):
    """Name a storage: its element type, and how many elements it has."""

    type: str
    key: str
    size: int


class TorchFile(WeightFile):
    """Hold a ``.pth`` file with the ``state_dict`` of a network."""

    words = "PyTorch file (.pth)"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it is a zip archive with a pickle, or begins with the number of an older file."""
        return any(name.endswith("data.pkl") for name in start.entries) or start.head.startswith(_MAGIC)

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return what is stated beside the file."""
        return stated_dilations(self.path)

    def _read_weights(self) -> Weights:
        """Return the weights; floats of half precision become float32.

        Nothing that the file names is called: whatever is not a tensor, a dictionary, a list or a number is refused.
        Raises WeightsError, in one line, for that and for damaged files.
        """
        try:
            with self.path.open("rb") as file:
                if file.read(len(ZIP)) == ZIP:
                    tree, load = _read_zip(file, self.path.stat().st_size)
                else:
                    tree, load = _read_legacy(file)
                tensors = _tensors(tree, load, self.path)
        except OSError as error:
            raise WeightsError(f"weights {self.path}: cannot be read ({error.strerror or error})") from None
        except _DAMAGED as error:
            reason = str(error) or type(error).__name__
            raise WeightsError(f"weights {self.path}: the PyTorch file is refused: {reason[:300]}") from None
        return weights_of_tensors(tensors, self.path)


Loader = Callable[[_Storage], npt.NDArray[Any]]


def _read_zip(file: BinaryIO, size: int) -> tuple[Any, Loader]:
    archive = zipfile.ZipFile(file)
    entries = {info.filename: info for info in archive.infolist()}
    name = next(name for name in entries if name == "data.pkl" or name.endswith("/data.pkl"))
    folder = name.removesuffix("data.pkl")
    if any(entry.compress_type or entry.file_size > size for entry in entries.values()):
        raise PickleError("its entries are compressed; PyTorch's are not")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder").strip() != b"little":
        raise PickleError("its numbers are big-endian; save it on another machine")
    contents: dict[str, bytes] = {}

    def load(storage: _Storage) -> npt.NDArray[Any]:
        if storage.key not in contents:
            if f"{folder}data/{storage.key}" not in entries:
                raise PickleError(f"storage {storage.key[:40]} is missing")
            contents[storage.key] = archive.read(f"{folder}data/{storage.key}")
        return _elements(storage, contents[storage.key])

    return read_pickle(BytesIO(archive.read(name)), _ALLOWED, _persistent), load


def _read_legacy(file: BinaryIO) -> tuple[Any, Loader]:
    content = mapped(file)
    for _ in range(3):  # the magic number, the version of the format, sizes of types
        read_pickle(content, _ALLOWED)
    used: dict[str, _Storage] = {}

    def persistent(value: Any) -> _Storage:
        storage = _persistent(value)
        return used.setdefault(storage.key, storage)

    tree = read_pickle(content, _ALLOWED, persistent)
    keys = read_pickle(content, _ALLOWED)
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise PickleError("expected a list of storages")
    places: dict[str, tuple[int, int]] = {}
    position = content.tell()
    for key in keys:
        storage = used.get(str(key))
        if storage is None:
            raise PickleError(f"storage {str(key)[:40]} belongs to no tensor")
        count = int.from_bytes(content[position : position + 8], "little", signed=True)
        size = count * np.dtype(_DTYPES[storage.type]).itemsize
        if count != storage.size or position + 8 + size > len(content):
            raise PickleError(
                f"storage {storage.key[:40]}: expected {storage.size} numbers; the file is damaged or cut off"
            )
        places[storage.key] = (position + 8, size)
        position += 8 + size

    def load(storage: _Storage) -> npt.NDArray[Any]:
        if storage.key not in places:
            raise PickleError(f"storage {storage.key[:40]} is missing")
        start, size = places[storage.key]
        return _elements(storage, content[start : start + size])

    return tree, load


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


def _tensors(tree: Any, load: Loader, path: Path) -> dict[str, npt.NDArray[Any]]:
    tree = _mapping(tree)
    for key in _INSIDE:
        if key in tree and not (isinstance(tree[key], Built) and tree[key].function != _ORDERED_DICT):
            tree = _mapping(tree[key])
    found, claimed, size = {}, 0, path.stat().st_size
    for name, value in tree.items():
        if not isinstance(name, str) or not isinstance(value, Built):
            raise PickleError(f"expected names and tensors, got {str(name)[:40]!r}: {type(value).__name__}")
        found[name] = _tensor(value, load, name)
        claimed += found[name].nbytes
        check_claim(path, claimed, size)
    return found


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Built) and value.function == _ORDERED_DICT:
        return value.items
    if isinstance(value, dict):
        return value
    raise PickleError(f"expected a dictionary of names and tensors, got {type(value).__name__}")


def _tensor(value: Built, load: Loader, name: str) -> npt.NDArray[Any]:
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
    elements = load(storage)
    if not count:
        return np.empty(shape, elements.dtype)
    view = np.lib.stride_tricks.as_strided(
        elements[offset:], shape, [stride * elements.itemsize for stride in strides], writeable=False
    )
    return np.array(view)
