"""Tell by their palettes whether the indices of labels are class ids: optimizers change the order, colours stay.

Colours that are VOC's, or grey levels that are class ids, at other indices, and labels that contradict each other, show
that the ids are lost. One palette that all labels of a set share is its own matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES, Color, class_colors, distinct_colors, voc_palette
from deeplabctl.data.findings import Finding, join_some

_VOC = voc_palette().tobytes()
BLACK_AND_WHITE = {(0, 0, 0), (255, 255, 255)}  # of masks of one object, whatever it is
_FIX = (
    "an optimizer may have changed the order: deeplabctl data convert with `format=colors` or `palette` reads the "
    "colours; if the indices are right, save the labels without palettes"
)


def palette_colors(image: PIL.Image.Image) -> list[Color]:
    """Return the colours in the palette of an image, padding among them; none for an image without a palette."""
    numbers = (image.getpalette("RGB") or []) if image.mode == "P" else []
    return _colors(numbers)


def _colors(numbers: Sequence[int]) -> list[Color]:
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


def palette_of(image: PIL.Image.Image) -> str:
    """Return the palette of an image as hexadecimal digits of RGB, "voc" for VOC's; nothing for one without."""
    colors = palette_colors(image)
    while len(colors) > 1 and colors[-1] == colors[-2]:  # padding
        colors.pop()
    numbers = bytes(itertools.chain(*colors))
    return "" if not colors else "voc" if _VOC.startswith(numbers) else numbers.hex()


def entries_of(palette: str) -> list[Color]:
    """Return the colours of what `palette_of` has returned; raises ValueError for another text."""
    return _colors(_VOC if palette == "voc" else bytes.fromhex(palette))


@dataclass
class Palettes:
    """Compare the palettes of a set's labels; those of its ``classes``, and those by default, are right."""

    classes: Sequence[str] = VOC_CLASSES
    _seen: dict[tuple[int, Color], Path] = field(default_factory=dict)  # the first label in which an id has a colour
    _repeated: set[Color] = field(default_factory=set)  # colours of several ids in one label
    _own: list[Path] = field(default_factory=list)  # labels whose colours are neither VOC's nor grey levels of the ids
    _entries: set[Color] = field(default_factory=set)  # of their palettes

    def _right(self, index: int) -> tuple[Color, ...]:
        """Return the colours that an id may have: VOC's, its grey level, that of its class, the one by default."""
        tables = (voc_palette(), class_colors(self.classes), distinct_colors())
        voc, own, default = (_colors(table[index].tolist())[0] for table in tables)
        return voc, (index, index, index), own, default

    def add(self, path: Path, ids: Iterable[int], palette: str) -> None:
        """Take the values of a label, and what `palette_of` has returned for it."""
        entries = entries_of(palette)
        colors = {index: entries[min(index, len(entries) - 1)] for index in ids} if entries else {}
        tables = zip(*(self._right(index) for index in colors), strict=True)
        is_own = bool(colors) and all(
            any(color != right for color, right in zip(colors.values(), table, strict=True)) for table in tables
        )
        if is_own:
            self._own.append(path)
            self._entries.update(entries)
        values = list(colors.values())
        self._repeated.update(color for color in values if values.count(color) > 1)
        for pair in colors.items():
            self._seen.setdefault(pair, path)

    def finding(self, num_classes: int) -> Finding | None:
        """Return what is wrong in the labels that were taken, of a set of so many classes."""
        if not self._own:
            return None
        tables = ("VOC's colours", "the grey levels of class ids", "the colours of the classes")
        for number, name in enumerate(tables):
            ids = {self._right(index)[number]: index for index in (*range(num_classes), IGNORE_LABEL)}
            if self._entries <= ids.keys() and not self._entries <= BLACK_AND_WHITE:
                index, color, path = next((i, c, path) for (i, c), path in self._seen.items() if ids.get(c, i) != i)
                names = join_some([path.name for path in self._own], 3)
                got = f"{name} at other indices, as {color}, of {ids[color]}, at {index}, in {len(self._own)} ({names})"
                return Finding("label-palette", path, "palettes in the order of the class ids", got, _FIX)
        color_of: dict[int, tuple[Color, Path]] = {}
        id_of: dict[Color, tuple[int, Path]] = {}
        for (index, color), path in self._seen.items():
            other, where = color_of.setdefault(index, (color, path))
            if other != color and not {other, color} <= {*self._right(index)}:
                got = f"{color} at index {index}, which is {other} in {where.name}"
                return Finding("label-palette", path, "one palette in all labels", got, _FIX)
            number, where = id_of.setdefault(color, (index, path))
            if number != index and color not in self._repeated:
                got = f"{color} at index {index}, which is at {number} in {where.name}"
                return Finding("label-palette", path, "one palette in all labels", got, _FIX)
        return None
