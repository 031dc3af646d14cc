"""Write a mended copy of a data set: what is safe to mend, and everything else as it is."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabctl.classes import IGNORE_LABEL, voc_grey_ids
from deeplabctl.data.check import Verdict
from deeplabctl.data.dataset import CLASS_NAMES, IMAGES, LABELS, LABELS_AUGMENTED, LISTS, Dataset
from deeplabctl.data.findings import Finding
from deeplabctl.data.images import inspect_image, mask_picture, read_label, upright
from deeplabctl.data.layout import whole_folder
from deeplabctl.data.mask_colors import Colour, ids_of_colours, voc_colour_ids
from deeplabctl.errors import DataError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Advanced, Finished, Reporter, Started

Label = npt.NDArray[np.uint8]

_LABEL_MENDS = {
    "label-colours": "the palette's colours became class ids",
    "label-grey-levels": "the grey levels of VOC's colours became class ids",
    "label-rotated": "turned upright, as its image is shown",
}


@dataclass(frozen=True)
class Mended:
    """Name a file of the copy and what was done to it."""

    file: Path  # relative to the data set
    what: str


def write_mended(dataset: Dataset, verdict: Verdict, out: Path, report: Reporter, *, overwrite: bool) -> list[Mended]:
    """Copy a data set to ``out`` and mend what can be mended without a guess; the source is never touched.

    Labels in VOC's colours or in those of the set's own palette PNGs, and grey copies of VOC's where each level has one
    class, become class ids; labels that were drawn before EXIF turned their images are turned; lists are written
    plainly. Returns what was mended.
    """
    source = dataset.root.resolve()
    if source in out.resolve().parents or out.resolve() == source:
        raise DataError(f"--fix {out}: expected a folder outside of the data set {dataset.root}; name another one")
    files = _files(dataset, verdict)
    mended: list[Mended] = []
    with whole_folder(out, overwrite=overwrite) as root:
        report(Started("copying", len(files), "files"))
        for _ in map_ahead(lambda name: _copy(dataset.root / name, root / name), files):
            report(Advanced(1))
        report(Finished())
        coloured = any(finding.kind == "label-colours" for finding in verdict.findings)
        palette = _palette(dataset, verdict) if coloured else {}
        for finding in verdict.findings:
            what = _mend_list(finding, root, dataset) or _mend_label(finding, root, dataset, verdict, palette)
            if what:
                mended.append(Mended(finding.file.relative_to(dataset.root), what))
    return mended


def _files(dataset: Dataset, verdict: Verdict) -> list[Path]:
    """Return the files of a data set, relative to its root: those of VOC's folders, and all that the lists name."""
    folders = [dataset.root / folder for folder in (IMAGES, LABELS, LABELS_AUGMENTED, LISTS)]
    found = {path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()}
    found |= {path for part in verdict.samples.values() for sample in part for path in (sample.image, sample.label)}
    if (dataset.root / CLASS_NAMES).is_file():
        found.add(dataset.root / CLASS_NAMES)
    names = sorted(path.relative_to(dataset.root) for path in found)
    if outside := next((name for name in names if ".." in name.parts), None):
        raise DataError(f"{dataset.root / outside}: expected files inside of {dataset.root} only; copy it there first")
    return names


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _mend_list(finding: Finding, root: Path, dataset: Dataset) -> str:
    if finding.kind != "list-format":
        return ""
    path = root / finding.file.relative_to(dataset.root)
    lines = [line.split() for line in path.read_bytes().decode("utf-8-sig").splitlines()]
    plain = (" ".join(column.lstrip("/") for column in line) for line in lines if line)
    path.write_text("".join(f"{line}\n" for line in plain), "utf-8")
    return f"written without {finding.got}"


def _mend_label(finding: Finding, root: Path, dataset: Dataset, verdict: Verdict, palette: dict[Colour, int]) -> str:
    num_classes = len(dataset.classes)
    if finding.kind not in _LABEL_MENDS:
        return ""
    path = root / finding.file.relative_to(dataset.root)
    label: Label | None
    if finding.kind == "label-colours":
        label = _ids_of_colours(path, palette)
    elif finding.kind == "label-grey-levels":
        label = _ids_of_grey_levels(path, num_classes)
    else:
        samples = (sample for part in verdict.samples.values() for sample in part)
        image = next(sample.image for sample in samples if sample.label == finding.file)
        label = upright(read_label(path), inspect_image(image).orientation)
    if label is None:
        return ""
    mask_picture(label).save(path)
    return _LABEL_MENDS[finding.kind]


def _ids_of_colours(path: Path, palette: dict[Colour, int]) -> Label | None:
    """Return the class ids of a mask in colours of the palette; None if any other colour is in it."""
    with Image.open(path) as image:
        found = ids_of_colours(np.asarray(image.convert("RGB")), palette)
    return None if found.unknown else found.label


def _palette(dataset: Dataset, verdict: Verdict) -> dict[Colour, int]:
    """Return the class ids behind the colours of the set's palette PNGs, if they agree; else behind VOC's."""
    ids = [*range(len(dataset.classes)), IGNORE_LABEL]
    palettes: set[tuple[Colour, ...]] = set()
    for path in {sample.label for part in verdict.samples.values() for sample in part}:
        with contextlib.suppress(OSError), Image.open(path) as image:
            if image.mode == "P":
                values = [*(image.getpalette("RGB") or []), *[0] * 768]
                palettes.add(tuple((values[3 * i], values[3 * i + 1], values[3 * i + 2]) for i in ids))
    colors = palettes.pop() if len(palettes) == 1 else ()
    own = dict(zip(colors, ids, strict=bool(colors)))
    return own if len(own) == len(ids) else voc_colour_ids(len(dataset.classes))


def _ids_of_grey_levels(path: Path, num_classes: int) -> Label | None:
    levels = voc_grey_ids(num_classes)
    if levels is None:
        return None
    table = np.zeros(256, np.uint8)
    table[list(levels)] = list(levels.values())
    return table[read_label(path)]
