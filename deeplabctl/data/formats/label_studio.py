"""Label Studio's JSON: read regions of its tasks (brush, polygons, rectangles, ellipses), and write labels as brush.

Coordinates are percent of the image's size. A brush region holds the red, green, blue and alpha of all pixels, packed
by rle-pack (https://github.com/thi-ng/umbrella): alpha says where it is.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import class_colors, hex_color
from deeplabctl.data.findings import join_some
from deeplabctl.data.formats.annotations import (
    AnnotationFormat,
    Annotations,
    ImportSettings,
    Outlines,
    Region,
    drawn_classes,
)
from deeplabctl.data.formats.documents import Entries, Source, common_folder, naming, path_from, whole_number, xml_text
from deeplabctl.data.formats.image_search import failing
from deeplabctl.data.formats.outlines import box_corners, fill_ellipse, fill_polygon, fill_shares
from deeplabctl.data.image_files import IMAGE_SUFFIXES, NAMED_SUFFIXES
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter, counted

_WITH_AREA = ("brush", "polygon", "rectangle", "ellipse", "bitmask")  # types of results, perhaps with "labels" behind
_WITHOUT_AREA = ("keypoint", "vector")
_LENGTHS = (3, 4, 8, 16)  # bits of the lengths of runs, as Label Studio packs them
_HEAD = 32 + 5 + 4 * 4  # bits: the number of values, the bits of a value and of the lengths
_FROM, _TO = "label", "image"  # names of tags in the labelling settings


class LabelStudio(AnnotationFormat):
    """Read the tasks of an export: later regions lie on top; classes are in alphabetical order.

    Predictions count only where nobody annotated anything.
    """

    content = "Label Studio's JSON"

    def recognises(self, source: Source) -> bool:
        """Tell whether a document is a list of tasks."""
        return any(_is_tasks(document) for _, document in source.documents())

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read all tasks; one with more than one annotation, or with odd ones, fails alone."""
        tasks = [(path, task) for path, document in source.documents() if _is_tasks(document) for task in document]
        if not tasks or source.damaged:
            got = next(iter(source.damaged.values()), "none")
            raise DataError(f"{source}: expected {self.content}, got {got}; choose the file")
        if any("data" not in task for _, task in tasks):
            raise DataError(f"{tasks[0][0]}: expected tasks with data, got JSON-MIN; export the project as JSON")
        with naming(f"{tasks[0][0]}: expected {self.content}"):
            is_annotated = any(_finished(task) for _, task in tasks)
        counts = Counter[str]()
        outlines = Outlines(settings)
        left_out = []
        for path, task in tasks:
            where = f"{path}: task {task.get('id', '')}".rstrip()
            search = outlines.search_beside(path)
            with outlines.image(str(task.get("id")), failing(where)) as image, naming(where):
                image.name = name = _image_name(task["data"], task.get("file_upload"))
                result = _result(task, counts, is_annotated=is_annotated)
                if result is None:
                    left_out.append(name)
                    image.is_listed = False
                    continue
                image.regions, (image.height, image.width) = _regions(result, f"{where} ({name})", counts)
                if not search.find(name):
                    image.name = re.sub(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)", r"\1", name)  # of uploads
                image.file = search.image_of(image.name, f"{where}: {name}")
        if left_out:
            outlines.notes.append(f"tasks without an annotation: {len(left_out)} left out ({join_some(left_out, 4)})")
        outlines.without_area = counts["without area"]
        if number := counts["predictions"]:
            outlines.notes.append(f"no task is annotated: using the predictions of {counted(number, 'task')}")
        if number := counts["truths"]:
            outlines.notes.append(f"tasks with several annotations: {number}, using those that are the ground truth")
        return outlines.annotations(tasks[0][0])


def _is_tasks(document: Any) -> bool:
    keys = {"annotations", "completions", "predictions", "annotation_id"}
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(task, dict) and keys & task.keys() for task in document[:100])
    )


def _finished(task: dict[str, Any]) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = task.get("annotations") or task.get("completions") or []
    return [annotation for annotation in done if not annotation.get("was_cancelled")]


def _result(task: dict[str, Any], counts: Counter[str], *, is_annotated: bool) -> list[dict[str, Any]] | None:
    """Return the regions of a task; raises DataError where several annotations have some."""
    found = _finished(task)
    if len(found) > 1:
        found = [annotation for annotation in found if annotation.get("ground_truth")] or found
        counts["truths"] += len(found) == 1
    if not found and not is_annotated:
        found = task.get("predictions") or []
        counts["predictions"] += len(found) == 1
    if len(found) > 1:
        raise DataError(
            f"expected one annotation, got {len(found)}; make one of them the ground truth, or delete others"
        )
    return found[0]["result"] if found else None


