"""Say what a reader of annotations returns: pictures, each with a function that draws its label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.images import IMAGE_SUFFIXES, ImageFacts
from deeplabctl.data.importing.outlines import Mask, Size
from deeplabctl.errors import DataError

BACKGROUND = "background"

Label = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Annotated:
    """Hold a picture, its file or its bytes, and the function that draws its label (H, W) uint8."""

    name: str
    picture: Path | bytes
    label: Callable[[ImageFacts], Label]


@dataclass
class Annotations:
    """Hold all annotated pictures of a source, the names of their classes, and what is worth a remark."""

    classes: tuple[str, ...]
    items: list[Annotated]
    notes: list[str] = field(default_factory=list)


def paint(size: Size, outlines: Iterable[tuple[int, Mask]], outside: int) -> Label:
    """Draw (class id, mask) over one another, in their order; what lies outside of them all is ``outside``."""
    label = np.full(size, outside, np.uint8)
    for class_id, mask in outlines:
        label[mask] = class_id
    return label


def class_ids(
    where: Path, found: Sequence[str], given: tuple[str, ...] | None, outside: int
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and the class id of each name that was found among them.

    Without names given they are those found, in their order, after the background unless what lies outside is void.
    """
    classes = given
    if classes is None:
        rest = [name for name in dict.fromkeys(found) if name != BACKGROUND]
        classes = tuple(rest) if outside == IGNORE_LABEL and BACKGROUND not in found else (BACKGROUND, *rest)
    if not 2 <= len(classes) <= IGNORE_LABEL:
        names = ", ".join(classes) or "none"
        raise DataError(
            f"{where}: expected outlines of 2 to {IGNORE_LABEL} classes, got {names}; name them with --classes"
        )
    return classes, {name: index for index, name in enumerate(classes)}


def left_out(found: Sequence[str], ids: dict[str, int], outside: int) -> list[str]:
    """Say which of the names that were found are no classes."""
    others = sorted(set(found) - set(ids))
    what = "void" if outside == IGNORE_LABEL else BACKGROUND
    return [f"outlines of {', '.join(others)} are left as {what}: not among the classes"] if others else []


def picture_folders(*folders: Path) -> list[Path]:
    """Return these folders, as far as they are there, and those in them."""
    found = [folder for folder in folders if folder.is_dir()]
    return found + [inner for folder in found for inner in sorted(folder.iterdir()) if inner.is_dir()]


def find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the file that an annotation names, in the first of these folders that has it."""
    name = name.replace("\\", "/")
    for folder in folders:
        for candidate in (folder / name, folder / name.rsplit("/", 1)[-1]):
            if candidate.is_file():
                return candidate
    return None


def pictures_in(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder by their names without suffix."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
