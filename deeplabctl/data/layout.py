"""Define PASCAL VOC's layout of a data set, and make folders and lists in it.

JPEGImages/*.{jpg,jpeg,png}                  images
SegmentationClass/*.png                      labels: class ids, 255 void (VOC's, with void borders)
SegmentationClassAug/*.png                   labels of the augmented training set, if there is one
ImageSets/Segmentation/{train,val,...}.txt   lists: per line an id, or the paths of an image and a label
classes.txt                                  class names, one per line; without it the 21 classes of VOC
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplabctl.errors import OutputError
from deeplabctl.files import check_new_folder, has_content, whole_folder

IMAGES = "JPEGImages"
LABELS = "SegmentationClass"
LABELS_AUGMENTED = "SegmentationClassAug"
LISTS = Path("ImageSets", "Segmentation")
CLASS_NAMES = "classes.txt"


def check_new_dataset(root: Path, *, overwrite: bool) -> None:
    """Raise OutputError for a folder that must not become a data set.

    It may be missing or empty. With ``overwrite`` it may also be a data set; any other folder is never replaced.
    """
    check_new_folder(root, overwrite=overwrite)
    if has_content(root) and not all((root / part).is_dir() for part in (IMAGES, LISTS)):
        raise OutputError(
            f"{root}: expected a data set in VOC layout to replace, got something else; remove it, or choose another "
            "folder"
        )


@contextmanager
def new_dataset(root: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes the data set ``root`` when the block ends without an error.

    Otherwise nothing is left of it. Raises OutputError as `check_new_dataset` does.
    """
    check_new_dataset(root, overwrite=overwrite)
    with whole_folder(root, overwrite=overwrite) as folder:
        yield folder


def make_layout(root: Path) -> None:
    """Make the folders for images, labels and lists."""
    for folder in (IMAGES, LABELS, LISTS):
        (root / folder).mkdir(parents=True, exist_ok=True)


def write_list(root: Path, split: str, ids: Iterable[str]) -> None:
    """Write the list of a split, one id per line."""
    _write_lines(root / LISTS / f"{split}.txt", ids)


def write_class_names(root: Path, names: Iterable[str]) -> None:
    """Write classes.txt; the first name is class 0."""
    _write_lines(root / CLASS_NAMES, names)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
