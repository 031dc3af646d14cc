"""Read the JSON files of labelme, one a picture."""

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
from PIL import Image

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.images import ImageFacts
from deeplabctl.data.importing.annotations import (
    Annotated,
    Annotations,
    Label,
    class_ids,
    find_picture,
    left_out,
    paint,
    picture_folders,
)
from deeplabctl.data.importing.outlines import Mask, Point, Size, box, fill_ellipse, fill_polygon
from deeplabctl.errors import DataError

_BACKGROUND, _IGNORE = "_background_", "__ignore__"  # labelme's own names for class 0 and void
_FLAT = ("line", "linestrip", "point", "points")  # shapes without an area


def read_labelme(
    documents: dict[Path, dict[str, Any]], pictures: Path | None, classes: tuple[str, ...] | None, outside: int
) -> Annotations:
    """Read labelme's documents. Later shapes lie on top, as in labelme; classes come in the order of the alphabet.

    Raises DataError for what does not follow the format, with the file.
    """
    found: set[str] = set()
    flat = 0
    for path, document in documents.items():
        try:
            shapes = [(str(shape["label"]), shape.get("shape_type")) for shape in document["shapes"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got one without {error}") from None
        found |= {label for label, kind in shapes if kind not in _FLAT}
        flat += sum(kind in _FLAT for _, kind in shapes)
    names = sorted(found - {_BACKGROUND, _IGNORE})
    all_classes, ids = class_ids(next(iter(documents)).parent, names, classes, outside)
    notes = left_out(names, ids, outside)
    if flat:
        notes.append(f"{flat} lines and points have no area: left out")
    ids = {**ids, _BACKGROUND: 0, _IGNORE: IGNORE_LABEL}
    items = []
    folders = picture_folders(pictures) if pictures else []
    for path, document in documents.items():
        name, picture = _picture(path, document, folders or [path.parent])
        items.append(Annotated(name, picture, partial(_label, path, document, ids, outside)))
    return Annotations(all_classes, items, notes)


def _picture(path: Path, document: dict[str, Any], folders: list[Path]) -> tuple[str, Path | bytes]:
    name = str(document.get("imagePath") or path.with_suffix(".jpg").name)
    file = find_picture(name, folders)
    if file is None and document.get("imageData"):
        try:
            return path.stem, base64.b64decode(document["imageData"], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise DataError(f"{path}: expected imageData in base64, got {error}") from None
    return path.stem, file or path.parent / name


def _label(path: Path, document: dict[str, Any], ids: dict[str, int], outside: int, facts: ImageFacts) -> Label:
    size = (int(document.get("imageHeight") or facts.height), int(document.get("imageWidth") or facts.width))

    def outlines() -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(document["shapes"], 1):
            if shape.get("shape_type") in _FLAT:
                continue
            try:
                yield ids.get(str(shape["label"]), outside), _mask(shape, size)
            except (KeyError, TypeError, ValueError, IndexError, OSError, DataError) as error:
                raise DataError(f"{path}: shape {number} ({shape['label']}): {error}") from None

    return paint(size, outlines(), outside)


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
            return fill_polygon(size, box(x0, y0, x1, y1))
        if kind == "circle":
            radius = math.hypot(x1 - x0, y1 - y0)
            return fill_ellipse(size, (x0, y0), (radius, radius))
        return _pasted(shape["mask"], size, int(x0), int(y0))
    raise DataError(f"expected a polygon, a rectangle, a circle or a mask, got {kind!r} with {len(points)} points")


def _pasted(encoded: str, size: Size, left: int, top: int) -> Mask:
    """Return the mask of a PNG in base64 whose upper left corner lies at (left, top)."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        part = np.asarray(picture.convert("L")) > 0
    if left < 0 or top < 0:
        raise DataError(f"expected a mask inside of the picture, got its corner at ({left}, {top})")
    mask = np.zeros(size, np.bool_)
    target = mask[top : top + part.shape[0], left : left + part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]
    return mask
