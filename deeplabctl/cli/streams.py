"""Keep work apart from the standard streams: one that is closed or full loses lines, but no mask and no data set."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deeplabctl.cli.console import print_error


@contextmanager
def standard_streams() -> Iterator[None]:
    """Let the block print to streams that may fail; what fails on stdout is one error line after it, and exit code 1.

    Only the process's own streams are replaced, and only for the block.
    """
    _fill_closed()
    before = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    out, err = _Output(1, "w", closefd=False), _Output(2, "w", closefd=False)
    own = {"stdin": open(0, closefd=False), "stdout": _text(out, sys.stdout), "stderr": _text(err, sys.stderr)}  # noqa: SIM115
    for name, stream in own.items():
        if before[name] is getattr(sys, f"__{name}__"):
            setattr(sys, name, stream)
    try:
        yield
    except SystemExit as ended:
        if ended.code or not out.failure:
            raise
        print_error(f"cannot write to stdout: {out.failure}; all files are complete")
        raise SystemExit(1) from None
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


class _Output(io.FileIO):
    """Write to a descriptor; the first error is kept, and what comes after it is dropped."""

    failure = ""

    def write(self, content: Any) -> int:
        if not self.failure:
            try:
                while (count := super().write(content)) is None:  # a full pipe that another program made non-blocking
                    select.select([], [self], [])
                return count
            except BrokenPipeError:  # a reader who has seen enough, as head: the command ends
                raise
            except OSError as error:
                self.failure = "it is closed" if error.errno == errno.EBADF else str(error.strerror)
        return memoryview(content).nbytes


def _text(raw: io.FileIO, like: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw), getattr(like, "encoding", None), line_buffering=getattr(like, "line_buffering", True)
    )


def _fill_closed() -> None:
    """Open closed standard descriptors in the wrong direction, so that they fail and no other file gets their number.

    Nobody reads stderr there: it takes everything.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
