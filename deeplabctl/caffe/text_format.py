"""Parse protobuf's text format, in which Caffe's nets are defined, without a schema.

Source: protobuf.dev/reference/protobuf/textformat-spec. The syntax of ``Any`` and of extensions is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from deeplabctl.errors import WeightsError

MAX_DEPTH = 100
MAX_NUMBER = 64  # characters

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|inf(?:inity)?|nan)(?![\w.]))
    |(?P<word>[A-Za-z_]\w*|\$\{\w+\})  # ${NUM_LABELS}: the authors' files are templates, filled in by a script
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE | re.ASCII,
)
ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

Value: TypeAlias = "str | int | float | Message"


class Message(dict[str, list[Value]]):
    """Hold a message: each field's name with its values in their order. ``where`` is its ``path:line``.

    Texts and identifiers (``MAX``, ``true``) are both ``str``.
    """

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def messages(self, name: str) -> list[Message]:
        """Return the messages among a field's values."""
        return [value for value in self.get(name, []) if isinstance(value, Message)]

    def last(self, name: str) -> Value | None:
        """Return the value of a field that can have only one: the last; None without any."""
        return self[name][-1] if self.get(name) else None


class Token(NamedTuple):
    """Hold a piece of the text: its kind is a group of TOKEN, or 'end'."""

    kind: str
    text: str
    line: int


def parse(text: str, source: str) -> Message:
    """Parse a message; raises WeightsError, with ``source:line``, for text that the format does not allow."""
    return _Parser(text, source).message("end", 0, 1)


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.tokens = self._split(text)
        self.token = next(self.tokens)

    def message(self, closing: str, depth: int, line: int) -> Message:
        """Return the fields up to the closing mark, which is taken; ``line`` is that of the opening one."""
        if depth > MAX_DEPTH:
            raise self._error(f"messages at most {MAX_DEPTH} deep")
        message = Message(f"{self.source}:{line}")
        while self.token.text != closing or self.token.kind not in ("mark", "end"):
            if self.token.kind not in ("word", "number") or not self.token.text.isidentifier():  # `inf` names a field
                raise self._error("the name of a field" + ("" if closing == "end" else f" or {closing}"))
            values = message.setdefault(self._take(), [])
            if colon := self._is(":"):
                self._take()
            values.extend(self._values(depth, colon))
            if self._is(",", ";"):
                self._take()
        if closing != "end":
            self._take()
        return message

    def _values(self, depth: int, colon: bool) -> list[Value]:
        if not self._is("["):
            return [self._value(depth, colon)]
        self._take()
        values: list[Value] = []
        while not self._is("]"):
            values.append(self._value(depth, colon))
            if not self._is(","):
                break
            self._take()
        if not self._is("]"):
            raise self._error(", or ]")
        self._take()
        return values

    def _value(self, depth: int, colon: bool) -> Value:
        line = self.token.line
        if self._is("{", "<"):
            return self.message("}" if self._take() == "{" else ">", depth + 1, line)
        if not colon:
            raise self._error(": or {")
        if self.token.kind == "string":
            parts = b""
            while self.token.kind == "string":
                parts += ESCAPE.sub(_unescape, self._take()[1:-1].encode())
            return parts.decode("utf-8", "replace")
        if self.token.kind == "number":
            return self._number()
        if self.token.kind == "word":
            return self._take()
        raise self._error("a value")

    def _number(self) -> int | float:
        text = self.token.text
        if len(text) > MAX_NUMBER:
            raise self._error(f"a number of at most {MAX_NUMBER} characters")
        self._take()
        if re.fullmatch(r"-?0[xX][0-9a-fA-F]+", text):
            return int(text, 16)
        if re.fullmatch(r"-?\d+", text):
            return int(text, 8 if re.fullmatch(r"-?0[0-7]+", text) else 10)
        return float(text if "n" in text else text.rstrip("fF"))  # inf and nan keep their last letter

    def _is(self, *marks: str) -> bool:
        return self.token.kind == "mark" and self.token.text in marks

    def _take(self) -> str:
        text = self.token.text
        self.token = next(self.tokens)
        return text

    def _error(self, expected: str) -> WeightsError:
        got = "the end of the file" if self.token.kind == "end" else repr(self.token.text[:40])
        return WeightsError(f"prototxt {self.source}:{self.token.line}: expected {expected}, got {got}")

    def _split(self, text: str) -> Iterator[Token]:
        position, line = 0, 1
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                self.token = Token("other", text[position : position + 20].splitlines()[0], line)
                raise self._error("a name, a value or a bracket")
            position = match.end()
            if match.lastgroup != "space":
                yield Token(str(match.lastgroup), match.group(), line)
            line += match.group().count("\n")
        yield Token("end", "end", line)


def _unescape(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, char = match.groups()
    if char is not None:
        return ESCAPED.get(char, char)
    return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF])
