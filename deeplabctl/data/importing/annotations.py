"""Define what the readers of annotations return, and what they share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from deeplabctl.arrays import Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.images import IMAGE_SUFFIXES
from deeplabctl.data.importing.outlines import Size
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError

BACKGROUND = "background"


# What a document of another program raises where it does not follow its format.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class AnnotatedImage:
    """Hold an image, as its file or a function that returns its bytes, and what draws its label (H, W) uint8.

    ``height`` and ``width`` are those that the annotations give for the image, as they stand there.
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


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Turn what a malformed part of a document raises into a DataError that names the part."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{where}: expected {error}, got none") from None
    except (*MALFORMED, DataError) as error:
        raise DataError(f"{where}: {error}") from None


def paint(size: Size, masks: Iterable[tuple[int, Mask]], outside: int) -> Label:
    """Draw (class id, mask) in their order, later ones on top; pixels outside of all masks become ``outside``."""
    label = np.full(size, outside, np.uint8)
    for class_id, mask in masks:
        label[mask] = class_id
    return label


def number_classes(
    source: Path, found: Sequence[str], settings: ImportSettings
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and the class id of each name.

    Without names in the settings they are those found in the source, in their order. The background comes before them
    unless pixels outside of all outlines are void.
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
    return classes, {name: index for index, name in enumerate(classes)}


def outside_id(source: Path, ids: dict[str, int], settings: ImportSettings) -> int:
    """Return the label value of pixels outside of all outlines: void, or the class named background."""
    if settings.outside == "void":
        return IGNORE_LABEL
    if BACKGROUND not in ids:
        raise DataError(
            f"{source}: expected a class named {BACKGROUND} for what lies in no outline, got {', '.join(ids)}; add it "
            "to `classes`, or use `outside=void`"
        )
    return ids[BACKGROUND]


def whole_number(value: Any) -> int:
    """Return a value of a document as a whole number; raises DataError for anything else."""
    try:
        number = int(value)
        if isinstance(value, str) or number == value:
            return number
    except MALFORMED:
        pass
    raise DataError(f"expected a whole number, got {value!r:.80}")


def notes_on_other_names(found: Sequence[str], ids: dict[str, int], settings: ImportSettings) -> list[str]:
    """Return a note on the names in a source that are not among the classes, if there are any."""
    others = sorted(set(found) - set(ids))
    return [f"outlines of {', '.join(others)} become {settings.outside}: not among the classes"] if others else []


def read_json(path: Path) -> Any:
    """Read a JSON document; raises DataError for anything else."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: expected JSON, got {error}") from None


def image_folders(*folders: Path) -> list[Path]:
    """Return those of the folders that exist, and the folders in them."""
    existing = [folder for folder in folders if folder.is_dir()]
    return existing + [inner for folder in existing for inner in sorted(folder.iterdir()) if inner.is_dir()]


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the image file that an annotation names, from the first of the folders that has it.

    Nothing outside of the folders is taken: of a name that is absolute or leads out of them the last part counts.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    places = [parts[-1:]] if any(part == ".." or part.startswith("/") for part in parts) else [parts, parts[-1:]]
    for folder in folders:
        for place in places:
            if place and place[-1] != ".." and os.path.isfile(folder.joinpath(*place)):  # noqa: PTH113 - any text
                return folder.joinpath(*place)
    return None


def missing_image(name: str) -> NoReturn:
    """Raise DataError for an annotated image that is in none of the folders."""
    raise DataError(f"{name}: there is no such image; use `images` to name the folder of the images")


def images_in(folder: Path) -> dict[str, Path]:
    """Return the image files in a folder by their names without suffix."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
