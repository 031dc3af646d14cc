"""Read net definitions (``.prototxt``), and compare their geometry with the table of layers.

They are written in protobuf's text format, which is parsed without a schema; ``Any`` and extensions are left out.
Source: protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from deeplabctl.caffe.net import SCALE_COPY, is_renamed
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE
from deeplabctl.network.architecture import Rows
from deeplabctl.network.ops import RELU, Operation
from deeplabctl.network.ops.operation import differences, fold, shown

MAX_SIZE = 1_000_000  # bytes; those of the largest known nets have a fifth of it

# V1LayerParameter.LayerType by number.
TYPES = {"4": "convolution", "6": "dropout", "17": "pooling", "18": "relu", "20": "softmax", "25": "eltwise"}

MAX_DEPTH = 100
MAX_NUMBER = 64  # characters

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|inf(?:inity)?|nan)(?![\w.]))
    |(?P<word>[A-Za-z_]\w*|\$\{\w+\})  # ${NUM_LABELS}: the authors' files are templates, filled in by a script
    |(?P<mark>[{}<>\[\]:,;])|(?P<other>(?s:.)[^\n]{0,19})""",
    re.VERBOSE | re.ASCII,
)

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


def read_prototxt(path: str | Path) -> Message:
    """Read a net definition as a tree of dicts: each field's name with the list of its values.

    Layers are under ``layers`` (V1) or ``layer`` (V2). Raises WeightsError, with the line, for other texts.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > MAX_SIZE:
            raise WeightsError(f"prototxt {path}: expected a net definition, got a file of {path.stat().st_size} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"prototxt {path}: cannot be read ({error.strerror or error})") from None
    if b"\0" in content or not content.strip():
        kind = "a binary file" if content.strip() else "an empty file"
        raise WeightsError(f"prototxt {path}: expected a net definition (text), got {kind}")
    return parse(content.decode("utf-8-sig", "replace"), str(path))


def parse(text: str, source: str) -> Message:
    """Parse a message; raises WeightsError, with ``source:line``, for text that the format does not allow."""
    return _Parser(text, source).message("end", 0, 1)


def check_geometry(
    tree: Message, architecture: str = DEFAULT_ARCHITECTURE, num_classes: int | None = None, width: float = 1.0
) -> list[str]:
    """Compare a net definition's geometry with the architecture's; returns the names of the layers, which all agree.

    Compared are type, inputs, kernel, pad, stride, ``hole`` or ``dilation`` and group of the convolutions, kernel, pad,
    stride and method of the poolings, epsilon of the norms, ReLUs and what else is computed in place, the outputs
    (channels of this ``width`` and, if given, ``num_classes``), and mean and scale of the images. Classifiers and their
    sum may have other names, as they follow the layers before them; a single classifier may be missing. In a net of
    several scales, each copy is compared. Raises one WeightsError with every difference: ``-`` missing, ``+``
    unexpected, or both values.
    """
    layers = [*tree.messages("layers"), *tree.messages("layer")]
    nets = _copies(layers)
    if not any(row.name in nets[""] for row in ARCHITECTURES[architecture].rows):
        raise WeightsError(f"prototxt {tree.where}: expected a net like {architecture}, got none of its layers")
    tables = [ARCHITECTURES[architecture].rows, ARCHITECTURES[architecture].prediction_rows]
    in_place: dict[str, list[Message]] = {}
    for layer in layers:
        if layer.get("bottom") == layer.get("top"):
            in_place.setdefault(str(layer.last("top")), []).append(layer)
    both = [
        [_Check(architecture, rows, given, in_place, num_classes, width) for given in nets.values()] for rows in tables
    ]
    checks = min(both, key=lambda checks: sum(len(check.wrong) for check in checks))  # a training or a test net
    wrong = [*_other_images(layers, architecture), *(text for check in checks for text in check.wrong)]
    if wrong:
        raise WeightsError(
            f"prototxt {tree.where.rpartition(':')[0]} does not fit {architecture}: {'; '.join(wrong)}; "
            "weights trained with another geometry give other results here"
        )
    return checks[0].names


def _copies(layers: Iterable[Message]) -> dict[str, dict[str, list[Message]]]:
    """Return the layers of each scale ("" is the first) by their names at the first one."""
    nets: dict[str, dict[str, list[Message]]] = {"": {}}
    for layer in layers:
        name = str(layer.last("name"))
        copy = SCALE_COPY.search(name)
        nets.setdefault(copy[0] if copy else "", {}).setdefault(SCALE_COPY.sub("", name), []).append(layer)
    return nets


class _Check:
    """Compare one copy of a net with an architecture: the ``names`` of the layers found, and what is ``wrong``."""

    def __init__(
        self,
        architecture: str,
        rows: Rows,
        given: dict[str, list[Message]],
        in_place: dict[str, list[Message]],
        num_classes: int | None,
        width: float,
    ) -> None:
        self.names: list[str] = []
        self.wrong: list[str] = []
        self._given, self._num_classes, self._width = given, num_classes, width
        self._classifiers = ARCHITECTURES[architecture].classifiers
        self._optional = self._classifiers if len(self._classifiers) == 1 else ()
        self._known = {name for row in rows for name in (row.name, row.caffe_scale) if name}
        self._results: dict[str, tuple[Operation, Message]] = {}  # by their names: the last row and layer of each
        fold(rows, None, self._compare)
        for top, (row, layer) in self._results.items():
            self._compare_in_place(row, layer, in_place.get(top, []))
        for name, layers in given.items():
            if name not in self._known and any(_type(layer) == "pooling" for layer in layers):
                self.wrong.append(f"+ {shown(layers[0].last('name'))} (line {_line(layers[0])}): unexpected pooling")

    def _compare(self, row: Operation, inputs: list[str | None]) -> str | None:
        """Compare a row with its layer; returns the name of the layer's result, None where it is not known."""
        name = row.name
        if name not in self._given and (row.is_classifier or {*self._classifiers}.issuperset(row.inputs or ("",))):
            name = self._follower(row, inputs) or name
        found = self._given.get(name, [])
        if found:
            self.names.append(name)
        elif row.name not in self._optional:
            self.wrong.append(f"- {row.name} (missing)")
        outputs = row.channels_of([0], self._num_classes or 0, self._width) or None
        pairs = [(layer, _differences(row, layer, outputs)) for layer in found]
        if row.caffe_scale:
            scales = self._given.get(row.caffe_scale, [])
            self.wrong += [] if scales else [f"- {row.caffe_scale} (missing)"]
            pairs += [(layer, _other_type("scale", layer)) for layer in scales]
        for layer, texts in pairs:
            given = [shown(bottom) for bottom in layer.get("bottom", [])]
            if None not in inputs and sorted(given) != sorted(map(str, inputs)):
                texts = [*texts, f"inputs expected {' and '.join(map(str, inputs))}, got {' and '.join(given)}"]
            self.wrong += _described(layer, texts)
        if not found or not found[-1].last("top"):
            return None
        top = str(found[-1].last("top"))
        self._results[top] = row, found[-1]
        return top

    def _compare_in_place(self, row: Operation, result: Message, layers: list[Message]) -> None:
        """Compare what is computed in the place of a row's result: a ReLU or none, and nothing else but dropout."""
        others = [layer for layer in layers if SCALE_COPY.sub("", str(layer.last("name"))) not in self._known]
        activation, has_relu = getattr(row, "activation", None), "relu" in map(_type, others)
        if activation is not None and has_relu != (activation is RELU):
            text = "expected no ReLU on it, got one" if has_relu else "expected a ReLU on it, got none"
            self.wrong += _described(result, [text])
        for layer in others:
            slopes = _Settings(layer.messages("relu_param")).values("negative_slope", 0)
            texts = differences(("negative_slope", 0, slopes))
            if _type(layer) not in ("relu", "dropout", "softmax"):
                texts = [f"unexpected {shown(layer.last('type'))}"]
            self.wrong += _described(layer, texts)

    def _follower(self, row: Operation, inputs: list[str | None]) -> str | None:
        """Return the layer in the place of a classifier or of their sum: by its name, or as the first with its inputs.

        It is none of the architecture's layers.
        """
        found = [
            name
            for name, layers in self._given.items()
            if name not in self._known
            and any(
                _type(one) == row.caffe_type and {*map(shown, one.get("bottom", []))} == {*inputs} for one in layers
            )
        ]
        found.sort(key=lambda name: not is_renamed(row.name, name))
        self._known.update(found[:1])
        return found[0] if found else None


