"""CVAT's own XML, "CVAT for images 1.1": read polygons, boxes, ellipses and masks, and write labels as masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

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
    first_object,
)
from deeplabctl.data.formats.documents import Source, common_folder, head_of, naming, path_from, whole_number, xml_text
from deeplabctl.data.formats.image_search import ImageSearch
from deeplabctl.data.formats.outlines import (
    bounding_box,
    box_corners,
    fill_ellipse,
    fill_polygon,
    fill_runs,
    paste_mask,
    run_lengths,
)
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_WITH_AREA = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "tag", "cuboid", "skeleton")


class Cvat(AnnotationFormat):
    """Read an annotations.xml. Objects lie on top of one another by their z_order; classes are as in CVAT's task."""

    content = "CVAT's XML"

    def recognises(self, source: Source) -> bool:
        """Tell whether it is an XML file, or a folder with CVAT's."""
        return any(path.suffix.lower() == ".xml" for path in _xml_files(source))

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read the XML file."""
        paths = _xml_files(source)
        if len(paths) != 1:
            got = join_some([path.name for path in paths]) or "none"
            raise DataError(f"{source}: expected one XML file of CVAT's, got {got}; choose the file itself")
        (path,) = paths
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: other encodings
            raise DataError(f"cannot read {path}: expected CVAT's XML ({error}); export it again") from None
        images = root.findall("image")
        if root.tag != "annotations" or root.find("track") is not None or not images:
            got = "tracks of a video" if root.find("track") is not None else f"<{root.tag}> without images"
            raise DataError(f'{path}: expected CVAT\'s <image>s, got {got}; export the task as "CVAT for images 1.1"')
        labels = [label for label in root.iter("label") if label.find("parent") is None]  # not the parts of skeletons
        named = [label.findtext("name", "") for label in labels if label.findtext("type") not in _WITHOUT_AREA]
        outlines = Outlines(settings)
        search = outlines.search_beside(path)
        names = [(_file_name(image.get("name", ""), search), image.get("subset", "")) for image in images]
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


def _file_name(name: str, search: ImageSearch) -> str:
    """Return the name of an image's file: CVAT names frames of videos "frame_000000", and saves "frame_000000.PNG"."""
    return name if PurePosixPath(name).suffix or search.find(name) else f"{name}.PNG"


def _where(path: Path, name: str, shape: ElementTree.Element) -> str:
    return f"{path}: {shape.tag} {shape.get('label')!r} of {name}"


def _order(path: Path, name: str, shape: ElementTree.Element) -> int:
    with naming(_where(path, name, shape)):
        return whole_number(shape.get("z_order", 0))


def _has_area(shape: ElementTree.Element) -> bool:
    is_line = shape.tag == "polygon" and shape.get("points", ";;").count(";") < 2
    return shape.tag in _WITH_AREA and not is_line


def _xml_files(source: Source) -> list[Path]:
    """Return the file, or that of CVAT's name in a folder, or else those in it that begin as CVAT's do."""
    if not source.path.is_dir():
        return [source.path]
    path = source.path / "annotations.xml"
    files = [each for each in source.path.iterdir() if each.suffix.lower() == ".xml" and each.is_file()]
    found = [each for each in files if b"<annotations" in head_of(each)[:200]]
    return [path] if path.is_file() else sorted(found)


def _mask(element: ElementTree.Element, size: Size) -> Mask:
    rotation = float(element.get("rotation", 0))
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in element.attrib["points"].split(";")]
        return fill_polygon(size, [(float(x), float(y)) for x, y in pairs])
    if element.tag == "box":
        x0, y0, x1, y1 = (float(element.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        return fill_polygon(size, box_corners(x0, y0, x1, y1, rotation))
    if element.tag == "ellipse":
        x, y, across, down = (float(element.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        return fill_ellipse(size, (x, y), (across, down), rotation)
    left, top, width, height = (whole_number(element.attrib[side]) for side in ("left", "top", "width", "height"))
    if not (0 < height <= 2 * size[0] and 0 < width <= 2 * size[1]):
        raise DataError(f"expected a mask within {size[1]}x{size[0]} pixels, got one of {width}x{height}")
    runs = [whole_number(run) for run in element.attrib["rle"].split(",")]
    return paste_mask(fill_runs(runs, (height, width), by_columns=False), size, left, top)


def cvat_shapes(label: Label, classes: Sequence[str]) -> list[dict[str, str]]:
    """Return the attributes of a mask for each class in a label (H, W) uint8, without void and the background."""
    shapes = []
    for index in drawn_classes(label, classes):
        rows, columns = bounding_box(label == index)
        part = label[rows, columns] == index
        height, width = part.shape
        place = {"left": columns.start, "top": rows.start, "width": width, "height": height, "z_order": 0}
        runs = ", ".join(map(str, run_lengths(part.T)))  # by rows
        shapes.append({"label": classes[index], "rle": runs} | {key: str(value) for key, value in place.items()})
    return shapes


@contextmanager
def cvat_file(
    path: Path, classes: Sequence[str], images: Sequence[Path]
) -> Iterator[Callable[[Path, Size, list[dict[str, str]]], None]]:
    """Yield what writes an image with its masks, for a task with these labels whose images are in one folder."""
    root, numbers = common_folder(images), count()
    labels = ElementTree.Element("labels")
    for name, color in [*zip(classes, class_colors(classes).tolist(), strict=False)][first_object(classes) :]:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "color").text = hex_color(color)
    with path.open("w", encoding="utf-8") as file:

        def add(image: Path, size: Size, shapes: list[dict[str, str]]) -> None:
            named = {"id": str(next(numbers)), "name": path_from(root, image)}
            element = ElementTree.Element("image", named | {"width": str(size[1]), "height": str(size[0])})
            for shape in shapes:
                ElementTree.SubElement(element, "mask", {"source": "auto", "occluded": "0"} | shape)
            file.write(xml_text(ElementTree.tostring(element, "unicode")) + "\n")

        head = f"<version>1.1</version>\n<meta><task>{xml_text(ElementTree.tostring(labels, 'unicode'))}</task></meta>"
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{head}\n')
        yield add
        file.write("</annotations>\n")
