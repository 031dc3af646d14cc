"""Find data sets in PASCAL VOC's layout, which `layout` describes, and their samples; draw the built-in one once."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TypeVar

from deeplabctl.class_files import read_classes
from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.findings import Finding, FindingError, join_some
from deeplabctl.data.layout import CLASS_NAMES, IMAGES, LABELS, LABELS_AUGMENTED, LISTS, SET_SUFFIXES, VOC_FOLDERS
from deeplabctl.data.shapes import CLASSES, write_shapes
from deeplabctl.errors import DataError, OutputError
from deeplabctl.files import composed, file_names, find_file, user_cache, web_address
from deeplabctl.reporting import Note, Reporter, silent

SHAPES = "shapes"  # the name of the built-in data set
Item = TypeVar("Item")
_SHAPES_VERSION = 1  # raised when the drawn images change
_USUAL_PLACES = (Path("VOCdevkit", "VOC2012"), Path("data", "VOCdevkit", "VOC2012"))
_LONGEST_LIST = 64 << 20  # bytes; a list of 10,582 ids has 130 kB
_ANNOTATIONS = (".json", ".xml", ".yaml", ".yml", ".csv")  # of the programs that `data convert` reads
_VOC_NAME = re.compile(r"20(0[7-9]|1[0-2])_\d{6}\.")  # of an image of VOC 2012, or of SBD
_FIX_LIST = "correct the list or add the file"
_NAMED = "a file"  # what is expected of a path that a list names: `lacks_label` tells ids from paths by it


@dataclass(frozen=True)
class Sample:
    """Name an image file and its label file.

    The id is the image's name without its suffix; where different images of a list share one, all ids of the list are
    paths below the folder that its images have in common, as ``x/1`` and ``y/1``.
    """

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Dataset:
    """Hold the root folder and the class names of a data set; made by `open_dataset`."""

    root: Path
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the name of the root folder."""
        return self.root.resolve().name

    @property
    def is_voc(self) -> bool:
        """Tell whether the classes are VOC's, for which the papers' test size applies."""
        return self.classes == VOC_CLASSES

    @property
    def splits(self) -> list[str]:
        """Return the names of the list files."""
        return [name[:-4] for name in file_names(self.root / LISTS) if name.endswith(".txt")]

    @property
    def training_split(self) -> str:
        """Return the split to train on by default: ``train_aug`` if there is one, else ``train``."""
        return "train_aug" if "train_aug" in self.splits else "train"

    def samples(self, split: str) -> list[Sample]:
        """Return the samples of a split in the order of its list.

        Splits whose names begin with "train" take labels from SegmentationClassAug where it has them, else from
        SegmentationClass; other splits the other way round. Raises DataError, with file and line, for a missing split,
        image or label.
        """
        samples = []
        for entry in self.entries(split):
            if isinstance(entry, Finding):
                raise FindingError(entry)
            samples.append(entry)
        return samples

    def entries(self, split: str) -> Iterator[Sample | Finding]:
        """Yield the samples of a split as `samples` does, and a finding in place of each one that is wrong."""
        path = self.list_file(split)
        if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 - names that are too long
            raise DataError(f"{path}: expected a list, got a link to {path.readlink()}, which is missing; {_FIX_LIST}")
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
            close = difflib.get_close_matches(split, self.splits, 1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            have = ", ".join(self.splits) or "none"
            raise DataError(
                f"{self.root} has no split {split!r}: {guess}expected {path}, got the splits: {have}; write that list "
                "of image ids, or name another split (of a training: data.split, data.val_split)"
            )
        folders = [LABELS_AUGMENTED, LABELS] if split.startswith("train") else [LABELS, LABELS_AUGMENTED]
        found = [
            columns if isinstance(columns, Finding) else self._sample(columns, folders, path, number)
            for number, columns in _entries(path)
        ]
        if not found:
            yield Finding("list-empty", path, "one sample per line", "an empty list", "write one image id per line")
        ids = _distinct_ids({entry.image for entry in found if isinstance(entry, Sample)})
        for entry in found:
            yield replace(entry, id=ids[entry.image]) if isinstance(entry, Sample) else entry

    def list_file(self, split: str) -> Path:
        """Return the path of a split's list."""
        return self.root / LISTS / f"{split}.txt"

    def _sample(self, entry: list[str], label_folders: list[str], path: Path, number: int) -> Sample | Finding:
        if len(entry) == 2:
            files = []
            for kind, text in zip(("image", "label"), entry, strict=True):
                name = text.replace("\\", "/").lstrip("/")
                file = find_file(self.root, name)
                if file is None:
                    problem = f"the {kind} {self.root / name} does not exist"
                    return Finding(f"list-{kind}", path, _NAMED, "none", _FIX_LIST, line=number, problem=problem)
                files.append(file)
            return Sample(files[0].stem, *files)
        name, key = entry[0], composed(entry[0])
        images = _of_kind(self._files[IMAGES].get(key, []), SET_SUFFIXES)
        if not images:
            expected = f"{self.root / IMAGES / name[:80]}.jpg, .jpeg or .png"
            got, problem = self._files[IMAGES].get(key, ["none"])[0], f"no image for {name[:80]!r}"
            return Finding("list-image", path, expected, got, _FIX_LIST, line=number, problem=problem)
        folder, labels = label_folders[0], []
        for folder in label_folders:
            if labels := _of_kind(self._files[folder].get(key, []), (".png",)):
                break
        for kind, found in (("image", images), ("label", labels)):
            if len(found) > 1:
                fix, problem = "keep only the right one", f"several {kind}s for {name[:80]!r}"
                return Finding(f"{kind}-twice", path, "one", join_some(found), fix, line=number, problem=problem)
        if not labels:
            expected = " or ".join(str(self.root / each / f"{name}.png") for each in reversed(label_folders))
            got, problem = self._files[LABELS].get(key, ["none"])[0], f"no label for {name!r}"
            return Finding("list-label", path, expected, got, _FIX_LIST, line=number, problem=problem)
        return Sample(name, self.root / IMAGES / images[0], self.root / folder / labels[0])

    @cached_property
    def _files(self) -> dict[str, dict[str, list[str]]]:
        """Return the names of the files in the folders of images and labels by their ids."""
        found: dict[str, dict[str, list[str]]] = {}
        for folder in (IMAGES, LABELS, LABELS_AUGMENTED):
            by_id = found.setdefault(folder, {})
            for name in file_names(self.root / folder):
                by_id.setdefault(composed(os.path.splitext(name)[0]), []).append(name)  # noqa: PTH122 - faster
        return found


def open_dataset(data: str | Path | None, report: Reporter = silent, *, built_in: bool = True) -> Dataset:
    """Open a data set: a folder in VOC layout, or the built-in one by its name, "shapes".

    None or "" stands for VOC 2012 in one of the usual places, or else, if ``built_in``, the built-in one. Raises
    DataError for a folder that is not a data set.
    """
    if data and data != SHAPES:
        return _open_folder(Path(data), report)
    if data and Path(SHAPES).is_dir():
        report(Note(f"data set: the built-in shapes; the folder of that name is `data=./{SHAPES}`", warning=True))
    if not data:
        for place in _USUAL_PLACES:
            if place.is_dir():
                report(Note(f"data set: {place}"))
                return _open_folder(place, report)
        usual = " or ".join(f"./{place}" for place in _USUAL_PLACES)
        if not built_in:
            raise DataError(
                f"data set: expected VOC 2012 in {usual}, or a data set by name, got neither; give the data set "
                f"(`data=DIR`), or ask for the built-in one (`data={SHAPES}`)"
            )
        report(Note(f"data set: the built-in shapes, as `data` is not given and there is no {usual}"))
    return _built_in_dataset(report)


def name_or_path(dataset: Dataset) -> str:
    """Return what finds a data set again from any folder: "shapes" for the built-in one, else its absolute path."""
    is_ours = user_cache() is not None and dataset.root == _shapes_root()
    return SHAPES if is_ours else str(dataset.root.resolve())


def is_shapes(dataset: Dataset) -> bool:
    """Tell whether a data set is the built-in one or another that `write_shapes` has drawn."""
    return dataset.classes == CLASSES


def _open_folder(root: Path, report: Reporter) -> Dataset:
    if not os.path.exists(root):  # noqa: PTH110 - Path.exists raises for names that are too long
        if address := web_address(root):
            raise DataError(f"data set {address}: expected a folder, got an address; download it, and name the folder")
        raise DataError(
            f"data set {root}: there is no such folder; choose one in VOC layout, 'shapes', or unpack VOC 2012 "
            "with data prepare-voc"
        )
    convert = f"convert annotations with: deeplabctl data convert {shlex.quote(str(root))} --out SET"
    if not root.is_dir():
        fix = convert if root.suffix.lower() in _ANNOTATIONS else "choose the folder of a data set"
        got = "a file" if root.is_file() else "a pipe or a device"
        raise DataError(f"data set {root}: expected a folder in VOC layout, got {got}; {fix}")
    for folder in (root / part for part in ("", IMAGES, LABELS, LABELS_AUGMENTED, LISTS.parent, LISTS)):
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112 - Path.is_dir may raise
            raise DataError(
                f"data set {root}: expected folders that this user may read, got {folder}; change its permissions"
            )
    for part in (IMAGES, LISTS):
        if not (root / part).is_dir():
            nested = (root / inner for inner in VOC_FOLDERS)
            meant = next((path for path in nested if (path / part).is_dir()), None)
            fix = f"did you mean {meant}?" if meant else "choose the folder that contains it"
            if not meant and any(path.suffix.lower() in _ANNOTATIONS for path in root.iterdir()):
                fix = convert
            raise DataError(f"data set {root}: expected the folder {part} of VOC's layout in it, got none; {fix}")
    names = root / CLASS_NAMES
    if os.path.lexists(names):  # also a link to nothing, which is refused
        return Dataset(root, read_classes(names))
    if (root / "labelmap.txt").is_file():
        raise DataError(f"data set {root}: expected {CLASS_NAMES}, got labelmap.txt of CVAT's masks; {convert}")
    images = _of_kind(file_names(root / IMAGES), SET_SUFFIXES)
    if not all(_VOC_NAME.match(name) for name in images):
        report(Note(f"no {CLASS_NAMES} in {root}: using the {len(VOC_CLASSES)} classes of VOC"))
    return Dataset(root, VOC_CLASSES)


def _built_in_dataset(report: Reporter) -> Dataset:
    """Return the built-in data set, drawn once into the user's cache folder."""
    root = _shapes_root()
    if not root.is_dir():
        report(Note(f"drawing the built-in data set into {root} (once)"))
        try:
            write_shapes(root)
        except OutputError:
            if not root.is_dir():  # else another process has drawn it meanwhile
                raise
    return _open_folder(root, report)


def _shapes_root() -> Path:
    folder = user_cache()
    if folder is None:
        raise OutputError(
            "the built-in data set: expected a home folder to draw it in, got none; set $HOME or $XDG_CACHE_HOME, or "
            "write it with deeplabctl data shapes"
        )
    return folder / f"shapes-v{_SHAPES_VERSION}" / SHAPES


def lacks_label(entry: Sample | Finding) -> bool:
    """Tell whether an entry of a list is an id whose image has no label, as in test sets; not a label that is named."""
    return isinstance(entry, Finding) and entry.kind == "list-label" and entry.expected != _NAMED


def spread_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return ``count`` items, or all if there are fewer, spread evenly over their order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _of_kind(names: list[str], suffixes: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.lower().endswith(suffixes)]


def _distinct_ids(images: set[Path]) -> dict[Path, str]:
    """Return an id for each image, different for different images: a name, a path without suffix, or a path."""
    places = {image: PurePath(os.path.abspath(image)) for image in images}  # noqa: PTH100 - which removes ".." as well
    folder = os.path.commonpath([place.parent for place in places.values()]) if places else ""
    names: tuple[Callable[[PurePath], str], ...] = (
        lambda place: place.stem,
        lambda place: place.relative_to(folder).with_suffix("").as_posix(),
        lambda place: place.relative_to(folder).as_posix(),
    )
    ids: dict[PurePath, str] = {}
    for name in names:
        ids = {place: name(place) for place in places.values()}
        if len(set(ids.values())) == len(ids):
            break
    return {image: ids[place] for image, place in places.items()}


def _entries(path: Path) -> Iterator[tuple[int, list[str] | Finding]]:
    """Yield (line number, columns) of a list file: one id, or an image and a label path."""
    expected = "a text file with one image id per line"
    try:
        if path.stat().st_size > _LONGEST_LIST:
            size = f"{path.stat().st_size >> 20} MiB"
            raise DataError(f"{path}: expected a list of image ids, got {size}; this is not a list")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        yield 1, Finding("list-text", path, expected, "bytes that are not text", "write the list again as UTF-8")
        return
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if len(columns) > 2:
            wanted, got = "an image id, or an image and a label path", f"{len(columns)} columns: {line[:80]!r}"
            fix = "rename files with spaces in their names"
            yield number, Finding("list-line", path, wanted, got, fix, line=number)
        elif columns:
            yield number, columns
