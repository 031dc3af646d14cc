"""Compare several trainings in one image of curves and one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Self

from deeplabctl.classes import ClassNames
from deeplabctl.errors import RunError
from deeplabctl.files import check_folder, check_new_file, whole_file, write_text
from deeplabctl.reporting import counted, duration
from deeplabctl.reports.curves import DARK, LIGHT, curves_png, line_style
from deeplabctl.reports.page import DASH, class_names, in_words, percent, render_page, swatch, table
from deeplabctl.reports.run_records import Metrics, RunResults
from deeplabctl.reports.training_run import inline_curves

CURVES, PAGE = "comparison.png", "comparison.html"
HEADERS = ("run", "best mIoU %", "at step", "steps", "last loss", "time of steps", "recipe", "data")
_MIOU = HEADERS.index("best mIoU %")


@dataclass(frozen=True)
class Comparison:
    """Hold the results of several runs, side by side."""

    runs: Sequence[RunResults]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Self:
        """Read run directories; raises RunError for one that cannot be read, has no metrics, or is named twice."""
        places = [path.resolve() for path in paths]
        if twice := [path for index, path in enumerate(paths) if places[index] in places[:index]]:
            raise RunError(f"{twice[0]}: expected different runs, got this one more than once; name each run once")
        return cls([RunResults.read(path) for path in paths])

    @cached_property
    def names(self) -> list[str]:
        """Return a name for each run: that of its directory, or the whole path where two directories share one."""
        names = [run.name for run in self.runs]
        return [name if names.count(name) == 1 else str(run.path) for name, run in zip(names, self.runs, strict=True)]

    @cached_property
    def settings(self) -> dict[str, list[Any]]:
        """Return the settings that differ, as "section.key", with a value for each run; None where it has none."""
        flat = [
            {
                f"{name}.{key}": value
                for name, section in run.recipe.items()
                if name != "expect"
                for key, value in section.items()
            }
            for run in self.runs
        ]
        keys = dict.fromkeys(key for settings in flat for key in settings)
        values = {key: [settings.get(key) for settings in flat] for key in keys}
        return {key: row for key, row in values.items() if any(value != row[0] for value in row)}

    @cached_property
    def classes(self) -> ClassNames:
        """Return the classes that the runs share; empty where they differ, or no run has scores of classes."""
        sets = {class_names(run.classes) for run in self.runs if run.classes}
        return sets.pop() if len(sets) == 1 else ClassNames(())

    def rows(self) -> list[list[str]]:
        """Return the rows of the table of runs, under `HEADERS`."""
        return [
            [
                name,
                percent(run.best_miou),
                DASH if run.best_step is None else f"{run.best_step:,}",
                run.steps_in_table,
                DASH if run.loss is None else f"{run.loss:.4f}",
                DASH if run.seconds is None else duration(run.seconds),
                run.recipe_name or DASH,
                run.data_name,
            ]
            for name, run in zip(self.names, self.runs, strict=True)
        ]

    @cached_property
    def warning(self) -> str | None:
        """Say why the scores of the runs cannot be compared; None if they can."""
        other = [name for name in self.settings if name in ("data.root", "data.val_split") or name.startswith("eval.")]
        if not other:
            return None
        return (
            f"the runs were validated on different images, or in different ways ({', '.join(other)}): their mIoU "
            "can only be compared if the images are the same"
        )

    @property
    def note(self) -> str | None:
        """Say why there is no table of classes; None if there is one."""
        if self.classes:
            return None
        if any(run.classes for run in self.runs):
            return "the runs have different classes, so there is no table of classes"
        return "the metrics of the runs have no scores of the classes, so there is no table of them"

    def class_ious(self) -> dict[str, list[float | None]]:
        """Return the IoU of each class in each run's best validation; None where a run has no such score."""
        return {
            name: [run.classes[index]["iou"] if run.classes else None for run in self.runs]
            for index, name in enumerate(self.classes)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON knows it."""
        return {
            "runs": [run.to_dict() for run in self.runs],
            "settings": self.settings,
            "classes": [{"name": name, "iou": ious} for name, ious in self.class_ious().items()],
        }


def check_comparison(out: Path, *, overwrite: bool) -> None:
    """Raise OutputError where `write_comparison` must not write."""
    check_folder(out)
    for name in (CURVES, PAGE):
        check_new_file(out / name, overwrite=overwrite)


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write comparison.png and comparison.html into a folder; raises OutputError where they cannot be written."""
    with whole_file(out / CURVES) as temporary:
        temporary.write_bytes(curves_png(_curves(comparison)))
    write_text(out / PAGE, render_comparison(comparison))


def render_comparison(comparison: Comparison) -> str:
    """Return the page."""
    parts = {
        "runs": _run_table(comparison),
        "curves": inline_curves(_curves(comparison)),
        "settings": _settings_table(comparison),
        "classes": _class_table(comparison),
    }
    title = f"{counted(len(comparison.runs), 'run')} compared"
    return render_page("comparison", title, ", ".join(comparison.names), parts)


def _curves(comparison: Comparison) -> list[tuple[str, Metrics]]:
    return [(name, run.metrics) for name, run in zip(comparison.names, comparison.runs, strict=True)]


def _run_table(comparison: Comparison) -> str:
    best = max((run.best_miou for run in comparison.runs if run.best_miou is not None), default=None)
    rows = []
    for index, (run, row) in enumerate(zip(comparison.runs, comparison.rows(), strict=True)):
        cells = [escape(cell) for cell in row]
        cells[0] = f"{_line(index)}{cells[0]}"
        if best is not None and run.best_miou == best and comparison.warning is None:
            cells[_MIOU] = f"<b>{cells[_MIOU]}</b>"
        rows.append(cells)
    warning = f"<p class=note>{escape(_sentence(comparison.warning))}</p>" if comparison.warning else ""
    return warning + table(HEADERS, rows)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _settings_table(comparison: Comparison) -> str:
    if not comparison.settings:
        return "<p class=note>All settings are the same.</p>"
    rows = [
        [escape(key), *(DASH if value is None else escape(in_words(value)) for value in values)]
        for key, values in comparison.settings.items()
    ]
    return f"<div class=differing>{table(['setting', *_headers(comparison)], rows)}</div>"


def _class_table(comparison: Comparison) -> str:
    if comparison.note is not None:
        return f"<p class=note>{escape(_sentence(comparison.note))}</p>"
    rows = [
        [
            f"{swatch(comparison.classes, index)}{escape(name)}",
            *(_marked(iou, None if comparison.warning else max(filter(None, ious), default=None)) for iou in ious),
        ]
        for index, (name, ious) in enumerate(comparison.class_ious().items())
    ]
    return table(["class", *_headers(comparison)], rows)


def _headers(comparison: Comparison) -> list[str]:
    return [f"{_line(index)}{escape(name)}" for index, name in enumerate(comparison.names)]


def _marked(value: float | None, best: float | None) -> str:
    """Return a score, in bold if it is the best."""
    return f"<b>{percent(value)}</b>" if value is not None and value == best else percent(value)


def _line(index: int) -> str:
    """Return a short line as in the curves of a run, on light and on dark pages."""
    (light, dashes), (dark, _) = (line_style(index, theme) for theme in (LIGHT, DARK))
    return f"<s class=line style='border-top:3px {dashes} {light};border-color:light-dark({light},{dark})'></s>"
