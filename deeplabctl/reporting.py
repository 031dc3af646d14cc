"""Report what a job is doing, without drawing it.

Jobs call a ``Reporter`` with events; the command line draws them, `tqdm_reporter` does in a notebook.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Note:
    """Say something in a line."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Started:
    """Begin a task of ``total`` parts; tasks do not overlap, but validation comes inside training."""

    task: str
    total: int
    unit: str
    done: int = 0


@dataclass(frozen=True)
class Advanced:
    """Finish ``parts`` of the current task."""

    parts: int


@dataclass(frozen=True)
class Finished:
    """End the current task."""


@dataclass(frozen=True)
class Trained:
    """Report a training step.

    ``loss`` is the mean over the last steps, ``images_per_second`` and ``waiting`` (the share of the time in which
    steps waited for data) likewise; ``seconds_left`` is an estimate that includes validations, None after a step that
    compiles; ``logged`` steps are those that metrics.jsonl has.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    waiting: float
    seconds_left: float | None
    logged: bool


@dataclass(frozen=True)
class Validated:
    """Report a validation: ``miou`` is a fraction; of ``present`` classes in labels, ``predicted`` were predicted."""

    step: int
    miou: float
    pixel_accuracy: float
    best: bool
    predicted: int
    present: int
    classes: list[dict[str, Any]]  # name, iou, accuracy (fractions, None where absent) and pixels of each


Event = Note | Started | Advanced | Finished | Trained | Validated
Reporter = Callable[[Event], None]


def describe(event: Event) -> str | None:
    """Return an event as a line of text; None for those that have none."""
    match event:
        case Note(text, warning):
            return f"warning: {text}" if warning else text
        case Trained(logged=True):
            left = "" if event.seconds_left is None else f"  {duration(event.seconds_left)} left"
            return (
                f"step {event.step}/{event.steps}  loss {event.loss:.4f}  lr {event.learning_rate:.3g}  "
                f"{event.images_per_second:.1f} images/s  waiting for data {event.waiting:.1%}{left}"
            )
        case Validated():
            best = "  (best so far)" if event.best else ""
            return (
                f"step {event.step}: val mIoU {percent(event.miou)}  pixel accuracy {percent(event.pixel_accuracy)}  "
                f"predicts {event.predicted} of {event.present} classes{best}"
            )
    return None


def pace(done: int, left: int, seconds: float, unit: str) -> str:
    """Return how fast a task goes and when it ends, of the parts that it did in some seconds; "" before the first."""
    if done <= 0 or seconds <= 0:
        return ""
    rate = done / seconds
    shown = f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
    return f"{shown}, {duration(max(left, 0) / rate)} left"


def duration(seconds: float) -> str:
    """Return a time as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(count: int, what: str) -> str:
    """Return a number and what it counts, in the plural except for 1."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def percent(share: float | None, absent: str = "-") -> str:
    """Return a fraction as a percentage with two digits, or ``absent`` for None."""
    return absent if share is None else f"{100 * share:.2f}"


def area(share: float) -> str:
    """Return the share of an image that a class takes, in percent; what is there never has 0.0."""
    return "< 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def silent(event: Event) -> None:
    """Report nothing."""


def python_warnings(event: Event) -> None:
    """Report warnings only, as Python's own."""
    if isinstance(event, Note) and event.warning:
        warnings.warn(event.text, stacklevel=2)


@contextmanager
def task(report: Reporter, name: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Report a task from its start to its end, however it ends; yields the function that advances it, by 1 or more."""

    def advance(parts: int = 1) -> None:
        report(Advanced(parts))

    report(Started(name, total, unit, done))
    try:
        yield advance
    finally:
        report(Finished())


def tqdm_reporter() -> Reporter:
    """Make a reporter of tqdm bars, for notebooks and scripts; notes go to stderr."""
    from tqdm.auto import tqdm

    bars: list[tqdm] = []

    def report(event: Event) -> None:
        match event:
            case Started(task, total, unit, done):
                bars.append(tqdm(desc=task, total=total, unit=f" {unit}", initial=done, leave=len(bars) == 0))
            case Advanced(parts):
                bars[-1].update(parts)
            case Finished():
                bars.pop().close()
            case Trained(step, steps):
                bars[0].total = steps
                bars[0].update(step - bars[0].n)
                bars[0].set_postfix(loss=f"{event.loss:.4f}", lr=f"{event.learning_rate:.3g}")
            case Validated():
                tqdm.write(f"step {event.step}: mIoU {percent(event.miou)}", file=sys.stderr)
            case Note():
                tqdm.write(describe(event) or "", file=sys.stderr)

    return report


@contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect file descriptor 2, which native code also writes to, into a file; yields a function that reads it.

    No setting of TensorFlow or LiteRT keeps all of what they write off the terminal.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)

        def read() -> str:
            sys.stderr.flush()
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        os.dup2(file.fileno(), 2)
        try:
            yield read
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
