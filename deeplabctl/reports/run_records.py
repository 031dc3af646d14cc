"""Read what a training leaves in its run directory, finished or not: recipe, facts, metrics, previews.

metrics.jsonl has a line of JSON for each logged step and for each validation; it is written here, too.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from deeplabctl.errors import OutputError, RunError
from deeplabctl.files import write_text
from deeplabctl.reporting import counted
from deeplabctl.run_layout import FACTS, METRICS_LOG, PREVIEWS, RECIPE

_COLOR = re.compile(r"#[0-9a-f]{6}")
_STEPS = 2**31  # a recipe has fewer
_TRAIN, _VALIDATION = "train", "validation"  # the kinds of lines


def append_metrics(run: Path, kind: str, **values: Any) -> None:
    """Append a line to a run's metrics: ``kind`` is "train" or "validation", the values have a "step".

    Raises OutputError where it cannot be written.
    """
    path = run / METRICS_LOG
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def has_metrics(run: Path) -> bool:
    """Tell whether a folder has metrics of a training, as one that failed at its start has not."""
    path = run / METRICS_LOG
    return path.is_file() and path.stat().st_size > 0


def rewind_metrics(run: Path, step: int, *, keep_validation: bool) -> None:
    """Cut a run's metrics back to what they were after ``step``, with that step's validation or without.

    A line that was cut off goes, too.
    """
    path = run / METRICS_LOG
    kept = (
        line
        for line, entry in _entries(path)
        if entry["step"] < step or (entry["step"] == step and (keep_validation or entry["kind"] != _VALIDATION))
    )
    write_text(path, "".join(f"{line}\n" for line in kept))


@dataclass(frozen=True)
class Metrics:
    """Hold the lines of a metrics file, each a dictionary, in the order in which they were written."""

    train: list[dict[str, Any]]  # step, loss, learning_rate, images_per_second, ...
    validations: list[dict[str, Any]]  # step, miou (a fraction), ..., classes in newer runs

    @classmethod
    def read(cls, run: Path) -> Self:
        """Read a run's metrics; a line that was cut off is skipped, and a missing file has none.

        Raises RunError for a file that cannot be read.
        """
        entries = [entry for _, entry in _entries(run / METRICS_LOG)]
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
    """Return a finite number of a line; NaN where it has none."""
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) and abs(value) <= sys.float_info.max else math.nan


def run_facts(path: Path) -> dict[str, Any]:
    """Return what run.json says; nothing if the run was killed before it was written."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        facts = json.loads((path / FACTS).read_text("utf-8"))
        if isinstance(facts, dict):
            return facts
    return {}


