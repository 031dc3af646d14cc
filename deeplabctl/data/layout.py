"""Write data sets whole or not at all: in a hidden folder beside the target, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplabctl.data.dataset import IMAGES, LABELS, LISTS
from deeplabctl.data.images import IMAGE_SUFFIXES
from deeplabctl.errors import DataError


@contextmanager
def whole_folder(root: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes ``root`` when the block ends without an error; else nothing is left of it.

    Raises DataError if ``root`` exists and is not an empty folder. With ``overwrite`` it may be a data set, which is
    replaced; any other folder is refused all the same.
    """
    root = root.resolve()
    check_target(root, overwrite=overwrite)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as error:
        raise DataError(f"cannot write {root}: {error.strerror}; choose another folder") from None
    try:
        temporary.chmod(0o755)  # mkdtemp's folders are their owner's alone
        yield temporary
        replaced = None
        if root.exists() and any(root.iterdir()):
            replaced = root.with_name(f".{root.name}.{secrets.token_hex(4)}")
            root.rename(replaced)
        temporary.rename(root)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise DataError(
            f"cannot write {root}: {error.strerror or error}{name}; nothing was left half-written"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already if all went well


def check_target(root: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not be written to."""
    try:
        if not os.path.lexists(root) or (root.is_dir() and not any(root.iterdir())):
            return
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}; choose another folder") from None
    if not overwrite:
        raise DataError(f"{root} exists and is not an empty folder; give --overwrite to replace it, or another --out")
    if not (root / IMAGES).is_dir() or not (root / LISTS).is_dir():
        raise DataError(f"{root} is no data set in VOC layout and is left alone; remove it, or give another --out")


def make_layout(root: Path) -> None:
    """Make the folders of VOC's layout."""
    for folder in (IMAGES, LABELS, LISTS):
        (root / folder).mkdir(parents=True, exist_ok=True)


def write_list(root: Path, split: str, ids: Iterable[str]) -> None:
    """Write the list of a split, an id a line."""
    (root / LISTS / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids), "utf-8")


def check_picture(path: Path, *, overwrite: bool) -> None:
    """Refuse a name for a picture that is there already, or whose suffix names no format to write."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"--out {path}: expected a name that ends in {', '.join(IMAGE_SUFFIXES)}")
    if os.path.lexists(path) and not overwrite:
        raise DataError(f"{path} exists; give --overwrite to replace it, or another --out")
