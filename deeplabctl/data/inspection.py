"""Open the files of samples, keep what a check needs to know of them, and find what is wrong in them.

Errors are what would silently spoil a training or stop it later: colours instead of class ids, a palette label that was
turned into grey levels, 0/255 masks (whose 255 would be void), ids out of range, a label of another size than its
image, damaged files. A file that has not changed since the last inspection (path, size, times of change) is not opened
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL, voc_grey_ids
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.findings import (
    IMAGE_ORIENTATION,
    IMAGE_VALUES,
    LABEL_GREY_LEVELS,
    LABEL_ROTATED,
    Finding,
    FindingError,
    join_some,
)
from deeplabctl.data.image_files import open_image, open_regular, orientation, unreadable
from deeplabctl.data.images import WIDE_GREY_MODES, to_rgb
from deeplabctl.data.labels import count_values, read_label_and_palette
from deeplabctl.data.palettes import Palettes, entries_of
from deeplabctl.errors import OutputError
from deeplabctl.files import remove_unfinished, user_cache, write_text
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter, task

_CACHE_FORMAT = 7  # of the JSON file and of what it says; raised when a file would be read in another way


@dataclass(frozen=True)
class ImageFacts:
    """Hold what an image file contains: upright size, EXIF orientation, Pillow's mode, a hash of the bytes.

    ``note`` says what had to be assumed to read it.
    """

    height: int
    width: int
    orientation: int  # 1 to 8, as in EXIF; 1 is upright
    mode: str
    digest: str
    note: str = ""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Return (height, width) before EXIF turns the image."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    @classmethod
    def of(cls, height: Any, width: Any, orientation: Any, mode: Any, digest: Any, note: Any) -> ImageFacts:
        """Read the facts from the cache; raises ValueError or TypeError for a damaged entry."""
        return cls(int(height), int(width), int(orientation), str(mode), str(digest), str(note))


@dataclass(frozen=True)
class LabelFacts:
    """Hold what a label file contains: size, pixels of each value, palette, who lies by whom, a hash of the values."""

    height: int
    width: int
    pixels: dict[int, int]
    palette: str = ""  # as `palette_of` returns it
    neighbours: tuple[tuple[int, int, int, int], ...] = ()  # as `count_neighbours` returns them
    digest: str = ""

    @classmethod
    def of(cls, height: Any, width: Any, pixels: Any, palette: Any, neighbours: Any, digest: Any) -> LabelFacts:
        """Read the facts from the cache; raises ValueError or TypeError for a damaged entry."""
        counts = {int(value): int(count) for value, count in dict.items(pixels)}
        entries_of(palette)  # which raises ValueError
        pairs = tuple((int(one), int(other), int(above), int(left)) for one, other, above, left in neighbours)
        return cls(int(height), int(width), counts, str(palette), pairs, str(digest))


def inspect_image(path: Path) -> ImageFacts:
    """Read an image file completely; raises DataError if it is damaged."""
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise unreadable(path, error) from None
    notes: list[str] = []
    with open_image(path, io.BytesIO(content)) as opened:
        (width, height), mode, turn = opened.size, opened.mode, orientation(opened)  # before a draft changes them
        if opened.format == "JPEG":
            opened.draft("RGB", (max(1, width // 8), max(1, height // 8)))  # all the bytes, fewer pixels
            opened.load()
            height, width = (width, height) if turn >= 5 else (height, width)
        else:
            height, width = to_rgb(opened, str(path), notes.append).shape[:2]
    return ImageFacts(height, width, turn, mode, _digest(content), "; ".join(notes))


def inspect_label(path: Path) -> LabelFacts:
    """Read a label file and count its values; raises DataError as `read_label` does."""
    label, palette = read_label_and_palette(path)
    height, width = label.shape
    return LabelFacts(height, width, count_values(label), palette, count_neighbours(label), _digest(label.tobytes()))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def count_neighbours(label: Label) -> tuple[tuple[int, int, int, int], ...]:
    """Return (class, other class, times the first lies above the second, times it lies left of it).

    Pixels a thirty-second of the shorter side apart are compared, so that void borders are stepped over, at up to
    256 x 256 places or a few more.
    """
    shorter = min(label.shape)
    apart, step = max(1, shorter // 32), max(1, shorter // 256)
    counts = []
    for one, other in ((label[:-apart], label[apart:]), (label[:, :-apart], label[:, apart:])):
        first, second = one[::step, ::step].ravel().astype(np.int64), other[::step, ::step].ravel()
        differ = (first != second) & (first != IGNORE_LABEL) & (second != IGNORE_LABEL)
        counts.append(np.bincount(first[differ] * 256 + second[differ], minlength=256 * 256))
    above, left = counts
    pairs = np.flatnonzero(above + left)
    return tuple((int(pair // 256), int(pair % 256), int(above[pair]), int(left[pair])) for pair in pairs)


@dataclass(frozen=True)
class Inspection:
    """Hold what the two files of a sample contain, None for one that cannot be read, and what is wrong in them."""

    sample: Sample
    label: LabelFacts | None
    image: ImageFacts | None
    findings: tuple[Finding, ...]


def check_samples(dataset: Dataset, samples: Sequence[Sample], report: Reporter) -> list[LabelFacts]:
    """Return what the labels of these samples contain; see `check_files`."""
    return [label for label, _ in check_files(dataset, samples, report)]


def check_files(dataset: Dataset, samples: Sequence[Sample], report: Reporter) -> list[tuple[LabelFacts, ImageFacts]]:
    """Inspect the files of these samples and return what they contain; raises DataError at the first error.

    What had to be assumed of images is reported, a line of a kind.
    """
    facts, palettes = [], Palettes(dataset.classes)
    assumed: dict[str, list[Finding]] = {}
    with contextlib.closing(inspect_samples(dataset, samples, report)) as inspections:
        for inspection in inspections:
            for finding in inspection.findings:
                if finding.severity == "error":
                    raise FindingError(finding)
                if finding.kind in (IMAGE_ORIENTATION, IMAGE_VALUES):
                    assumed.setdefault(finding.kind, []).append(finding)
            assert inspection.label is not None  # a file that cannot be read is an error
            assert inspection.image is not None
            facts.append((inspection.label, inspection.image))
            palettes.add(inspection.sample.label, inspection.label.pixels, inspection.label.palette)
    if wrong := palettes.finding(len(dataset.classes)):
        raise FindingError(wrong)
    for found in assumed.values():
        others = f" (so are {len(found) - 1} others: {join_some([each.file.name for each in found[1:]], 3)})"
        report(Note(f"{found[0].text}{others if len(found) > 1 else ''}", warning=True))
    return facts


def repeated_images(samples: Iterable[Sample]) -> list[str]:
    """Return the names of the images that several samples have: these count more than others."""
    return [image.name for image, count in Counter(sample.image for sample in samples).items() if count > 1]


def same_images(scored: Iterable[tuple[str, str]], trained: Iterable[tuple[str, str]]) -> list[str]:
    """Return "name is name" for each image to score that is also one to train on; of each, the name and the digest."""
    names = {digest: name for name, digest in trained}
    same = [(name, names[digest]) for name, digest in scored if digest in names]
    return [name if name == other else f"{name} is {other}" for name, other in same]


def inspect_samples(
    dataset: Dataset, samples: Sequence[Sample], report: Reporter, *, reuse: bool = True
) -> Generator[Inspection]:
    """Inspect the files of each sample, in order; with ``reuse=False`` unchanged files are opened again as well."""
    cache = InspectionCache(dataset.root, reuse=reuse)

    def inspect(sample: Sample) -> Inspection:
        return _inspect(cache, sample, len(dataset.classes))

    with task(report, "checking images and labels", len(samples), "samples") as advance:
        try:
            for inspection in map_ahead(inspect, samples):
                yield inspection
                advance()
        finally:
            cache.save()


def void_split_finding(dataset: Dataset, split: str) -> Finding:
    """Return the finding of a split without any labelled pixel."""
    fix = "all other label values are class ids; check what wrote 255 everywhere"
    return Finding("split-void", dataset.list_file(split), f"labelled pixels in {split}", "only void (255)", fix)


def absent_classes(
    dataset: Dataset, split: str, facts: Iterable[LabelFacts], others: Iterable[LabelFacts]
) -> Iterator[Finding]:
    """Find classes that no label of the training split has; ``others`` are the labels of other splits."""
    present, elsewhere = ({value for fact in part for value in fact.pixels} for part in (facts, others))
    absent = {index: f"{index} {name}" for index, name in enumerate(dataset.classes) if index not in present}
    if absent:
        fix = "they cannot be learned; check that classes.txt has the names of these labels"
        if scored := [name for index, name in absent.items() if index in elsewhere]:
            fix = (
                f"they cannot be learned, and where labels have them ({join_some(scored)}) they count as 0 in the mIoU"
            )
        expected, got = f"each class in at least one label of {split}", f"no label with {join_some([*absent.values()])}"
        yield Finding("class-absent", dataset.root, expected, got, fix, severity="note")


def _inspect(cache: InspectionCache, sample: Sample, num_classes: int) -> Inspection:
    findings: list[Finding] = []
    label, image = None, None
    try:
        label = cache.recall("label", sample.label, inspect_label, LabelFacts.of)
    except FindingError as error:
        findings.append(error.finding)
    try:
        image = cache.recall("image", sample.image, inspect_image, ImageFacts.of)
    except FindingError as error:
        findings.append(error.finding)
    if label is not None:
        findings += _check_values(sample, label, num_classes)
    if label is not None and image is not None:
        findings += _check_sizes(sample, label, image)
    if image is not None:
        findings += _check_mode(sample, image)
    return Inspection(sample, label, image, tuple(findings))


def _check_values(sample: Sample, label: LabelFacts, num_classes: int) -> Iterator[Finding]:
    """Find label values that are not class ids, or do not mean what they should."""
    file, values = sample.label, set(label.pixels)
    valid = f"class ids 0 to {num_classes - 1}, or {IGNORE_LABEL} for void"
    wrong = sorted(value for value in values if value >= num_classes and value != IGNORE_LABEL)
    if values == {0, IGNORE_LABEL}:
        fix = (
            "write 1 for the object (deeplabctl data convert does), or remove a sample without any object from the list"
        )
        problem = "a 0/255 mask, but 255 means void and would not be trained on"
        yield Finding("label-binary", file, valid, "only 0 and 255", fix, problem=problem)
    elif wrong and values <= voc_grey_ids(num_classes).keys():
        fix = "use the palette PNG itself, or write its indices (Pillow reads them in mode 'P')"
        problem = f"a palette's colours turned into grey levels ({_join_values(values)})"
        yield Finding(LABEL_GREY_LEVELS, file, valid, _join_values(wrong), fix, problem=problem)
    elif wrong:
        fix = "correct the label (ids, not grey levels of colours), or name all classes in classes.txt"
        yield Finding("label-range", file, valid, _join_values(wrong), fix)


def _check_mode(sample: Sample, image: ImageFacts) -> Iterator[Finding]:
    """Find images that are converted when they are read."""
    if image.mode in ("RGBA", "LA", "PA", "CMYK", *WIDE_GREY_MODES):
        fix = "transparent parts become white" if image.mode.endswith("A") else "it is converted to 8-bit RGB"
        yield Finding("image-mode", sample.image, "", f"the image has mode {image.mode}", fix, severity="note")
    if image.note:
        fix = "look at it with deeplabctl data preview, and save it with 8 bits"
        yield Finding(IMAGE_VALUES, sample.image, "", image.note, fix, severity="note")


def _check_sizes(sample: Sample, label: LabelFacts, image: ImageFacts) -> Iterator[Finding]:
    """Find labels that do not fit their images, and those whose sizes cannot tell."""
    size, upright, name = (label.height, label.width), (image.height, image.width), sample.image.name
    got, turn = _format_size(size), f"EXIF orientation {image.orientation}"
    if size != upright and size == image.stored_size:
        expected = f"the size of its upright image {name}, {_format_size(upright)}"
        got = f"{got}, the size before {turn} turns {name}"
        fix = "draw labels on the upright images; deeplabctl data check with `fix` turns it"
        yield Finding(LABEL_ROTATED, sample.label, expected, got, fix)
    elif size != upright:
        expected = f"the size of its image {name}, {_format_size(upright)}"
        fix = "draw labels on the upright images, at their size"
        yield Finding("label-size", sample.label, expected, got, fix)
    elif image.orientation > 1 and upright == image.stored_size:
        got = f"{turn}, and the sizes do not show whether the label was drawn upright"
        fix = "look at it with deeplabctl data preview: the label must fit the image"
        yield Finding(IMAGE_ORIENTATION, sample.image, "an upright image", got, fix, severity="note")


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _join_values(values: Iterable[int]) -> str:
    return join_some([str(value) for value in sorted(values)])


def _stamp(path: Path) -> list[int]:
    """Return what changes with a file: size and times; that of its content alone may be an archive's, for all files."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


