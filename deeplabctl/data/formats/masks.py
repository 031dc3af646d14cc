"""Image files of masks: read colours, grey levels or class ids, and black-and-white masks of one object."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Size
from deeplabctl.class_files import read_classes, read_palette
from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES, Color, hex_color, is_void, renamed_classes
from deeplabctl.data.findings import FindingError, join_some
from deeplabctl.data.formats.annotations import (
    BACKGROUND,
    AnnotatedImage,
    AnnotationFormat,
    Annotations,
    ImportSettings,
    is_background,
    similar_names,
)
from deeplabctl.data.formats.documents import Source
from deeplabctl.data.formats.image_search import failing, files_below, not_found
from deeplabctl.data.formats.mask_pairs import pair_masks
from deeplabctl.data.image_files import open_image
from deeplabctl.data.labels import (
    as_8_bits,
    check_label,
    check_transparency,
    color_ids,
    decode_colors,
    is_lossy,
    lossy_label,
    stored_values,
    zero_is_white,
)
from deeplabctl.data.layout import LABELS
from deeplabctl.data.palettes import BLACK_AND_WHITE, Palettes, palette_colors, palette_of
from deeplabctl.errors import DataError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter, counted, task

_MOST_COLORS = 1024  # a mask with more is a photograph, or was saved as JPEG


class Masks(AnnotationFormat):
    """Read a folder of masks that are named after their images, with ``mask_suffix`` after the name.

    The values of all masks show what they mean, unless the format says so; what can be meant in two ways is refused. A
    palette gives names and colours; with only ``classes``, masks in colours are in theirs, or in VOC's. Colours without
    a class are an error, or become what the settings say.
    """

    content, own_settings = "a folder of masks", ("image_suffix", "mask_suffix")
    reads_below = True

    def recognises(self, source: Source) -> bool:
        """Tell whether it is a folder."""
        return source.path.is_dir()

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read a folder or its SegmentationClass, with the palette of CVAT's labelmap.txt if there is one."""
        if not source.path.is_dir():
            raise DataError(f"{source}: expected {self.content}, got a file; choose the folder")
        folder = source.path / LABELS if (source.path / LABELS).is_dir() else source.path
        if folder.name == "SegmentationObject":
            raise DataError(f"{folder}: expected class ids, got VOC's numbers of objects; choose {LABELS} beside it")
        if settings.palette and settings.format in ("ids", "binary"):
            raise DataError(f"`palette` has no effect with `format={settings.format}`; use `classes` for the names")
        settings = _with_files_beside(source.path, settings, report)
        found = pair_masks(folder, settings)
        greys = {color[0] for color in settings.palette.ids() if len(set(color)) == 1} if settings.palette else set()
        reading = "colors" if settings.palette else settings.format
        read = partial(_read_mask, reading=reading, greys=frozenset(greys))
        palettes = Palettes(settings.classes or VOC_CLASSES)
        values = _read_values([path for *_, path in found.pairs], read, palettes, report)
        if values.lossy and settings.format != "binary":
            lossy = lossy_label(values.lossy[0])
            raise FindingError(replace(lossy, fix=f"{lossy.fix}, or use `format=binary` if it is black and white"))
        meaning = _meaning(folder, values.by_kind, settings)
        classes, ids = _class_ids(folder, meaning, set(values.counts), settings)
        if meaning == "ids" and (wrong := palettes.finding(len(classes))):
            raise FindingError(wrong)
        classes, ids, notes = _renamed(folder, classes, ids, settings.rename)
        notes = [*found.notes, *notes]
        if settings.format == "binary" and (between := _between(values.counts)):
            notes.append(f"{between}: thresholded in the middle")
        if unknown := {value: count for value, count in values.counts.items() if value not in ids}:
            if meaning == "colors" and settings.format == "auto" and settings.palette is None:
                _check_one_kind(folder, values, unknown)
            message = _describe_unknown(unknown, values, meaning, ids)
            background = next((index for index, name in enumerate(classes) if is_background(name)), None)
            if settings.unknown == "error" or (settings.unknown == "background" and background is None):
                are_ids = all(len({*value}) == 1 and value[0] < len(classes) for value in unknown)
                use = "`format=ids` if these are class ids" if are_ids else "`palette` to name all values"
                use = "`classes` to name all ids" if meaning == "ids" else use
                raise DataError(f"{message}; use {use}, or `unknown=void`")
            notes.append(f"{message}, which become {settings.unknown}")
            if settings.unknown == "background" and background is not None:
                ids |= dict.fromkeys(unknown, background)
        if meaning == "binary":
            read = partial(_read_mask, reading="binary", greys=frozenset())
        annotated = []
        for name, images, path in found.pairs:
            image: Path | Callable[[], bytes] = images[0]
            if len(images) > 1 or path in values.unreadable:
                image = failing(values.unreadable.get(path) or not_found(images, path))
            height, width = values.sizes.get(path, (None, None))
            draw, split = partial(_draw_label, read, path, ids), found.splits.get(path, "")
            annotated.append(AnnotatedImage(name, image, draw, height, width, split))
        return Annotations(classes, annotated, notes, found.masks)


