"""Write a copy of a data set in which everything is fixed that needs no guessing."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import PIL.Image

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL, Color, voc_grey_ids, voc_palette
from deeplabctl.data.check import Verdict
from deeplabctl.data.dataset import Dataset
from deeplabctl.data.findings import LABEL_COLORS, LABEL_GREY_LEVELS, LABEL_ROTATED, LIST_FORMAT, Finding
from deeplabctl.data.image_files import open_image, unreadable
from deeplabctl.data.inspection import inspect_image
from deeplabctl.data.labels import check_transparency, color_ids, decode_colors, read_label, turn_upright
from deeplabctl.data.layout import CLASS_NAMES, IMAGES, LABELS, LABELS_AUGMENTED, LISTS, new_dataset
from deeplabctl.data.palettes import palette_colors
from deeplabctl.errors import DataError, OutputError
from deeplabctl.files import file_names
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Reporter, task

_LABEL_FIXES = {
    LABEL_COLORS: "colours of the palette turned into class ids",
    LABEL_GREY_LEVELS: "grey levels of VOC's colours turned into class ids",
    LABEL_ROTATED: "turned upright like its image",
}


def write_fixed_copy(
    dataset: Dataset, verdict: Verdict, out: Path, report: Reporter, *, overwrite: bool
) -> list[tuple[Path, str]]:
    """Copy a data set to ``out``, fix in the copy what needs no guessing; returns each file of it and what was done.

    Labels in the colours of the set's own palette PNGs, of its classes or of VOC become class ids, and so do grey
    copies of VOC's colours if each level belongs to one class. Labels that were drawn before EXIF turned their images
    are turned. Lists are written with plain lines. Raises OutputError if ``out`` must not be written.
    """
    source = dataset.root.resolve()
    if source in out.resolve().parents or out.resolve() == source:
        raise OutputError(f"{out}: expected a folder outside the data set {dataset.root}; choose another one")
    files = _dataset_files(dataset, verdict)
    fixed = []
    images = {sample.label: sample.image for part in verdict.samples.values() for sample in part}
    with new_dataset(out, overwrite=overwrite) as root:
        with task(report, "copying", len(files), "files") as advance:
            for _ in map_ahead(lambda name: _copy(dataset.root / name, root / name), files):
                advance()
        in_colors = any(finding.kind == LABEL_COLORS for finding in verdict.findings)
        colors = _palette_ids(dataset, verdict) if in_colors else {}
        for finding in {(each.file, each.kind): each for each in verdict.findings}.values():  # each once
            what = _fix_list(finding, root, dataset) or _fix_label(finding, root, dataset, images, colors)
            if what:
                fixed.append((finding.file.relative_to(dataset.root), what))
    return fixed


def _dataset_files(dataset: Dataset, verdict: Verdict) -> list[Path]:
    """Return the files of a data set, relative to its root: those in VOC's folders, and all that the lists name."""
    folders = [dataset.root / folder for folder in (IMAGES, LABELS, LABELS_AUGMENTED, LISTS)]
    found = {folder / name for folder in folders for name in file_names(folder)}
    found |= {path for part in verdict.samples.values() for sample in part for path in (sample.image, sample.label)}
    if (dataset.root / CLASS_NAMES).is_file():
        found.add(dataset.root / CLASS_NAMES)
    names = sorted(path.relative_to(dataset.root) for path in found)
    if outside := next((name for name in names if ".." in name.parts), None):
        raise DataError(f"expected all files in {dataset.root}, got {dataset.root / outside}; copy it there first")
    return names


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:  # a link to nothing
        raise unreadable(source, error) from None


def _fix_list(finding: Finding, root: Path, dataset: Dataset) -> str:
    """Write a list of the copy with plain lines; returns what was done, or nothing."""
    if finding.kind != LIST_FORMAT:
        return ""
    path = root / finding.file.relative_to(dataset.root)
    lines = [line.split() for line in path.read_bytes().decode("utf-8-sig").splitlines()]
    plain = (" ".join(column.lstrip("/") for column in line) for line in lines if line)
    path.write_text("".join(f"{line}\n" for line in plain), "utf-8")
    return f"written as plain lines (before: {finding.got})"


def _fix_label(
    finding: Finding, root: Path, dataset: Dataset, images: dict[Path, Path], colors: dict[Color, int]
) -> str:
    """Write a label of the copy again with class ids, or upright as its image; returns what was done, or nothing."""
    if finding.kind not in _LABEL_FIXES:
        return ""
    path = root / finding.file.relative_to(dataset.root)
    label: Label | None
    palette = voc_palette().copy()  # and that of the other labels, if they share one
    for color, index in colors.items():
        palette[index] = color
    if finding.kind == LABEL_COLORS:
        label = _ids_of_colors(path, colors)
    elif finding.kind == LABEL_GREY_LEVELS:
        label = _ids_of_grey_levels(path, len(dataset.classes))
    else:
        label = turn_upright(read_label(path), inspect_image(images[finding.file]).orientation)
        with open_image(path) as opened:
            palette = np.array(palette_colors(opened), np.uint8)
    if label is None:
        return ""
    mask = PIL.Image.fromarray(label)
    if palette.size:
        mask.putpalette(palette.tobytes())
    mask.save(path)
    return _LABEL_FIXES[finding.kind]


def _ids_of_colors(path: Path, colors: dict[Color, int]) -> Label | None:
    """Return the class ids of a mask in these colours, or None if it has any other colour."""
    with open_image(path) as opened:
        try:
            check_transparency(opened, path)
        except DataError:
            return None
        label, known = decode_colors(np.asarray(opened.convert("RGB")), colors)
    return label if known.all() else None


def _palette_ids(dataset: Dataset, verdict: Verdict) -> dict[Color, int]:
    """Return the class id of each colour in the palette that all palette PNGs of the set share, else of `color_ids`."""
    ids = [*range(len(dataset.classes)), IGNORE_LABEL]
    palettes: set[tuple[Color, ...]] = set()
    for path in {sample.label for part in verdict.samples.values() for sample in part}:
        with contextlib.suppress(DataError), open_image(path) as opened:
            if found := palette_colors(opened):
                palettes.add(tuple([*found, *[(0, 0, 0)] * 256][index] for index in ids))
    colors = palettes.pop() if len(palettes) == 1 else ()
    shared = dict(zip(colors, ids, strict=bool(colors)))
    return shared if len(shared) == len(ids) else color_ids(dataset.classes)


def _ids_of_grey_levels(path: Path, num_classes: int) -> Label | None:
    """Return the class ids of a grey copy of VOC's colours, or None if two classes share a grey level."""
    levels = voc_grey_ids(num_classes)
    if any(len(ids) > 1 for ids in levels.values()):
        return None
    table = np.zeros(256, np.uint8)
    table[list(levels)] = [min(ids) for ids in levels.values()]
    return table[read_label(path)]
