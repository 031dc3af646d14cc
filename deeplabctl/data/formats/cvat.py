"""CVAT's own XML, "CVAT for images 1.1": read polygons, boxes, ellipses and masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.data.formats.annotations import (
    AnnotatedImage,
    Annotations,
    ImportSettings,
    NamedClasses,
    Source,
    naming,
    number_classes,
    paint,
)
from deeplabctl.data.formats.image_search import ImageSearch
from deeplabctl.data.formats.outlines import box_corners, fill_ellipse, fill_polygon, fill_runs, paste_mask
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_WITH_AREA = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "tag", "cuboid", "skeleton")


class Cvat:
    """Read an annotations.xml. Objects lie on top of one another by their z_order; classes are as in CVAT's task."""

    content = "CVAT's XML"

    def recognises(self, source: Source) -> bool:
        """Tell whether there is an XML file, or one of CVAT's name in the folder."""
        path = _xml_file(source)
        return path.suffix == ".xml" and path.is_file()

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read the XML file."""
        path = _xml_file(source)
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: other encodings
            raise DataError(f"cannot read {path}: expected CVAT's XML, got {error}") from None
        images = root.findall("image")
        if root.tag != "annotations" or root.find("track") is not None or not images:
            got = "tracks of a video" if root.find("track") is not None else f"<{root.tag}> without images"
            raise DataError(f'{path}: expected CVAT\'s <image>s, got {got}; export the task as "CVAT for images 1.1"')
        used = [
            (element.get("label", ""), image.get("name", ""))
            for image in images
            for element in image
            if element.tag in _WITH_AREA
        ]
        labels = [label for label in root.iter("label") if label.find("parent") is None]  # not the parts of skeletons
        named = [label.findtext("name", "") for label in labels if label.findtext("type") not in _WITHOUT_AREA]
        classes = number_classes(path, [*filter(None, named)] or sorted({name for name, _ in used}), settings, used)
        search = ImageSearch.beside(path, settings.images)
        names = [(image.get("name", ""), image.get("subset", "")) for image in images]
        in_subsets = any(search.find(f"{subset}/{name}") for name, subset in names if subset)
        if not in_subsets and any(search.has(name) for name, _ in names):
            names = [(name, "") for name, _ in names]  # of a task: its images lie in one folder
        annotated = []
        for image, (name, subset) in zip(images, names, strict=True):
            name = f"{subset}/{name}" if subset else name
            file, draw = search.image_of(name, f"{path}: {name}"), partial(_draw_label, path, image, classes)
            annotated.append(AnnotatedImage(name, file, draw, image.get("height"), image.get("width")))
        notes = classes.notes + search.notes()
        if without_area := sum(not _has_area(element) for image in images for element in image):
            notes.append(f"{without_area} lines, points, tags, cuboids and skeletons have no area: skipped")
        return Annotations(classes.names, annotated, notes)


def _has_area(element: ElementTree.Element) -> bool:
    is_line = element.tag == "polygon" and element.get("points", ";;").count(";") < 2
    return element.tag not in _WITHOUT_AREA and not is_line


def _xml_file(source: Source) -> Path:
    return source.path / "annotations.xml" if source.path.is_dir() else source.path


def _draw_label(path: Path, image: ElementTree.Element, classes: NamedClasses, size: Size) -> Label:
    """Draw the objects of an image."""

    def where(element: ElementTree.Element) -> str:
        return f"{path}: {element.tag} {element.get('label')!r} of {image.get('name')}"

    def order(element: ElementTree.Element) -> int:
        with naming(where(element)):
            return int(element.get("z_order", 0))

    def drawn(element: ElementTree.Element) -> tuple[int, Mask]:
        with naming(where(element)):
            return classes.id_of(element.get("label", "")), _mask(element, size)

    elements = sorted((element for element in image if element.tag in _WITH_AREA), key=order)
    return paint(size, map(drawn, elements), classes.outside)  # of equal order: as in the file


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
    corner_x, corner_y, width, height = (int(element.attrib[side]) for side in ("left", "top", "width", "height"))
    if not (0 < height <= 2 * size[0] and 0 < width <= 2 * size[1]):
        raise DataError(f"expected a mask within {size[1]}x{size[0]} pixels, got one of {width}x{height}")
    part = fill_runs([int(run) for run in element.attrib["rle"].split(",")], (height, width), by_columns=False)
    return paste_mask(part, size, corner_x, corner_y)
