"""VGG Image Annotator's regions: read projects, exports in JSON and in CSV, of version 1 and 2, and write projects.

Coordinates are pixels. Nothing says how large the image was: only the number of its file's bytes.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import is_void
from deeplabctl.data.findings import join_some
from deeplabctl.data.formats.annotations import (
    AnnotationFormat,
    Annotations,
    ImportSettings,
    Outlines,
    Region,
    drawn_outlines,
    first_object,
    is_background,
)
from deeplabctl.data.formats.documents import Entries, Source, common_folder, head_of, naming, path_from
from deeplabctl.data.formats.outlines import SLACK, TOLERANCE, box_corners, fill_ellipse, fill_polygon
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_WITHOUT_AREA = ("point", "polyline")
_WITH_OPTIONS = ("dropdown", "radio", "checkbox")  # types of attributes
_CLASS = "class"  # the attribute that is written


class Via(AnnotationFormat):
    """Read the regions of a file: later ones lie on top; classes are in alphabetical order.

    Regions have the id of an option; a project says in its description which class that is, an export does not.
    """

    content, own_settings = "VIA's regions", ("attribute", "outside")

    def recognises(self, source: Source) -> bool:
        """Tell whether a document has images with regions, or a CSV the columns of regions."""
        if _is_csv(source.path):
            return b"region_shape_attributes" in head_of(source.path)
        return any(_is_via(*entry) for entry in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read the images of one file; raises DataError if several attributes of regions may be their class."""
        if _is_csv(source.path):
            path, document = source.path, {}
            entries = _read_csv(path)
        else:
            path = source.only(self.content, _is_via)
            document = source.document(path)
            entries = _images(path, document)
        with naming(f"{path}: expected {self.content}"):
            listed = [(str(entry["filename"]), entry.get("size"), _regions(entry)) for entry in entries]
            attributes = [attributes for _, _, regions in listed for _, attributes in regions]
            descriptions = _descriptions(document)
        name_of = _names(path, attributes, descriptions, settings)
        outlines, changed = Outlines(settings), []
        search = outlines.search_beside(path)
        for name, size, regions in listed:
            file = search.image_of(name, f"{path}: {name}")
            if isinstance(file, Path) and isinstance(size, int) and size not in (-1, 0, file.stat().st_size):
                changed.append(name)
            with outlines.image(name, file) as image:
                for number, (shape, named) in enumerate(regions, 1):
                    where = f"{path}: region {number} of {name}"
                    with naming(where):
                        if _has_area(shape):
                            image.regions.append(Region(name_of(named), where, partial(_mask, shape)))
                        else:
                            outlines.without_area += 1
        if changed:
            outlines.notes.append(
                f"image files whose size in bytes has changed since they were annotated: {len(changed)} "
                f"({join_some(changed, 4)}); if they were resized, the outlines are wrong: look at them with "
                "deeplabctl data preview"
            )
        return outlines.annotations(path)


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


def _is_via(path: Path, document: Any) -> bool:
    return bool(_images(path, document))


def _images(path: Path, document: Any) -> list[dict[str, Any]]:
    """Return the images of a project or an export, none for other documents."""
    if isinstance(document, dict) and {"project", "file", "metadata", "view"} <= document.keys():
        raise DataError(f"{path}: expected regions of VIA 1 or 2, got a project of VIA 3; annotate with VIA 2")
    images = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    if not isinstance(images, dict):
        return []
    is_via = all(isinstance(image, dict) and {"filename", "regions"} <= image.keys() for image in images.values())
    return [*images.values()] if is_via else []


def _read_csv(path: Path) -> list[dict[str, Any]]:
    """Return the images of a CSV export, as JSON has them."""
    images: dict[tuple[str, str], dict[str, Any]] = {}
    csv.field_size_limit(max(path.stat().st_size, csv.field_size_limit()))  # of outlines with many points
    with naming(f"{path}: expected {Via.content}"), path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            name, size = row.get("filename") or row["#filename"], row["file_size"]
            image = images.setdefault((name, size), {"filename": name, "size": int(size), "regions": []})
            if row["region_shape_attributes"] not in ("", "{}"):
                shape, named = (json.loads(row[f"region{key}_attributes"]) for key in ("_shape", ""))
                image["regions"].append({"shape_attributes": shape, "region_attributes": named})
    return [*images.values()]


