"""Image files of masks: read colours, grey levels or class ids, and black-and-white masks of one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Size
from deeplabctl.classes import IGNORE_LABEL, Color, read_palette
from deeplabctl.data.formats.annotations import (
    BACKGROUND,
    AnnotatedImage,
    Annotations,
    ImportSettings,
    Source,
    images_in,
)
from deeplabctl.data.images import decode_colors, open_image, voc_color_ids
from deeplabctl.data.layout import LABELS
from deeplabctl.errors import DataError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter, task

_MOST_COLORS = 1024  # a mask with more is a photograph, or was saved as JPEG
_IMAGE_FOLDERS = ("JPEGImages", "images", "imgs", "Images")  # where images are looked for beside a folder of masks


class Masks:
    """Read a folder of masks that are named after their images, with ``mask_suffix`` after the name.

    The values of all masks show what they mean, unless the format says so; what can be meant in two ways is refused. A
    palette gives names and colours; with only ``classes``, masks in colours are in VOC's. Colours without a class are
    an error, or become void if the settings say so.
    """

    content = "a folder of masks"

    def recognises(self, source: Source) -> bool:
        """Tell whether it is a folder."""
        return source.path.is_dir()

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read a folder or its SegmentationClass, with the palette of CVAT's labelmap.txt if there is one."""
        if not source.path.is_dir():
            raise DataError(f"{source}: expected {self.content}, got a file, or none; choose the folder")
        folder = source.path / LABELS if (source.path / LABELS).is_dir() else source.path
        labelmap = source.path / "labelmap.txt"
        if settings.palette is None and labelmap.is_file() and settings.format in ("auto", "colors"):
            report(Note(f"palette: {labelmap}"))
            settings = replace(settings, palette=read_palette(labelmap))
        suffix = settings.mask_suffix
        masks = {name.removesuffix(suffix): path for name, path in images_in(folder).items() if name.endswith(suffix)}
        images = _find_images(folder, settings)
        pairs = [(name, images[name], path) for name, path in masks.items() if name in images and images[name] != path]
        if not pairs:
            raise DataError(_no_pairs(folder, settings.images, masks, images))
        by_color = settings.palette is not None or settings.format == "colors"
        values: Counter[Color] = Counter()
        first_mask: dict[Color, Path] = {}  # in which a value appears
        modes: set[str] = set()
        paths = [path for _, _, path in pairs]
        with task(report, "reading the values of masks", len(paths), "masks") as advance:
            for path, (mode, counts) in zip(paths, map_ahead(partial(_count_values, by_color), paths), strict=True):
                modes.add(mode)
                values.update(counts)
                first_mask |= {value: path for value in counts if value not in first_mask}
                advance()
        meaning = _meaning(folder, set(values), modes, settings)
        classes, ids = _class_ids(folder, meaning, set(values), settings)
        unknown = {value: count for value, count in values.items() if value not in ids}
        notes = [f"{len(masks) - len(pairs)} masks have no image: skipped"] if len(masks) > len(pairs) else []
        if unknown:
            message = _describe_unknown(unknown, first_mask, sum(values.values()), meaning)
            if settings.unknown == "error":
                raise DataError(message)
            notes.append(message)
        drawn = ((name, image, partial(_draw_label, path, ids, by_color)) for name, image, path in pairs)
        return Annotations(classes, [AnnotatedImage(*each) for each in drawn], notes)


def _draw_label(path: Path, ids: Mapping[Color, int], by_color: bool, size: Size) -> Label:
    return decode_colors(_read_mask(path, by_color)[1], ids).label


def _read_mask(path: Path, by_color: bool) -> tuple[str, Image]:
    """Return "P", "L" or "RGB", and (H, W, 3) uint8: the colours, or the grey level or palette index three times."""
    with open_image(path) as opened:
        opened.load()
        grey = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
        if not grey and (by_color or opened.mode != "P"):
            return "RGB", np.asarray(opened.convert("RGB"))
        values = np.asarray(opened.convert("L") if opened.mode in ("1", "LA") else opened)
        if values.max(initial=0) > 255 or values.min(initial=0) < 0:
            raise DataError(f"{path}: expected grey levels up to 255, got {values.max()}; save masks with 8 bits")
        return "L" if grey else "P", np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _count_values(by_color: bool, path: Path) -> tuple[str, dict[Color, int]]:
    """Return the mode of a mask as `_read_mask` does, and the number of pixels of each value."""
    mode, mask = _read_mask(path, by_color)
    found = PIL.Image.fromarray(mask).getcolors(_MOST_COLORS)
    if found is None:
        raise DataError(
            f"{path}: expected a mask with one colour per class, got more than {_MOST_COLORS:,} colours; a JPEG's "
            "compression does that: use the PNG that it was made from"
        )
    return mode, {(color[0], color[1], color[2]): count for count, color in found if isinstance(color, tuple)}


