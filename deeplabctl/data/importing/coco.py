"""Read instances in COCO's JSON: polygons, run lengths, compressed run lengths, crowds."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
from deeplabctl.data.importing.outlines import Mask, Size, coco_runs, fill_polygon, fill_runs
from deeplabctl.errors import DataError


def read_coco(
    path: Path, document: dict[str, Any], pictures: Path | None, classes: tuple[str, ...] | None, outside: int
) -> Annotations:
    """Read a COCO document. Crowds become void; of overlapping objects the smaller lies on top.

    ``outside`` is the class id of what lies in no object. Categories come in the order of their ids. Raises DataError
    for what does not follow the format.
    """
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in document["categories"]}
        images = {entry["id"]: entry for entry in document["images"]}
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for entry in document["annotations"]:
            by_image[entry["image_id"]].append(entry)
        found = [names[index] for index in sorted(names)]
        used = {names[int(entry["category_id"])] for entry in document["annotations"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: expected COCO's images, annotations and categories, got an entry without {error}; export it again"
        ) from None
    all_classes, ids = class_ids(path, found, classes, outside)
    folders = picture_folders(pictures) if pictures else picture_folders(path.parent, path.parent.parent / "images")
    numbers = {index: ids.get(name, outside) for index, name in names.items()}
    items = []
    for key, entry in images.items():
        name = str(entry.get("file_name", ""))
        file = find_picture(name, folders) if name else None
        label = partial(_label, path, entry, by_image[key], numbers, outside)
        items.append(Annotated(name, file or Path(name), label))
    notes = left_out(sorted(used), ids, outside)
    boxes = sum(not entry.get("segmentation") for entry in document["annotations"])
    if boxes:
        notes.append(f"{boxes} of {len(document['annotations'])} annotations are boxes without an outline: left out")
    return Annotations(all_classes, items, notes)


def _label(
    path: Path,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    numbers: dict[int, int],
    outside: int,
    facts: ImageFacts,
) -> Label:
    """Draw the objects of an image at the size that COCO says it has."""
    size = (int(image.get("height", facts.height)), int(image.get("width", facts.width)))

    def mask(entry: dict[str, Any]) -> Mask:
        try:
            return _mask(entry["segmentation"], size)
        except (KeyError, TypeError, ValueError, IndexError, DataError) as error:
            raise DataError(f"{path}: annotation {entry.get('id')} of {image.get('file_name')}: {error}") from None

    def order(entry: dict[str, Any]) -> tuple[bool, float]:
        return not entry.get("iscrowd"), -float(entry.get("area") or mask(entry).sum())

    def class_id(entry: dict[str, Any]) -> int:
        return IGNORE_LABEL if entry.get("iscrowd") else numbers[int(entry["category_id"])]

    drawn = sorted((entry for entry in annotations if entry.get("segmentation")), key=order)
    return paint(size, ((class_id(entry), mask(entry)) for entry in drawn), outside)


def _mask(segmentation: Any, size: Size) -> Mask:
    if isinstance(segmentation, dict):
        runs = segmentation["counts"]
        if tuple(segmentation["size"]) != size:
            raise DataError(f"expected run lengths of {size[0]}x{size[1]} pixels, got {segmentation['size']}")
        return fill_runs(coco_runs(runs) if isinstance(runs, str) else runs, size, by_columns=True)
    mask = np.zeros(size, np.bool_)
    for polygon in segmentation:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise DataError(f"expected a polygon of at least 3 points, got {len(points)}")
        mask |= fill_polygon(size, [(float(x), float(y)) for x, y in points])
    return mask
