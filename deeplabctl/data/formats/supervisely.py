"""Supervisely's projects: read bitmaps, polygons and rectangles, and write labels as bitmaps.

A project has a meta.json with the classes, and folders of data sets with ``img`` and ``ann``: the annotations of
``img/a.jpg`` are ``ann/a.jpg.json``. Corners of whole numbers are pixels, which the object has; others are places.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import class_colors, hex_color
from deeplabctl.data.formats.annotations import (
    AnnotationFormat,
    Annotations,
    ImportSettings,
    Outlines,
    Region,
    drawn_classes,
    first_object,
)
from deeplabctl.data.formats.documents import MALFORMED, Source, naming, read_json, whole_number
from deeplabctl.data.formats.image_search import files_below
from deeplabctl.data.formats.outlines import Point, bounding_box, fill_polygon, paste_mask
from deeplabctl.data.image_files import IMAGE_SUFFIXES, open_image
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_META = "meta.json"
_WITHOUT_AREA = ("point", "line", "polyline", "graph", "cuboid", "cuboid_2d")
_MOST_BYTES = 1 << 20  # of a compressed bitmap, beside a byte for each pixel


class Supervisely(AnnotationFormat):
    """Read a project's folder: later objects lie on top; classes are in the order of meta.json."""

    content, reads_below = "Supervisely's project", True

    def recognises(self, source: Source) -> bool:
        """Tell whether it is a folder with a meta.json of classes, or this file."""
        path = source.path / _META if source.path.is_dir() else source.path
        return path.name == _META and path.is_file() and bool(_titles(path))

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read all annotations; one that does not follow the format fails alone."""
        root = source.path if source.path.is_dir() else source.path.parent
        paths = [path for path in files_below(root) if path.relative_to(root).match("ann/*.json")]
        titles = _titles(root / _META)
        if not paths or titles is None:
            what = f"a {_META} with classes" if paths else "folders named ann with JSON files"
            raise DataError(f"{root}: expected {what}, got none; choose the folder of the project")
        outlines = Outlines(settings)
        is_one_set = len({path.parent for path in paths}) == 1  # whose name says nothing of the images' folders
        for path in paths:
            folder, by_stem = path.parent.parent, not path.stem.lower().endswith(IMAGE_SUFFIXES)
            name = (folder.relative_to(root) / path.stem).as_posix()
            search = outlines.search(folder / "img", by_stem=by_stem)
            file = search.image_of(path.stem if is_one_set or not settings.images else name, path)
            with outlines.image(name, file) as image:
                document = read_json(path)
                with naming(str(path)):
                    image.height, image.width = document["size"]["height"], document["size"]["width"]
                    for number, entry in enumerate(document["objects"], 1):
                        kind = entry.get("geometryType") or ("bitmap" if entry.get("bitmap") else "polygon")
                        where = f"{path}: object {number} ({entry['classTitle']})"
                        if kind in _WITHOUT_AREA:
                            outlines.without_area += 1
                        else:
                            draw = partial(_mask, entry, kind, path)
                            image.regions.append(Region(str(entry["classTitle"]), where, draw))
        return outlines.annotations(root, titles)


def _titles(meta: Path) -> list[str] | None:
    """Return the classes of a meta.json, or None if it is none of Supervisely's."""
    try:
        return [str(entry["title"]) for entry in read_json(meta)["classes"]]
    except (*MALFORMED, DataError):
        return None


def _mask(entry: dict[str, Any], kind: str, path: Path, size: Size) -> Mask:
    if kind == "bitmap":
        left, top = (whole_number(value) for value in entry["bitmap"]["origin"])
        return paste_mask(_decode(entry["bitmap"]["data"], size, path), size, left, top)
    if kind not in ("polygon", "rectangle"):
        raise DataError(f"expected a bitmap, a polygon or a rectangle, got {kind!r:.40}")
    exterior = [(float(x), float(y)) for x, y in entry["points"]["exterior"]]
    holes = entry["points"].get("interior") or []
    if kind == "rectangle" and len(exterior) == 2:
        (x0, y0), (x1, y1) = exterior
        exterior, holes = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], []
    elif kind != "polygon" or len(exterior) < 3:
        raise DataError(f"expected a polygon of 3 points or more, or a rectangle of 2, got {kind} of {len(exterior)}")
    mask = _fill(size, exterior)
    for hole in holes:
        mask &= ~_fill(size, [(float(x), float(y)) for x, y in hole])
    return mask


