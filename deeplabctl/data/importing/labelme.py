"""Read the JSON files of labelme, one per image."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from deeplabctl.arrays import Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.file_facts import ImageFacts
from deeplabctl.data.importing.annotations import (
    AnnotatedImage,
    Annotations,
    find_image,
    image_folders,
    notes_on_other_names,
    number_classes,
    paint,
)
from deeplabctl.data.importing.outlines import Point, Size, box_corners, fill_ellipse, fill_polygon
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError

_BACKGROUND, _IGNORE = "_background_", "__ignore__"  # labelme's own names for class 0 and void
_WITHOUT_AREA = ("line", "linestrip", "point", "points")


def read_labelme(documents: dict[Path, dict[str, Any]], settings: ImportSettings) -> Annotations:
    """Read labelme's documents. Later shapes lie on top, as in labelme; classes are in alphabetical order.

    Raises DataError with the file for what does not follow the format.
    """
    found: set[str] = set()
    without_area = 0
    for path, document in documents.items():
        try:
            shapes = [(str(shape["label"]), shape.get("shape_type")) for shape in document["shapes"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got one without {error}") from None
        found |= {label for label, kind in shapes if kind not in _WITHOUT_AREA}
        without_area += sum(kind in _WITHOUT_AREA for _, kind in shapes)
    names = sorted(found - {_BACKGROUND, _IGNORE})
    classes, ids = number_classes(next(iter(documents)).parent, names, settings)
    notes = notes_on_other_names(names, ids, settings)
    if without_area:
        notes.append(f"{without_area} lines and points have no area: skipped")
    ids = {**ids, _BACKGROUND: 0, _IGNORE: IGNORE_LABEL}
    folders = image_folders(settings.images) if settings.images else []
    annotated = []
    for path, document in documents.items():
        image = _find_image(path, document, folders or [path.parent])
        draw = partial(_draw_label, path, document, ids, settings.outside_id)
        annotated.append(AnnotatedImage(path.stem, image, draw))
    return Annotations(classes, annotated, notes)


def _find_image(path: Path, document: dict[str, Any], folders: list[Path]) -> Path | bytes:
    """Return the image file of a document, or the image inside of the document if there is no file."""
    name = str(document.get("imagePath") or path.with_suffix(".jpg").name)
    file = find_image(name, folders)
    if file is None and document.get("imageData"):
        try:
            return base64.b64decode(document["imageData"], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise DataError(f"{path}: expected imageData in base64, got {error}") from None
    return file or path.parent / name


def _draw_label(path: Path, document: dict[str, Any], ids: dict[str, int], outside: int, facts: ImageFacts) -> Label:
    """Draw the shapes of a document at the size that it gives for its image."""
    size = (int(document.get("imageHeight") or facts.height), int(document.get("imageWidth") or facts.width))

    def masks() -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(document["shapes"], 1):
            if shape.get("shape_type") in _WITHOUT_AREA:
                continue
            try:
                yield ids.get(str(shape["label"]), outside), _mask(shape, size)
            except (KeyError, TypeError, ValueError, IndexError, OSError, DataError) as error:
                raise DataError(f"{path}: shape {number} ({shape['label']}): {error}") from None

    return paint(size, masks(), outside)


def _mask(shape: dict[str, Any], size: Size) -> Mask:
    points: list[Point] = [(float(x), float(y)) for x, y in shape["points"]]
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise DataError("expected finite coordinates")
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
        return _paste_mask(shape["mask"], size, int(x0), int(y0))
    raise DataError(f"expected a polygon, a rectangle, a circle or a mask, got {kind!r} with {len(points)} points")


def _paste_mask(encoded: str, size: Size, left: int, top: int) -> Mask:
    """Return the mask of a PNG in base64 whose upper left corner lies at (left, top)."""
    with PIL.Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        part = np.asarray(picture.convert("L")) > 0
    if left < 0 or top < 0:
        raise DataError(f"expected a mask inside of the image, got its corner at ({left}, {top})")
    mask = np.zeros(size, np.bool_)
    target = mask[top : top + part.shape[0], left : left + part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]
    return mask
