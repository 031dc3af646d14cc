"""Read files out of a tar archive, or of a folder where it is unpacked, one by one and without unpacking the rest."""

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

from deeplabctl.errors import DataError
from deeplabctl.reporting import Advanced, Finished, Reporter, Started

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Member:
    """Name a file in an archive; ``read`` returns its content and must be called before the next member is taken."""

    path: PurePosixPath
    size: int
    read: Callable[[], bytes]


def members(source: Path, wanted: Callable[[PurePosixPath], bool], report: Reporter) -> Iterator[Member]:
    """Yield the files of a tar archive (however compressed) or of a folder whose paths are wanted.

    Nothing is ever written under a member's own path. Raises DataError for what is no archive, for one that is cut off,
    for members with absolute paths or "..", and for wanted members that are links.
    """
    if source.is_dir():
        yield from _in_folder(source, wanted, report)
        return
    with _whole(source), source.open("rb") as file:
        report(Started(f"reading {source.name}", os.fstat(file.fileno()).st_size // _MEGABYTE, "MB"))
        done = 0
        try:
            with tarfile.open(fileobj=file, mode="r:*") as tar:
                for entry in tar:
                    tar.members = []  # type: ignore[attr-defined]  # else it keeps the headers of all that it passed
                    _refuse_outside(source, entry)
                    path = PurePosixPath(entry.name)
                    if wanted(path):
                        yield _member(source, tar, entry, path)
                    if (position := file.tell() // _MEGABYTE) > done:
                        report(Advanced(position - done))
                        done = position
        finally:
            report(Finished())


def _in_folder(source: Path, wanted: Callable[[PurePosixPath], bool], report: Reporter) -> Iterator[Member]:
    found: list[Path] = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        inside = Path(folder).relative_to(source)
        found += [inside / name for name in sorted(names) if wanted(PurePosixPath(inside / name))]
    report(Started(f"reading {source}", len(found), "files"))
    try:
        for path in found:
            yield Member(PurePosixPath(path), (source / path).stat().st_size, partial(_file, source / path))
            report(Advanced(1))
    finally:
        report(Finished())


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


@contextmanager
def _whole(source: Path) -> Iterator[None]:
    """Turn what is wrong with an archive's bytes into a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{source}: there is no such archive or folder") from None
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        raise DataError(f"cannot read {source}: expected a whole tar archive, got {_instead(source, error)}") from None


def _refuse_outside(source: Path, entry: tarfile.TarInfo) -> None:
    if entry.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", entry.name):
        raise DataError(
            f"{source}: expected members inside of the archive, got {entry.name!r}, which points outside; this is "
            "not the official archive: get it from where it comes from"
        )


def _member(source: Path, tar: tarfile.TarFile, entry: tarfile.TarInfo, path: PurePosixPath) -> Member:
    if not entry.isreg():
        raise DataError(
            f"{source}: expected a file {entry.name!r}, got a link or a folder; this is not the official archive: get "
            "it from where it comes from"
        )

    def read() -> bytes:
        with _whole(source):
            content = tar.extractfile(entry)
            return content.read() if content else b""

    return Member(path, entry.size, read)


def _instead(source: Path, error: Exception) -> str:
    """Say what was found where an archive was expected."""
    try:
        with source.open("rb") as file:
            begin = file.read(512).lstrip().lower()
    except OSError as failure:
        return str(failure.strerror)
    if begin.startswith((b"<!doctype", b"<html")):
        return "a web page; the address that it was downloaded from is gone"
    if begin.startswith(b"pk\x03\x04"):
        return "a zip file; unpack it and give the folder"
    if not begin:
        return "an empty file"
    if isinstance(error, tarfile.ReadError) and "could not be opened" in str(error):
        return "other content"
    return f"one that is damaged or cut off ({error}); download it again"
