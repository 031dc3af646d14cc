"""Let operations on the disk fail, or end the process at one of them.

``FailingDisk`` counts what a program does below a folder: it opens a file to write, writes, syncs, renames, makes a
folder. At the operation with the given number an error of the system is raised, or ``at_it`` is called.
"""

import builtins
import io
import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from deeplabctl import files

REAL_OPEN, EXCHANGE = builtins.open, files.renameat2
REAL = {name: getattr(os, name) for name in ("open", "rename", "replace", "mkdir", "fsync")}


class FailingDisk:
    """Count the operations below ``root``, and fail at number ``fail_at`` (from 0).

    ``kinds`` are those that count: open, write, fsync, rename, mkdir. With ``stay``, all later operations fail as well.
    """

    def __init__(
        self, root, fail_at=None, error=None, *, kinds=("open", "write", "fsync", "rename", "mkdir"), stay=False
    ):
        self.root = os.path.realpath(root)
        self.fail_at, self.error, self.kinds, self.stay = fail_at, error, kinds, stay
        self.operations = []  # (kind, path)

    def count(self, kind, path):
        """Note an operation, and fail if it is the one."""
        path = self._path_of(path) if isinstance(path, int) else os.fsdecode(path)
        if kind not in self.kinds or not str(Path(path).parent.resolve()).startswith(self.root):
            return
        number = len(self.operations)
        self.operations.append((kind, path))
        if self.fail_at is not None and (number == self.fail_at or (self.stay and number > self.fail_at)):
            self.at_it(path)

    def at_it(self, path):
        """Fail; another subclass may do something else."""
        raise OSError(self.error, os.strerror(self.error), path)

    def _path_of(self, descriptor):
        try:
            return str(Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError:
            return ""

    @contextmanager
    def inserted(self):
        """Put this disk between the program and the system."""
        with (
            mock.patch.object(builtins, "open", self._open_file),
            mock.patch.object(io, "open", self._open_file),
            mock.patch.object(os, "open", self._open),
            mock.patch.object(os, "fsync", self._fsync),
            mock.patch.object(os, "rename", self._renamer("rename")),
            mock.patch.object(os, "replace", self._renamer("replace")),
            mock.patch.object(os, "mkdir", self._mkdir),
            mock.patch.object(files, "renameat2", self._exchange),
        ):
            yield self

    def _open_file(
        self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None
    ):
        """Open as Python does; a file to write counts its writes."""
        if isinstance(file, int) or opener is not None or not set(mode) & set("wax+"):
            return REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        self.count("open", file)
        raw = _CountedFile(file, mode.replace("b", "").replace("t", ""))
        raw.disk = self
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline)
        text.mode = mode
        return text

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and dir_fd is None:
            self.count("open", path)
        return REAL["open"](path, flags, mode, dir_fd=dir_fd)

    def _fsync(self, descriptor):
        self.count("fsync", descriptor)
        REAL["fsync"](descriptor)

    def _renamer(self, name):
        def rename(source, target, **more):
            self.count("rename", target)
            REAL[name](source, target, **more)

        return rename

    def _exchange(self, one, other):
        self.count("rename", other)
        return EXCHANGE(one, other)

    def _mkdir(self, path, mode=0o777, **more):
        if not Path(path).is_dir():
            self.count("mkdir", path)
        REAL["mkdir"](path, mode, **more)


class KillingDisk(FailingDisk):
    """End the process at an operation, as if it was killed."""

    def at_it(self, path):
        os._exit(137)


class _CountedFile(io.FileIO):
    """Count the first write, the second, the fourth, the eighth, ...; of the one that fails, half is on the disk."""

    writes = 0

    def write(self, content):
        self.writes += 1
        try:
            if self.writes & (self.writes - 1) == 0:
                self.disk.count("write", self.name)
        except OSError:
            super().write(bytes(content)[: len(content) // 2])
            raise
        return super().write(content)