def _with_files_beside(folder: Path, settings: ImportSettings, report: Reporter) -> ImportSettings:
    """Return the settings with the palette of CVAT's labelmap.txt, and the classes of Roboflow's _classes.csv."""
    labelmap = folder / "labelmap.txt"
    if settings.palette is None and labelmap.is_file() and settings.format in ("auto", "colors"):
        report(Note(f"palette: {labelmap}"))
        settings = replace(settings, palette=read_palette(labelmap))
    if settings.class_names is None and (named := _roboflow_classes(folder)):
        report(Note(f"classes: {named[0]}"))
        settings = replace(settings, classes=named[1], mask_suffix=settings.mask_suffix or "_mask")
        settings = replace(settings, format="ids" if settings.format == "auto" else settings.format)
    return settings


@dataclass
class _Values:
    """Hold what all masks have."""

    counts: Counter[Color] = field(default_factory=Counter)  # pixels of each value
    by_kind: dict[str, set[Color]] = field(default_factory=lambda: defaultdict(set))
    first_mask: dict[Color, Path] = field(default_factory=dict)  # in which a value appears
    unreadable: dict[Path, str] = field(default_factory=dict)  # and why
    sizes: dict[Path, Size] = field(default_factory=dict)
    lossy: list[Path] = field(default_factory=list)


def _read_values(paths: Sequence[Path], read: Callable[[Path], _Mask], palettes: Palettes, report: Reporter) -> _Values:
    """Read all masks; raises DataError if none of them can be."""
    found = _Values()
    with task(report, "reading the values of masks", len(paths), "masks") as advance:
        for path, result in zip(paths, map_ahead(partial(_count_values, read), paths), strict=True):
            if isinstance(result, str):
                found.unreadable[path] = result
            else:
                mask, found.sizes[path], counts = result
                palettes.add(path, [value[0] for value in counts] if mask.palette else (), mask.palette)
                found.by_kind[mask.kind] |= set(counts)
                found.counts.update(counts)
                found.first_mask |= {value: path for value in counts if value not in found.first_mask}
                found.lossy += [path] if mask.is_lossy else []
            advance()
    if not found.counts:
        raise DataError(next(iter(found.unreadable.values())))
    return found


def _check_one_kind(folder: Path, values: _Values, unknown: Mapping[Color, int]) -> None:
    """Raise DataError if values without a class are the class ids of some masks among others in colours."""
    if numbers := set().union(*(found for kind, found in values.by_kind.items() if kind != "RGB")) & unknown.keys():
        number, color = min(numbers), max(values.by_kind["RGB"])
        raise DataError(
            f"{folder}: expected class ids in all masks or colours in all, got {_format_value(number)} in "
            f"{values.first_mask[number].name} and {_format_value(color)} in {values.first_mask[color].name}; convert "
            "them separately"
        )


