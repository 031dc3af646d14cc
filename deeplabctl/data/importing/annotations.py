"""Define what the readers of annotations return, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deeplabctl.arrays import Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.file_facts import ImageFacts
from deeplabctl.data.images import IMAGE_SUFFIXES
from deeplabctl.data.importing.outlines import Size
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError

BACKGROUND = "background"


@dataclass(frozen=True)
class AnnotatedImage:
    """Hold an image, as its file or its bytes, and the function that draws its label (H, W) uint8."""

    name: str
    image: Path | bytes
    draw_label: Callable[[ImageFacts], Label]


@dataclass
class Annotations:
    """Hold all annotated images of a source, the names of the classes, and notes for the user."""

    classes: tuple[str, ...]
    images: list[AnnotatedImage]
    notes: list[str] = field(default_factory=list)


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


def notes_on_other_names(found: Sequence[str], ids: dict[str, int], settings: ImportSettings) -> list[str]:
    """Return a note on the names in a source that are not among the classes, if there are any."""
    others = sorted(set(found) - set(ids))
    return [f"outlines of {', '.join(others)} become {settings.outside}: not among the classes"] if others else []


def image_folders(*folders: Path) -> list[Path]:
    """Return those of the folders that exist, and the folders in them."""
    existing = [folder for folder in folders if folder.is_dir()]
    return existing + [inner for folder in existing for inner in sorted(folder.iterdir()) if inner.is_dir()]


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the image file that an annotation names, from the first of the folders that has it."""
    name = name.replace("\\", "/")
    for folder in folders:
        for candidate in (folder / name, folder / name.rsplit("/", 1)[-1]):
            if candidate.is_file():
                return candidate
    return None


def images_in(folder: Path) -> dict[str, Path]:
    """Return the image files in a folder by their names without suffix."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
