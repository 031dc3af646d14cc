"""Read CVAT's own XML, "CVAT for images 1.1": polygons, boxes, ellipses and masks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

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
from deeplabctl.data.importing.outlines import Mask, Size, box, fill_ellipse, fill_polygon, fill_runs
from deeplabctl.errors import DataError

_DRAWN = ("polygon", "box", "ellipse", "mask")
_FLAT = ("polyline", "points", "tag", "cuboid", "skeleton")


def read_cvat(path: Path, pictures: Path | None, classes: tuple[str, ...] | None, outside: int) -> Annotations:
    """Read an annotations.xml. Objects lie on top of one another by their z_order; classes come as in CVAT's task.

    Raises DataError for what does not follow the format.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"cannot read {path}: expected CVAT's XML, got {error}") from None
    images = root.findall("image")
    if root.tag != "annotations" or root.find("track") is not None or not images:
        got = "tracks of a video" if root.find("track") is not None else f"<{root.tag}> without images"
        raise DataError(f'{path}: expected CVAT\'s <image>s, got {got}; export the task as "CVAT for images 1.1"')
    drawn = [element for image in images for element in image if element.tag in _DRAWN]
    used = [element.get("label", "") for element in drawn]
    named = [label.findtext("name", "") for label in root.iter("label")]
    all_classes, ids = class_ids(path, [*filter(None, named)] or sorted(set(used)), classes, outside)
    folders = picture_folders(pictures or path.parent)
    items = []
    for image in images:
        name = image.get("name", "")
        picture = find_picture(name, folders) or Path(name)
        items.append(Annotated(name, picture, partial(_label, path, image, ids, outside)))
    notes = left_out(used, ids, outside)
    if flat := sum(element.tag in _FLAT for image in images for element in image):
        notes.append(f"{flat} lines, points, tags, cuboids and skeletons have no outline: left out")
    return Annotations(all_classes, items, notes)


def _label(path: Path, image: ElementTree.Element, ids: dict[str, int], outside: int, facts: ImageFacts) -> Label:
    size = (int(image.get("height", facts.height)), int(image.get("width", facts.width)))
    elements = [element for element in image if element.tag in _DRAWN]
    elements.sort(key=lambda element: int(element.get("z_order", 0)))  # stable: else in the order of the file

    def outlines() -> Iterator[tuple[int, Mask]]:
        for element in elements:
            try:
                yield ids.get(element.get("label", ""), outside), _mask(element, size)
            except (KeyError, ValueError, IndexError, DataError) as error:
                where = f"{element.tag} {element.get('label')!r} of {image.get('name')}"
                raise DataError(f"{path}: {where}: {error}") from None

    return paint(size, outlines(), outside)


def _mask(element: ElementTree.Element, size: Size) -> Mask:
    turn = float(element.get("rotation", 0))
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in element.attrib["points"].split(";")]
        return fill_polygon(size, [(float(x), float(y)) for x, y in pairs])
    if element.tag == "box":
        left, top, right, bottom = (float(element.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        return fill_polygon(size, box(left, top, right, bottom, turn))
    if element.tag == "ellipse":
        x, y, across, down = (float(element.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        return fill_ellipse(size, (x, y), (across, down), turn)
    left, top, width, height = (int(element.attrib[side]) for side in ("left", "top", "width", "height"))
    part = fill_runs([int(run) for run in element.attrib["rle"].split(",")], (height, width), by_columns=False)
    mask = np.zeros(size, np.bool_)
    target = mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    target[:] = part[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return mask