Facts = TypeVar("Facts", LabelFacts, ImageFacts)


class InspectionCache:
    """Keep facts of files by path, size and times of change, in one JSON file per data set in the user's cache folder.

    With ``reuse=False`` every file is opened again, and the facts of before are replaced.
    """

    def __init__(self, root: Path, *, reuse: bool = True) -> None:
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        folder = user_cache()
        self.path = folder / "labels" / f"{digest}.json" if folder else None
        self._known: dict[str, str] = {}  # JSON of [size and time, facts], a tenth of the memory of lists
        self._changed = False
        if reuse and self.path:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: start empty
                stored = json.loads(self.path.read_text("utf-8"))
                if stored["format"] == _CACHE_FORMAT and isinstance(stored["files"], dict):
                    self._known = stored["files"]

    def save(self) -> None:
        """Write the facts for the next time; a cache folder that cannot be written only costs time."""
        if self._changed and self.path:
            with contextlib.suppress(OutputError):
                remove_unfinished([self.path])
                write_text(self.path, json.dumps({"format": _CACHE_FORMAT, "files": self._known}))

    def recall(self, kind: str, path: Path, inspect: Callable[[Path], Facts], parse: Callable[..., Facts]) -> Facts:
        """Return the facts of a file, reading it only if it has changed; raises DataError if it cannot be read."""
        key = f"{kind} {path}"
        try:
            stamp = _stamp(path)
        except OSError as error:
            raise unreadable(path, error) from None
        if key in self._known:
            with contextlib.suppress(ValueError, TypeError, OverflowError):  # damaged: read the file again
                then, stored = json.loads(self._known[key])
                if then == stamp:
                    return parse(*stored)
        facts = inspect(path)
        self._known[key] = json.dumps([stamp, astuple(facts)])
        self._changed = True
        return facts