def _image_name(data: dict[str, Any], uploaded: Any) -> str:
    """Return the path of a task's image, without what addresses have around it, or the name of an uploaded file."""
    names = []
    for address in data.values():
        if isinstance(address, str):
            name, _, query = address.partition("?")
            if query.startswith("d="):  # of local storage
                name = unquote(query[2:].partition("&")[0])
            elif "://" in address:
                name = unquote(urlsplit(address).path).lstrip("/")
            names.append(re.sub(r"^/?data/upload/(\d+/)?", "", name))
    found = [name for name in names if name.lower().endswith((*IMAGE_SUFFIXES, *NAMED_SUFFIXES))]
    if not found and isinstance(uploaded, str):
        return uploaded
    if len(found) != 1:
        raise DataError(f"expected one image in the data of the task, got {', '.join(found) or 'none'}")
    return found[0]


def _regions(result: list[dict[str, Any]], where: str, counts: Counter[str]) -> tuple[list[Region], tuple[Any, Any]]:
    """Return the regions with an area, and the height and width of their image."""
    merged: dict[Any, dict[str, Any]] = {}  # a label may stand in a result of its own, with the region's id
    sizes = set()
    for item in result:
        value = merged.setdefault(item.get("id", len(merged)), {})
        kind, own = str(item["type"]).removesuffix("labels"), dict(item.get("value") or {})
        if kind in (*_WITH_AREA, *_WITHOUT_AREA, ""):
            own |= {"kind": kind} if kind else {}
            if any(value.get(key, each) != each for key, each in own.items()):
                raise DataError(f"region {item['id']}: expected one shape and one label, got others in a second result")
        value.update(own)
        if kind in _WITH_AREA:
            sizes.add((whole_number(item["original_height"]), whole_number(item["original_width"])))
            if whole_number(item.get("image_rotation") or 0) % 360 or item.get("item_index"):
                what = "one image" if item.get("item_index") else "an image that is not turned in Label Studio"
                raise DataError(f"expected regions of {what}, got others; turn it back there, and export again")
    if len(sizes) > 1:
        raise DataError(f"expected regions of one size of the image, got {sorted(sizes)}; annotate it again")
    regions = []
    for key, value in merged.items():
        if "kind" not in value:  # a choice or a text, about the image
            continue
        if value["kind"] in _WITHOUT_AREA or value.get("closed") is False:
            counts["without area"] += 1
            continue
        found = [value[name] or [] for name in value if name.endswith("labels")]
        labels = [*dict.fromkeys(itertools.chain(*found))]
        if len(labels) != 1:
            raise DataError(f"region {key}: expected one label, got {', '.join(map(str, labels)) or 'none'}")
        regions.append(Region(str(labels[0]), f"{where}: region {key}", _drawing(value)))
    return regions, next(iter(sizes), (None, None))


def _drawing(value: dict[str, Any]) -> Callable[[Size], Mask]:
    """Return what draws the mask of a region."""

    def draw(size: Size) -> Mask:
        percent = [float(value[key]) for key in ("width", "height", "radiusX", "radiusY") if key in value]
        if value["kind"] in ("rectangle", "ellipse") and not max(percent, default=0) <= 105:
            raise DataError(f"expected percent of the image's width and height, got {max(percent):g}")
        if value["kind"] == "brush":
            return unpack(bytes(list(value["rle"])), 4 * size[0] * size[1]).reshape(*size, 4)[..., 3] > 0
        if value["kind"] == "polygon":
            return fill_shares(size, [(float(x) / 100, float(y) / 100) for x, y in value["points"]])
        x, y = float(value["x"]) * size[1] / 100, float(value["y"]) * size[0] / 100
        turn = float(value.get("rotation") or 0)
        sides = ("radiusX", "radiusY") if value["kind"] == "ellipse" else ("width", "height")
        across, down = (float(value[side]) * length / 100 for side, length in zip(sides, size[::-1], strict=True))
        if value["kind"] == "ellipse":
            return fill_ellipse(size, (x, y), (across, down), turn)
        corners = box_corners(x, y, x + across, y + down, turn)  # about its centre; Label Studio turns it about x, y
        right, below = x - corners[0][0], y - corners[0][1]
        return fill_polygon(size, [(x + right, y + below) for x, y in corners], from_shares=True)

    if value["kind"] == "bitmask":
        raise DataError("expected brush, polygon, rectangle or ellipse, got a bitmask; draw it with BrushLabels")
    return draw


