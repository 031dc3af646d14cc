"""Write files and folders whole or not at all, under a temporary name beside the target; lock, list and find them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deeplabctl.errors import OutputError
from deeplabctl.reporting import Reporter, silent, task

_LARGEST = 16 << 20  # bytes
_BLOCK = 4096  # bytes that a disk gives a file at a time
_MEGABYTE = 1 << 20
_QUICK = 20  # megabytes
_LONGEST = 200  # bytes of the beginning of a temporary name
_FAR = 1 << 30  # Windows lets nobody else read a locked byte: one beyond the content
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # EACCES where flock is made of fcntl's locks, and on Windows


def check_new_file(path: Path, *, overwrite: bool, suffixes: Sequence[str] = ()) -> None:
    """Raise OutputError for a file that must not or cannot be written: it exists, say, or has another suffix.

    What killed processes left of it is removed.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        endings = ", ".join(suffixes)
        raise OutputError(f"{path}: expected a name that ends in {endings}; choose another name")
    check_free(path, overwrite=overwrite)
    check_writable(path.absolute().parent)
    remove_unfinished([path])


def suffix_counts(files: Iterable[Path]) -> str:
    """Return how many files there are of each kind, "2 .json, 1 .txt"; nothing if there are none."""
    counts = Counter(path.suffix or path.name for path in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(8))


def check_free(path: Path, *, overwrite: bool, others: str = "or choose another name") -> None:
    """Raise OutputError for the name of a folder, or of a file that must not be replaced, with what ``others`` do."""
    try:
        is_folder = path.is_dir()
    except PermissionError:  # of a folder that may not be entered: `check_writable` says so
        is_folder = False
    if is_folder:
        raise OutputError(f"{path}: expected the name of a file to write, got a folder; choose another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists; use `overwrite` to replace it, {others}")


def check_folder(path: Path) -> None:
    """Raise OutputError for a folder of results that is a file."""
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path}: expected a folder, got a file; choose another folder")


def check_writable(folder: Path) -> None:
    """Raise OutputError if nothing can be written into the folder, or if it cannot be made; leaves nothing behind."""
    place = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(_BLOCK))  # an empty file is often possible on a full disk
    except OSError as error:
        where = "" if place == folder else f" ({place})"
        raise OutputError(f"cannot write {folder}: {error.strerror}{where}; choose another folder") from None


def check_new_folder(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError for a folder that must not be written as a whole: a file, or a folder that is not empty."""
    if has_content(path) and not overwrite:
        raise OutputError(
            f"{path} exists and is not an empty folder; use `overwrite` to replace it, or choose another folder"
        )


def has_content(path: Path) -> bool:
    """Tell whether there is a file at this path, or a folder that is not empty. Raises OutputError if unreadable."""
    try:
        return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}; choose another folder") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    Missing folders are made. Raises OutputError where the system refuses: a full disk, no permission.
    """
    if not path.name:
        raise OutputError(f"cannot write {path}: expected the name of a file, got a folder")
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_folder(path.parent):
            yield temporary
            with temporary.open("r+b") as written:  # Windows syncs only what may be written
                os.fsync(written.fileno())
            temporary.replace(path)
    except BrokenPipeError:  # of a reader who is gone, which the block writes to as well
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; no partial file was left") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a new name beside a file; it keeps the suffix, by which writers choose their format."""
    return path.with_name(f".{_beginning(path.stem)}.{secrets.token_hex(4)}{path.suffix}")


def _beginning(name: str) -> str:
    """Return what a longer name can begin with: a name has at most 255 bytes, and a letter up to four of them."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST else encoded[:_LONGEST].decode("utf-8", "ignore")


def unfinished_target(path: Path) -> Path | None:
    """Return the file whose `whole_file` a path is, as a killed process leaves it; None for any other name."""
    name = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}(\.[^.]*)?", path.name)
    return path.with_name(name[1] + (name[2] or "")) if name else None


def remove_unfinished(files: Iterable[Path]) -> None:
    """Remove what killed processes left of these files under temporary names, in folders that nobody writes into."""
    targets = {path.with_name(f"{_beginning(path.stem)}{path.suffix}") for path in files}  # as temporary names have it
    for folder in {path.parent for path in targets}:
        with locked_folder(folder, alone=True) as is_unused:
            for path in folder.glob(".*") if is_unused else ():
                if unfinished_target(path) in targets:
                    with contextlib.suppress(OSError):
                        path.unlink()


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or folder; returns False if another process holds it, and ``wait`` does not say to wait.

    On Windows all locks are exclusive, and folders cannot be opened. Raises OSError where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            _lock_on_windows(descriptor, wait)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _lock_on_windows(descriptor: int, wait: bool) -> None:
    import msvcrt

    locking, without_waiting = getattr(msvcrt, "locking"), getattr(msvcrt, "LK_NBLCK")  # noqa: B009 - only Windows'
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        while True:
            try:
                locking(descriptor, without_waiting, 1)
            except OSError as error:
                if not wait or error.errno not in _HELD:
                    raise
                time.sleep(0.5)
            else:
                return
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)


@contextmanager
def locked_folder(folder: Path, *, alone: bool = False) -> Iterator[bool]:
    """Lock a folder for the block, beside others or ``alone``; yields whether that was possible.

    It is not where another process holds it (``alone``), and where the folder or its file system's locks are missing.
    The lock dies with the process, and leaves no file.
    """
    descriptor = -1
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        is_locked = lock(descriptor, shared=not alone, wait=not alone)
    except OSError:
        is_locked = False
    try:
        yield is_locked
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path`` that takes its place when the block ends without an error.

    Missing parent folders are made, and what killed processes left is removed. Raises OutputError if ``path`` is not
    empty, unless ``overwrite`` lets it be replaced, and where the system refuses: a full disk, no permission.
    """
    path = path.resolve()
    check_new_folder(path, overwrite=overwrite)
    prefix = f".{_beginning(path.name)}.unfinished-"
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):
        with locked_folder(left, alone=True) as is_left:
            if is_left:
                shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = held.enter_context(_new_folder(path, prefix))
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from None
        try:
            made = temporary.stat()
            yield temporary
            sync(temporary)
            if not os.path.samestat(made, temporary.stat()):
                raise OutputError(f"cannot write {path}: another program has removed {temporary}; run it again")
            if overwrite and has_content(path):
                _exchange(temporary, path)  # the old folder is removed below
            else:
                with contextlib.suppress(FileNotFoundError):
                    path.rmdir()  # fails if another process has filled it meanwhile; Windows replaces no empty folder
                temporary.rename(path)
        except OSError as error:
            name = f" ({error.filename})" if error.filename else ""
            reason = error.strerror or str(error)
            raise OutputError(f"cannot write {path}: {reason}{name}; no partial file was left") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # a new folder that became ``path`` is not there any more


