"""Open the files of samples and find what is wrong in them.

Errors are what would silently spoil a training or stop it later: colours instead of class ids, a palette label that was
turned into grey levels, 0/255 masks (whose 255 would be void), ids out of range, a label of another size than its
image, damaged files. A file that has not changed since the last inspection (path, size, time of change) is not opened
again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from deeplabctl.classes import IGNORE_LABEL, voc_grey_levels
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.file_facts import ImageFacts, LabelFacts
from deeplabctl.data.findings import Finding, FindingError, join_some
from deeplabctl.data.inspection_cache import InspectionCache
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Reporter, task


@dataclass(frozen=True)
class Inspection:
    """Hold what the two files of a sample contain, None for one that cannot be read, and what is wrong in them."""

    sample: Sample
    label: LabelFacts | None
    image: ImageFacts | None
    findings: tuple[Finding, ...]


def check_samples(dataset: Dataset, samples: Sequence[Sample], report: Reporter) -> list[LabelFacts]:
    """Inspect the files of these samples and return what the labels contain; raises DataError at the first error."""
    facts = []
    with contextlib.closing(inspect_samples(dataset, samples, report)) as inspections:
        for inspection in inspections:
            for finding in inspection.findings:
                if finding.severity == "error":
                    raise FindingError(finding)
            assert inspection.label is not None  # a label that cannot be read is an error
            facts.append(inspection.label)
    return facts


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


def _inspect(cache: InspectionCache, sample: Sample, num_classes: int) -> Inspection:
    findings: list[Finding] = []
    label, image = None, None
    try:
        label = cache.label_facts(sample.label)
    except FindingError as error:
        findings.append(error.finding)
    try:
        image = cache.image_facts(sample.image)
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
        yield Finding(
            "label-binary",
            file,
            valid,
            "only 0 and 255",
            "write 1 for the object (deeplabctl data convert does), or remove a sample without any object from the "
            "list",
            problem="a 0/255 mask, but 255 means void and would not be trained on",
        )
    elif wrong and values <= voc_grey_levels(num_classes):
        yield Finding(
            "label-grey-levels",
            file,
            valid,
            _join_values(wrong),
            "use the palette PNG itself, or write its indices (Pillow reads them in mode 'P')",
            problem=f"a palette's colours turned into grey levels ({_join_values(values)})",
        )
    elif wrong:
        fix = "correct the label (ids, not grey levels of colours), or name all classes in classes.txt"
        yield Finding("label-range", file, valid, _join_values(wrong), fix)


def _check_mode(sample: Sample, image: ImageFacts) -> Iterator[Finding]:
    """Find images that are converted when they are read."""
    if image.mode in ("RGBA", "LA", "PA", "CMYK", "I;16", "I", "F"):
        effect = "transparent parts become white" if image.mode.endswith("A") else "it is converted to 8-bit RGB"
        fix = f"nothing to do if that is intended: {effect}"
        yield Finding("image-mode", sample.image, "8-bit RGB or grey", f"mode {image.mode}", fix, severity="note")


def _check_sizes(sample: Sample, label: LabelFacts, image: ImageFacts) -> Iterator[Finding]:
    """Find labels that do not fit their images, and those of which the sizes do not show it."""
    size, expected = (label.height, label.width), (image.height, image.width)
    if size != expected and size == image.stored_size:
        yield Finding(
            "label-rotated",
            sample.label,
            f"the size of its upright image {sample.image.name}, {_format_size(expected)}",
            f"{_format_size(size)}, the size before EXIF orientation {image.orientation} turns {sample.image.name}",
            "draw labels on the upright images; deeplabctl data check with `fix` turns it",
        )
    elif size != expected:
        yield Finding(
            "label-size",
            sample.label,
            f"the size of its image {sample.image.name}, {_format_size(expected)}",
            _format_size(size),
            "draw labels on the upright images, at their size",
        )
    elif image.orientation > 1 and expected == image.stored_size:
        yield Finding(
            "image-orientation",
            sample.image,
            "an upright image",
            f"EXIF orientation {image.orientation}, and the sizes do not show whether the label was drawn upright",
            "look at it with deeplabctl data preview: the label must fit the image",
            severity="note",
        )


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _join_values(values: Iterable[int]) -> str:
    return join_some([str(value) for value in sorted(values)])
