"""Check a whole data set: every list, every image and every label, and how the splits stand to one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import CLASS_NAMES, IMAGES, LABELS, LABELS_AUGMENTED, Dataset, Sample
from deeplabctl.data.findings import Finding, listed
from deeplabctl.data.images import IMAGE_SUFFIXES
from deeplabctl.data.inspection import inspect_samples, void_alone
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter


@dataclass
class Verdict:
    """Hold what a check saw and found; the ruinous findings come first."""

    splits: dict[str, int]  # samples that are there
    findings: list[Finding]
    files: int  # images and labels that were opened
    samples: dict[str, list[Sample]] = field(repr=False)  # of each split

    @property
    def ruinous(self) -> int:
        """Count the findings that ruin or stop a training."""
        return sum(finding.ruinous for finding in self.findings)


def check_dataset(dataset: Dataset, report: Reporter) -> Verdict:
    """Open every file that the lists name and return all that is wrong or odd.

    Labels and images are read to their last byte, whatever was seen of them before; what is seen is kept, so that a
    training starts at once. Raises DataError only where there is nothing to check.
    """
    findings: list[Finding] = []
    samples: dict[str, list[Sample]] = {}
    for split in dataset.splits:
        entries = list(dataset.entries(split))
        findings += [entry for entry in entries if isinstance(entry, Finding)]
        samples[split] = [entry for entry in entries if isinstance(entry, Sample)]
        if samples[split]:
            findings += _odd_list(dataset.list_file(split), split, samples[split])
    if not samples:
        raise DataError(f"{dataset.root}: expected lists in ImageSets/Segmentation (train.txt, val.txt), got none")
    findings += _missing_splits(dataset)
    distinct = list({(sample.image, sample.label): sample for part in samples.values() for sample in part}.values())
    present: set[int] = set()  # label values
    void: set[Path] = set()  # labels without any class
    digests: dict[Path, str] = {}  # of images
    for seen in inspect_samples(dataset, distinct, report, afresh=True):
        findings += seen.findings
        if seen.label is not None:
            present |= set(seen.label.pixels)
            if set(seen.label.pixels) == {IGNORE_LABEL}:
                void.add(seen.sample.label)
        if seen.image is not None:
            digests[seen.sample.image] = seen.image.digest
    findings += _void_splits(dataset, samples, void)
    findings += _absent_classes(dataset, present)
    findings += _shared_by_splits(samples, digests)
    findings += _unlisted(dataset, samples)
    findings = list(dict.fromkeys(findings))  # an unreadable image may lie under two labels
    findings.sort(key=lambda finding: not finding.ruinous)  # stable
    files = {path for sample in distinct for path in (sample.image, sample.label)}
    return Verdict({split: len(part) for split, part in samples.items()}, findings, len(files), samples)


def odd_list_text(content: bytes) -> list[str]:
    """Name what is unusual about a list's text, though it reads: line ends, a byte order mark, leading slashes."""
    odd = []
    if b"\r" in content:
        odd.append("Windows line ends")
    if content.startswith(b"\xef\xbb\xbf"):
        odd.append("a byte order mark")
    if any(column.startswith(b"/") for column in content.split()):
        odd.append("leading slashes")
    if content and not content.endswith((b"\n", b"\r")):
        odd.append("no line end after the last line")
    return odd


def _odd_list(path: Path, split: str, samples: list[Sample]) -> Iterator[Finding]:
    if odd := odd_list_text(path.read_bytes()):
        mend = "it reads all the same; data check --fix writes it plainly"
        yield Finding("list-format", path, "plain lines", ", ".join(odd), mend, ruinous=False)
    counts = Counter(sample.image for sample in samples)
    if twice := [image.name for image, count in counts.items() if count > 1]:
        mend = "take the repeated lines out, else these images count more than others"
        yield Finding("list-twice", path, f"each image of {split} once", listed(twice) + " again", mend, ruinous=False)


def _missing_splits(dataset: Dataset) -> Iterator[Finding]:
    for split in (dataset.training_split, "val"):
        if split not in dataset.splits:
            have = f"the splits {', '.join(dataset.splits)} alone"
            mend = f"write the list, or name other splits to train (--set data.split={dataset.splits[0]})"
            yield Finding("split-missing", dataset.list_file(split), f"a list {split}.txt", have, mend, ruinous=False)


def _void_splits(dataset: Dataset, samples: dict[str, list[Sample]], void: set[Path]) -> Iterator[Finding]:
    for split, part in samples.items():
        if part and all(sample.label in void for sample in part):
            yield void_alone(dataset, split)


def _absent_classes(dataset: Dataset, present: set[int]) -> Iterator[Finding]:
    absent = [f"{index} {name}" for index, name in enumerate(dataset.classes) if index not in present]
    if absent:
        names = dataset.root / CLASS_NAMES
        mend = "it cannot be learnt; look whether classes.txt has the names of these labels"
        got = f"none of {listed(absent)}"
        yield Finding("class-absent", names, "each class in some label", got, mend, ruinous=False)


def _shared_by_splits(samples: dict[str, list[Sample]], digests: dict[Path, str]) -> Iterator[Finding]:
    """Find images that are trained on and scored, or scored in two splits, by their content."""
    first: dict[str, tuple[str, Sample]] = {}
    for kind in ("train", "val", "test"):
        group = [split for split in samples if split.startswith(kind) and not split.startswith("trainval")]
        seen = [(split, sample) for split in group for sample in samples[split] if sample.image in digests]
        for split, sample in seen:
            earlier, other = first.get(digests[sample.image], (split, sample))
            if not earlier.startswith(kind):
                yield Finding(
                    "split-overlap",
                    sample.image,
                    f"an image of {split} that is not in {earlier}",
                    f"the content of {other.image.name} of {earlier}",
                    "take it off one of the two lists, else the score counts what was learnt by heart",
                    ruinous=False,
                )
        for split, sample in seen:
            first.setdefault(digests[sample.image], (split, sample))


def _unlisted(dataset: Dataset, samples: dict[str, list[Sample]]) -> Iterator[Finding]:
    """Find pictures and labels that no list names."""
    listed_images = {sample.image for part in samples.values() for sample in part}
    stems = {path.stem for part in samples.values() for sample in part for path in (sample.image, sample.label)}
    for folder, suffixes in ((IMAGES, IMAGE_SUFFIXES), (LABELS, (".png",)), (LABELS_AUGMENTED, (".png",))):
        path = dataset.root / folder
        if not path.is_dir():
            continue
        names = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
        left = [file.name for file in names if file.stem not in stems]
        if left:
            got = f"{len(left):,} of {len(names):,} in none: {listed(left, 3)}"
            mend = "add their ids to a list, or leave them: they are not used"
            yield Finding("unlisted", path, "every file in some list", got, mend, ruinous=False)
        if folder == IMAGES:
            by_stem = Counter(file.stem for file in names if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
            for file in names:
                if by_stem[file.stem] > 1 and file not in listed_images and file.stem in stems:
                    got = f"another of that name, which {file.name} is passed over for"
                    yield Finding("image-twice", file, "one image of a name", got, "remove one of them", ruinous=False)
