"""Read net definitions (``.prototxt``), and compare their geometry with the table of layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from deeplabctl.caffe.net import SCALE_COPY, scale_name
from deeplabctl.caffe.text_format import Message, Value, parse
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import ARCHITECTURES, DEFAULT_ARCHITECTURE, classifiers
from deeplabctl.network.rows import Conv, Norm, Pool, Row, Rows, Sum, Zoom, fold

MAX_SIZE = 1_000_000  # bytes; those of the largest known nets have a fifth of it

POOL_KERNEL, POOL_PAD = 3, 1  # of every pooling in the table
TYPES = {"4": "convolution", "17": "pooling", "25": "eltwise"}  # V1LayerParameter.LayerType by number
# The type of a row's layer, without capitals, and the message with its settings.
KINDS: dict[type[Row], tuple[str, str]] = {
    Conv: ("convolution", "convolution_param"), Pool: ("pooling", "pooling_param"),
    Norm: ("batchnorm", "batch_norm_param"), Sum: ("eltwise", "eltwise_param"),
    Zoom: ("interp", "interp_param"),
}  # fmt: skip
NORM_EPS = 1e-5  # as it is written
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

    Compared are type, inputs, kernel, pad, stride, ``hole`` or ``dilation`` and group of the convolutions, kernel, pad,
    stride and method of the poolings, epsilon of the norms, and the outputs: channels of one ``width`` (the given one,
    else the median of the layers') and, if given, ``num_classes``. A single classifier may have any name, as it follows
    the layer before it, and may be missing. In a net of several scales, each copy is compared. Raises one WeightsError
    with every difference: ``-`` missing, ``+`` unexpected, or both values.
    """
    nets = _copies([*tree.messages("layers"), *tree.messages("layer")])
    if not any(row.name in nets[""] for row in ARCHITECTURES[architecture].rows):
        raise WeightsError(f"prototxt {tree.where}: expected a net like {architecture}, got none of its layers")
    tables = [ARCHITECTURES[architecture].rows, ARCHITECTURES[architecture].prediction_rows]
    both = [[_Check(architecture, rows, given, num_classes, width) for given in nets.values()] for rows in tables]
    checks = min(both, key=lambda checks: sum(len(check.wrong) for check in checks))  # a training or a test net
    wrong = [text for check in checks for text in check.wrong]
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
        num_classes: int | None,
        width: float | None,
    ) -> None:
        self.names: list[str] = []
        self.wrong: list[str] = []
        self._given, self._num_classes = given, num_classes
        self._optional = classifiers(architecture) if len(classifiers(architecture)) == 1 else ()
        self._known = {row.name for row in rows} | {scale_name(row.name) for row in rows if isinstance(row, Norm)}
        self._width = _width(rows, given) if width is None else width
        fold(rows, None, self._compare)
        for name, layers in given.items():
            if name not in self._known and any(_type(layer) == "pooling" for layer in layers):
                self.wrong.append(f"+ {_shown(layers[0].last('name'))} (line {_line(layers[0])}): unexpected pooling")

    def _compare(self, row: Row, inputs: list[str | None]) -> str | None:
        """Compare a row with its layer; returns the name of the layer's result, None where it is not known."""
        name = row.name
        if name not in self._given and name in self._optional:
            name = self._follower(inputs[0]) or name
        found = self._given.get(name, [])
        if found:
            self.names.append(name)
        elif row.name not in self._optional:
            self.wrong.append(f"- {row.name} (missing)")
        pairs = [(layer, _differences(row, layer, self._outputs(row))) for layer in found]
        if isinstance(row, Norm):
            scales = self._given.get(scale_name(row.name), [])
            self.wrong += [] if scales else [f"- {scale_name(row.name)} (missing)"]
            pairs += [(layer, _other_type("scale", layer)) for layer in scales]
        for layer, differences in pairs:
            given = [_shown(bottom) for bottom in layer.get("bottom", [])]
            if None not in inputs and sorted(given) != sorted(map(str, inputs)):
                differences = [
                    *differences,
                    f"inputs expected {' and '.join(map(str, inputs))}, got {' and '.join(given)}",
                ]
            self.wrong += [f"{_shown(layer.last('name'))} (line {_line(layer)}): {text}" for text in differences]
        return str(found[-1].last("top")) if found and found[-1].last("top") else None

    def _outputs(self, row: Row) -> int | None:
        if not isinstance(row, Conv):
            return None
        return self._num_classes if row.classifier else max(1, round(row.channels * self._width))

    def _follower(self, before: str | None) -> str | None:
        """Return the convolution that reads ``before`` and is not one of the architecture's."""
        for name, layers in self._given.items():
            if name not in self._known and any(
                _type(layer) == "convolution" and before in layer.get("bottom", []) for layer in layers
            ):
                self._known.add(name)
                return name
        return None


def _other_type(expected: str, layer: Message) -> list[str]:
    """Describe a layer of another type than the expected one."""
    return [] if _type(layer) == expected else [f"expected a {expected}, got {_shown(layer.last('type'))}"]


def _differences(row: Row, layer: Message, outputs: int | None) -> list[str]:
    """Describe what differs between a row of the table and a layer: the setting, expected and got."""
    kind, parameter = KINDS[type(row)]
    if other := _other_type(kind, layer):
        return other
    settings = _merged(layer.messages(parameter))
    compared: list[tuple[str, Value, Sequence[Value | None]]]
    if isinstance(row, Conv):
        compared = [
            ("kernel", row.kernel, _extents(settings, ["kernel_size"], "kernel", None)),
            ("pad", row.pad, _extents(settings, ["pad"], "pad", 0)),
            ("stride", row.stride, _extents(settings, ["stride"], "stride", 1)),
            ("dilation", row.dilation, _extents(settings, ["hole", "dilation"], "hole", 1)),
            ("group", 1, settings.get("group", [1])),
        ]
        count = settings.last("num_output")
        if outputs is not None and not str(count).startswith("${"):  # a template's place for it
            compared.append(("num_output", outputs, [count]))
    elif isinstance(row, Pool):
        compared = [
            ("kernel", POOL_KERNEL, _extents(settings, ["kernel_size"], "kernel", None)),
            ("pad", POOL_PAD, _extents(settings, ["pad"], "pad", 0)),
            ("stride", row.stride, _extents(settings, ["stride"], "stride", 1)),
        ]
        method = settings.last("pool") or "MAX"
        if isinstance(method, Message) or POOL_METHODS.get(method) != row.kind:
            return [f"expected {row.kind} pooling, got {_shown(method)}"]
        if settings.last("global_pooling") in ("true", 1) or settings.last("round_mode") in ("FLOOR", 1):
            return ["expected pooling in windows, its size rounded up, got global_pooling or round_mode: FLOOR"]
    elif isinstance(row, Zoom):
        compared = [("zoom_factor", row.factor, settings.get("zoom_factor", [None]))]
    elif isinstance(row, Norm):
        compared = [("eps", NORM_EPS, settings.get("eps", [NORM_EPS]))]
    else:
        operation = settings.last("operation")
        compared = [("operation", "SUM", ["SUM" if operation in (None, 1) else operation])]
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


def _width(rows: Rows, given: dict[str, list[Message]]) -> float:
    ratios = []
    for row in rows:
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
