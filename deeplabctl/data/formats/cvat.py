"""CVAT's own XML, "CVAT for images 1.1": read polygons, boxes, ellipses and masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from deeplabctl.arrays import Mask, Size
from deeplabctl.data.formats.annotations import Annotations, ImportSettings, Outlines, Region
from deeplabctl.data.formats.documents import Source, naming
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
        labels = [label for label in root.iter("label") if label.find("parent") is None]  # not the parts of skeletons
        named = [label.findtext("name", "") for label in labels if label.findtext("type") not in _WITHOUT_AREA]
        outlines = Outlines(settings)
        search = outlines.search_beside(path)
        names = [(image.get("name", ""), image.get("subset", "")) for image in images]
        in_subsets = any(search.find(f"{subset}/{name}") for name, subset in names if subset)
        if not in_subsets and any(search.has(name) for name, _ in names):
            names = [(name, "") for name, _ in names]  # of a task: its images lie in one folder
        for element, (name, subset) in zip(images, names, strict=True):
            name = f"{subset}/{name}" if subset else name
            file = search.image_of(name, f"{path}: {name}")
            with outlines.image(name, file, element.get("height"), element.get("width")) as image:
                shapes = [shape for shape in element if _has_area(shape)]
                outlines.without_area += len(element) - len(shapes)
                for shape in sorted(shapes, key=partial(_order, path, name)):  # of equal order: as in the file
                    label = shape.get("label", "")
                    image.regions.append(Region(label, _where(path, name, shape), partial(_mask, shape)))
        return outlines.annotations(path, [*filter(None, named)] or None)


def _where(path: Path, name: str, shape: ElementTree.Element) -> str:
    return f"{path}: {shape.tag} {shape.get('label')!r} of {name}"


def _order(path: Path, name: str, shape: ElementTree.Element) -> int:
    with naming(_where(path, name, shape)):
        return int(shape.get("z_order", 0))


def _has_area(shape: ElementTree.Element) -> bool:
    is_line = shape.tag == "polygon" and shape.get("points", ";;").count(";") < 2
    return shape.tag in _WITH_AREA and not is_line


def _xml_file(source: Source) -> Path:
    return source.path / "annotations.xml" if source.path.is_dir() else source.path


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
