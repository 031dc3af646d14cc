"""Check a whole data set: every list, image and label, and that the splits fit together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Dataset, Sample, lacks_label
from deeplabctl.data.findings import LIST_FORMAT, Finding, join_some
from deeplabctl.data.inspection import (
    LabelFacts,
    absent_classes,
    inspect_samples,
    repeated_images,
    void_split_finding,
)
from deeplabctl.data.layout import IMAGES, LABELS, LABELS_AUGMENTED, SET_SUFFIXES, SPLITS
from deeplabctl.data.palettes import Palettes
from deeplabctl.data.stats import LARGEST_AS_IT_IS, WORKING_SIDE, max_side_for
from deeplabctl.errors import DataError
from deeplabctl.files import file_names
from deeplabctl.reporting import Reporter, counted


@dataclass
class Verdict:
    """Hold what a check has opened and found; errors come before notes."""

    splits: dict[str, int]  # number of samples whose files exist
    findings: list[Finding]
    files: int  # images and labels that were opened
    samples: dict[str, list[Sample]] = field(repr=False)  # of each split

    @property
    def errors(self) -> int:
        """Return the number of errors: findings that stop a training or silently spoil it."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def notes(self) -> int:
        """Return the number of notes: findings that are worth knowing."""
        return len(self.findings) - self.errors


def check_dataset(dataset: Dataset, report: Reporter) -> Verdict:
    """Open every file that the lists name and return everything that is wrong or unusual.

    Images and labels are read to their last byte, also those that were inspected before. The facts are remembered, so
    that a training need not open the files again. Raises DataError only if there is nothing to check.
    """
    findings: list[Finding] = []
    samples: dict[str, list[Sample]] = {}
    for split in dataset.splits:
        entries = list(dataset.entries(split))
        wrong = [entry for entry in entries if isinstance(entry, Finding)]
        findings += _without_labels(dataset, split, entries) or wrong
        samples[split] = [entry for entry in entries if isinstance(entry, Sample)]
        if samples[split]:
            findings += _check_list(dataset.list_file(split), split, samples[split])
    if not samples:
        raise DataError(f"{dataset.root}: expected lists in ImageSets/Segmentation (train.txt, val.txt), got none")
    findings += _missing_splits(dataset)
    distinct = list({(sample.image, sample.label): sample for part in samples.values() for sample in part}.values())
    void: set[Path] = set()  # labels without any class
    digests: dict[Path, str] = {}  # of images
    palettes = Palettes(dataset.classes)
    trained = {(sample.image, sample.label) for sample in samples.get(dataset.training_split, [])}
    facts: list[LabelFacts] = []  # of the labels to train on
    others: list[LabelFacts] = []
    for inspection in inspect_samples(dataset, distinct, report, reuse=False):
        findings += inspection.findings
        sample = inspection.sample
        if inspection.label is not None:
            (facts if (sample.image, sample.label) in trained else others).append(inspection.label)
            palettes.add(sample.label, inspection.label.pixels, inspection.label.palette)
            if set(inspection.label.pixels) == {IGNORE_LABEL}:
                void.add(sample.label)
        if inspection.image is not None:
            digests[sample.image] = inspection.image.digest
    findings += [mixed] if (mixed := palettes.finding(len(dataset.classes))) else []
    findings += _void_splits(dataset, samples, void)
    findings += absent_classes(dataset, dataset.training_split if facts else "any split", facts or others, others)
    findings += _shared_by_splits(samples, digests)
    findings += _large_images(dataset, facts)
    findings += _unlisted_files(dataset, samples)
    findings = list(dict.fromkeys(findings))  # an unreadable image may have two labels
    findings.sort(key=lambda finding: finding.severity != "error")  # stable
    files = {path for sample in distinct for path in (sample.image, sample.label)}
    return Verdict({split: len(part) for split, part in samples.items()}, findings, len(files), samples)


def _without_labels(dataset: Dataset, split: str, entries: list[Sample | Finding]) -> list[Finding]:
    """Return a note on a split whose images have no labels, as those of a test set are given; else nothing."""
    is_used = split in (dataset.training_split, "val")
    if is_used or not all(map(lacks_label, entries)):
        return []
    got = f"none of the {counted(len(entries), 'image')} of {split} has a label"
    fix = "they can be segmented, but not scored, and were not checked"
    return [Finding("split-unlabelled", dataset.list_file(split), "", got, fix, severity="note")]