@dataclass(frozen=True)
class _Mask:
    """Hold (H, W, 3) uint8 of colours or values, what they are, and the palette of indices, for `Palettes`.

    The kinds are "1" (black and white, the values 0 and 1), "P1" (the same, but 0 is white), "L" (grey), "P" (indices)
    and "RGB".
    """

    kind: str
    pixels: Image
    is_lossy: bool
    palette: str = ""


def _draw_label(read: Callable[[Path], _Mask], path: Path, ids: Mapping[Color, int], size: Size) -> Label:
    return decode_colors(read(path).pixels, ids)[0]


def _read_mask(path: Path, *, reading: str, greys: frozenset[int]) -> _Mask:
    """Read a mask; values are as `stored_values` has them, or as they are seen where the palette has other ``greys``.

    In GIFs, whose writers choose the order of indices, only colours count.
    """
    with open_image(path) as opened:
        check_label(opened, path)
        lossy, mode, colors, is_turned = is_lossy(opened), opened.mode, palette_colors(opened), zero_is_white(opened)
        values = stored_values(opened)
        if is_turned and reading == "binary":
            values = np.asarray(opened)
        if opened.has_transparency_data and not (mode in ("1", "L", "P") and reading not in ("colors", "binary")):
            check_transparency(opened, path)
        if mode == "P" and reading == "colors" and len({*colors}) == 1 and values.any():
            got = f"{hex_color(colors[0])} at all indices"
            raise DataError(f"{path}: expected a palette with the colours of the masks, got {got}; save it as PNG")
        if mode == "P" and (reading == "colors" or (reading == "binary" and set(colors) == BLACK_AND_WHITE)):
            mode = "RGB"
        if mode == "P" and opened.format == "GIF":
            shown = np.asarray(opened.convert("RGB"))
            return _Mask("L" if (shown == shown[..., :1]).all() else "RGB", shown, lossy)
        if mode not in ("1", "L", "LA", "P", "F") and not mode.startswith("I"):
            return _Mask("RGB", np.asarray(opened.convert("RGB")), lossy)
        values = values[..., 0] if mode == "LA" else values
        if reading == "colors" and mode in ("1", "L") and not set(np.unique(values).tolist()) <= greys:
            values = np.asarray(opened.convert("L"))
    values = as_8_bits(values, path)
    kind = mode if mode in ("1", "P") else "L"
    if mode == "P" and set(colors) == BLACK_AND_WHITE and values.max() <= 1:
        is_turned, kind = colors[0] != (0, 0, 0), "1"
    kind = "P1" if is_turned else kind
    if reading == "binary" and values.max() <= 1:
        values = values * np.uint8(255)
    pixels = np.repeat(values[..., None], 3, axis=2)
    return _Mask(kind, pixels, lossy, palette_of(opened) if kind == "P" else "")


def _count_values(read: Callable[[Path], _Mask], path: Path) -> tuple[_Mask, Size, dict[Color, int]] | str:
    """Return a mask without its pixels, its size, and how many have each value; or why it cannot be read."""
    try:
        mask = read(path)
    except DataError as error:
        return str(error)
    found = PIL.Image.fromarray(mask.pixels).getcolors(_MOST_COLORS)
    if found is None:
        raise DataError(
            f"{path}: expected a mask with one colour per class, got more than {_MOST_COLORS:,} colours; a JPEG's "
            "compression does that: use the PNG that it was made from"
        )
    counts = {(color[0], color[1], color[2]): count for count, color in found if isinstance(color, tuple)}
    height, width = mask.pixels.shape[:2]
    return replace(mask, pixels=mask.pixels[:0]), (height, width), counts