def _regions(image: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the shape and the attributes of each region of an image; version 1 numbers them by keys."""
    regions = image["regions"]
    regions = regions.values() if isinstance(regions, dict) else regions
    return [(dict(region["shape_attributes"]), dict(region.get("region_attributes") or {})) for region in regions]


def _descriptions(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the descriptions of options by their ids, for each attribute of a project's regions."""
    attributes = (document.get("_via_attributes") or {}).get("region") or {}
    with_options = {key: each for key, each in attributes.items() if each.get("type") in _WITH_OPTIONS}
    return {key: dict(each.get("options") or {}) for key, each in with_options.items()}


def _names(
    path: Path,
    attributes: Sequence[dict[str, Any]],
    descriptions: Mapping[str, Mapping[str, str]],
    settings: ImportSettings,
) -> Callable[[dict[str, Any]], str]:
    """Return what gives the class of a region by its attributes; raises DataError if that would be a guess."""
    keys = dict.fromkeys(key for named in attributes for key, value in named.items() if value not in ("", {}))
    if settings.attribute:
        keys = dict.fromkeys([settings.attribute])
    if not keys:
        only = [name for name in settings.class_names or () if not (is_background(name) or is_void(name))]
        if attributes and len(only) != 1:
            raise DataError(
                f"{path}: expected regions with an attribute that is their class, got none; use `classes` to name "
                "background and one class, if all are of this"
            )
        return lambda named: only[0]
    if len(keys) > 1:
        raise DataError(
            f"{path}: expected regions with one attribute, their class, got {join_some([*keys])}; use `attribute` to "
            "say which is the class"
        )
    (key,) = keys

    def name_of(named: dict[str, Any]) -> str:
        value = named.get(key, "")
        chosen = [name for name, is_set in value.items() if is_set] if isinstance(value, dict) else [str(value).strip()]
        if len(chosen) != 1 or not chosen[0]:
            raise DataError(f"expected one {key}, got {' and '.join(filter(None, chosen)) or 'none'}")
        return str(descriptions.get(key, {}).get(chosen[0]) or chosen[0]).strip()

    return name_of


def _has_area(shape: dict[str, Any]) -> bool:
    points = shape.get("all_points_x")
    is_line = shape.get("name") == "polygon" and isinstance(points, list) and len(points) < 3
    return shape.get("name") not in _WITHOUT_AREA and not is_line


def _mask(shape: dict[str, Any], size: Size) -> Mask:
    def numbers(*keys: str) -> list[float]:
        return [float(shape[key]) for key in keys]

    if shape["name"] == "polygon":
        points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return fill_polygon(size, [(float(x), float(y)) for x, y in points], farthest=SLACK)
    if shape["name"] == "rect":
        left, top, width, height = numbers("x", "y", "width", "height")
        return fill_polygon(size, box_corners(left, top, left + width, top + height), farthest=SLACK)
    if shape["name"] == "circle":
        x, y, radius = numbers("cx", "cy", "r")
        return fill_ellipse(size, (x, y), (radius, radius))
    if shape["name"] == "ellipse":
        x, y, across, down = numbers("cx", "cy", "rx", "ry")
        return fill_ellipse(size, (x, y), (across, down), math.degrees(float(shape.get("theta") or 0)))
    raise DataError(f"expected a polygon, a rectangle, a circle or an ellipse, got {shape['name']!r:.40}")


def via_regions(label: Label, classes: Sequence[str], tolerance: float = TOLERANCE) -> list[dict[str, Any]]:
    """Return the regions of a label (H, W) uint8 as polygons, without void and a class 0 that is the background."""
    return [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": outline.points[:, 0].tolist(),
                "all_points_y": outline.points[:, 1].tolist(),
            },
            "region_attributes": {_CLASS: classes[outline.class_id]},
        }
        for outline in drawn_outlines(label, classes, tolerance)
    ]


@contextmanager
def via_file(
    path: Path, classes: Sequence[str], images: Sequence[Path]
) -> Iterator[Callable[[Path, Size, list[dict[str, Any]]], None]]:
    """Yield what writes the regions of an image into a project that VIA 2 loads."""
    root, ids = common_folder(images), list[str]()
    options = {name: name for name in classes[first_object(classes) :]}
    attribute = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
    head = {
        "_via_settings": {
            "ui": {"image": {"region_label": _CLASS, "region_color": _CLASS}},
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": f"{root.as_posix()}/"},
            "project": {"name": "deeplabctl"},
        },
        "_via_attributes": {"region": {_CLASS: attribute}, "file": {}},
        "_via_data_format_version": "2.0.10",
    }
    with path.open("w", encoding="utf-8") as file:
        entries = Entries(file)

        def add(image: Path, size: Size, regions: list[dict[str, Any]]) -> None:
            name, length = path_from(root, image), image.stat().st_size
            entry = {"filename": name, "size": length, "regions": regions, "file_attributes": {}}
            entries.add(f"{json.dumps(f'{name}{length}')}: {json.dumps(entry)}")
            ids.append(f"{name}{length}")

        file.write(json.dumps(head)[:-1] + ',\n"_via_img_metadata": {')
        yield add
        file.write(f'\n}},\n"_via_image_id_list": {json.dumps(ids)}}}\n')