def _check_list(path: Path, split: str, samples: list[Sample]) -> Iterator[Finding]:
    """Find what is unusual in a list that can be read."""
    if format_notes := _list_format(path.read_bytes()):
        fix = "it can be read; deeplabctl data check with `fix` writes plain lines"
        yield Finding(LIST_FORMAT, path, "", ", ".join(format_notes), fix, severity="note")
    if repeated := repeated_images(samples):
        got = f"{join_some(repeated)} more than once"
        fix = "remove the repeated lines, or these images count more than others"
        yield Finding("list-twice", path, f"each image of {split} once", got, fix, severity="note")


def _list_format(content: bytes) -> list[str]:
    """Name what is unusual in the format of a list: line ends, a byte order mark, leading slashes."""
    found = []
    if b"\r" in content:
        found.append("Windows line ends")
    if content.startswith(b"\xef\xbb\xbf"):
        found.append("a byte order mark")
    if any(column.startswith(b"/") for column in content.split()):
        found.append("leading slashes")
    if content and not content.endswith((b"\n", b"\r")):
        found.append("no line end after the last line")
    return found


def _missing_splits(dataset: Dataset) -> Iterator[Finding]:
    for split in (dataset.training_split, "val"):
        if split not in dataset.splits:
            got = f"only {', '.join(f'{name}.txt' for name in dataset.splits)}"
            key = "data.val_split" if split == "val" else "data.split"
            fix = f"write it, or let trainings use another list: --set {key}=NAME"
            yield Finding("split-missing", dataset.list_file(split), "this list", got, fix, severity="note")


def _void_splits(dataset: Dataset, samples: dict[str, list[Sample]], void: set[Path]) -> Iterator[Finding]:
    for split, part in samples.items():
        if part and all(sample.label in void for sample in part):
            yield void_split_finding(dataset, split)


def _shared_by_splits(samples: dict[str, list[Sample]], digests: dict[Path, str]) -> Iterator[Finding]:
    """Find images that are both trained on and scored, or scored in two splits, by their content."""
    first: dict[str, tuple[str, Sample]] = {}
    for kind in SPLITS:
        group = [split for split in samples if split.startswith(kind) and not split.startswith("trainval")]
        readable = [(split, sample) for split in group for sample in samples[split] if sample.image in digests]
        for split, sample in readable:
            earlier, other = first.get(digests[sample.image], (split, sample))
            if not earlier.startswith(kind):
                expected = f"an image of {split} that is not in {earlier}"
                got = f"the content of {other.image.name} of {earlier}"
                fix = "remove it from one of the two lists, or the scores include images that were trained on"
                yield Finding("split-overlap", sample.image, expected, got, fix, severity="note")
        for split, sample in readable:
            first.setdefault(digests[sample.image], (split, sample))


def _large_images(dataset: Dataset, facts: list[LabelFacts]) -> Iterator[Finding]:
    """Find images that a network of this data set will see at a smaller size."""
    sides = [max(fact.height, fact.width) for fact in facts]
    longest = round(median(sides)) if sides else 0
    if longest > LARGEST_AS_IT_IS:
        larger = sum(side > LARGEST_AS_IT_IS for side in sides)
        images = f"{larger:,} of {counted(len(sides), 'image')} to train on"
        got = f"{images} have more than {LARGEST_AS_IT_IS:,} pixels a side, mostly {longest:,}"
        side = max_side_for(facts)
        size = f"a size of {side:,} pixels (data.max_side)" if side else "their own size"
        why = "" if side == WORKING_SIDE else ", as the smallest objects need it"
        fix = f"the recipe own computes them at {size}{why}, and masks have the images' own size"
        yield Finding("image-large", dataset.root / IMAGES, "", got, fix, severity="note")


def _unlisted_files(dataset: Dataset, samples: dict[str, list[Sample]]) -> Iterator[Finding]:
    """Find images and labels that are in no list."""
    stems = {path.stem for part in samples.values() for sample in part for path in (sample.image, sample.label)}
    for folder, suffixes in ((IMAGES, SET_SUFFIXES), (LABELS, (".png",)), (LABELS_AUGMENTED, (".png",))):
        path = dataset.root / folder
        if not path.is_dir():
            continue
        files = [path / name for name in file_names(path) if name.lower().endswith(suffixes)]
        unlisted = [file.name for file in files if file.stem not in stems]
        if unlisted:
            got = f"{len(unlisted):,} of {counted(len(files), 'file')} in no list: {join_some(unlisted, 3)}"
            fix = "they are not used; to use them, add their names without suffix to a list"
            yield Finding("unlisted", path, "", got, fix, severity="note")
