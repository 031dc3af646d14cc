"""Read instances in COCO's JSON: polygons, run lengths, compressed run lengths, crowds."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.arrays import Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.importing.annotations import (
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
)
from deeplabctl.data.importing.outlines import Size, decode_coco_runs, fill_polygon, fill_runs
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError


def read_coco(path: Path, document: dict[str, Any], settings: ImportSettings) -> Annotations:
    """Read a COCO document. Crowds become void; of overlapping objects the smaller lies on top.

    Classes are in the order of the category ids. Raises DataError for what does not follow the format.
    """
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in document["categories"]}
        images = {entry["id"]: (str(entry.get("file_name", "")), entry) for entry in document["images"]}
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for entry in document["annotations"]:
            by_image[entry["image_id"]].append(entry)
        found = [names[index] for index in sorted(names)]
        used = {names[int(entry["category_id"])] for entry in document["annotations"]}
        boxes = sum(not entry.get("segmentation") for entry in document["annotations"])
    except KeyError as error:
        raise DataError(
            f"{path}: expected COCO's images, annotations and categories, got an entry without {error}; export it again"
        ) from None
    except MALFORMED as error:
        raise DataError(
            f"{path}: expected COCO's images, annotations and categories, got other values ({error}); export it again"
        ) from None
    classes, ids = number_classes(path, found, settings)
    outside = outside_id(path, ids, settings)
    category_ids = {index: ids.get(name, outside) for index, name in names.items()}
    if settings.images:
        folders = image_folders(settings.images)
    else:
        folders = image_folders(path.parent, path.parent.parent / "images")
    annotated = []
    for key, (name, entry) in images.items():
        file = find_image(name, folders) if name else None
        draw = partial(_draw_label, path, name, by_image[key], category_ids, outside)
        image = AnnotatedImage(
            name, file or partial(missing_image, f"{path}: {name}"), draw, entry.get("height"), entry.get("width")
        )
        annotated.append(image)
    notes = notes_on_other_names(sorted(used), ids, settings)
    if boxes:
        notes.append(f"{boxes} of {len(document['annotations'])} annotations are boxes without an outline: skipped")
    return Annotations(classes, annotated, notes)


def _draw_label(
    path: Path,
    name: str,
    annotations: list[dict[str, Any]],
    category_ids: dict[int, int],
    outside: int,
    size: Size,
) -> Label:
    """Draw the objects of an image."""

    def where(entry: dict[str, Any]) -> str:
        return f"{path}: annotation {entry.get('id')} of {name}"

    def order(entry: dict[str, Any]) -> tuple[bool, float]:
        with naming(where(entry)):
            return not entry.get("iscrowd"), -float(entry.get("area") or _mask(entry["segmentation"], size).sum())

    def drawn(entry: dict[str, Any]) -> tuple[int, Mask]:
        with naming(where(entry)):
            class_id = IGNORE_LABEL if entry.get("iscrowd") else category_ids[int(entry["category_id"])]
            return class_id, _mask(entry["segmentation"], size)

    outlined = sorted((entry for entry in annotations if entry.get("segmentation")), key=order)
    return paint(size, map(drawn, outlined), outside)


def _mask(segmentation: Any, size: Size) -> Mask:
    if isinstance(segmentation, dict):
        runs = segmentation["counts"]
        if tuple(segmentation["size"]) != size:
            raise DataError(f"expected run lengths of {size[0]}x{size[1]} pixels, got {segmentation['size']}")
        return fill_runs(decode_coco_runs(runs) if isinstance(runs, str) else runs, size, by_columns=True)
    mask = np.zeros(size, np.bool_)
    for polygon in segmentation:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise DataError(f"expected a polygon of at least 3 points, got {len(points)}")
        mask |= fill_polygon(size, [(float(x), float(y)) for x, y in points])
    return mask
