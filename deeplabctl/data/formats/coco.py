"""COCO's JSON: read its instances (polygons, run lengths, compressed run lengths, crowds), and write labels as such."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.data.findings import join_some
from deeplabctl.data.formats.annotations import (
    AnnotationFormat,
    Annotations,
    ImportSettings,
    Outlines,
    Region,
    drawn_classes,
)
from deeplabctl.data.formats.documents import MALFORMED, Entries, Source, common_folder, path_from, whole_number
from deeplabctl.data.formats.outlines import bounding_box, box_corners, fill_polygon, fill_runs, run_lengths
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

Segment = dict[str, Any]  # class_id, area (pixels), bbox [x, y, width, height], segmentation {size, counts}


class Coco(AnnotationFormat):
    """Read the instances of one JSON file: of overlapping objects the smaller lies on top.

    Crowds become void, and so do boxes without an outline, as something of their class is in them. Below all objects.
    Some programs write all masks as crowds: if most annotations are crowds, the settings must say what they become.
    """

    content, own_settings = "COCO's JSON", ("crowds", "outside")

    def recognises(self, source: Source) -> bool:
        """Tell whether a document has images and annotations."""
        return any(_is_coco(*entry) for entry in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read a document, with classes in the order of the category ids."""
        path = source.only("COCO instances", _is_coco)
        return _read_instances(path, source.document(path), settings)


def _is_coco(_path: Path, document: Any) -> bool:
    return isinstance(document, dict) and {"annotations", "images"} <= document.keys() and "shapes" not in document


class _Object(NamedTuple):
    """Hold what is needed of an annotation; its outline is checked when it is drawn."""

    number: Any  # its own id, for messages
    image: int | str
    category: int | str
    is_crowd: bool
    is_box: bool  # without an outline
    mask: Callable[[Size], Mask]


def _read_instances(path: Path, document: dict[str, Any], settings: ImportSettings) -> Annotations:
    expected = f"{path}: expected COCO's images, annotations and categories"
    try:
        names = _by_id("category", "name", _entries(document, "categories"))
        images = _by_id("image", "file_name", _entries(document, "images"))
        entries = {_id(entry["id"]): entry for entry in document["images"]}
        objects, without_area = _read_objects(_entries(document, "annotations"))
    except KeyError as error:
        raise DataError(f"{expected}, got an entry without {error}; export it again") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except MALFORMED as error:
        raise DataError(f"{expected}, got other values ({error}); export it again") from None
    first: dict[str, int | str] = {}
    for key, name in images.items():
        if first.setdefault(name, key) != key:
            raise DataError(f"{path}: expected each image once, got {name!r} with ids {first[name]!r} and {key!r}")
    _check_ids(path, "image", [(each.number, each.image) for each in objects], images)
    _check_ids(path, "category", [(each.number, each.category) for each in objects], names)
    by_image: dict[int | str, list[_Object]] = defaultdict(list)
    for each in objects:
        by_image[each.image].append(each)
    outlines = Outlines(settings)
    total, crowds = len(document["annotations"]), sum(each.is_crowd for each in objects)
    if crowds and settings.crowds == "auto":
        masks = "masks of objects, as Datumaro (CVAT), darwin-py (V7), Encord and supervision write them"
        if 2 * crowds > total:
            raise DataError(
                f"{path}: cannot tell what {crowds} of {total} annotations are, whose iscrowd is 1: crowds of objects, "
                f"as in COCO, or {masks}; use `crowds=void` or `crowds=objects`"
            )
        outlines.notes.append(
            f"{crowds} of {total} annotations are crowds (iscrowd is 1): void; if they are {masks}, use "
            "`crowds=objects`"
        )
    search = outlines.search_beside(path)
    for key, name in images.items():
        size = entries[key].get("height"), entries[key].get("width")
        with outlines.image(name, search.image_of(name, f"{path}: {name}"), *size) as image:
            for each in by_image[key]:
                where = f"{path}: annotation {each.number} of {name}"
                is_below = each.is_box or (each.is_crowd and settings.crowds != "objects")
                image.regions.append(Region(names[each.category], where, each.mask, is_below))
    if boxes := sum(each.is_box for each in objects):
        outlines.notes.append(f"{boxes} of {total} annotations are boxes without an outline: void")
    if without_area:
        numbers = join_some([str(number) for number in without_area])
        outlines.notes.append(f"annotations without an area: {len(without_area)} skipped ({numbers})")
    found = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
    used = {names[each.category] for each in objects}
    parents = [entry.get("supercategory") for entry in document["categories"] if entry["name"] in used]
    groups = [name for name in found if name in parents and name not in used]
    if groups and settings.class_names is None:
        found = [name for name in found if name not in groups]
        some = join_some([repr(name) for name in groups])
        outlines.notes.append(f"categories without annotations that only group others: {some} left out")
    return outlines.annotations(path, found, smaller_on_top=True)