@contextmanager
def _new_folder(path: Path, prefix: str) -> Iterator[Path]:
    """Make a folder beside ``path``, and lock it for the block."""
    while True:
        folder = path.with_name(f"{prefix}{secrets.token_hex(4)}")
        folder.mkdir()
        with locked_folder(folder):
            if folder.exists():  # else another process has taken it for one that is left, before it was locked
                yield folder
                return


def sync(folder: Path) -> None:
    """Wait until all files of a folder's file system are on the disk: at once, which is faster than one by one.

    A power cut after a rename would else leave empty files under names that are complete. Windows has no such call.
    Raises OSError.
    """
    if sys.platform == "win32":
        return
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if function is None:
            os.sync()
        elif function(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders: at once where the system can, so that a process that is killed leaves both names."""
    if renameat2(one, other):
        return
    aside = temporary_name(other)
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def renameat2(one: Path, other: Path) -> bool:
    """Exchange two names by Linux' renameat2; False where system or file system do not have that."""
    function = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return function is not None and function(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def file_names(folder: Path) -> list[str]:
    """Return the sorted names of the files in a folder; none if there is no such folder.

    Not among them are pipes, and what other programs leave: hidden files, as those of macOS that begin with ``._``, and
    locks of editors. Links to nothing are, so that reading them is an error.
    """

    def is_file(entry: os.DirEntry[str]) -> bool:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry))  # noqa: PTH110

    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # ten times faster than Path objects
        return sorted(each.name for each in entries if not is_hidden(each.name) and is_file(each))


def composed(name: str) -> str:
    """Return a name with composed letters (Unicode's NFC), to compare it: macOS writes names with decomposed ones."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of a name in a folder, whether its letters are composed or not; None if there is none."""
    spellings = (name, composed(name), unicodedata.normalize("NFD", name))
    return next((path for each in spellings if os.path.isfile(path := folder / each)), None)  # noqa: PTH113


def read_small_file(path: Path) -> bytes:
    """Return the content of a file that a person writes: classes, a palette, settings.

    Raises OSError for a file that cannot be read, or of more than 16 MiB: that is another file, or a device.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all. Bytes of names that are not UTF-8 become escapes."""
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


def web_address(path: Path) -> str:
    """Return the web address that a path was made from, with the slash that the path has lost; "" for other paths."""
    name = path.as_posix()
    return name.replace(":/", "://", 1) if re.match("(https?|ftp|s3|gs):/", name) else ""


def is_hidden(name: str) -> bool:
    """Tell whether a name is that of a hidden file, as macOS (._a.png) and editors (.~lock.a#, ~$a) leave them."""
    return name.startswith((".", "~$"))


def user_cache() -> Path | None:
    """Return the user's cache folder of this program; None for a user without a home."""
    from platformdirs import user_cache_path

    try:
        path = user_cache_path("deeplabctl")
    except RuntimeError:  # of the pathlib of Python
        return None
    return path if path.is_absolute() else None


def checksum(path: Path, kind: str, report: Reporter) -> str:
    """Return a checksum of a file, in hexadecimal digits; what takes less than a moment is not reported."""
    digest = hashlib.new(kind, usedforsecurity=False)
    size = path.stat().st_size // _MEGABYTE
    with (
        task(report if size > _QUICK else silent, f"checking the {kind}", size, "MB") as advance,
        path.open("rb") as file,
    ):
        while block := file.read(_MEGABYTE):
            digest.update(block)
            advance(len(block) // _MEGABYTE)
    return digest.hexdigest()
