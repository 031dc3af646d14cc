"""COCO's JSON: read its instances (polygons, run lengths, compressed run lengths, crowds), and write labels as such."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.formats.annotations import (
    BACKGROUND,
    MALFORMED,
    AnnotatedImage,
    Annotations,
    ImportSettings,
    Source,
    image_folders,
    image_of,
    naming,
    number_classes,
    paint,
)
from deeplabctl.data.formats.outlines import fill_polygon, fill_runs, run_lengths
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

Segment = dict[str, Any]  # class_id, area (pixels), bbox [x, y, width, height], segmentation {size, counts}


class Coco:
    """Read the instances of one JSON file. Crowds become void; of overlapping objects the smaller lies on top."""

    content = "COCO's JSON"

    def recognises(self, source: Source) -> bool:
        """Tell whether a document has images and annotations."""
        return any(_is_coco(document) for _, document in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read a document, with classes in the order of the category ids."""
        paths = [path for path, document in source.documents() if _is_coco(document)]
        if len(paths) != 1:
            names = ", ".join(path.name for path in paths) or "none"
            raise DataError(f"{source}: expected one file of COCO instances, got {names}; choose the file itself")
        return _read_instances(paths[0], source.document(paths[0]), settings)


def _is_coco(document: Any) -> bool:
    return isinstance(document, dict) and {"annotations", "images"} <= document.keys() and "shapes" not in document


def _read_instances(path: Path, document: dict[str, Any], settings: ImportSettings) -> Annotations:
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
    classes = number_classes(path, found, settings, sorted(used))
    category_ids = {index: classes.id_of(name) for index, name in names.items()}
    if settings.images:
        folders = image_folders(settings.images)
    else:
        folders = image_folders(path.parent, path.parent.parent / "images")
    annotated = []
    for key, (name, entry) in images.items():
        file = image_of(name, folders, f"{path}: {name}")
        draw = partial(_draw_label, path, name, by_image[key], category_ids, classes.outside)
        annotated.append(AnnotatedImage(name, file, draw, entry.get("height"), entry.get("width")))
    notes = classes.notes
    if boxes:
        notes.append(f"{boxes} of {len(document['annotations'])} annotations are boxes without an outline: skipped")
    return Annotations(classes.names, annotated, notes)


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
        return fill_runs(decode_runs(runs) if isinstance(runs, str) else runs, size, by_columns=True)
    mask = np.zeros(size, np.bool_)
    for polygon in segmentation:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise DataError(f"expected a polygon of at least 3 points, got {len(points)}")
        mask |= fill_polygon(size, [(float(x), float(y)) for x, y in points])
    return mask


def decode_runs(text: str) -> list[int]:
    """Return the run lengths in COCO's compressed text.

    Each number is written in groups of five bits, the lowest first, as characters from "0"; bit 5 says that another
    group follows, and bit 4 of the last group is the sign. From the fourth number on, each is the difference to the
    number two places before. Raises DataError for other characters and for incomplete numbers.
    """
    runs: list[int] = []
    number, shift = 0, 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise DataError(f"expected run lengths in COCO's characters, got {character!r}")
        number |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                number -= 1 << shift
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number, shift = 0, 0
    if shift:
        raise DataError("expected complete run lengths, got a text that is cut off")
    return runs


def encode_runs(runs: Sequence[int]) -> str:
    """Return run lengths as COCO's compressed text, which `decode_runs` describes."""
    text = []
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        while True:
            group, number = number & 31, number >> 5
            is_last = number == (-1 if group & 16 else 0)
            text.append(chr(48 + (group if is_last else group | 32)))
            if is_last:
                break
    return "".join(text)


def segments(label: Label, classes: Sequence[str]) -> list[Segment]:
    """Return the segment of each class in a label (H, W) uint8, by class id, without void and the background.

    The background is a class 0 of that name: readers of COCO's files fill what lies in no segment with it.
    """
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist()
    left_out = {IGNORE_LABEL, *([0] if classes[0] == BACKGROUND else [])}
    return [_segment(label == index, index) for index in present if index not in left_out]


def _segment(mask: Mask, class_id: int) -> Segment:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "class_id": class_id,
        "area": int(np.count_nonzero(mask)),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "segmentation": {"size": list(mask.shape), "counts": encode_runs(run_lengths(mask))},
    }


class CocoFile:
    """Write the annotations of images as they come, and the images after all annotations; ids count from 1."""

    def __init__(self, file: TextIO, images: TextIO, root: Path) -> None:
        self._file, self._images_file, self._root = file, images, root
        self._images = self._annotations = 0

    def add(self, image: Path, size: Size, found: Sequence[Segment]) -> None:
        """Add an image and its segments."""
        name = Path(os.path.relpath(image.absolute(), self._root)).as_posix()
        entry = {"id": self._images + 1, "file_name": name, "width": size[1], "height": size[0]}
        self._images_file.write(_entry(entry, is_first=self._images == 0))
        self._images += 1
        for segment in found:
            annotation = {
                "id": self._annotations + 1,
                "image_id": self._images,
                "category_id": segment["class_id"],
                "iscrowd": 0,
                **{key: segment[key] for key in ("area", "bbox", "segmentation")},
            }
            self._file.write(_entry(annotation, is_first=self._annotations == 0))
            self._annotations += 1


@contextmanager
def coco_file(path: Path, classes: Sequence[str], images: Sequence[Path]) -> Iterator[CocoFile]:
    """Yield what writes a COCO document of these images, which it names by their paths from their common folder.

    Category ids are class ids, so that readers keep the order of the classes.
    """
    root = Path(os.path.commonpath([image.absolute().parent for image in images])) if images else Path()
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    head = {"info": {"description": "segmented by deeplabctl"}, "categories": categories}
    with path.open("w", encoding="utf-8") as file, tempfile.TemporaryFile("w+", dir=path.parent) as entries:
        file.write(f'{json.dumps(head)[:-1]},\n"annotations": [')
        yield CocoFile(file, entries, root)
        file.write('\n],\n"images": [')
        entries.seek(0)
        shutil.copyfileobj(entries, file)
        file.write("\n]}\n")


def _entry(value: dict[str, Any], *, is_first: bool) -> str:
    return ("\n" if is_first else ",\n") + json.dumps(value)