def _meaning(folder: Path, by_kind: Mapping[str, set[Color]], settings: ImportSettings) -> str:
    """Return what the values mean, "colors", "ids" or "binary"; raises DataError if that would be a guess."""
    if settings.format != "auto":
        return settings.format
    if settings.palette is not None:
        return "colors"
    classes = settings.classes
    values = set().union(*by_kind.values())
    some = ", ".join(_format_value(value) for value in sorted(values)[:12]) + (", ..." if len(values) > 12 else "")
    if "P1" in by_kind:
        raise DataError(
            f"{folder}: cannot tell what masks mean in which 0 is white and 1 is black; use `format=ids` if these are "
            "class ids, or `format=binary` if white is the object"
        )
    others = set().union(*(found for kind, found in by_kind.items() if kind != "1"))
    is_black_and_white = others <= BLACK_AND_WHITE and "P" not in by_kind and len(values) > 1
    if is_black_and_white and (classes is None or len(classes) == 2):
        if classes and "1" in by_kind and (255, 255, 255) in others:
            raise DataError(
                f"{folder}: cannot tell what 255 means in masks of 8 bits beside others of 1 bit; use `format=ids` if "
                f"it is void, or `format=binary` if it is {classes[1]}"
            )
        return "binary"
    if classes is None:
        raise DataError(
            f"{folder}: cannot tell what the {len(values)} values of the masks mean ({some}); use `palette` for a file "
            "with one name and value per line, or `classes` if they are class ids or VOC's colours"
        )
    return "colors" if "RGB" in by_kind else "ids"


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
    return classes, color_ids(classes)


def _renamed(
    folder: Path, classes: tuple[str, ...], ids: Mapping[Color, int], rename: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[Color, int], list[str]]:
    """Return the classes under their new names, the class id of each value then, and what is to be said of both."""
    notes = [f"no class {old!r} to rename to {new!r}" for old, new in rename.items() if old not in classes]
    names, classes = [rename.get(name, name) for name in classes], renamed_classes(classes, rename)
    if len(classes) < 2:
        raise DataError(
            f"{folder}: expected 2 classes or more, got {join_some(classes) or 'none'}; rename fewer of them"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    found = {
        value: index if index == IGNORE_LABEL else numbers.get(names[index], IGNORE_LABEL)
        for value, index in ids.items()
    }
    notes += similar_names(classes)
    for name in filter(is_void, classes):
        new = "ignore" if name == "void" else "void"
        notes.append(
            f"{name!r} is a class to train on, as the masks' classes name it; `rename={name}={new}` makes it void"
        )
    return classes, found, notes


def _describe_unknown(unknown: Mapping[Color, int], values: _Values, meaning: str, known: Iterable[Color]) -> str:
    """Name the most frequent values without a class, with their shares of all pixels; beside colours, as colours."""
    in_colors = meaning == "colors" and any(len(set(color)) > 1 for color in known)
    most = sorted(unknown, key=lambda value: -unknown[value])
    total = sum(values.counts.values())
    texts = [hex_color(value).upper() if in_colors else _format_value(value) for value in most[:6]]
    some = ", ".join(f"{text} ({unknown[value] / total:.2%})" for text, value in zip(texts, most, strict=False))
    expected = "class ids of the given classes" if meaning == "ids" else "values of the palette"
    got = f"{counted(len(unknown), 'other')} in all masks: {some}"
    return f"{values.first_mask[most[0]]}: expected {expected}, got {got}"


def _between(counts: Mapping[Color, int]) -> str:
    """Say how many pixels are neither black nor as white as the whitest, or nothing if none are."""
    highest = max(counts)
    grey = {value[0]: count for value, count in counts.items() if (0, 0, 0) < value < highest}
    share = sum(grey.values()) / sum(counts.values())
    levels = join_some([str(level) for level in sorted(grey)], 4)
    return f"{share:.2%} of the pixels are neither 0 nor {highest[0]} ({levels})" if grey else ""


def _format_value(value: Color) -> str:
    """Return a value as a palette file has it: a grey level, or a colour."""
    return str(value[0]) if len(set(value)) == 1 else " ".join(map(str, value))


def _roboflow_classes(folder: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Return the classes of Roboflow's masks, which end in _mask, and their file; there is one in each folder."""
    paths = [path for path in files_below(folder) if path.name == "_classes.csv"]
    classes = {read_classes(path): path for path in paths}
    if len(classes) > 1:
        one, other = [*classes.values()][:2]
        raise DataError(f"{other}: expected the classes of {one}, got others; convert the folders separately")
    return next(((path, names) for names, path in classes.items()), None)