def _other_images(layers: Iterable[Message], architecture: str) -> list[str]:
    """Describe where images are scaled, or lose another mean than the architecture's, by more than 2."""
    wrong, mean = [], ARCHITECTURES[architecture].preprocessing.mean
    for layer in layers:
        for message in layer.messages("transform_param"):
            texts = differences(("scale", 1, message.get("scale", [1])))
            given = [value if isinstance(value, int | float) else math.nan for value in message.get("mean_value", [])]
            each = given * len(mean) if len(given) == 1 else given
            if given and not (len(each) == 3 and all(abs(one - our) <= 2 for one, our in zip(each, mean, strict=True))):
                texts += differences(("mean_value", " and ".join(map(str, mean)), given))
            wrong += _described(layer, texts)
    return wrong


def _described(layer: Message, texts: list[str]) -> list[str]:
    return [f"{shown(layer.last('name'))} (line {_line(layer)}): {text}" for text in texts]


def _other_type(expected: str, layer: Message) -> list[str]:
    """Describe a layer of another type than the expected one."""
    return [] if _type(layer) == expected else [f"expected a {expected}, got {shown(layer.last('type'))}"]


def _differences(row: Operation, layer: Message, outputs: int | None) -> list[str]:
    """Describe what differs between a row of the table and a layer: the setting, expected and got."""
    if other := _other_type(row.caffe_type, layer):
        return other
    return row.caffe_differences(_Settings(layer.messages(row.caffe_settings)), outputs)


