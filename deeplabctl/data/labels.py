"""Check every label of a split before it is used, and remember what was seen.

What would silently ruin a training is refused with the file and the mend: colours instead of class ids, a palette
label that became grey levels, 0/255 masks (whose 255 would be void), ids out of range, a label of another size than its
image. A file that has not changed since (path, size, time of change) is not opened again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from deeplabctl.atomic import write_text
from deeplabctl.classes import IGNORE_LABEL, voc_grey_levels
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import image_size, read_label
from deeplabctl.errors import DataError, RunError
from deeplabctl.reporting import Advanced, Finished, Reporter, Started

_FORMAT = 1  # of the remembered facts


@dataclass(frozen=True)
class LabelFacts:
    """Hold what a label file contains: its size and the pixels of each value."""

    height: int
    width: int
    pixels: dict[int, int]


def check_labels(dataset: Dataset, samples: Sequence[Sample], report: Reporter) -> list[LabelFacts]:
    """Open the labels of these samples and return what they contain; raises DataError at the first that is wrong.

    The sizes are compared with the images' headers. Facts are kept in the user's cache folder.
    """
    memory = _Memory(dataset.root)
    facts: list[LabelFacts] = []
    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes without holding Python's lock: threads use all cores
    report(Started("checking labels", len(samples), "labels"))
    try:
        for sample, fact in zip(samples, pool.map(memory.facts, samples), strict=True):
            _check(sample, fact, len(dataset.classes))
            facts.append(fact)
            report(Advanced(1))
    finally:
        pool.shutdown(cancel_futures=True)
        report(Finished())
        memory.save()
    return facts


def median_frequency_weights(facts: Sequence[LabelFacts], num_classes: int) -> list[float]:
    """Return (C,) the median of the classes' frequencies over each one's own (arXiv 1411.4734, section 6.3.2).

    A class's frequency is its share of the valid pixels of the images in which it appears; a class that appears in none
    weighs 0.
    """
    pixels, area = np.zeros(num_classes), np.zeros(num_classes)
    for fact in facts:
        valid = sum(count for value, count in fact.pixels.items() if value != IGNORE_LABEL)
        for value, count in fact.pixels.items():
            if value != IGNORE_LABEL:
                pixels[value] += count
                area[value] += valid
    present = pixels > 0
    frequency = pixels[present] / area[present]
    weights = np.zeros(num_classes)
    weights[present] = np.median(frequency) / frequency
    return [float(weight) for weight in weights]


def _check(sample: Sample, fact: LabelFacts, num_classes: int) -> None:
    """Refuse the values that would silently ruin a training."""
    values = set(fact.pixels)
    valid = f"class ids 0 to {num_classes - 1}, or {IGNORE_LABEL} for void"
    if values == {0, IGNORE_LABEL}:
        raise DataError(
            f"label {sample.label}: a 0/255 mask, but 255 means void and would not be trained on: expected {valid}; "
            "write 1 for the object, or take a sample without any object off the list"
        )
    wrong = sorted(value for value in values if value >= num_classes and value != IGNORE_LABEL)
    if not wrong:
        return
    if values <= voc_grey_levels(num_classes):
        raise DataError(
            f"label {sample.label}: a palette's colours turned into grey levels ({_listed(values)}): expected {valid}; "
            "use the palette PNG itself, or write its indices (Pillow reads them in mode 'P')"
        )
    raise DataError(
        f"label {sample.label}: expected {valid}, got {_listed(wrong)}; "
        "mend the label (ids, not grey levels of colours), or name all classes in classes.txt"
    )


def _listed(values: Iterable[int]) -> str:
    ordered = sorted(values)
    return ", ".join(map(str, ordered[:8])) + (", ..." if len(ordered) > 8 else "")


class _Memory:
    """Remember facts of label files by path, size and time of change, in one JSON file for each data set."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        digest = hashlib.sha256(str(self._root).encode()).hexdigest()[:16]
        self._path = user_cache_path("deeplabctl") / "labels" / f"{digest}.json"
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it is made anew
            stored = json.loads(self._path.read_text("utf-8"))
            if stored["format"] == _FORMAT:
                self._known = stored["labels"]

    def facts(self, sample: Sample) -> LabelFacts:
        """Return the facts of a sample's label, reading the files only if either has changed."""
        key = f"{sample.label}|{sample.image}"
        try:
            stamp = [part for path in (sample.label, sample.image) for part in _stamp(path)]
        except OSError as error:
            raise DataError(f"cannot read {sample.label}: {error.strerror}") from None
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            height, width, pairs = known[1:]
            return LabelFacts(height, width, dict(pairs))
        label = read_label(sample.label)
        if label.shape != (size := image_size(sample.image)):
            raise DataError(
                f"label {sample.label}: expected the size of its image {sample.image.name}, {size[1]}x{size[0]}, got "
                f"{label.shape[1]}x{label.shape[0]}; labels must lie on their upright images"
            )
        counts = np.bincount(label.ravel(), minlength=256)
        pixels = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
        self._known[key] = [stamp, *label.shape, list(pixels.items())]
        self._changed = True
        return LabelFacts(*label.shape, pixels)

    def save(self) -> None:
        """Keep the facts for the next start; a cache folder that cannot be written costs time, nothing else."""
        if self._changed:
            with contextlib.suppress(RunError):
                write_text(self._path, json.dumps({"format": _FORMAT, "labels": self._known}))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
