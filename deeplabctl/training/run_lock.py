"""Keep two trainings out of one run directory."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import IO

from deeplabctl.errors import RunError
from deeplabctl.reporting import Note, Reporter

LOCK = ".lock"

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # EACCES where flock is made of fcntl's locks


def lock_run(path: Path, report: Reporter) -> IO[str]:
    """Lock a run directory until the file that is returned is closed, or the process dies.

    Where the file system has no locks, a warning says so, and nothing is locked. Raises RunError if another training
    runs in the directory, or it cannot be written.
    """
    try:
        lock = (path / LOCK).open("a")
    except OSError as error:
        raise cannot_be_written(path, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            lock.close()
            raise RunError(
                f"run directory {path}: another training is running in it; wait for its end or choose another `run_dir`"
            ) from None
        text = f"its file system has no locks ({error.strerror}); do not start another training in it"
        report(Note(f"run directory {path}: {text}", warning=True))
    return lock


def cannot_be_written(path: Path, error: OSError) -> RunError:
    """Return the error for a run directory that the system refuses."""
    return RunError(f"run directory {path}: cannot be written: {error.strerror}; choose another `run_dir`")
