"""Write report.html of a training: its curves, the scores of the classes, the first and last previews, the settings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from deeplabctl.data.images import read_image
from deeplabctl.errors import DataError
from deeplabctl.files import write_text
from deeplabctl.recipe import Expect
from deeplabctl.reporting import counted, duration
from deeplabctl.reports.curves import DARK, LIGHT, NARROW, WIDE, curves_png
from deeplabctl.reports.evaluation import class_table
from deeplabctl.reports.page import (
    DASH,
    cards,
    data_uri,
    in_words,
    inline_image,
    percent,
    render_page,
    settings_table,
    shrunk,
)
from deeplabctl.reports.run_records import Metrics, RunResults, number
from deeplabctl.run_layout import REPORT

_PREVIEW_WIDTH = 1000  # pixels


def write_report(run: Path) -> None:
    """Write a run's report.html.

    Raises RunError for a folder that is not a run or has no metrics, OutputError where the page cannot be written.
    """
    write_text(run / REPORT, render_training_report(RunResults.read(run)))


def render_training_report(results: RunResults) -> str:
    """Return the page."""
    model = results.recipe.get("model", {})
    parts = {
        "cards": cards(_headlines(results)),
        "expected": _expectation(results),
        "curves": inline_curves([("", results.metrics)]),
        "classes": _classes(results),
        "run": settings_table(_run_facts(results)),
        "previews": _previews(results.previews()),
        "settings": "".join(
            f"<section><h3>{escape(name)}</h3>{settings_table(section)}</section>"
            for name, section in results.recipe.items()
            if name != "expect"
        ),
    }
    subtitle = (
        f"{in_words(model.get('architecture', DASH))} of width {in_words(model.get('width', DASH))} "
        f"on {results.data_name}, {results.steps_in_words}"
    )
    if results.status not in (None, "finished"):
        subtitle += f", {results.status}" + " or killed" * (results.status == "running")
    if results.status != "interrupted" and (error := results.facts.get("error")):
        subtitle += f": {error}"
    return render_page("training_run", results.name, subtitle, parts)


def inline_curves(runs: Sequence[tuple[str, Metrics]]) -> str:
    """Return the curves of one or several runs as HTML, for light and for dark pages, for screens and for phones."""
    drawings = [(width, theme) for width in (NARROW, WIDE) for theme in (DARK, LIGHT)]
    *others, last = (data_uri(curves_png(runs, theme, width), "PNG") for width, theme in drawings)
    phone, dark = "(max-width: 760px)", "(prefers-color-scheme: dark)"
    sources = "".join(
        f"<source media='{media}' srcset='{png}'>"
        for media, png in zip((f"{phone} and {dark}", phone, dark), others, strict=True)
    )
    words = "curves of loss, mean IoU and learning rate"
    return f"<picture>{sources}<img class='picture curves' alt='{words}' src='{last}'></picture>"


def _headlines(results: RunResults) -> list[tuple[str, str]]:
    best = results.metrics.best
    at = "" if best is None else f", step {best['step']:,}"
    accuracy = None if best is None else number(best, "pixel_accuracy")
    return [
        (f"best mIoU %{at}", percent(results.best_miou)),
        ("pixel accuracy %, same step", percent(accuracy)),
        ("last loss", DASH if results.loss is None else f"{results.loss:.4f}"),
        ("steps", results.steps_in_table),
        ("time in all", DASH if (seconds := results.seconds_in_all) is None else duration(seconds)),
    ]


def _expectation(results: RunResults) -> str:
    expect = results.facts.get("expect")
    if not isinstance(expect, dict) or not number(expect, "miou") > 0:
        return ""
    expected = Expect(number(expect, "miou"), number(expect, "tolerance"), source=expect.get("source", ""))
    return f"<p class=note>{escape(expected.text)}</p>"


def _classes(results: RunResults) -> str:
    if results.classes:
        return f"<p class=note>Of the validation with the best mIoU.</p>{class_table(results.classes)}"
    reason = "There was no validation yet." if results.metrics.best is None else "The metrics of this run have none."
    return f"<p class=note>{reason}</p>"


def _run_facts(results: RunResults) -> dict[str, Any]:
    facts, earlier = results.facts, results.facts.get("earlier")
    versions, argv = facts.get("versions"), facts.get("argv")
    began = earlier[0] if isinstance(earlier, list) and earlier and isinstance(earlier[0], dict) else facts
    shown = {
        "status": results.status,
        "started": began.get("started"),
        "resumed": counted(len(earlier), "time") if isinstance(earlier, list) else None,
        "time of the steps": results.seconds and f"{duration(results.seconds)}, without validations",
        "device": facts.get("device"),
        "platform": facts.get("platform"),
        "python": facts.get("python"),
        **(versions if isinstance(versions, dict) else {}),
        "git": facts.get("git"),
        "command": _command(began.get("argv")),
        "resumed with": None if began is facts else _command(argv),
    }
    return {key: value for key, value in shown.items() if value is not None}


def _command(argv: Any) -> str | None:
    return shlex.join(map(str, argv)) if isinstance(argv, list) and argv else None


def _previews(files: Sequence[Path]) -> str:
    figures = []
    for file in files:
        try:
            image = shrunk(read_image(file), _PREVIEW_WIDTH)
        except DataError:  # removed or damaged meanwhile; the other parts of the page stand without it
            continue
        step = escape(file.stem.removeprefix("step-").lstrip("0"))
        figures.append(
            f"<figure><img class=picture alt='preview of step {step}' src='{inline_image(image, 'JPEG')}'>"
            f"<figcaption>step {step}</figcaption></figure>"
        )
    return f"<h2>Previews</h2><div class=pair>{''.join(figures)}</div>" if figures else ""
