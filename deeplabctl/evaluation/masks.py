"""Score masks of another program, one ``<id>.png`` for each image of a split. No network, no TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL, voc_grey_ids
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.findings import FindingError
from deeplabctl.data.labels import count_values, read_label, read_label_and_palette
from deeplabctl.data.palettes import Palettes
from deeplabctl.errors import DataError
from deeplabctl.evaluation.scores import ImageScores, SplitScores
from deeplabctl.files import find_file
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter, counted, silent, task

_KINDS = {"missing": "missing", "unreadable": "unreadable", "size": "of another size", "range": "out of range"}


@dataclass(frozen=True)
class Fault:
    """Say what is wrong with a mask."""

    id: str
    kind: str  # of `_KINDS`
    text: str


@dataclass(frozen=True)
class MaskScores:
    """Hold the scores of the masks without a fault, and the faults."""

    scores: SplitScores
    faults: list[Fault] = field(default_factory=list)

    def counted(self) -> str:
        """Return the faults in words: "2 missing, 1 of another size"."""
        counts = Counter(fault.kind for fault in self.faults)
        return ", ".join(f"{counts[kind]} {word}" for kind, word in _KINDS.items() if counts[kind])

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and the faults as JSON has them."""
        return {**self.scores.to_dict(), "faults": [asdict(fault) for fault in self.faults]}


def score_masks(
    folder: Path,
    dataset: Dataset,
    samples: Sequence[Sample],
    report: Reporter = silent,
    *,
    has_void: bool = True,
    on_image: Callable[[ImageScores], None] = lambda image: None,
) -> MaskScores:
    """Score ``folder/<id>.png`` against the labels: palette PNGs by index, grey ones by value.

    ``has_void`` tells whether any label has void pixels. Masks that are missing, unreadable, of another size than the
    label or out of range (255 too, where the label is not void) are reported, returned as faults and not scored. Raises
    DataError if there is not one mask, and for palettes that show that their indices are not class ids.
    """
    try:
        if not folder.is_dir():
            got = "a file" if folder.exists() else "nothing"
            raise DataError(f"masks {folder}: expected a folder of masks, got {got}")
        has_masks = any(_mask_of(sample, folder).exists() for sample in samples)
    except OSError as error:
        raise DataError(f"masks {folder}: cannot read this folder: {error.strerror}") from None
    if not has_masks:
        raise DataError(
            f"masks {folder}: expected a mask for each of {counted(len(samples), 'image')}, such as "
            f"{samples[0].id}.png, got none; give the folder that holds them, named after the images"
        )
    settings = {"data": str(dataset.root), "masks": str(folder)}
    result = MaskScores(SplitScores(dataset.classes, settings, has_void=has_void))

    palettes = Palettes(dataset.classes)

    def score(sample: Sample) -> tuple[ImageScores | Fault, dict[int, int], str]:
        path = _mask_of(sample, folder)
        if not path.exists():
            return Fault(sample.id, "missing", f"mask {path}: there is no such file"), {}, ""
        label = read_label(sample.label)
        try:
            mask, palette = read_label_and_palette(path)
        except DataError as error:
            return Fault(sample.id, "unreadable", f"mask {str(error).removeprefix('cannot read ')}"), {}, ""
        fault = _fault(sample, path, label, mask, len(dataset.classes))
        return fault or result.scores.score(sample, label, mask), count_values(mask), palette

    with task(report, "scoring masks", len(samples), "masks") as advance:
        found = map_ahead(score, samples, ahead=4, size=lambda sample: result.scores.nbytes)
        for sample, (scored, values, palette) in zip(samples, found, strict=True):
            palettes.add(_mask_of(sample, folder), values, palette)
            if isinstance(scored, Fault):
                result.faults.append(scored)
                report(Note(scored.text, warning=True))
            else:
                result.scores.add(scored)
                on_image(scored)
            advance()
    if wrong := palettes.finding(len(dataset.classes)):
        raise FindingError(wrong)
    return result


def _mask_of(sample: Sample, folder: Path) -> Path:
    """Return the mask of a sample, or where it should be."""
    return find_file(folder, f"{sample.id}.png") or folder / f"{sample.id}.png"


def _fault(sample: Sample, path: Path, label: Label, mask: Label, num_classes: int) -> Fault | None:
    """Return what forbids scoring a mask."""
    if mask.shape != label.shape:
        (height, width), (rows, columns) = label.shape, mask.shape
        return Fault(
            sample.id, "size",
            f"mask {path}: expected the size of its label, {width}x{height}, got {columns}x{rows}; write masks in the "
            "images' own size",
        )  # fmt: skip
    wrong = (mask >= num_classes) & (label != IGNORE_LABEL)
    if not wrong.any():
        return None
    row, column = (int(index) for index in np.argwhere(wrong)[0])
    grey = set(np.unique(mask).tolist()) <= voc_grey_ids(num_classes).keys()
    fix = "write class ids, not the grey levels of their colours" if grey else "write a class id for every pixel"
    got = f"{mask[row, column]} at row {row}, column {column} ({np.count_nonzero(wrong)} such pixels)"
    return Fault(
        sample.id, "range",
        f"mask {path}: expected class ids 0 to {num_classes - 1} where the label is not void, got {got}; {fix}",
    )  # fmt: skip
