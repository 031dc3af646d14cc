"""labelme's JSON files, one per image: read their shapes, and write labels as outlines that a person can correct."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
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
    AnnotationFormat,
    Annotations,
    ImportSettings,
    Outlines,
    Region,
)
from deeplabctl.data.formats.documents import MALFORMED, Source, path_from, read_json
from deeplabctl.data.formats.image_search import failing, not_found
from deeplabctl.data.formats.outlines import (
    SLACK,
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


class Labelme(AnnotationFormat):
    """Read a folder of documents. Later shapes lie on top, as in labelme; classes are in alphabetical order."""

    content = "labelme's JSON files"

    def recognises(self, source: Source) -> bool:
        """Tell whether a document has shapes."""
        return any(_has_shapes(document) for _, document in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read all documents with shapes; those that do not follow the format fail alone."""
        outlines = Outlines(settings)
        paths, failed = [], {}
        for path, document in source.documents():
            if _has_shapes(document):
                try:
                    self._read_document(path, document, outlines, settings)
                    paths.append(path)
                except DataError as error:
                    failed[path] = str(error)
        failed |= source.damaged
        if not paths:
            nothing = f"{source}: expected labelme's JSON files, got none; choose the folder that contains them"
            raise DataError(next(iter(failed.values()), nothing))
        for path, why in failed.items():
            with outlines.image(path.stem, failing(why)):
                pass
        return outlines.annotations(paths[0].parent)

    def _read_document(
        self, path: Path, document: dict[str, Any], outlines: Outlines, settings: ImportSettings
    ) -> None:
        """Add the image of a document, without the content that it may have of it."""
        try:
            shapes = [(_label(shape), shape) for shape in document["shapes"]]
        except KeyError as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got one without {error}") from None
        except (*MALFORMED, DataError) as error:
            raise DataError(f"{path}: expected labelme's shapes with labels, got {error}") from None
        image_path = str(document.get("imagePath") or path.with_suffix(".jpg").name)
        named = path.parent / image_path.replace("\\", "/")
        file = outlines.search(path.parent).image_of(image_path, named)
        on_disk = file if isinstance(file, Path) else None
        if settings.images is None and on_disk and os.path.isfile(named) and not named.samefile(on_disk):  # noqa: PTH113
            file, on_disk = failing(not_found([named, on_disk], path)), None
        has_image = bool(document.get("imageData"))
        if on_disk is None and has_image:
            file = partial(_image_inside, path)
        size = document.get("imageHeight") or None, document.get("imageWidth") or None
        with outlines.image(path.stem, file, *size) as image:
            if on_disk and has_image:
                image.check = partial(_check_image, path, on_disk)
            for number, (label, shape) in enumerate(shapes, 1):
                if _has_area(shape):
                    draw = partial(_mask, shape, path, 1 if all(size) else SLACK)
                    image.regions.append(Region(label, f"{path}: shape {number} ({label})", draw))
                else:
                    outlines.without_area += 1


def _has_shapes(document: Any) -> bool:
    return isinstance(document, dict) and ("shapes" in document or "imagePath" in document)


def _image_inside(path: Path) -> bytes:
    """Return the content of the image inside of a document, which is read again for it."""
    try:
        return base64.b64decode(read_json(path)["imageData"], validate=True)
    except MALFORMED as error:
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


def _check_image(path: Path, file: Path) -> None:
    """Raise DataError if the image inside of a document, which labelme shows, is not that of its file.

    labelme may have encoded it again, as JPEG: the means of blocks are compared.
    """
    content, on_disk = _image_inside(path), file.read_bytes()
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
        f"{path}: expected the image inside it (imageData) to be {file}, got a different one; remove the wrong one: "
        "labelme shows the one inside"
    )


def _mask(shape: dict[str, Any], path: Path, farthest: float, size: Size) -> Mask:
    points: list[Point] = [(float(x), float(y)) for x, y in shape["points"]]
    kind = shape.get("shape_type") or "polygon"
    if kind in _POLYGONS and len(points) >= 3:
        return fill_polygon(size, points, farthest=farthest)
    if kind in ("rectangle", "circle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind == "rectangle":
            return fill_polygon(size, box_corners(x0, y0, x1, y1), farthest=farthest)
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
        raise DataError(f"expected a mask inside the image, got its corner at ({left:g}, {top:g})")
    width, height = right - left + 1, bottom - top + 1
    with open_image(path, io.BytesIO(base64.b64decode(encoded))) as png:
        if png.width > size[1] or png.height > size[0]:
            raise DataError(f"expected a mask inside the image, got one of {png.width}x{png.height}")
        if abs(png.width - width) > 1 or abs(png.height - height) > 1:
            raise DataError(
                f"expected a mask of the size between its points, {width:g}x{height:g}, got {png.width}x{png.height}; "
                "if the shapes were resized, resize their masks too"
            )
        if len(png.getbands()) > 1:
            raise DataError(f"expected the mask as a PNG of one channel, got {png.mode}")
        mask: Mask = np.asarray(png) > 0
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
        "imagePath": path_from(folder.resolve(), image.parent.resolve() / image.name),  # of a link, ".." is elsewhere
        "imageData": None,
        "imageHeight": label.shape[0],
        "imageWidth": label.shape[1],
    }