def _meaning(folder: Path, values: set[Color], modes: set[str], settings: ImportSettings) -> str:
    """Return what the values mean, "colors", "ids" or "binary"; raises DataError if that would be a guess."""
    if settings.format != "auto":
        return settings.format
    if settings.palette is not None:
        return "colors"
    classes = settings.classes
    if values == {(0, 0, 0), (255, 255, 255)} and "P" not in modes and (classes is None or len(classes) == 2):
        return "binary"
    if classes is None:
        some = ", ".join(_format_value(value) for value in sorted(values)[:12]) + (", ..." if len(values) > 12 else "")
        raise DataError(
            f"{folder}: cannot tell what the {len(values)} values of the masks mean ({some}); use `palette` for a file "
            "with one name and value per line, or `classes` if they are class ids or VOC's colours"
        )
    return "colors" if "RGB" in modes else "ids"


def _class_ids(
    folder: Path, meaning: str, values: set[Color], settings: ImportSettings
) -> tuple[tuple[str, ...], dict[Color, int]]:
    """Return the class names and the class id of each value."""
    classes, palette = settings.classes, settings.palette
    if meaning == "binary":
        names = classes or (BACKGROUND, "object")
        if len(names) != 2:
            raise DataError(f"{folder}: expected 2 classes for black-and-white masks, got {len(names)}")
        highest = max(values)[0]
        half = (highest + 1) // 2  # 0 and 1 mean the same as 0 and 255, and soft borders are cut in the middle
        return names, {(level, level, level): int(level >= half and level > 0) for level in range(256)}
    if meaning == "ids":
        if classes is None:
            raise DataError(f"{folder}: expected the class names of the ids, got none; use `classes` to name them")
        return classes, {(index, index, index): index for index in [*range(len(classes)), IGNORE_LABEL]}
    if palette is not None:
        if classes is not None and classes != palette.names:
            raise DataError(f"{folder}: expected class names from `palette` only, got others; remove `classes`")
        return palette.names, palette.ids()
    if classes is None:
        raise DataError(
            f"{folder}: expected a palette for masks in colours, got none; use `palette`, or `classes` for VOC colours"
        )
    return classes, voc_color_ids(len(classes))


def _describe_unknown(unknown: dict[Color, int], first_mask: dict[Color, Path], total: int, meaning: str) -> str:
    """Name the most frequent values without a class, with their shares of all pixels."""
    most = sorted(unknown, key=lambda value: -unknown[value])
    some = ", ".join(f"{_format_value(value)} ({unknown[value] / total:.2%})" for value in most[:6])
    fix = "use `palette` to name them, or `unknown=void`"
    expected = "class ids of the given classes" if meaning == "ids" else "values of the palette"
    return f"{first_mask[most[0]]}: expected {expected}, got {len(unknown)} others in all masks: {some}; {fix}"


def _format_value(value: Color) -> str:
    """Return a value as a palette file has it: a grey level, or a colour."""
    return str(value[0]) if len(set(value)) == 1 else " ".join(map(str, value))


def _find_images(folder: Path, settings: ImportSettings) -> dict[str, Path]:
    """Return the images by their names: from their own folder, one beside the masks, or from among the masks."""
    if settings.images is not None:
        return images_in(settings.images)
    for parent in (folder, folder.parent):
        for name in _IMAGE_FOLDERS:
            if (parent / name).is_dir() and (parent / name) != folder:
                return images_in(parent / name)
    suffix = settings.mask_suffix
    return {name: path for name, path in images_in(folder).items() if not (suffix and name.endswith(suffix))}


def _no_pairs(folder: Path, images_folder: Path | None, masks: dict[str, Path], images: dict[str, Path]) -> str:
    """Say why no mask has an image, with a guess at the suffix of masks."""
    expected = f"{folder}: expected masks that are named after their images"
    if not masks:
        return f"{expected}, got no image file in this folder"
    pairs = (
        (mask, name)
        for mask in sorted(masks)[:100]
        for name in sorted(images)
        if mask.startswith(name) and mask != name
    )
    if pair := next(pairs, None):
        mask, name = pair
        got = f"{masks[mask].name} and {images[name].name}, for example"
        return f"{expected}, got {got}; use `mask_suffix={mask.removeprefix(name)}`"
    if set(images) <= set(masks):
        return (
            f"{expected}, got no images in {images_folder or ', '.join(_IMAGE_FOLDERS)}; use `images` to name a folder"
        )
    return f"{expected}, got {masks[min(masks)].name} and {images[min(images)].name}, for example; rename them"
