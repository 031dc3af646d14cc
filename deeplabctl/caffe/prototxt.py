"""Read net definitions (``.prototxt``), and compare their geometry with the table of layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from deeplabctl.caffe.text_format import Message, Value, parse
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import ARCHITECTURES, DEFAULT_ARCHITECTURE, Conv, Pool

MAX_SIZE = 1_000_000  # bytes; those of the largest known nets have a fifth of it

POOL_KERNEL, POOL_PAD = 3, 1  # of every pooling in the table
TYPES = {"4": "convolution", "17": "pooling"}  # V1LayerParameter.LayerType by number
POOL_METHODS: dict[str | int | float, str] = {"MAX": "max", "AVE": "average", 0: "max", 1: "average", 2: "stochastic"}


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


def check_geometry(
    tree: Message, architecture: str = DEFAULT_ARCHITECTURE, num_classes: int | None = None, width: float | None = None
) -> list[str]:
    """Compare a net definition's geometry with the architecture's; returns the names of the layers, which all agree.

    Compared are type, kernel, pad, stride, ``hole`` or ``dilation`` and group of the convolutions, kernel, pad, stride
    and method of the poolings, and the outputs: channels of one ``width`` (the given one, else the median of the
    layers') and, if given, ``num_classes``. The classifier may have any name, as it follows the layer before it, and
    may be missing. Raises one WeightsError with every difference: ``-`` missing, ``+`` unexpected, or both values.
    """
    table = ARCHITECTURES[architecture]
    given: dict[str, list[Message]] = {}
    for layer in [*tree.messages("layers"), *tree.messages("layer")]:
        given.setdefault(str(layer.last("name")), []).append(layer)
    before = ""
    names: dict[str, str] = {}  # in the table -> in the net definition
    for row in table:
        names[row.name] = row.name
        if isinstance(row, Conv):
            if row.classifier and row.name not in given:
                names[row.name] = _follower(given, before, set(names)) or row.name
            before = row.name
    if not any(name in given for name in names.values()):
        raise WeightsError(f"prototxt {tree.where}: expected a net like {architecture}, got none of its layers")

    width = _width(table, given) if width is None else width
    wrong: list[str] = []
    for row in table:
        found = given.get(names[row.name], [])
        if not found and not (isinstance(row, Conv) and row.classifier):
            wrong.append(f"- {row.name} (missing)")
        for layer in found:
            outputs = None
            if isinstance(row, Conv):
                outputs = num_classes if row.classifier else max(1, round(row.channels * width))
            wrong += [
                f"{_shown(layer.last('name'))} (line {_line(layer)}): {text}"
                for text in _differences(row, layer, outputs)
            ]
    known = set(names.values())
    for name, layers in given.items():
        if name not in known and any(_type(layer) == "pooling" for layer in layers):
            wrong.append(f"+ {_shown(name)} (line {_line(layers[0])}): unexpected pooling")
    if wrong:
        raise WeightsError(
            f"prototxt {tree.where.rpartition(':')[0]} does not fit {architecture}: {'; '.join(wrong)}; "
            "weights trained with another geometry give other results here"
        )
    return [name for name in names.values() if name in given]


def _differences(row: Conv | Pool, layer: Message, outputs: int | None) -> list[str]:
    """Describe what differs between a row of the table and a layer: the setting, expected and got."""
    expected_type = "convolution" if isinstance(row, Conv) else "pooling"
    if _type(layer) != expected_type:
        return [f"expected a {expected_type}, got {_shown(layer.last('type'))}"]
    settings = _merged(layer.messages(f"{expected_type}_param"))
    kernel = _extents(settings, ["kernel_size"], "kernel", None)
    pad, stride = _extents(settings, ["pad"], "pad", 0), _extents(settings, ["stride"], "stride", 1)
    if isinstance(row, Conv):
        dilation = _extents(settings, ["hole", "dilation"], "hole", 1)
        compared: list[tuple[str, int, Sequence[Value | None]]] = [
            ("kernel", row.kernel, kernel),
            ("pad", row.pad, pad),
            ("stride", 1, stride),
            ("dilation", row.dilation, dilation),
            ("group", 1, settings.get("group", [1])),
        ]
        count = settings.last("num_output")
        if outputs is not None and not str(count).startswith("${"):  # a template's place for it
            compared.append(("num_output", outputs, [count]))
    else:
        method = settings.last("pool") or "MAX"
        compared = [("kernel", POOL_KERNEL, kernel), ("pad", POOL_PAD, pad), ("stride", row.stride, stride)]
        if isinstance(method, Message) or POOL_METHODS.get(method) != row.kind:
            return [f"expected {row.kind} pooling, got {_shown(method)}"]
        if settings.last("global_pooling") in ("true", 1) or settings.last("round_mode") in ("FLOOR", 1):
            return ["expected pooling in windows, its size rounded up, got global_pooling or round_mode: FLOOR"]
    return [
        f"{what} expected {expected}, got {' and '.join(dict.fromkeys(map(_shown, values)))}"
        for what, expected, values in compared
        if any(value != expected for value in values)
    ]


def _extents(settings: Message, both: list[str], one: str, default: int | None) -> list[Value | None]:
    """Return all values of a setting, under any of its names; the default for an axis without one."""
    values: list[Value | None] = [value for name in both for value in settings.get(name, [])]
    missing: list[Value | None] = [] if values else [default]
    for axis in "hw":
        values += settings.get(f"{one}_{axis}", missing)
    return values


def _merged(messages: list[Message]) -> Message:
    merged = Message(messages[0].where if messages else "")
    for message in messages:
        for name, values in message.items():
            merged.setdefault(name, []).extend(values)
    return merged


def _follower(given: dict[str, list[Message]], before: str, known: set[str]) -> str | None:
    """Return the convolution that reads the layer ``before`` and is not one of the ``known`` ones."""
    for name, layers in given.items():
        if name not in known and any(_type(x) == "convolution" and before in x.get("bottom", []) for x in layers):
            return name
    return None


def _width(table: tuple[Conv | Pool, ...], given: dict[str, list[Message]]) -> float:
    ratios = []
    for row in table:
        if isinstance(row, Conv) and not row.classifier:
            for layer in given.get(row.name, []):
                count = _merged(layer.messages("convolution_param")).last("num_output")
                if isinstance(count, int):
                    ratios.append(count / row.channels)
    return median(ratios) if ratios else 1.0


def _type(layer: Message) -> str:
    name = str(layer.last("type")).replace("_", "").lower()
    return TYPES.get(name, name)


def _line(layer: Message) -> str:
    return layer.where.rpartition(":")[2]


def _shown(value: Value | None) -> str:
    """Return a value on one line."""
    text = "none" if value is None else "a message" if isinstance(value, Message) else str(value)[:40]
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
