"""Define an annotation format, what its reader returns, and what readers share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn, Protocol

import numpy as np

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL, Palette
from deeplabctl.data.images import IMAGE_SUFFIXES
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

BACKGROUND = "background"

# What a document of another program raises where it does not follow its format.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class AnnotationFormat(Protocol):
    """Recognise and read the annotations of one program.

    A new format is one file in this package and one entry in `deeplabctl.choices.ANNOTATIONS`. Its file also has the
    functions that write the format, if there are any.
    """

    @property
    def content(self) -> str:
        """Return what a source of this format is, as a message says it: "COCO's JSON"."""

    def recognises(self, source: Source) -> bool:
        """Tell whether a source is of this format, where the settings do not name one."""

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read a source; raises DataError for one that is not of this format, and for what does not follow it.

        Labels are drawn later, one at a time: an error in one of them concerns its image only.
        """


@dataclass(frozen=True)
class ImportSettings:
    """Say what annotations are and what they mean."""

    format: str = "auto"  # one of the formats' names; auto: recognised by the content
    images: Path | None = None  # folder of the images; without it they are found by the annotations
    palette: Palette | None = None  # names and colours of the classes in masks
    classes: tuple[str, ...] | None = None  # class names in the order of their ids
    outside: Literal["background", "void"] = "background"  # what pixels outside of all outlines become
    unknown: Literal["error", "void"] = "error"  # what colours become that the palette does not have
    mask_suffix: str = ""  # what a mask's name has after that of its image

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the class names, from the palette if they are not given, or None."""
        return self.classes or (self.palette.names if self.palette else None)


class Source:
    """Give the JSON documents of a file, or of a folder and its ``annotations``; only the last one stays in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: tuple[Path, Any] | None = None

    def documents(self) -> Iterator[tuple[Path, Any]]:
        """Yield the path and the content of each JSON file; raises DataError for one that is not JSON."""
        if self.path.is_dir():
            paths = sorted([*self.path.glob("*.json"), *self.path.glob("annotations/*.json")])
        else:
            paths = [self.path] if self.path.suffix.lower() == ".json" else []
        for path in paths:
            yield path, self.document(path)

    def document(self, path: Path) -> Any:
        """Return the content of a JSON file."""
        if self._last is None or self._last[0] != path:
            self._last = None  # not two of them at a time
            self._last = path, read_json(path)
        return self._last[1]

    def __str__(self) -> str:
        """Return the path, as messages show it."""
        return str(self.path)


@dataclass(frozen=True)
class AnnotatedImage:
    """Hold an image, as its file or a function that returns its bytes, and what draws its label (H, W) uint8.

    ``height`` and ``width`` are those that the annotations give for the image, unchecked; None if they do not.
    """

    name: str
    image: Path | Callable[[], bytes]
    draw_label: Callable[[Size], Label]
    height: Any = None
    width: Any = None


@dataclass
class Annotations:
    """Hold all annotated images of a source, the names of the classes, notes for the user, and what was read."""

    classes: tuple[str, ...]
    images: list[AnnotatedImage]
    notes: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class NamedClasses:
    """Hold the class names, the class id of each, and what the label is ``outside`` of all outlines of classes."""

    names: tuple[str, ...]
    ids: dict[str, int]
    outside: int
    notes: list[str]  # on names in the source that are not among the classes

    def id_of(self, name: str) -> int:
        """Return the class id of a name; names that are not among the classes count as outside."""
        return self.ids.get(name, self.outside)


def number_classes(
    source: Path, found: Sequence[str], settings: ImportSettings, used: Sequence[str] | None = None
) -> NamedClasses:
    """Assign ids to the classes of the settings, or else to those ``found`` in a source, in their order.

    The background comes first unless pixels outside of all outlines are void. ``used`` are the names that outlines
    have, if not all. Raises DataError for fewer than 2 classes, and if no class is what lies outside.
    """
    classes = settings.class_names
    if classes is None:
        others = [name for name in dict.fromkeys(found) if name != BACKGROUND]
        no_background = settings.outside == "void" and BACKGROUND not in found
        classes = tuple(others) if no_background else (BACKGROUND, *others)
    if not 2 <= len(classes) <= IGNORE_LABEL:
        names = ", ".join(classes) or "none"
        raise DataError(
            f"{source}: expected outlines of 2 to {IGNORE_LABEL} classes, got {names}; use `classes` to name them"
        )
    ids = {name: index for index, name in enumerate(classes)}
    if settings.outside == "background" and BACKGROUND not in ids:
        raise DataError(
            f"{source}: expected a class named {BACKGROUND} for pixels outside all outlines, got {', '.join(ids)}; add "
            "it to `classes`, or use `outside=void`"
        )
    others = sorted(set(found if used is None else used) - set(ids))
    notes = [f"outlines of {', '.join(others)} become {settings.outside}: not among the classes"] if others else []
    return NamedClasses(classes, ids, IGNORE_LABEL if settings.outside == "void" else ids[BACKGROUND], notes)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Turn what a malformed part of a document raises into a DataError that names the part."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{where}: expected {error}, got none") from None
    except (*MALFORMED, DataError) as error:
        raise DataError(f"{where}: {error}") from None


def whole_number(value: Any) -> int:
    """Return a value of a document as a whole number; raises DataError for anything else."""
    try:
        number = int(value)
        if isinstance(value, str) or number == value:
            return number
    except MALFORMED:
        pass
    raise DataError(f"expected a whole number, got {value!r:.80}")


def read_json(path: Path) -> Any:
    """Read a JSON document; raises DataError for anything else."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: expected JSON, got {error}") from None


def paint(size: Size, masks: Iterable[tuple[int, Mask]], outside: int) -> Label:
    """Draw (class id, mask) in their order, later ones on top; pixels outside of all masks become ``outside``."""
    label = np.full(size, outside, np.uint8)
    for class_id, mask in masks:
        label[mask] = class_id
    return label


def image_folders(*folders: Path) -> list[Path]:
    """Return those of the folders that exist, and the folders in them."""
    existing = [folder for folder in folders if folder.is_dir()]
    return existing + [inner for folder in existing for inner in sorted(folder.iterdir()) if inner.is_dir()]


def image_of(name: str, folders: Sequence[Path], where: object) -> Path | Callable[[], bytes]:
    """Return the image file that an annotation names, or a function that raises DataError if there is none."""
    return find_image(name, folders) or partial(_missing_image, str(where))


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the image file that an annotation names, from the first of the folders that has it.

    Nothing outside of the folders is read: of a name that is absolute or leads out of them only the last part counts.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    places = [parts[-1:]] if any(part == ".." or part.startswith("/") for part in parts) else [parts, parts[-1:]]
    for folder in folders:
        for place in places:
            if place and place[-1] != ".." and os.path.isfile(folder.joinpath(*place)):  # noqa: PTH113 - any text
                return folder.joinpath(*place)
    return None


def _missing_image(where: str) -> NoReturn:
    raise DataError(f"{where}: there is no such image; use `images` to name the folder of the images")


def images_in(folder: Path) -> dict[str, Path]:
    """Return the image files in a folder by their names without suffix."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
