"""Read CVAT's own XML, "CVAT for images 1.1": polygons, boxes, ellipses and masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from deeplabctl.arrays import Label, Mask
from deeplabctl.data.importing.annotations import (
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
from deeplabctl.data.importing.outlines import Size, box_corners, fill_ellipse, fill_polygon, fill_runs
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.errors import DataError

_WITH_AREA = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "tag", "cuboid", "skeleton")


def read_cvat(path: Path, settings: ImportSettings) -> Annotations:
    """Read an annotations.xml. Objects lie on top of one another by their z_order; classes are as in CVAT's task.

    Raises DataError for what does not follow the format.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: other encodings
        raise DataError(f"cannot read {path}: expected CVAT's XML, got {error}") from None
    images = root.findall("image")
    if root.tag != "annotations" or root.find("track") is not None or not images:
        got = "tracks of a video" if root.find("track") is not None else f"<{root.tag}> without images"
        raise DataError(f'{path}: expected CVAT\'s <image>s, got {got}; export the task as "CVAT for images 1.1"')
    drawn = [element for image in images for element in image if element.tag in _WITH_AREA]
    used = [element.get("label", "") for element in drawn]
    named = [label.findtext("name", "") for label in root.iter("label")]
    classes, ids = number_classes(path, [*filter(None, named)] or sorted(set(used)), settings)
    outside = outside_id(path, ids, settings)
    folders = image_folders(settings.images or path.parent)
    annotated = []
    for image in images:
        name = image.get("name", "")
        file = find_image(name, folders) or partial(missing_image, f"{path}: {name}")
        draw = partial(_draw_label, path, image, ids, outside)
        annotated.append(AnnotatedImage(name, file, draw, image.get("height"), image.get("width")))
    notes = notes_on_other_names(used, ids, settings)
    if without_area := sum(element.tag in _WITHOUT_AREA for image in images for element in image):
        notes.append(f"{without_area} lines, points, tags, cuboids and skeletons have no outline: skipped")
    return Annotations(classes, annotated, notes)


def _draw_label(path: Path, image: ElementTree.Element, ids: dict[str, int], outside: int, size: Size) -> Label:
    """Draw the objects of an image."""

    def where(element: ElementTree.Element) -> str:
        return f"{path}: {element.tag} {element.get('label')!r} of {image.get('name')}"

    def order(element: ElementTree.Element) -> int:
        with naming(where(element)):
            return int(element.get("z_order", 0))

    def drawn(element: ElementTree.Element) -> tuple[int, Mask]:
        with naming(where(element)):
            return ids.get(element.get("label", ""), outside), _mask(element, size)

    elements = sorted((element for element in image if element.tag in _WITH_AREA), key=order)
    return paint(size, map(drawn, elements), outside)  # of equal order: as in the file


def _mask(element: ElementTree.Element, size: Size) -> Mask:
    rotation = float(element.get("rotation", 0))
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in element.attrib["points"].split(";")]
        return fill_polygon(size, [(float(x), float(y)) for x, y in pairs])
    if element.tag == "box":
        left, top, right, bottom = (float(element.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        return fill_polygon(size, box_corners(left, top, right, bottom, rotation))
    if element.tag == "ellipse":
        x, y, across, down = (float(element.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        return fill_ellipse(size, (x, y), (across, down), rotation)
    left, top, width, height = (int(element.attrib[side]) for side in ("left", "top", "width", "height"))
    if not (0 < height <= 2 * size[0] and 0 < width <= 2 * size[1]):
        raise DataError(f"expected a mask within {size[1]}x{size[0]} pixels, got one of {width}x{height}")
    part = fill_runs([int(run) for run in element.attrib["rle"].split(",")], (height, width), by_columns=False)
    mask = np.zeros(size, np.bool_)
    target = mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    target[:] = part[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return mask
