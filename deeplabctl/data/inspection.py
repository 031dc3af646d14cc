"""Check every sample of a split before it is used, and remember what was seen.

What would silently ruin a training, or stop it later, is a finding with the file and the mend: colours instead of class
ids, a palette label that became grey levels, 0/255 masks (whose 255 would be void), ids out of range, a label of
another size than its image, files cut off. A file that has not changed since (path, size, time of change) is not opened
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from platformdirs import user_cache_path

from deeplabctl.classes import IGNORE_LABEL, voc_grey_levels
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.findings import Finding, FoundError, listed
from deeplabctl.data.images import ImageFacts, inspect_image, read_label
from deeplabctl.errors import DataError, OutputError
from deeplabctl.files import write_text
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Advanced, Finished, Reporter, Started

_FORMAT = 3  # of the remembered facts


@dataclass(frozen=True)
class LabelFacts:
    """Hold what a label file contains: its size and the pixels of each value."""

    height: int
    width: int
    pixels: dict[int, int]


@dataclass(frozen=True)
class Inspection:
    """Hold what was seen in the two files of a sample, None for one that cannot be read, and what is wrong there."""

    sample: Sample
    label: LabelFacts | None
    image: ImageFacts | None
    findings: tuple[Finding, ...]


def check_labels(dataset: Dataset, samples: Sequence[Sample], report: Reporter) -> list[LabelFacts]:
    """Open the files of these samples and return what the labels contain; raises DataError at the first that is wrong.

    Facts are kept in the user's cache folder.
    """
    facts = []
    with contextlib.closing(inspect_samples(dataset, samples, report)) as inspections:
        for inspection in inspections:
            for finding in inspection.findings:
                if finding.ruinous:
                    raise FoundError(finding)
            assert inspection.label is not None  # else there were a finding
            facts.append(inspection.label)
    return facts


def inspect_samples(
    dataset: Dataset, samples: Sequence[Sample], report: Reporter, *, afresh: bool = False
) -> Generator[Inspection]:
    """Open the files of each sample, in order; ``afresh`` opens those too that have not changed since the last time."""
    memory = _Memory(dataset.root, afresh=afresh)
    report(Started("checking images and labels", len(samples), "samples"))
    try:
        for sample, (label, image, findings) in zip(samples, map_ahead(memory.facts, samples), strict=True):
            if label is not None:
                findings += _judge_values(sample, label, len(dataset.classes))
            if label is not None and image is not None:
                findings += _judge_sizes(sample, label, image)
            if image is not None:
                findings += _judge_mode(sample, image)
            yield Inspection(sample, label, image, tuple(findings))
            report(Advanced(1))
    finally:
        report(Finished())
        memory.save()


def void_alone(dataset: Dataset, split: str) -> Finding:
    """Say that a split has no labelled pixel."""
    mend = "a label's other values are class ids; see what wrote 255 everywhere"
    return Finding("split-void", dataset.list_file(split), f"labelled pixels in {split}", "void (255) alone", mend)


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


def _judge_values(sample: Sample, label: LabelFacts, num_classes: int) -> Iterator[Finding]:
    """Find values that would silently ruin a training."""
    file, values = sample.label, set(label.pixels)
    valid = f"class ids 0 to {num_classes - 1}, or {IGNORE_LABEL} for void"
    wrong = sorted(value for value in values if value >= num_classes and value != IGNORE_LABEL)
    if values == {0, IGNORE_LABEL}:
        yield Finding(
            "label-binary",
            file,
            valid,
            "0 and 255 alone",
            "write 1 for the object (data convert does), or take a sample without any object off the list",
            problem="a 0/255 mask, but 255 means void and would not be trained on",
        )
    elif wrong and values <= voc_grey_levels(num_classes):
        yield Finding(
            "label-grey-levels",
            file,
            valid,
            _values(wrong),
            "use the palette PNG itself, or write its indices (Pillow reads them in mode 'P')",
            problem=f"a palette's colours turned into grey levels ({_values(values)})",
        )
    elif wrong:
        mend = "mend the label (ids, not grey levels of colours), or name all classes in classes.txt"
        yield Finding("label-range", file, valid, _values(wrong), mend)


def _judge_mode(sample: Sample, image: ImageFacts) -> Iterator[Finding]:
    if image.mode in ("RGBA", "LA", "PA", "CMYK", "I;16", "I", "F"):
        what = "transparent parts count as white" if image.mode.endswith("A") else "it is converted to 8-bit RGB"
        mend = f"nothing, if that is right: {what}"
        yield Finding("image-mode", sample.image, "RGB or grey of 8 bits", f"mode {image.mode}", mend, ruinous=False)


def _judge_sizes(sample: Sample, label: LabelFacts, image: ImageFacts) -> Iterator[Finding]:
    """Find labels that do not lie on their images, and those of which the sizes do not tell."""
    size, expected = (label.height, label.width), (image.height, image.width)
    turns = f"the EXIF orientation {image.orientation} turns {sample.image.name}"
    if size != expected and size == image.stored_size:
        yield Finding(
            "label-rotated",
            sample.label,
            f"the size of its upright image {sample.image.name}, {_size(expected)}",
            f"{_size(size)}, the size before {turns}",
            "labels must lie on their upright images: data check --fix turns it",
        )
    elif size != expected:
        yield Finding(
            "label-size",
            sample.label,
            f"the size of its image {sample.image.name}, {_size(expected)}",
            _size(size),
            "labels must lie on their upright images",
        )
    elif image.orientation > 1 and expected == image.stored_size:
        yield Finding(
            "image-orientation",
            sample.image,
            "an upright image",
            f"EXIF orientation {image.orientation}, at which the sizes do not tell whether the label was drawn upright",
            "look at it with data preview, where it must lie on the picture",
            ruinous=False,
        )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _values(values: Iterable[int]) -> str:
    return listed([str(value) for value in sorted(values)])


class _Memory:
    """Remember facts of files by path, size and time of change, in one JSON file for each data set."""

    def __init__(self, root: Path, *, afresh: bool = False) -> None:
        self._root = root.resolve()
        digest = hashlib.sha256(str(self._root).encode()).hexdigest()[:16]
        self._path = user_cache_path("deeplabctl") / "labels" / f"{digest}.json"
        self._known: dict[str, str] = {}  # JSON of [stamp, facts], which takes a tenth of the memory of lists
        self._changed = False
        if afresh:
            return
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it is made anew
            stored = json.loads(self._path.read_text("utf-8"))
            if stored["format"] == _FORMAT:
                self._known = stored["files"]

    def facts(self, sample: Sample) -> tuple[LabelFacts | None, ImageFacts | None, list[Finding]]:
        """Return the facts of a sample's files, reading one only if it has changed, and what could not be read."""
        findings: list[Finding] = []
        label, image = None, None
        try:
            height, width, pairs = self._of(f"label {sample.label}", sample.label)
            label = LabelFacts(height, width, dict(pairs))
        except FoundError as error:
            findings.append(error.finding)
        try:
            image = ImageFacts(*self._of(f"image {sample.image}", sample.image))
        except FoundError as error:
            findings.append(error.finding)
        return label, image, findings

    def _of(self, key: str, path: Path) -> list[Any]:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        stamp = [status.st_size, status.st_mtime_ns]
        if key in self._known:
            with contextlib.suppress(ValueError, TypeError):  # damaged: it is read anew
                then, known = json.loads(self._known[key])
                if then == stamp:
                    return list(known)
        if key.startswith("label "):
            label = read_label(path)
            counts = Image.fromarray(label).histogram()
            facts = [*label.shape, [(value, count) for value, count in enumerate(counts) if count]]
        else:
            image = inspect_image(path)
            facts = [image.height, image.width, image.orientation, image.mode, image.digest]
        self._known[key] = json.dumps([stamp, facts])
        self._changed = True
        return facts

    def save(self) -> None:
        """Keep the facts for the next start; a cache folder that cannot be written costs time, nothing else."""
        if self._changed:
            with contextlib.suppress(OutputError):
                write_text(self._path, json.dumps({"format": _FORMAT, "files": self._known}))