def _id(value: Any) -> int | str:
    """Return an id as a number where it is one, also in a text; raises DataError for other values."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and value == str(int(value)) else value
    if isinstance(value, bool) or value is None:
        raise DataError(f"expected a number or a string as id, got {value!r}")
    return whole_number(value)


def _entries(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document[key]
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise DataError(f"expected {key} as a list of objects with keys, got {entries!r:.60}; export it again")
    return entries


def _by_id(what: str, key: str, entries: list[dict[str, Any]]) -> dict[int | str, str]:
    """Return the names of entries by their ids; raises DataError for ids that two different entries have."""
    names: dict[int | str, str] = {}
    for entry in entries:
        name = entry[key]
        if not isinstance(name, str) or not name:
            raise DataError(f"{what} {entry['id']!r}: expected {key} as a string, got {name!r:.80}")
        number = _id(entry["id"])
        if names.setdefault(number, name) != name:
            raise DataError(
                f"expected each {what} id once, got {number} for {names[number]!r} and for {name!r}; if several files "
                "were merged, renumber their ids"
            )
    return names


def _read_objects(entries: list[dict[str, Any]]) -> tuple[list[_Object], list[Any]]:
    """Return the annotations that have an area, and the ids of the others."""
    objects, without_area = [], []
    for entry in entries:
        if "segments_info" in entry:
            raise DataError(
                "expected instances, got COCO's panoptic annotations, whose outlines are in PNGs; convert them with "
                "panoptic2semantic_segmentation.py of panopticapi"
            )
        number, image, category = entry.get("id"), _id(entry["image_id"]), _id(entry["category_id"])
        try:
            crowd = entry.get("iscrowd")
            is_crowd = whole_number(0 if crowd is None else crowd)
            if is_crowd not in (0, 1):
                raise DataError(f"expected 0 or 1, got {is_crowd}")
        except DataError as error:
            raise DataError(f"iscrowd of annotation {number}: {error}") from None
        segmentation, box = entry.get("segmentation"), entry.get("bbox")
        outline = _outline(segmentation)
        has_outline = any(segmentation) if isinstance(segmentation, list) else segmentation
        is_box = bool(box) and not has_outline and not (isinstance(box, list) and len(box) == 4 and 0 in box[2:])
        if outline or is_box:
            mask = partial(_box, box) if is_box else partial(_mask, outline)
            objects.append(_Object(number, image, category, bool(is_crowd), is_box, mask))
        else:
            without_area.append(number)
    return objects, without_area


def _outline(segmentation: Any) -> Any:
    """Return run lengths, or the polygons that have an area: at least three points."""
    if not isinstance(segmentation, list):
        return segmentation
    return [polygon for polygon in _polygons(segmentation) if not (_is_flat(polygon) and len(polygon) in (2, 4))]


def _polygons(parts: list[Any]) -> list[Any]:
    """Return the lists of numbers in lists of any depth; three or more points [x, y] are one polygon."""
    if not all(isinstance(part, list) for part in parts):  # numbers, or what is checked when it is drawn
        return [parts]
    if len(parts) >= 3 and all(_is_flat(part) and len(part) == 2 for part in parts):
        return [[value for part in parts for value in part]]
    return [polygon for part in parts for polygon in _polygons(part)]


def _is_flat(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, int | float) for value in values)


def _check_ids(path: Path, what: str, used: Sequence[tuple[Any, int | str]], known: Mapping[int | str, str]) -> None:
    """Raise DataError for annotations of an image or category that the document does not have."""
    if wrong := [(number, key) for number, key in used if key not in known]:
        ids = join_some(list(dict.fromkeys(repr(key) for _, key in wrong)))
        numbers = join_some([str(number) for number, _ in wrong])
        have = join_some([repr(key) for key in known]) or "none"
        raise DataError(
            f"{path}: expected annotations with the {what} ids of the file, {have}, got {ids} in {len(wrong)} of them "
            f"(ids {numbers}); export it again, or remove these"
        )


def _box(box: Any, size: Size) -> Mask:
    if len(box) != 4:
        raise DataError(f"expected a box of x, y, width and height, got {box!r:.60}")
    left, top, width, height = (float(value) for value in box)
    return fill_polygon(size, box_corners(left, top, left + width, top + height))


def _mask(segmentation: Any, size: Size) -> Mask:
    if isinstance(segmentation, dict):
        runs = segmentation["counts"]
        if tuple(segmentation["size"]) != size:
            raise DataError(f"expected run lengths of {size[0]}x{size[1]} pixels, got {segmentation['size']}")
        return fill_runs(decode_runs(runs) if isinstance(runs, str) else runs, size, by_columns=True)
    mask = np.zeros(size, np.bool_)
    for polygon in segmentation:
        try:
            points = np.array(polygon, np.float64).ravel()
        except (TypeError, ValueError):
            raise DataError(f"expected lists of coordinates or run lengths, got {polygon!r:.60}") from None
        if points.size % 2 or not np.isfinite(points).all():
            raise DataError(f"expected pairs of coordinates, got {points.size} numbers: {polygon!r:.60}")
        mask |= fill_polygon(size, [(float(x), float(y)) for x, y in points.reshape(-1, 2)])
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
        raise DataError("expected complete run lengths, got a truncated string")
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
    found = []
    for index in drawn_classes(label, classes):
        mask = label == index
        rows, columns = bounding_box(mask)
        box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
        counts = {"size": list(mask.shape), "counts": encode_runs(run_lengths(mask))}
        area = int(np.count_nonzero(mask))
        found.append({"class_id": index, "area": area, "bbox": box, "segmentation": counts})
    return found


@contextmanager
def coco_file(
    path: Path, classes: Sequence[str], images: Sequence[Path]
) -> Iterator[Callable[[Path, Size, Sequence[Segment]], None]]:
    """Yield what adds an image, its size and its segments to a COCO document, which has the images after all segments.

    Images are named by their paths from their common folder. Category ids are class ids, so that readers keep the
    order of the classes; other ids count from 1.
    """
    root = common_folder(images)
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    head = {"info": {"description": "segmented by deeplabctl"}, "categories": categories}
    entries: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        annotations = Entries(file)

        def add(image: Path, size: Size, found: Sequence[Segment]) -> None:
            entry = {"id": len(entries) + 1, "file_name": path_from(root, image)}
            entries.append(json.dumps({**entry, "width": size[1], "height": size[0]}))
            for segment in found:
                annotation = {
                    "id": annotations.count + 1,
                    "image_id": len(entries),
                    "category_id": segment["class_id"],
                    "iscrowd": 0,
                    **{key: segment[key] for key in ("area", "bbox", "segmentation")},
                }
                annotations.add(json.dumps(annotation))

        file.write(f'{json.dumps(head)[:-1]},\n"annotations": [')
        yield add
        file.write('\n],\n"images": [\n' + ",\n".join(entries) + "\n]}\n")
