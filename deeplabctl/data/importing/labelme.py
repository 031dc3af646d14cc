"""Read the JSON files of labelme, one per image."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.arrays import Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.images import open_picture
from deeplabctl.data.importing.annotations import (
    BACKGROUND,
    MALFORMED,
    AnnotatedImage,
    Annotations,
    find_image,
    image_folders,
    missing_image,
    naming,
    notes_on_other_names,
    number_classes,
    outside_id,
    paint,
    read_json,
)
from deeplabctl.data.importing.outlines import Point, Size, box_corners, fill_ellipse, fill_polygon
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError

LABELME_BACKGROUND, LABELME_IGNORE = "_background_", "__ignore__"  # labelme's own names for class 0 and void
_WITHOUT_AREA = ("line", "linestrip", "point", "points")


@dataclass(frozen=True)
class LabelmeFile:
    """Hold what is needed of a document before its image is converted; it is read again then, and whole."""

    path: Path
    shapes: list[tuple[str, str | None]]  # label, kind
    image_path: str
    has_image: bool  # inside of the document
    height: Any
    width: Any

    @classmethod
    def of(cls, path: Path, document: dict[str, Any]) -> LabelmeFile:
        """Keep what is needed of a document; raises DataError with the file for what does not follow the format."""
        try:
            shapes = [(_label(shape), shape.get("shape_type")) for shape in document["shapes"]]
        except KeyError as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got one without {error}") from None
        except MALFORMED as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got {error}") from None
        name = str(document.get("imagePath") or path.with_suffix(".jpg").name)
        size = document.get("imageHeight") or None, document.get("imageWidth") or None
        return cls(path, shapes, name, bool(document.get("imageData")), *size)

    def read(self) -> dict[str, Any]:
        """Read the document again."""
        document = read_json(self.path)
        if not isinstance(document, dict) or LabelmeFile.of(self.path, document) != self:
            raise DataError(f"{self.path}: it has changed since it was read; convert it again")
        return document


def read_labelme(files: Sequence[LabelmeFile], settings: ImportSettings) -> Annotations:
    """Read labelme's documents. Later shapes lie on top, as in labelme; classes are in alphabetical order.

    Raises DataError with the file for what does not follow the format.
    """
    shapes = [shape for file in files for shape in file.shapes]
    without_area = sum(kind in _WITHOUT_AREA for _, kind in shapes)
    names = sorted({label for label, kind in shapes if kind not in _WITHOUT_AREA} - {LABELME_IGNORE})
    classes, ids = number_classes(files[0].path.parent, names, settings)
    notes = notes_on_other_names(names, ids, settings)
    if without_area:
        notes.append(f"{without_area} lines and points have no area: skipped")
    outside = outside_id(files[0].path.parent, ids, settings)
    folders = image_folders(settings.images) if settings.images else []
    annotated = []
    for file in files:
        found = find_image(file.image_path, folders or [file.path.parent])
        inside = (
            partial(_image_inside, file)
            if file.has_image
            else partial(missing_image, str(file.path.parent / file.image_path))
        )
        draw = partial(_draw_label, file, {**ids, LABELME_IGNORE: IGNORE_LABEL}, outside)
        annotated.append(AnnotatedImage(file.path.stem, found or inside, draw, file.height, file.width))
    return Annotations(classes, annotated, notes)


def _label(shape: dict[str, Any]) -> str:
    """Return the label of a shape; labelme has a name of its own for the background."""
    label = str(shape["label"])
    return BACKGROUND if label == LABELME_BACKGROUND else label


def _image_inside(file: LabelmeFile) -> bytes:
    """Return the content of the image inside of a document."""
    try:
        return base64.b64decode(file.read()["imageData"], validate=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file.path}: expected imageData in base64, got {error}") from None


def _draw_label(file: LabelmeFile, ids: dict[str, int], outside: int, size: Size) -> Label:
    """Draw the shapes of a document."""

    def masks() -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(file.read()["shapes"], 1):
            if shape.get("shape_type") not in _WITHOUT_AREA:
                with naming(f"{file.path}: shape {number} ({shape['label']})"):
                    yield ids.get(_label(shape), outside), _mask(shape, size, file.path)

    return paint(size, masks(), outside)


def _mask(shape: dict[str, Any], size: Size, path: Path) -> Mask:
    points: list[Point] = [(float(x), float(y)) for x, y in shape["points"]]
    kind = shape.get("shape_type") or "polygon"
    if kind in ("polygon", "oriented_rectangle") and len(points) >= 3:
        return fill_polygon(size, points)
    if kind in ("rectangle", "circle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind == "rectangle":
            return fill_polygon(size, box_corners(x0, y0, x1, y1))
        if kind == "circle":
            radius = math.hypot(x1 - x0, y1 - y0)
            return fill_ellipse(size, (x0, y0), (radius, radius))
        return _paste_mask(shape["mask"], size, int(x0), int(y0), path)
    raise DataError(f"expected a polygon, a rectangle, a circle or a mask, got {kind!r} with {len(points)} points")


def _paste_mask(encoded: str, size: Size, left: int, top: int, path: Path) -> Mask:
    """Return the mask of a PNG in base64 whose upper left corner lies at (left, top)."""
    if left < 0 or top < 0:
        raise DataError(f"expected a mask inside of the image, got its corner at ({left}, {top})")
    with open_picture(path, io.BytesIO(base64.b64decode(encoded))) as picture:
        if picture.width > size[1] or picture.height > size[0]:
            raise DataError(f"expected a mask inside of the image, got one of {picture.width}x{picture.height}")
        part = np.asarray(picture.convert("L")) > 0
    mask = np.zeros(size, np.bool_)
    target = mask[top : top + part.shape[0], left : left + part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]
    return mask
