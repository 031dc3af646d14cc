"""Lock open files until they are closed, or the process dies: by flock, or on Windows by its own locks."""

from __future__ import annotations

import errno
import os
import sys
import time

_FAR = 1 << 30  # Windows lets nobody else read a locked byte: one beyond the content
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # EACCES where flock is made of fcntl's locks, and on Windows


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
