"""Find the pictures that a user names (files, folders, patterns) and name the files that are made of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabctl.data.images import IMAGE_SUFFIXES
from deeplabctl.errors import DataError, OutputError
from deeplabctl.files import check_folder, check_new_file


@dataclass(frozen=True)
class PictureJob:
    """Name a picture and the files that are made of it."""

    image: Path
    mask: Path
    overlay: Path | None


def find_images(names: Sequence[str]) -> list[Path]:
    """Return the files that the names stand for, each once; raises DataError for a name without any.

    A folder stands for the pictures in it (not in the folders below; ``DIR/**/*.jpg`` finds those).
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if os.path.isdir(path):  # noqa: PTH112 - which, unlike Path's, raises for no name
            try:
                images = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)
            except OSError as error:
                raise DataError(f"cannot read the folder {path}: {error.strerror}") from None
            if not images:
                raise DataError(f"{path}: expected pictures in this folder ({', '.join(IMAGE_SUFFIXES)}), got none")
        elif os.path.exists(path):  # noqa: PTH110
            images = [path]
        else:
            images = sorted(Path(match) for match in glob.glob(name, recursive=True) if os.path.isfile(match))  # noqa: PTH113, PTH207
            if not images:
                raise DataError(f"{name}: there is no such file or folder, and as a pattern it matches nothing")
        found |= dict.fromkeys(images)
    return list(found)


def plan_outputs(images: Sequence[Path], out: Path, *, overlay: bool, overwrite: bool) -> list[PictureJob]:
    """Name the mask ``<stem>.png`` (and ``<stem>_overlay.png``) of each picture in the folder ``out``.

    Raises OutputError if two of them, or one and a picture, would be the same file, or if one exists already.
    """
    check_folder(out)
    jobs = [
        PictureJob(path, out / f"{path.stem}.png", out / f"{path.stem}_overlay.png" if overlay else None)
        for path in images
    ]
    sources = {path.resolve() for path in images}
    taken: dict[Path, Path] = {}
    for job in jobs:
        for target in filter(None, (job.mask, job.overlay)):
            if (other := taken.setdefault(target, job.image)) != job.image:
                raise OutputError(f"{other} and {job.image} would both be written to {target}; give each its own `out`")
            if target.resolve() in sources:
                raise OutputError(f"{target} is one of the pictures and would be overwritten; choose another `out`")
            check_new_file(target, overwrite=overwrite)
    return jobs