def unpack(data: bytes, count: int) -> npt.NDArray[np.uint8]:
    """Return this number of values that rle-pack has packed; raises DataError for another number, or if they end.

    After the head come blocks: a bit that says whether it is a run of one value, two bits that choose how many bits its
    length has, the length less 1, and the value or the values.
    """

    def number(begin: int, bits: int) -> int:
        last = (begin + bits + 7) // 8
        return int.from_bytes(data[begin // 8 : last]) >> (8 * last - begin - bits) & ((1 << bits) - 1)

    if number(0, 32) != count or number(32, 5) != 7:
        got = f"{number(0, 32):,} of {number(32, 5) + 1} bits"
        raise DataError(f"expected {count:,} values of 8 bits, four for each pixel of the image, got {got}")
    lengths = [number(37 + 4 * index, 4) + 1 for index in range(4)]
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    values = np.zeros(count, np.uint8)
    done, at = 0, _HEAD
    while done < count:
        is_run, length = number(at, 1), lengths[number(at + 1, 2)]
        end, at = done + number(at + 3, length) + 1, at + 3 + length
        last = at + 8 * (1 if is_run else end - done)
        if end > count or last > bits.size:
            raise DataError("expected a whole brush region, got one that is truncated or too long; export it again")
        values[done:end] = np.packbits(bits[at:last])
        done, at = end, last
    return values


def pack(mask: Mask) -> list[int]:
    """Return a mask (H, W) as the bytes that `unpack` describes: 255 four times for each pixel in it, 0 for others."""
    flat = mask.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begins = [0, *ends.tolist(), flat.size]
    text = [f"{4 * flat.size:032b}{7:05b}", *(f"{length - 1:04b}" for length in _LENGTHS)]
    for begin, end in pairwise(begins):
        left = 4 * (end - begin)
        while left:
            run = min(left, 1 << _LENGTHS[-1])
            kind = next(index for index, length in enumerate(_LENGTHS) if run <= 1 << length)
            text.append(f"1{kind:02b}{run - 1:0{_LENGTHS[kind]}b}{255 * int(flat[begin]):08b}")
            left -= run
    whole = "".join(text)
    whole += "0" * (-len(whole) % 8)
    return list(int(whole, 2).to_bytes(len(whole) // 8))


def label_studio_result(label: Label, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a brush region for each class in a label (H, W) uint8, without void and a class 0 that is background."""
    return [
        {
            "id": f"class{index}",
            "type": "brushlabels",
            "from_name": _FROM,
            "to_name": _TO,
            "original_width": label.shape[1],
            "original_height": label.shape[0],
            "image_rotation": 0,
            "value": {"format": "rle", "rle": pack(label == index), "brushlabels": [classes[index]]},
        }
        for index in drawn_classes(label, classes)
    ]


@contextmanager
def label_studio_file(
    path: Path, classes: Sequence[str], images: Sequence[Path]
) -> Iterator[Callable[[Path, Size, list[dict[str, Any]]], None]]:
    """Yield what writes the task of an image: its address in local storage, and its regions as a prediction."""
    root = common_folder(images)
    with path.open("w", encoding="utf-8") as file:
        tasks = Entries(file)

        def add(image: Path, size: Size, result: list[dict[str, Any]]) -> None:
            address = f"/data/local-files/?d={quote(os.fsencode(path_from(root, image)))}"
            task = {"data": {_TO: address}, "predictions": [{"model_version": "deeplabctl", "result": result}]}
            tasks.add(json.dumps(task))

        file.write("[")
        yield add
        file.write("\n]\n")


def label_studio_settings(classes: Sequence[str]) -> str:
    """Return the labelling settings, XML, of a project that takes these tasks, with the classes' colours."""
    lines = [
        f"    <Label value={quoteattr(name)} background={quoteattr(hex_color(color))}/>"
        for name, color in zip(classes, class_colors(classes)[: len(classes)], strict=True)
    ]
    head = f'  <Image name="{_TO}" value="${_TO}"/>\n  <BrushLabels name="{_FROM}" toName="{_TO}">'
    return xml_text("\n".join(["<View>", head, *lines, "  </BrushLabels>", "</View>", ""]))
