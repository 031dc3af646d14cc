"""Read pickles without calling anything that they name: their structure, and the arrays of weight pickles.

What the pickle would call is returned as a `Built` for the caller to look at.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Set
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights
from deeplabctl.weights.sources.tensorflow_checkpoints import weights_of_variables
from deeplabctl.weights.weight_file import WeightFile

_MOST_OPERATIONS = 500_000
STATE_DICT = "torch.save(model.state_dict(), FILE) saves the tensors alone"  # what to do about a PyTorch file


class PickleError(ValueError):
    """Say why a pickle is refused."""


class Named(NamedTuple):
    """Hold the name of a class or function."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return the name, its module first."""
        return f"{self.module}.{self.name}"[:120]

    def __call__(self, *arguments: Any) -> Built:
        """Return what a call would be; nothing is called."""
        return Built(self, arguments)


class Built:
    """Hold what the pickle would build: a function, its arguments, and the items and the state that are set then."""

    def __init__(self, function: Named, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.items: dict[Any, Any] = {}
        self.state: Any = None

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item."""
        self.items[key] = value

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state


# The functions that pickled arrays need, under the module names of numpy 1 and 2.
_NUMPY = ("numpy.core", "numpy._core")
_ARRAYS = {
    *((f"{module}.multiarray", "_reconstruct") for module in _NUMPY),
    *((f"{module}.numeric", "_frombuffer") for module in _NUMPY),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip


class WeightPickle(WeightFile):
    """Hold a pickled dictionary of names and arrays, of Python 2 or 3, named as the variables of TensorFlow's ports."""

    words = "weight pickle"
    refused = "the pickle is refused"
    begins = re.compile(rb"\x80[\x02-\x05]|\(dp?\d*\n|\(lp?\d*\n|ccopy_reg|\}q")  # dictionaries, lists and objects

    def _read_weights(self) -> Weights:
        with self.path.open("rb") as file:
            loaded = read_pickle(mapped(file), _ARRAYS)
        if isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded):
            loaded = {name: _array(value) for name, value in loaded.items()}
        if not isinstance(loaded, dict) or not all(isinstance(value, np.ndarray) for value in loaded.values()):
            raise WeightsError(
                f"weights {self.path}: expected a pickled dictionary of names and arrays, got {type(loaded).__name__}"
            )
        return weights_of_variables(loaded, self.path)


def _array(value: Any) -> Any:
    """Return the array that a pickle would build; any other value as it is."""
    if not isinstance(value, Built):
        return value
    if value.function.name == "_frombuffer":
        data, dtype, shape, order = value.arguments
    else:
        _, shape, dtype, fortran, data = value.state
        order = "F" if fortran else "C"
    if isinstance(data, Built):  # _codecs.encode(text, "latin1"): how protocols before 3 write bytes
        data = data.arguments[0]
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, _dtype(dtype)).reshape(shape, order="F" if order == "F" else "C")


def _dtype(value: Any) -> np.dtype[Any]:
    text = value.arguments[0] if isinstance(value, Built) and value.function.name == "dtype" else None
    if not isinstance(text, str) or np.dtype(text).kind not in "fiub":
        raise PickleError(f"it holds an array of {text!r}, expected numbers")
    return np.dtype(text).newbyteorder(value.state[1] if value.state else "=")


def mapped(file: BinaryIO) -> mmap.mmap:
    """Return a file mapped into memory, which returns what there is where a damaged length asks for more."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


# The operations that put values together, with a `Built` in place of a new object; none of the others is carried out.
_OPERATIONS = {
    "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE",
    "DICT", "LIST", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "PUT", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD",
    "BINPERSID", "PROTO", "FRAME",
}  # fmt: skip
_NAMES = {ord(operation.code): operation.name for operation in pickletools.opcodes}


def read_pickle(
    stream: BinaryIO | mmap.mmap, allowed: Set[tuple[str, str]], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return the value of the pickle at the stream's position, which is then after it.

    ``allowed`` are the names of functions and classes, (module, name), that the pickle may mention, in place of which
    stand `Named` and `Built`. ``persistent`` turns what it names as stored elsewhere into a value. Raises PickleError
    for a pickle that is damaged, or that mentions anything else.
    """
    try:
        return _Unpickler(cast(BinaryIO, stream), allowed, persistent).load()
    except PickleError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise PickleError(f"the pickle is damaged ({str(error)[:120] or type(error).__name__})") from None


class _Operations(dict[int, Any]):
    """Look up operations: only those that put values together, and not too many."""

    left = _MOST_OPERATIONS

    def __getitem__(self, code: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise PickleError("it is too long for a file of weights")
        if code in _NAMES and _NAMES[code] not in _OPERATIONS:
            raise PickleError(f"it asks for the operation {_NAMES[code]}, which a file of weights does not need")
        return super().__getitem__(code)


class _Unpickler(pickle._Unpickler):
    """Carry out a pickle's operations with `Named` in place of what it names, so that calling that makes a `Built`.

    Python's own unpickler in C would allocate what a damaged file claims; this is its twin in Python.
    """

    def __init__(
        self, stream: BinaryIO, allowed: Set[tuple[str, str]], persistent: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(stream, encoding="latin1")
        self._allowed, self._persistent = allowed, persistent
        ours = {pickle.BYTEARRAY8[0]: _load_bytes, pickle.NEWOBJ[0]: pickle._Unpickler.dispatch[pickle.REDUCE[0]]}
        self.dispatch = _Operations(self.dispatch | ours)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Named:
        """Return a name in place of a function or class."""
        named = Named(str(module), str(name))
        if named not in self._allowed:
            raise PickleError(f"it asks to call {named}, which a file of weights does not need; {STATE_DICT}")
        return named

    def persistent_load(self, pid: Any) -> Any:
        """Return what stands for a value that is stored elsewhere."""
        if self._persistent is None:
            raise PickleError("it asks for a value outside, which a file of weights does not need")
        return self._persistent(pid)


def _load_bytes(unpickler: Any) -> None:
    """Read BYTEARRAY8, for which the original makes room before it reads."""
    unpickler.append(unpickler.read(int.from_bytes(unpickler.read(8), "little")))