def _fill(size: Size, points: list[Point]) -> Mask:
    """Fill an outline; corners of whole numbers are pixels, and it is filled with them, exactly as OpenCV 4.10 does.

    This draws its lines by Bresenham's method from left to right, and in each row fills from the nearest pixel of one
    line to that of the next, with slopes of 16 binary digits.
    """
    if not all(value == int(value) for point in points for value in point):
        return fill_polygon(size, points)
    mask = fill_polygon(size, [(x + 0.5, y + 0.5) for x, y in points], from_shares=True)
    corners = [(int(x), int(y)) for x, y in points]
    for ends in zip(corners, [*corners[1:], *corners[:1]], strict=True):
        (x0, y0), (x1, y1) = sorted(ends)
        across, down = x1 - x0, abs(y1 - y0)
        length = max(across, down)
        if length >= 4 * max(size):
            raise DataError(
                f"expected an outline in the image of {size[1]}x{size[0]} pixels, got one of {length + 1} pixels"
            )
        x, y = (np.ceil(np.arange(length + 1) * side / max(length, 1) - 0.5) for side in (across, down))
        drawn = x0 + x, y0 + math.copysign(1, y1 - y0) * y
        (x0, y0), (x1, y1) = sorted(ends, key=lambda end: end[1])
        rows = np.arange(y0, y1)
        slope = int((x1 - x0) * 65536 / max(down, 1))
        filled = x0 + ((rows - y0) * slope + 32768 >> 16), rows
        columns, rows = (np.concatenate(both).astype(int) for both in zip(drawn, filled, strict=True))
        inside = (columns >= 0) & (columns < size[1]) & (rows >= 0) & (rows < size[0])
        mask[rows[inside], columns[inside]] = True
    return mask


def _decode(text: str, size: Size, path: Path) -> Mask:
    """Return the mask of a PNG, perhaps compressed once more, in base64: where it is not transparent, or not 0."""
    data = base64.b64decode(text)
    if not data.startswith(b"\x89PNG"):
        data = zlib.decompressobj().decompress(data, size[0] * size[1] + _MOST_BYTES)
    with open_image(path, io.BytesIO(data)) as png:
        if png.width > size[1] or png.height > size[0]:
            raise DataError(f"expected a bitmap inside the image, got one of {png.width}x{png.height}")
        shown = png.convert("RGBA").getchannel("A") if png.has_transparency_data else png.convert("L")
    mask: Mask = np.asarray(shown) > 0
    return mask


def supervisely_document(label: Label, classes: Sequence[str]) -> dict[str, Any]:
    """Return the annotations of a label (H, W) uint8: a bitmap for each class, without void and background."""
    objects = []
    for index in drawn_classes(label, classes):
        rows, columns = bounding_box(label == index)
        bitmap = PIL.Image.fromarray((label[rows, columns] == index).astype(np.uint8))
        bitmap.putpalette([0, 0, 0, 255, 255, 255])
        png = io.BytesIO()
        bitmap.save(png, "PNG", transparency=0)
        data = base64.b64encode(zlib.compress(png.getvalue())).decode()
        parts = {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [columns.start, rows.start]}}
        objects.append({"classTitle": classes[index], "description": "", "tags": [], **parts})
    size = {"height": label.shape[0], "width": label.shape[1]}
    return {"description": "", "tags": [], "size": size, "objects": objects}


def supervisely_meta(classes: Sequence[str]) -> dict[str, Any]:
    """Return the meta.json of a project with such annotations, with the classes' colours."""
    named = zip(classes, class_colors(classes)[: len(classes)], strict=True)
    entries = [{"title": name, "shape": "bitmap", "color": hex_color(color).upper()} for name, color in named]
    return {"classes": entries[first_object(classes) :], "tags": []}