class _Settings:
    """Hold the settings of a layer, from all messages of them that it has."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._given: dict[str, list[Value]] = {}
        for message in messages:
            for name, values in message.items():
                self._given.setdefault(name, []).extend(values)

    def values(self, name: str, default: object) -> Sequence[object]:
        """Return the values of a setting, or the default."""
        return self._given.get(name) or [default]

    def extents(self, names: Sequence[str], axis_name: str, default: object) -> Sequence[object]:
        """Return all values of a setting, under any of its names; the default for an axis without one."""
        values: list[object] = [value for name in names for value in self._given.get(name, [])]
        missing = [] if values else [default]
        for axis in "hw":
            values += self._given.get(f"{axis_name}_{axis}") or missing
        return values


def _type(layer: Message) -> str:
    name = str(layer.last("type")).replace("_", "").lower()
    return TYPES.get(name, name)


def _line(layer: Message) -> str:
    return layer.where.rpartition(":")[2]


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.tokens = _split(text)
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
            colon = self._skip(":")
            if not self._skip("["):
                values.append(self._value(depth, colon))
            elif not self._skip("]"):
                values.append(self._value(depth, colon))
                while self._skip(","):
                    values.append(self._value(depth, colon))
                if not self._skip("]"):
                    raise self._error(", or ]")
            self._skip(",", ";")
        if closing != "end":
            self._take()
        return message

    def _value(self, depth: int, colon: bool) -> Value:
        kind, text, line = self.token
        if self._skip("{", "<"):
            return self.message("}" if text == "{" else ">", depth + 1, line)
        if not colon:
            raise self._error(": or {")
        if kind == "string":
            parts = ""
            while self.token.kind == "string":
                parts += re.sub(r"(?s)\\(.)", r"\1", self._take()[1:-1])  # quotes; layers have no other escapes
            return parts
        if kind not in ("number", "word"):
            raise self._error("a value")
        if kind == "word":
            return self._take()
        if len(text) > MAX_NUMBER:
            raise self._error(f"a number of at most {MAX_NUMBER} characters")
        self._take()
        if re.fullmatch(r"-?(0[xX].+|\d+)", text):
            return int(text, 16 if "x" in text.lower() else 8 if re.fullmatch(r"-?0[0-7]+", text) else 10)
        return float(text if "n" in text else text.rstrip("fF"))  # inf and nan keep their last letter

    def _skip(self, *marks: str) -> bool:
        """Take one of these marks, if one comes next."""
        is_next = self.token.kind == "mark" and self.token.text in marks
        if is_next:
            self._take()
        return is_next

    def _take(self) -> str:
        text = self.token.text
        self.token = next(self.tokens)
        if self.token.kind == "other":
            raise self._error("a name, a value or a bracket")
        return text

    def _error(self, expected: str) -> WeightsError:
        got = "the end of the file" if self.token.kind == "end" else repr(self.token.text[:40])
        return WeightsError(f"prototxt {self.source}:{self.token.line}: expected {expected}, got {got}")


def _split(text: str) -> Iterator[Token]:
    line = 1
    for match in TOKEN.finditer(text):
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match.group(), line)
        line += match.group().count("\n")
    yield Token("end", "end", line)