@dataclass(frozen=True)
class RunResults:
    """Hold the results of one run."""

    path: Path
    recipe: dict[str, dict[str, Any]]  # section -> key -> value
    facts: dict[str, Any]  # run.json
    metrics: Metrics

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a run directory; raises RunError for a folder that is not one, or has no metrics yet."""
        file = path / RECIPE
        if not file.is_file():
            got = "a folder without it" if path.is_dir() else "a file" if path.exists() else "nothing of that name"
            raise RunError(f"{path}: expected a run directory with a {RECIPE}, got {got}")
        try:
            recipe = tomllib.loads(file.read_text("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"cannot read {file}: {error}") from error
        metrics = Metrics.read(path)
        if not metrics.last_step:
            raise RunError(f"{path}: expected at least one training step in {METRICS_LOG}, got none; train it first")
        sections = {
            name: {key: _as_json(value) for key, value in section.items()}
            for name, section in recipe.items()
            if isinstance(section, dict)
        }
        return cls(path, sections, run_facts(path), metrics)

    @property
    def name(self) -> str:
        """Return the name of the run directory."""
        return self.path.resolve().name

    @property
    def recipe_name(self) -> str | None:
        """Return the name or the file of the recipe; None where it was not recorded."""
        name = self.facts.get("recipe")
        return name if isinstance(name, str) else None

    @property
    def data_name(self) -> str:
        """Return the name of the data set's folder."""
        root = str(self.recipe.get("data", {}).get("root", ""))
        return Path(root).name or root

    @property
    def planned_steps(self) -> int:
        """Return the steps that the recipe asks for."""
        steps = self.recipe.get("solver", {}).get("steps")
        return steps if isinstance(steps, int) else self.metrics.last_step

    @property
    def steps_in_words(self) -> str:
        """Return the number of steps, and of how many where some are missing: "20 of 60 steps"."""
        done, planned = self.metrics.last_step, self.planned_steps
        return ("" if done >= planned else f"{done:,} of ") + counted(max(done, planned), "step")

    @property
    def steps_in_table(self) -> str:
        """Return the same without the word, for a table that has it."""
        return self.steps_in_words.rpartition(" ")[0]

    @property
    def status(self) -> str | None:
        """Return "running" (or killed), "finished", "interrupted" or "failed"; None where it is not known."""
        status = self.facts.get("status")
        return None if status is None else str(status)

    @property
    def loss(self) -> float | None:
        """Return the last loss that was logged."""
        return _known(number(self.metrics.train[-1], "loss")) if self.metrics.train else None

    @property
    def best_miou(self) -> float | None:
        """Return the highest mean IoU of a validation, a fraction."""
        return None if self.metrics.best is None else number(self.metrics.best, "miou")

    @property
    def best_step(self) -> int | None:
        """Return the step of the best validation."""
        return None if self.metrics.best is None else int(self.metrics.best["step"])

    @property
    def classes(self) -> list[dict[str, Any]]:
        """Return the classes' scores of the best validation, as scores.json has them; empty for an older run."""
        best = self.metrics.best
        found = best.get("classes") if best else None
        return [_class_scores(entry) for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    @property
    def seconds(self) -> float | None:
        """Return the time of the training steps alone, without validations, from the logged speed."""
        solver = self.recipe.get("solver", {})
        images = number(solver, "batch_size") * number(solver, "accumulate")  # in a step
        lines = [{"step": 0}, *self.metrics.train]
        parts = (
            (entry["step"] - before["step"]) * images / number(entry, "images_per_second")
            for before, entry in pairwise(lines)
            if number(entry, "images_per_second") > 0
        )
        return _known(sum(parts)) if self.metrics.train else None

    @property
    def seconds_in_all(self) -> float | None:
        """Return the time from the start of the command to its end, of all that continued the run; None if unknown."""
        earlier = self.facts.get("earlier")
        parts = [*(earlier if isinstance(earlier, list) else []), self.facts]
        return _known(sum(number(part, "seconds") if isinstance(part, dict) else math.nan for part in parts))

    def previews(self) -> list[Path]:
        """Return the first and the last preview; fewer if there are not two."""
        found = (self.path / PREVIEWS).glob("step-*.png")
        files = sorted(found, key=lambda path: (len(path.name), path.name))  # from a million steps on, names are longer
        return [files[0], files[-1]] if len(files) > 1 else files

    def to_dict(self) -> dict[str, Any]:
        """Return the results in short, as JSON knows them."""
        return {
            "run": str(self.path),
            "recipe": self.recipe_name,
            "data": self.data_name,
            "status": self.status,
            "steps": self.metrics.last_step,
            "planned_steps": self.planned_steps,
            "best_miou": self.best_miou,
            "best_step": self.best_step,
            "loss": self.loss,
            "seconds": self.seconds,
        }


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
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            continue
        if isinstance(step := entry.get("step"), int) and 0 <= step < _STEPS:
            yield line, entry


def _as_json(value: object) -> Any:
    """Return a setting as JSON can hold it; what that does not know (NaN, a date, a table) becomes a text."""
    if isinstance(value, list):
        return [_as_json(part) for part in value]
    known = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if known else str(value)


def _class_scores(entry: dict[str, Any]) -> dict[str, Any]:
    pixels = number(entry, "pixels")
    return {
        "name": str(entry.get("name", "")),
        "color": color if isinstance(color := entry.get("color"), str) and _COLOR.fullmatch(color) else None,
        "iou": _known(number(entry, "iou")),
        "accuracy": _known(number(entry, "accuracy")),
        "pixels": int(pixels) if math.isfinite(pixels) else 0,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
