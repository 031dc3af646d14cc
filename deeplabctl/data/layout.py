"""Define PASCAL VOC's layout of a data set, and make folders and lists in it.

JPEGImages/*.{jpg,jpeg,png}                  images
SegmentationClass/*.png                      labels: class ids, 255 void (VOC's, with void borders)
SegmentationClassAug/*.png                   labels of the augmented training set, if there is one
ImageSets/Segmentation/{train,val,...}.txt   lists: per line an id, or the paths of an image and a label
classes.txt                                  class names, one per line; without it the 21 classes of VOC
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from deeplabctl.class_files import format_classes
from deeplabctl.errors import OutputError
from deeplabctl.files import check_new_folder, check_writable, has_content, whole_folder, write_text

IMAGES = "JPEGImages"
LABELS = "SegmentationClass"
LABELS_AUGMENTED = "SegmentationClassAug"
SET_SUFFIXES = (".jpg", ".jpeg", ".png")
LISTS = Path("ImageSets", "Segmentation")
SPLITS = ("train", "val", "test")  # lists of most data sets
_SPLIT = re.compile(r"(train|val|test)(ing|id|idation)?\d*")  # as folders, subsets and lists are named
CLASS_NAMES = "classes.txt"
VOC_FOLDERS = ("VOC2012", "VOCdevkit/VOC2012")  # in which VOC's archive has the data set
_BY_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")  # which add these to folders that they show


def split_of(name: str) -> str:
    """Return the split that a folder, a subset or a list is named after, or nothing."""
    match = _SPLIT.fullmatch(name.casefold())
    return match[1] if match else ""


def check_new_dataset(root: Path, *, overwrite: bool) -> None:
    """Raise OutputError for a folder that must not become a data set.

    It may be missing or empty. With ``overwrite`` it may also be a data set with nothing else in it; what is in any
    other folder is never removed.
    """
    check_new_folder(root, overwrite=overwrite)
    check_writable(root.resolve().parent)
    if not has_content(root):
        return
    if not all((root / part).is_dir() for part in (IMAGES, LISTS)):
        raise OutputError(
            f"{root}: expected a data set in VOC layout to replace, got something else; remove it, or choose another "
            "folder"
        )
    if other := next(_other_files(root), None):
        raise OutputError(
            f"{root}: expected a data set with nothing else in it to replace, got {other.relative_to(root)} as well; "
            "move it away, or choose another folder"
        )


def check_outside(root: Path, sources: Iterable[Path]) -> None:
    """Raise OutputError where a data set that replaces ``root`` would remove one of its sources, or a part of it."""
    if not has_content(root):
        return
    place = root.resolve()
    for source in sources:
        other = source.resolve()
        if other.exists() and (place == other or place in other.parents or other in place.parents):
            raise OutputError(
                f"{root}: expected a folder outside what is read, got one that contains or lies in {source}; choose "
                "another folder"
            )


def new_dataset(root: Path, *, overwrite: bool = False) -> AbstractContextManager[Path]:
    """Return a context with an empty folder that becomes the data set ``root`` if the block ends without an error.

    Otherwise nothing is left of it. Raises OutputError as `check_new_dataset` does.
    """
    check_new_dataset(root, overwrite=overwrite)
    return whole_folder(root, overwrite=overwrite)


def _other_files(root: Path) -> Iterator[Path]:
    """Yield what is in a folder beside the files of a data set."""
    suffixes = {IMAGES: SET_SUFFIXES, LABELS: (".png",), LABELS_AUGMENTED: (".png",), str(LISTS): (".txt",)}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        is_ours = str(name) == CLASS_NAMES or path.suffix.lower() in suffixes.get(str(name.parent), ())
        is_ours |= path.name in _BY_SYSTEMS
        if not (is_ours and path.is_file()) and str(name) not in (*suffixes, str(LISTS.parent)):
            yield path


def make_layout(root: Path) -> None:
    """Make the folders for images, labels and lists."""
    for folder in (IMAGES, LABELS, LISTS):
        (root / folder).mkdir(parents=True, exist_ok=True)


def write_list(root: Path, split: str, ids: Iterable[str]) -> None:
    """Write the list of a split, one id per line."""
    write_text(root / LISTS / f"{split}.txt", "".join(f"{name}\n" for name in ids))


def write_class_names(root: Path, names: Sequence[str]) -> None:
    """Write classes.txt; the first name is class 0. Raises DataError for names that it cannot hold."""
    write_text(root / CLASS_NAMES, format_classes(names, root / CLASS_NAMES))
