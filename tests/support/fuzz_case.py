"""Run one case of a fuzz: read a changed file in a sandbox, and tell what a reader must not do.

A sandbox is ``work/in`` (the reader's folder), ``work/out`` (where it may write) and ``outside``, of whose files none
may change or be copied.
"""

import os
import shutil
import signal
import sys
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from surroundings import snapshot

from deeplabctl.errors import DeepLabError

SEED = 20_261
CPU_SECONDS = 10  # of a case; most take some milliseconds
LONGEST_MESSAGE = 3000


@dataclass(frozen=True)
class Reader:
    """Describe a reader: how many of the cases are its own, which files it reads and how they are changed."""

    name: str
    cases: int
    write: Callable[[Path], None]  # writes sound files into a folder
    mutators: dict[str, tuple]  # by the pattern of the files to change
    read: Callable[[Path, Path, Path], None]  # (folder, changed file, out): reads, and asserts that the result is sound


@dataclass
class Sandbox:
    """Hold the folders of a reader's cases, and its sound files as they were written."""

    root: Path
    reader: Reader
    files: dict[Path, bytes] = field(default_factory=dict)

    @property
    def folder(self):
        return self.root / "work" / "in"

    @property
    def out(self):
        return self.root / "work" / "out"

    def make(self):
        """Write the sound files, and those that nobody may touch."""
        for outside in (self.root / "outside", self.root / "work" / "outside"):
            outside.mkdir(parents=True)
            values = np.random.default_rng(7).integers(0, 255, (12, 16, 3)).astype(np.uint8)
            Image.fromarray(values).save(outside / "secret.png")
        self.folder.mkdir()
        self.reader.write(self.folder)
        self.files = {path: path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}
        self.secret = (self.root / "outside" / "secret.png").read_bytes()
        return self

    def targets(self):
        """Return (file, its mutators) of all files that are changed."""
        return [
            (path, mutators)
            for pattern, mutators in self.reader.mutators.items()
            for path in sorted(self.folder.glob(pattern))
        ]

    def restore(self):
        """Remove what a case has written, and write the sound files again."""
        for path in self.root.joinpath("work").iterdir():
            if path.name not in ("in", "outside"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path, content in self.files.items():
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


class TooLong(BaseException):
    """End a case that takes too much time."""


class Watch:
    """Note what is written outside of the folder for it, and every program and connection that is started."""

    def __init__(self, allowed):
        self.allowed = tuple(map(str, allowed))
        self.seen = []
        self.active = False
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if not self.active:
            return
        if event.startswith(_NEVER):
            self.seen.append(f"{event} {arguments[:2]}")
        for path in arguments[: _WRITES.get(event, 0)]:
            if isinstance(path, int) or (event == "open" and not _opens_to_write(arguments[2])):
                return
            if event in _IN_FOLDERS and arguments[-1] != -1:  # of shutil.rmtree, whose own event has the whole path
                return
            place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (it leaves links as they are)
            unchanged = event in ("os.mkdir", "open") and Path(place).is_dir()  # opened for a file without a name
            if not place.startswith(self.allowed) and not unchanged:
                self.seen.append(f"{event} {place}")


# The events of Python's audit hooks that write, with the number of their paths, and those that nothing may raise.
_WRITES = {
    "open": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2,
    "os.truncate": 1, "os.chmod": 1, "os.utime": 1, "shutil.rmtree": 1,
}  # fmt: skip
_IN_FOLDERS = ("os.remove", "os.rmdir", "os.mkdir")  # their last argument is the descriptor of a folder, or -1
_NEVER = ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "socket.connect")


def _opens_to_write(flags):
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def run_case(sandbox, watch, number):
    """Run a case; returns "sound" or "refused", or raises AssertionError with what is wrong."""
    reader = sandbox.reader
    random = np.random.default_rng([SEED, zlib.crc32(reader.name.encode()), number])
    targets = sandbox.targets()
    path, mutators = targets[int(random.integers(len(targets)))]
    others = [content for other, content in sandbox.files.items() if other != path] or [b"other"]
    content, applied = sandbox.files[path], []
    for _ in range(int(random.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        mutate = mutators[int(random.integers(len(mutators)))]
        content = mutate(content, random, others)
        applied.append(mutate.__name__)
    what = f"{path.relative_to(sandbox.folder)}, changed by {', '.join(applied)}"
    path.write_bytes(content)
    before = snapshot(sandbox.root, without=sandbox.out)
    watch.seen.clear()
    try:
        return _read(sandbox, watch, path)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None
    finally:
        changes = before.changes(snapshot(sandbox.root, without=sandbox.out))
        copied = [file for file in sandbox.out.rglob("*") if file.is_file() and file.read_bytes() == sandbox.secret]
        if changes or copied or watch.seen:
            where = "; ".join([*changes, *(f"copied to {file}" for file in copied), *watch.seen])
            raise AssertionError(f"{what}: touched what is outside: {where}") from None


def _read(sandbox, watch, path):
    """Read the changed file within the limits of time."""
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    watch.active = True
    try:
        sandbox.reader.read(sandbox.folder, path, sandbox.out)
    except DeepLabError as error:
        _check_message(str(error), sandbox, path)
        return "refused"
    except (Exception, TooLong, RecursionError):
        raise AssertionError(traceback.format_exc(limit=-6)) from None
    finally:
        watch.active = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "sound"


def _check_message(message, sandbox, path):
    """Assert that an error is one line which names a file of the sandbox."""
    assert message.strip() == message != "", f"an error with empty ends: {message!r}"
    assert "\n" not in message, f"an error of several lines: {message!r}"
    assert message.isprintable(), f"an error with characters that are not printable: {message!r}"
    assert len(message) <= LONGEST_MESSAGE, f"an error of {len(message)} characters: {message[:300]!r}"
    named = (str(sandbox.root), path.name, "data set ", "images could be converted: ", "the weights' recipe: ")
    # The last three name what a file holds; of which weights a recipe is, the commands say before.
    assert any(name in message for name in named), f"an error that names no file: {message!r}"


def _too_long(signum, frame):
    raise TooLong(f"more than {CPU_SECONDS} seconds of a processor")
