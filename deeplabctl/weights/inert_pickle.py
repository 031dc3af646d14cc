"""Read the structure of a pickle without calling anything that it names.

Python's own unpickler calls functions, and trusts lengths and numbers in the file. This one only puts values together:
what the pickle would call is returned as a `Built` for the caller to look at.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

_MOST_OPERATIONS = 5_000_000

# Functions that a file may name; calling them, or any other, is refused where they are named.
_ALLOWED = {
    ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
}  # fmt: skip


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
    """Hold what the pickle would build: the function's name, its arguments, and the items set afterwards."""

    def __init__(self, function: Named, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.items: dict[Any, Any] = {}


class _Mark:
    pass


_MARK = _Mark()
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING",
}  # fmt: skip


def read_pickle(stream: BinaryIO, persistent: Callable[[Any], Any]) -> Any:
    """Return the value of the pickle at the stream's position, which is then after it.

    ``persistent`` turns what the pickle names as stored elsewhere into a value. Raises PickleError for a pickle that is
    damaged, or that calls anything but the functions that tensors are built with.
    """
    reader = _Reader(persistent)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if count > _MOST_OPERATIONS:
                raise PickleError("it is too long for a file of tensors")
            reader.take(operation.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, StopIteration) as error:
        raise PickleError(f"the pickle is damaged ({str(error)[:120] or type(error).__name__})") from None
    return reader.result


class _Reader:
    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.result: Any = None

    def take(self, name: str, argument: Any) -> None:
        """Carry out one operation."""
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
        elif name in ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"):
            self._collect(name)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(self._plain(value) for value in stack[-count:])]
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._set(stack[-1], [key, value])
        elif name == "STOP":
            self.result = stack.pop()
        elif name not in ("PROTO", "FRAME"):
            self._build(name, argument)

    def _collect(self, name: str) -> None:
        """Take the values after the last mark together."""
        stack = self._stack
        at = next(index for index in reversed(range(len(stack))) if stack[index] is _MARK)
        values = stack[at + 1 :]
        del stack[at:]
        if name == "TUPLE":
            stack.append(tuple(values))
        elif name == "LIST":
            stack.append(values)
        elif name == "DICT":
            stack.append({})
            self._set(stack[-1], values)
        elif name == "APPENDS":
            stack[-1].extend(values)
        else:
            self._set(stack[-1], values)

    def _set(self, target: Any, pairs: list[Any]) -> None:
        items = target.items if isinstance(target, Built) else target
        if not isinstance(items, dict):
            raise PickleError("the pickle is damaged (items are set in what has none)")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            items[key] = value

    def _build(self, name: str, argument: Any) -> None:
        """Carry out an operation that names a function, a class or a storage."""
        stack = self._stack
        if name == "GLOBAL":
            stack.append(self._named(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self._named(module, attribute))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, Named) or tuple(function) not in _ALLOWED or not isinstance(arguments, tuple):
                raise PickleError(f"it asks to call {function}, which a file of tensors does not need")
            stack.append(Built(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], Built) or not isinstance(state, dict):
                raise PickleError("it asks to change an object, which a file of tensors does not need")
        elif name == "BINPERSID":
            stack.append(self._persistent(stack.pop()))
        else:
            raise PickleError(f"it asks for the operation {name}, which a file of tensors does not need")

    def _named(self, module: Any, name: Any) -> Named:
        named = Named(str(module), str(name))
        if tuple(named) not in _ALLOWED and not (named.module == "torch" and named.name.endswith("Storage")):
            raise PickleError(f"it asks to call {named}, which a file of tensors does not need")
        return named

    @staticmethod
    def _plain(value: Any) -> Any:
        if value is _MARK:
            raise PickleError("the pickle is damaged (a mark inside a tuple)")
        return value
