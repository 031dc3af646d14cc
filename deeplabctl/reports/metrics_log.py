"""Write and read metrics.jsonl: a line of JSON for each logged step and for each validation of a training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deeplabctl.errors import OutputError, RunError
from deeplabctl.files import write_text

METRICS = "metrics.jsonl"
_TRAIN, _VALIDATION = "train", "validation"  # the kinds of lines


def append_metrics(run: Path, kind: str, **values: Any) -> None:
    """Append a line to a run's metrics: ``kind`` is "train" or "validation", the values have a "step".

    Raises OutputError where it cannot be written.
    """
    path = run / METRICS
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def rewind_metrics(run: Path, step: int, *, keep_validation: bool) -> None:
    """Cut a run's metrics back to what they were after ``step``, with that step's validation or without.

    A line that was cut off goes, too.
    """
    path = run / METRICS
    kept = (
        line
        for line, entry in _entries(path)
        if entry["step"] < step or (entry["step"] == step and (keep_validation or entry["kind"] != _VALIDATION))
    )
    write_text(path, "".join(f"{line}\n" for line in kept))


@dataclass(frozen=True)
class Metrics:
    """Hold the lines of a metrics file, each as a dictionary, in the order in which they were written."""

    train: list[dict[str, Any]]  # step, loss, learning_rate, images_per_second, ...
    validations: list[dict[str, Any]]  # step, miou (a fraction), ..., classes in newer runs

    @classmethod
    def read(cls, run: Path) -> Self:
        """Read a run's metrics; a line that was cut off is skipped, and a missing file has none.

        Raises RunError for a file that cannot be read.
        """
        entries = [entry for _, entry in _entries(run / METRICS)]
        return cls(
            [entry for entry in entries if entry["kind"] == _TRAIN],
            [entry for entry in entries if entry["kind"] == _VALIDATION],
        )

    @property
    def last_step(self) -> int:
        """Return the last step of which the file knows, 0 before the first."""
        return max((entry["step"] for entry in (*self.train, *self.validations)), default=0)

    @property
    def best(self) -> dict[str, Any] | None:
        """Return the first validation with the highest mean IoU; None before any."""
        scored = [entry for entry in self.validations if math.isfinite(number(entry, "miou"))]
        return max(scored, key=lambda entry: number(entry, "miou"), default=None)


def number(entry: dict[str, Any], key: str) -> float:
    """Return a number of a line; NaN where it has none."""
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines that can be read, each with its text."""
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int) and isinstance(entry.get("kind"), str):
            yield line, entry
