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
import PIL.Image

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.formats.annotations import (
    BACKGROUND,
    LABELME_BACKGROUND,
    LABELME_VOID,
    MALFORMED,
    AnnotatedImage,
    Annotations,
    ImportSettings,
    NamedClasses,
    Source,
    naming,
    number_classes,
    paint,
    path_from,
    read_json,
)
from deeplabctl.data.formats.image_search import ImageSearch, failing, not_found
from deeplabctl.data.formats.outlines import (
    TOLERANCE,
    Point,
    box_corners,
    fill_ellipse,
    fill_polygon,
    outlines,
    paste_mask,
)
from deeplabctl.data.image_files import open_image
from deeplabctl.data.images import decode_image, read_image
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_WITHOUT_AREA = ("line", "linestrip", "point", "points")
# With 3 points or more; the last three, and rectangles of 4 corners, are X-AnyLabeling's.
_POLYGONS = ("polygon", "oriented_rectangle", "rectangle", "rotation", "quadrilateral")
_JPEG = b"\xff\xd8"  # how one begins
_MOST_OF_JPEG = 12  # of 255: how much encoding changes the mean of 16x16 pixels, and more
_VERSION = "5.5.0"  # of the format that is written


class Labelme:
    """Read a folder of documents. Later shapes lie on top, as in labelme; classes are in alphabetical order."""

    content = "labelme's JSON files"

    def recognises(self, source: Source) -> bool:
        """Tell whether a document has shapes."""
        return any(_has_shapes(document) for _, document in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read all documents with shapes; those that do not follow the format fail alone."""
        files, failed = [], dict(source.damaged)
        for path, document in source.documents():
            try:
                files += [_File.of(path, document)] if _has_shapes(document) else []
            except DataError as error:
                failed[path] = str(error)
        failed |= source.damaged
        if not files:
            nothing = f"{source}: expected labelme's JSON files, got none; choose the folder that contains them"
            raise DataError(next(iter(failed.values()), nothing))
        used = [(label, file.path.name) for file in files for label, has_area in file.shapes if has_area]
        classes = number_classes(files[0].path.parent, sorted({label for label, _ in used}), settings, used)
        if without_area := sum(not has_area for file in files for _, has_area in file.shapes):
            classes.notes.append(f"{without_area} lines, points and polygons of 2 points have no area: skipped")
        searches: dict[Path, ImageSearch] = {}  # by folder
        annotated = []
        for file in files:
            folder = settings.images or file.path.parent
            search = searches.setdefault(folder, ImageSearch([folder]))
            named = file.path.parent / file.image_path.replace("\\", "/")
            image = search.image_of(file.image_path, named)
            on_disk = image if isinstance(image, Path) else None
            if settings.images is None and on_disk and os.path.isfile(named) and not named.samefile(on_disk):  # noqa: PTH113
                image, on_disk = failing(not_found([named, on_disk], file.path)), None
            if on_disk is None and file.has_image:
                image = file.image_inside
            draw = partial(_draw_label, file, classes, on_disk)
            annotated.append(AnnotatedImage(file.path.stem, image, draw, file.height, file.width))
        for path, why in failed.items():
            annotated.append(AnnotatedImage(path.stem, failing(why), failing(why)))
        notes = classes.notes + [note for search in searches.values() for note in search.notes()]
        return Annotations(classes.names, annotated, notes)


def _has_shapes(document: Any) -> bool:
    return isinstance(document, dict) and ("shapes" in document or "imagePath" in document)


@dataclass(frozen=True)
class _File:
    """Hold what is needed of a document before its image is converted; it is read again then, and whole."""

    path: Path
    shapes: list[tuple[str, bool]]  # label, whether it has an area
    image_path: str
    has_image: bool  # inside of the document
    height: Any
    width: Any

    @classmethod
    def of(cls, path: Path, document: dict[str, Any]) -> _File:
        """Keep what is needed of a document; raises DataError with the file for what does not follow the format."""
        try:
            shapes = [(_label(shape), _has_area(shape)) for shape in document["shapes"]]
        except KeyError as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got one without {error}") from None
        except (*MALFORMED, DataError) as error:
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
        return _image_inside(self.path, self.read())


def _image_inside(path: Path, document: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(document["imageData"], validate=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected imageData in base64, got {error}") from None


def _label(shape: dict[str, Any]) -> str:
    label = shape["label"]
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"the label {label!r:.80}")
    return label


def _has_area(shape: dict[str, Any]) -> bool:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in _WITHOUT_AREA:
        return False
    return not (kind in _POLYGONS and isinstance(points, list) and len(points) < (2 if kind == "rectangle" else 3))


def _check_image(path: Path, document: dict[str, Any], file: Path) -> None:
    """Raise DataError if the image inside of a document, which labelme shows, is not that of its file.

    labelme may have encoded it again, as JPEG: the means of blocks are compared.
    """
    content, on_disk = _image_inside(path, document), file.read_bytes()
    if content == on_disk:
        return
    inside, outside = decode_image(content, f"{path}: imageData"), read_image(file)
    if np.array_equal(inside, outside):
        return
    if inside.shape == outside.shape and _JPEG in (content[:2], on_disk[:2]):
        height, width = (-(-length // 16) for length in inside.shape[:2])
        blocks = [
            np.asarray(PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BOX), np.int16)
            for image in (inside, outside)
        ]
        if np.abs(blocks[0] - blocks[1]).max() <= _MOST_OF_JPEG:
            return
    raise DataError(
        f"{path}: expected the image inside of it (imageData) to be {file}, got a different one; remove the wrong one: "
        "labelme shows the one inside"
    )


def _draw_label(file: _File, classes: NamedClasses, image: Path | None, size: Size) -> Label:
    """Draw the shapes of a document, if its image is that of the file."""
    document = file.read()
    if file.has_image and image is not None:
        _check_image(file.path, document, image)

    def masks() -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(document["shapes"], 1):
            if _has_area(shape):
                with naming(f"{file.path}: shape {number} ({shape['label']})"):
                    yield classes.id_of(_label(shape)), _mask(shape, size, file.path)

    return paint(size, masks(), classes.outside)


def _mask(shape: dict[str, Any], size: Size, path: Path) -> Mask:
    points: list[Point] = [(float(x), float(y)) for x, y in shape["points"]]
    kind = shape.get("shape_type") or "polygon"
    if kind in _POLYGONS and len(points) >= 3:
        return fill_polygon(size, points)
    if kind in ("rectangle", "circle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind == "rectangle":
            return fill_polygon(size, box_corners(x0, y0, x1, y1))
        if kind == "circle":
            radius = math.hypot(x1 - x0, y1 - y0)
            return fill_ellipse(size, (x0, y0), (radius, radius))
        return paste_mask(_decode_mask(shape["mask"], size, points, path), size, int(x0), int(y0))
    raise DataError(f"expected a polygon, a rectangle, a circle or a mask, got {kind!r} with {len(points)} points")


def _decode_mask(encoded: Any, size: Size, corners: Sequence[Point], path: Path) -> Mask:
    """Return the mask of a PNG in base64 that lies between two pixels, its upper left and its lower right one."""
    if not isinstance(encoded, str):
        raise DataError(f"expected the mask as a PNG in base64, got {encoded!r:.60}")
    (left, top), (right, bottom) = corners
    if left < 0 or top < 0:
        raise DataError(f"expected a mask inside of the image, got its corner at ({left:g}, {top:g})")
    width, height = right - left + 1, bottom - top + 1
    with open_image(path, io.BytesIO(base64.b64decode(encoded))) as png:
        if png.width > size[1] or png.height > size[0]:
            raise DataError(f"expected a mask inside of the image, got one of {png.width}x{png.height}")
        if abs(png.width - width) > 1 or abs(png.height - height) > 1:
            raise DataError(
                f"expected a mask of the size between its points, {width:g}x{height:g}, got {png.width}x{png.height}; "
                "if the shapes were resized, resize their masks too"
            )
        mask: Mask = np.asarray(png.convert("L")) > 0
    return mask


def labelme_document(
    label: Label, classes: Sequence[str], image: Path, folder: Path, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Return labelme's document of a label (H, W) uint8, to be written to a folder.

    labelme draws later shapes over earlier ones, and knows no holes: a region in another one is a shape over it, parts
    of the background too, which is otherwise what lies in no shape. The document names the image by its path from the
    folder.
    """
    names = dict(enumerate(classes)) | {IGNORE_LABEL: LABELME_VOID}
    has_background = classes[0] == BACKGROUND
    if has_background:
        names[0] = LABELME_BACKGROUND
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
        "imagePath": path_from(folder, image),
        "imageData": None,
        "imageHeight": label.shape[0],
        "imageWidth": label.shape[1],
    }
