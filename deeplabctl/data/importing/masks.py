"""Read masks in colours, masks of grey levels or class ids, and masks of one object in black and white."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabctl.classes import IGNORE_LABEL, Palette
from deeplabctl.data.images import ImageFacts, opened
from deeplabctl.data.importing.annotations import BACKGROUND, Annotated, Annotations, Label, pictures_in
from deeplabctl.data.mask_colors import Colour, ids_of_colours, voc_colour_ids
from deeplabctl.errors import DataError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Advanced, Finished, Reporter, Started

MaskKind = Literal["colors", "ids", "binary"]
_MOST_COLOURS = 1024  # a mask with more is a photograph, or was saved as JPEG
_PICTURES = ("JPEGImages", "images", "imgs", "Images")  # where pictures lie beside a folder of masks


def read_masks(
    folder: Path,
    pictures: Path | None,
    kind: MaskKind | None,
    palette: Palette | None,
    classes: tuple[str, ...] | None,
    suffix: str,
    unknown_void: bool,
    report: Reporter,
) -> Annotations:
    """Read a folder of masks, named after their pictures (with ``suffix`` behind the name).

    ``kind`` says what the values mean; without it that is told from all masks, and what could be meant in two ways is
    refused. A palette gives names and colours; with ``classes`` alone coloured masks are in VOC's colours. Colours that
    are not in the table are an error, or void with ``unknown_void``.
    """
    masks = {name.removesuffix(suffix): path for name, path in pictures_in(folder).items() if name.endswith(suffix)}
    found = _pictures(folder, pictures, suffix)
    pairs = [(name, found[name], path) for name, path in masks.items() if name in found and found[name] != path]
    if not pairs:
        raise DataError(_no_pairs(folder, pictures, masks, found))
    values: Counter[Colour] = Counter()
    where: dict[Colour, Path] = {}
    modes: set[str] = set()
    as_colours = palette is not None or kind == "colors"
    report(Started("reading the masks' values", len(pairs), "masks"))
    paths = [path for _, _, path in pairs]
    for path, (mode, counts) in zip(paths, map_ahead(partial(_values, as_colours), paths), strict=True):
        modes.add(mode)
        values.update(counts)
        where |= {value: path for value in counts if value not in where}
        report(Advanced(1))
    report(Finished())
    kind = kind or _kind(folder, set(values), modes, palette, classes)
    names, table = _table(folder, kind, set(values), palette, classes)
    unknown = {value: count for value, count in values.items() if value not in table}
    notes = [f"{len(masks) - len(pairs)} masks have no picture"] if len(masks) > len(pairs) else []
    if unknown:
        message = _unknown(unknown, where, sum(values.values()), kind)
        if not unknown_void:
            raise DataError(message)
        notes.append(message)
    items = [Annotated(name, picture, partial(_label, path, table, as_colours)) for name, picture, path in pairs]
    return Annotations(names, items, notes)


def _label(path: Path, table: Mapping[Colour, int], as_colours: bool, facts: ImageFacts) -> Label:
    return ids_of_colours(_rgb(path, as_colours)[1], table).label


def _rgb(path: Path, as_colours: bool) -> tuple[str, npt.NDArray[np.uint8]]:
    """Return "P", "L" or "RGB", and (H, W, 3) uint8: the colours, or the grey level or palette index three times."""
    with opened(path) as image:
        image.load()
        grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
        if not grey and (as_colours or image.mode != "P"):
            return "RGB", np.asarray(image.convert("RGB"))
        values = np.asarray(image.convert("L") if image.mode in ("1", "LA") else image)
        if values.max(initial=0) > 255 or values.min(initial=0) < 0:
            raise DataError(f"{path}: expected grey levels up to 255, got {values.max()}; save masks with 8 bits")
        return "L" if grey else "P", np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _values(as_colours: bool, path: Path) -> tuple[str, dict[Colour, int]]:
    """Return the kind of a mask and the pixels of each of its values."""
    mode, rgb = _rgb(path, as_colours)
    found = Image.fromarray(rgb).getcolors(_MOST_COLOURS)
    if found is None:
        raise DataError(
            f"{path}: expected a mask, with a colour a class, got more than {_MOST_COLOURS:,} colours; a JPEG's "
            "compression does that: use the PNG that it was made from"
        )
    return mode, {(color[0], color[1], color[2]): count for count, color in found if isinstance(color, tuple)}


def _kind(
    folder: Path, values: set[Colour], modes: set[str], palette: Palette | None, classes: tuple[str, ...] | None
) -> MaskKind:
    """Tell what the values mean, or refuse to guess."""
    if palette is not None:
        return "colors"
    if values == {(0, 0, 0), (255, 255, 255)} and "P" not in modes and (classes is None or len(classes) == 2):
        return "binary"
    if classes is None:
        some = ", ".join(_name(value) for value in sorted(values)[:12]) + (", ..." if len(values) > 12 else "")
        raise DataError(
            f"{folder}: expected to be told what the masks' values mean, got {len(values)} of them ({some}); give "
            "--palette FILE with a name and a value a line, or --classes if they are class ids or VOC's colours"
        )
    return "colors" if "RGB" in modes else "ids"


def _table(
    folder: Path,
    kind: MaskKind,
    values: set[Colour],
    palette: Palette | None,
    classes: tuple[str, ...] | None,
) -> tuple[tuple[str, ...], dict[Colour, int]]:
    """Return the class names and the class id of each value."""
    if kind == "binary":
        names = classes or (BACKGROUND, "object")
        if len(names) != 2:
            raise DataError(f"{folder}: expected 2 classes for masks in black and white, got {len(names)}")
        top = max(values)[0]
        half = (top + 1) // 2  # a mask of 0 and 1 is one of 0 and 255, and soft borders are cut in the middle
        return names, {(level, level, level): int(level >= half and level > 0) for level in range(256)}
    if kind == "ids":
        if classes is None:
            raise DataError(f"{folder}: expected the class names of the masks' ids; give --classes")
        return classes, {(index, index, index): index for index in [*range(len(classes)), IGNORE_LABEL]}
    if palette is not None:
        if classes is not None and classes != palette.names:
            raise DataError(f"{folder}: --palette names the classes; leave --classes out")
        return palette.names, palette.ids()
    if classes is None:
        raise DataError(
            f"{folder}: expected a palette for masks in colours; give --palette FILE, or --classes for VOC's"
        )
    return classes, voc_colour_ids(len(classes))


def _unknown(unknown: dict[Colour, int], where: dict[Colour, Path], total: int, kind: MaskKind) -> str:
    most = sorted(unknown, key=lambda value: -unknown[value])
    some = ", ".join(f"{_name(value)} ({unknown[value] / total:.2%})" for value in most[:6])
    mend = "give --palette FILE with their names, or --unknown void"
    expected = "class ids of the --classes" if kind == "ids" else "values of the palette"
    return f"{where[most[0]]}: expected {expected}, got {len(unknown)} others in all masks: {some}; {mend}"


def _name(value: Colour) -> str:
    """Return a value as a palette file has it: a grey level, or a colour."""
    return str(value[0]) if len(set(value)) == 1 else " ".join(map(str, value))


def _pictures(folder: Path, pictures: Path | None, suffix: str) -> dict[str, Path]:
    if pictures is not None:
        return pictures_in(pictures)
    for parent in (folder, folder.parent):
        for name in _PICTURES:
            if (parent / name).is_dir() and (parent / name) != folder:
                return pictures_in(parent / name)
    return {name: path for name, path in pictures_in(folder).items() if not (suffix and name.endswith(suffix))}


def _no_pairs(folder: Path, pictures: Path | None, masks: dict[str, Path], found: dict[str, Path]) -> str:
    """Say why no mask has a picture, with a guess at the suffix."""
    expected = f"{folder}: expected masks that are named after their pictures"
    if not masks:
        return f"{expected}, got no picture in this folder"
    begins = (
        (mask, name) for mask in sorted(masks)[:100] for name in sorted(found) if mask.startswith(name) and mask != name
    )
    if pair := next(begins, None):
        mask, name = pair
        guess = f"give --mask-suffix {mask.removeprefix(name)}"
        return f"{expected}, got {masks[mask].name} and {found[name].name}, for example; {guess}"
    if set(found) <= set(masks):
        return f"{expected}, got no pictures in {pictures or ', '.join(_PICTURES)}; give --images FOLDER"
    return f"{expected}, got {masks[min(masks)].name} and {found[min(found)].name}, for example; rename them"
