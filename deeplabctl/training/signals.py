"""End a training after the current step at Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_REPEAT = 1.0  # seconds within which a second signal counts as the first one, which may arrive twice


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """Leave a part of a training that is repeated later, because the training was asked to stop."""


class StopRequest:
    """Remember the signal that asked to stop; a call tells whether there was one."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Return 130 after Ctrl-C, 143 after SIGTERM, 0 without a signal."""
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def stop_signals(request: StopRequest) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a later one ends the process at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    asked: list[float] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if not asked:
            asked.append(time.monotonic())
            request.signal = number
        elif time.monotonic() - asked[0] > _REPEAT:
            for known, handler in before.items():
                signal.signal(known, handler)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
