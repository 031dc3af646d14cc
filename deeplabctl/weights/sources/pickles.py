"""Read pickles without calling anything that they name: their structure, and the arrays of weight pickles.

Python's own unpickler calls functions, and trusts lengths and numbers in the file. This one only puts values together:
what the pickle would call is returned as a `Built` for the caller to look at.
"""

from __future__ import annotations

import codecs
import mmap
import pickletools
import re
from collections.abc import Callable, Iterator, Set
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights
from deeplabctl.weights.sources.tensorflow_checkpoints import weights_of_variables
from deeplabctl.weights.weight_file import Beginning, WeightFile

_BEGINNING = re.compile(rb"\x80[\x02-\x05]|\(dp?\d*\n|\(lp?\d*\n|ccopy_reg|\}q")
_MOST_OPERATIONS = 5_000_000


class PickleError(Exception):
    """Say why a pickle is refused."""


class Named(NamedTuple):
    """Hold the name of a class or function."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return the name, its module first."""
        return f"{self.module}.{self.name}"[:120]


class Built:
    """Hold what the pickle would build: a function, its arguments, and the items and the state that are set then."""

    def __init__(self, function: Named, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.items: dict[Any, Any] = {}
        self.state: Any = None


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

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it begins as pickles of dictionaries, lists and objects do."""
        return _BEGINNING.match(start.head) is not None

    def _read_weights(self) -> Weights:
        try:
            with self.path.open("rb") as file:
                loaded = read_pickle(mapped(file), _ARRAYS)
            if isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded):
                loaded = {name: _array(value) for name, value in loaded.items()}
        except OSError as error:
            raise WeightsError(f"weights {self.path}: cannot be read ({error.strerror})") from None
        except (PickleError, ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            raise WeightsError(f"weights {self.path}: the pickle is refused: {reason[:300]}") from None
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


class _Mark:
    pass


_MARK = _Mark()
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def read_pickle(
    stream: BinaryIO | mmap.mmap, allowed: Set[tuple[str, str]], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return the value of the pickle at the stream's position, which is then after it.

    ``allowed`` are the names of functions and classes, (module, name), that the pickle may mention, in place of which
    stand `Named` and `Built`. ``persistent`` turns what it names as stored elsewhere into a value. Raises PickleError
    for a pickle that is damaged, or that mentions anything else.
    """
    reader = _Reader(allowed, persistent)
    try:
        for count, (operation, argument) in enumerate(_operations(cast(BinaryIO, stream))):
            if count > _MOST_OPERATIONS:
                raise PickleError("it is too long for a file of weights")
            reader.apply(operation, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, StopIteration) as error:
        raise PickleError(f"the pickle is damaged ({str(error)[:120] or type(error).__name__})") from None
    return reader.result


def _operations(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield names and arguments up to the end, as pickletools.genops does, which refuses Python 2's bytes in STRING."""
    name = ""
    while name != "STOP":
        code = stream.read(1).decode("latin-1")
        if code not in _OPERATIONS:
            raise ValueError(f"expected an operation, got {code!r}")
        operation = _OPERATIONS[code]
        name = operation.name
        if name == "STRING":
            yield name, codecs.escape_decode(stream.readline().strip()[1:-1])[0].decode("latin-1")
        else:
            yield name, operation.arg.reader(stream) if operation.arg else None


class _Reader:
    """Apply the operations of a pickle to a stack."""

    def __init__(self, allowed: Set[tuple[str, str]], persistent: Callable[[Any], Any] | None) -> None:
        self._allowed, self._persistent = allowed, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.result: Any = None

    def apply(self, name: str, argument: Any) -> None:
        """Apply an operation."""
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[int(argument)])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack[-int(name[-1]) :] = [_tuple(stack[-int(name[-1]) :])]
        elif name == "TUPLE":
            stack.append(_tuple(self._after_mark()))
        elif name == "LIST":
            stack.append(self._after_mark())
        elif name == "DICT":
            pairs = self._after_mark()
            stack.append({})
            self._set(pairs)
        elif name == "APPENDS":
            values = self._after_mark()
            stack[-1].extend(values)
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name == "SETITEMS":
            self._set(self._after_mark())
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._set([key, value])
        elif name == "STOP":
            self.result = stack.pop()
        elif name not in ("PROTO", "FRAME"):
            self._build(name, argument)

    def _after_mark(self) -> list[Any]:
        """Remove the last mark and the values after it, and return those."""
        at = next(index for index in reversed(range(len(self._stack))) if self._stack[index] is _MARK)
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def _set(self, pairs: list[Any]) -> None:
        """Set keys and values, one after the other, in what is then the last on the stack."""
        target = self._stack[-1]
        items = target.items if isinstance(target, Built) else target
        if not isinstance(items, dict):
            raise PickleError("the pickle is damaged (items are set in what has none)")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            items[key] = value

    def _build(self, name: str, argument: Any) -> None:
        """Apply an operation that names a function, a class or a storage."""
        stack = self._stack
        if name == "GLOBAL":
            stack.append(self._named(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self._named(module, attribute))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, Named) or not isinstance(arguments, tuple):
                raise PickleError(f"it asks to call {str(function)[:120]}, which a file of weights does not need")
            stack.append(Built(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], Built):
                raise PickleError("it asks to change an object, which a file of weights does not need")
            stack[-1].state = state
        elif name == "BINPERSID" and self._persistent is not None:
            stack.append(self._persistent(stack.pop()))
        else:
            raise PickleError(f"it asks for the operation {name}, which a file of weights does not need")

    def _named(self, module: Any, name: Any) -> Named:
        named = Named(str(module), str(name))
        if named not in self._allowed:
            raise PickleError(f"it asks to call {named}, which a file of weights does not need")
        return named


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    if any(value is _MARK for value in values):
        raise PickleError("the pickle is damaged (a mark inside a tuple)")
    return tuple(values)
