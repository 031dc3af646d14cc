"""labelme's JSON files, one per image: read their shapes, and write labels as outlines that a person can correct."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.formats.annotations import (
    BACKGROUND,
    MALFORMED,
    AnnotatedImage,
    Annotations,
    ImportSettings,
    NamedClasses,
    Source,
    find_image,
    image_folders,
    image_of,
    naming,
    number_classes,
    paint,
    read_json,
)
from deeplabctl.data.formats.outlines import (
    TOLERANCE,
    Point,
    box_corners,
    fill_ellipse,
    fill_polygon,
    outlines,
    paste_mask,
)
from deeplabctl.data.images import open_image
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_BACKGROUND, _IGNORE = "_background_", "__ignore__"  # labelme's own names for class 0 and void
_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_VERSION = "5.5.0"  # of the format that is written


class Labelme:
    """Read a folder of documents. Later shapes lie on top, as in labelme; classes are in alphabetical order."""

    content = "labelme's JSON files"

    def recognises(self, source: Source) -> bool:
        """Tell whether a document has shapes."""
        return any(_has_shapes(document) for _, document in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read all documents with shapes."""
        files = [_File.of(path, document) for path, document in source.documents() if _has_shapes(document)]
        if not files:
            raise DataError(f"{source}: expected labelme's JSON files, got none; choose the folder that contains them")
        shapes = [shape for file in files for shape in file.shapes]
        without_area = sum(kind in _WITHOUT_AREA for _, kind in shapes)
        names = sorted({label for label, kind in shapes if kind not in _WITHOUT_AREA} - {_IGNORE})
        classes = number_classes(files[0].path.parent, names, settings)
        if without_area:
            classes.notes.append(f"{without_area} lines and points have no area: skipped")
        folders = image_folders(settings.images) if settings.images else []
        annotated = []
        for file in files:
            places = folders or [file.path.parent]
            image = find_image(file.image_path, places) or (
                partial(file.image_inside)
                if file.has_image
                else image_of(file.image_path, places, file.path.parent / file.image_path)
            )
            draw = partial(_draw_label, file, classes)
            annotated.append(AnnotatedImage(file.path.stem, image, draw, file.height, file.width))
        return Annotations(classes.names, annotated, classes.notes)


def _has_shapes(document: Any) -> bool:
    return isinstance(document, dict) and "shapes" in document


@dataclass(frozen=True)
class _File:
    """Hold what is needed of a document before its image is converted; it is read again then, and whole."""

    path: Path
    shapes: list[tuple[str, str | None]]  # label, kind
    image_path: str
    has_image: bool  # inside of the document
    height: Any
    width: Any

    @classmethod
    def of(cls, path: Path, document: dict[str, Any]) -> _File:
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
        if not _has_shapes(document) or _File.of(self.path, document) != self:
            raise DataError(f"{self.path}: it has changed since it was read; convert it again")
        return dict(document)

    def image_inside(self) -> bytes:
        """Return the content of the image inside of the document."""
        try:
            return base64.b64decode(self.read()["imageData"], validate=True)
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.path}: expected imageData in base64, got {error}") from None


def _label(shape: dict[str, Any]) -> str:
    """Return the label of a shape; labelme has a name of its own for the background."""
    label = str(shape["label"])
    return BACKGROUND if label == _BACKGROUND else label


def _draw_label(file: _File, classes: NamedClasses, size: Size) -> Label:
    """Draw the shapes of a document."""

    def masks() -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(file.read()["shapes"], 1):
            if shape.get("shape_type") not in _WITHOUT_AREA:
                with naming(f"{file.path}: shape {number} ({shape['label']})"):
                    label = _label(shape)
                    yield IGNORE_LABEL if label == _IGNORE else classes.id_of(label), _mask(shape, size, file.path)

    return paint(size, masks(), classes.outside)


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
        return _decode_mask(shape["mask"], size, int(x0), int(y0), path)
    raise DataError(f"expected a polygon, a rectangle, a circle or a mask, got {kind!r} with {len(points)} points")


def _decode_mask(encoded: str, size: Size, left: int, top: int, path: Path) -> Mask:
    """Return the mask of a PNG in base64 whose upper left corner lies at (left, top)."""
    if left < 0 or top < 0:
        raise DataError(f"expected a mask inside of the image, got its corner at ({left}, {top})")
    with open_image(path, io.BytesIO(base64.b64decode(encoded))) as png:
        if png.width > size[1] or png.height > size[0]:
            raise DataError(f"expected a mask inside of the image, got one of {png.width}x{png.height}")
        part = np.asarray(png.convert("L")) > 0
    return paste_mask(part, size, left, top)


def labelme_document(
    label: Label, classes: Sequence[str], image: Path, folder: Path, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Return labelme's document of a label (H, W) uint8, to be written to a folder.

    labelme draws later shapes over earlier ones, and knows no holes: a region in another one is a shape over it, parts
    of the background too, which is otherwise what lies in no shape. The document names the image by its path from the
    folder.
    """
    names = dict(enumerate(classes)) | {IGNORE_LABEL: _IGNORE}
    has_background = classes[0] == BACKGROUND
    if has_background:
        names[0] = _BACKGROUND
    shapes = [
        {
            "label": names[outline.class_id],
            "points": outline.points.tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for outline in outlines(label, tolerance)
        if not (has_background and outline.class_id == 0 and outline.touches_frame)
    ]
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": _path_from(folder, image),
        "imageData": None,
        "imageHeight": label.shape[0],
        "imageWidth": label.shape[1],
    }


def _path_from(folder: Path, image: Path) -> str:
    """Return the path of an image from a folder; its whole path from another drive."""
    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return image.absolute().as_posix()
