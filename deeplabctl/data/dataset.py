"""Find the samples of a data set in PASCAL VOC layout.

JPEGImages/*.{jpg,jpeg,png}                      images
SegmentationClass/*.png                          labels: class ids, 255 void (VOC's, with void borders)
SegmentationClassAug/*.png                       labels of the augmented training set, where there are any
ImageSets/Segmentation/{train,val,...}.txt       lists: an id a line, or an image and a label path
classes.txt                                      class names, one a line; without it the 21 classes of VOC
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from deeplabctl.classes import VOC_CLASSES, read_classes
from deeplabctl.data.findings import Finding, FoundError
from deeplabctl.errors import DataError

IMAGES = "JPEGImages"
LABELS = "SegmentationClass"
LABELS_AUGMENTED = "SegmentationClassAug"
LISTS = Path("ImageSets", "Segmentation")
CLASS_NAMES = "classes.txt"
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_LONGEST_LIST = 64 << 20  # bytes; a list of 10,582 ids has 130 kB
_MEND_LIST = "mend the list or add the file"


@dataclass(frozen=True)
class Sample:
    """Name an image file and its label file."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Dataset:
    """Hold the root and the class names of a data set; `open_dataset` makes one."""

    root: Path
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return a short name: the folder's own."""
        return self.root.resolve().name

    @property
    def is_voc(self) -> bool:
        """Tell whether the classes are VOC's, so that the papers' test size applies."""
        return self.classes == VOC_CLASSES

    @property
    def splits(self) -> list[str]:
        """Return the names of the list files."""
        return sorted(path.stem for path in (self.root / LISTS).glob("*.txt"))

    @property
    def training_split(self) -> str:
        """Return the split to train on by default: ``train_aug`` where there is one."""
        return "train_aug" if "train_aug" in self.splits else "train"

    def samples(self, split: str) -> list[Sample]:
        """Return the samples of a split in the order of its list.

        Labels come from SegmentationClassAug first for a split whose name begins with "train", and from
        SegmentationClass first for every other. Raises DataError, with file and line, for a split, an image or a label
        that is not there.
        """
        samples = []
        for entry in self.entries(split):
            if isinstance(entry, Finding):
                raise FoundError(entry)
            samples.append(entry)
        return samples

    def entries(self, split: str) -> Iterator[Sample | Finding]:
        """Yield the samples of a split as `samples` does, and what is wrong with its list among them."""
        path = self.list_file(split)
        if not path.is_file():
            close = difflib.get_close_matches(split, self.splits, 1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            have = ", ".join(self.splits) or "none"
            raise DataError(f"{self.root} has no split {split!r}: {guess}expected {path}, the splits there are: {have}")
        folders = [LABELS_AUGMENTED, LABELS] if split.startswith("train") else [LABELS, LABELS_AUGMENTED]
        empty = True
        for number, columns in _entries(path):
            empty = False
            yield columns if isinstance(columns, Finding) else self._sample(columns, folders, path, number)
        if empty:
            yield Finding("list-empty", path, "a sample a line", "an empty list", "write one image id a line")

    def list_file(self, split: str) -> Path:
        """Return the path of a split's list."""
        return self.root / LISTS / f"{split}.txt"

    def _sample(self, entry: list[str], label_folders: list[str], path: Path, number: int) -> Sample | Finding:
        if len(entry) == 2:
            image, label = (self.root / name.lstrip("/") for name in entry)
            for kind, file in (("image", image), ("label", label)):
                if not os.path.isfile(file):  # noqa: PTH113
                    problem = f"the {kind} {file} does not exist"
                    return Finding(f"list-{kind}", path, "a file", "none", _MEND_LIST, line=number, problem=problem)
            return Sample(PurePosixPath(entry[0]).stem, image, label)
        name = entry[0]
        found = self._images.get(name)
        if found is None:
            expected = f"{self.root / IMAGES / name[:80]}.jpg, .jpeg or .png"
            problem = f"no image for {name[:80]!r}"
            return Finding("list-image", path, expected, "none", _MEND_LIST, line=number, problem=problem)
        for folder in label_folders:
            if name in self._labels[folder]:
                return Sample(name, found, self.root / folder / f"{name}.png")
        expected = " or ".join(str(self.root / folder / f"{name}.png") for folder in reversed(label_folders))
        return Finding(
            "list-label",
            path,
            expected,
            self._other_label(name) or "none",
            _MEND_LIST,
            line=number,
            problem=f"no label for {name!r}",
        )

    def _other_label(self, name: str) -> str:
        """Return the label of a name in a format that is not read, as labels in JPEG are."""
        folder = self.root / LABELS
        return next((other for other in _file_names(folder) if os.path.splitext(other)[0] == name), "")  # noqa: PTH122

    @cached_property
    def _images(self) -> dict[str, Path]:
        found = {}
        for name in _file_names(self.root / IMAGES):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of ten thousands of plain names
            if suffix.lower() in _IMAGE_SUFFIXES:
                found[stem] = self.root / IMAGES / name
        return found

    @cached_property
    def _labels(self) -> dict[str, frozenset[str]]:
        return {
            folder: frozenset(name[:-4] for name in _file_names(self.root / folder) if name.endswith(".png"))
            for folder in (LABELS, LABELS_AUGMENTED)
        }


def open_dataset(root: Path) -> Dataset:
    """Open a data set in VOC layout; raises DataError if the folder is not one."""
    if not os.path.exists(root):  # noqa: PTH110 - which, unlike Path's, raises for no name
        raise DataError(f"data set {root}: there is no such folder; name one in VOC layout, or 'shapes'")
    for part in (IMAGES, LISTS):
        if not (root / part).is_dir():
            nested = next((path for path in _nested(root) if (path / part).is_dir()), None)
            mend = f"did you mean {nested}?" if nested else "name the folder that holds it"
            raise DataError(f"data set {root}: expected the folder {part} of VOC's layout in it; {mend}")
    names = root / CLASS_NAMES
    return Dataset(root, read_classes(names) if names.exists() else VOC_CLASSES)


def _nested(root: Path) -> Iterator[Path]:
    """Yield the folders in which people's VOC lies when they name one above it."""
    for inner in ("VOC2012", "VOCdevkit/VOC2012"):
        yield root / inner


def _entries(path: Path) -> Iterator[tuple[int, list[str] | Finding]]:
    """Yield (line number, columns) of a list file: one id, or an image and a label path."""
    expected = "a text file with an image id a line"
    try:
        if path.stat().st_size > _LONGEST_LIST:
            size = f"{path.stat().st_size >> 20} MiB; this is no list"
            raise DataError(f"{path}: expected a list of image ids, got {size}")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        yield 1, Finding("list-text", path, expected, "bytes that are no text", "write the list anew, as UTF-8")
        return
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if len(columns) > 2:
            yield (
                number,
                Finding(
                    "list-line",
                    path,
                    "an image id, or an image and a label path",
                    f"{len(columns)} columns: {line[:80]!r}",
                    "names with spaces must be renamed",
                    line=number,
                ),
            )
        elif columns:
            yield number, columns


def _file_names(folder: Path) -> list[str]:
    """Return the names in a folder, in order; none where there is no such folder."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 - ten times faster than Path objects
