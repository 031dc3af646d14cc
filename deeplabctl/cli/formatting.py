"""Put events and scores into words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from deeplabctl.reporting import Event, Note, Trained, Validated


def with_options(text: str) -> str:
    """Write the arguments that a message names in backquotes as options: `overwrite` is --overwrite."""

    def option(match: re.Match[str]) -> str:
        name, value = match[1].replace("_", "-"), match[2]
        return f"--{name}" if value is None else f"--{name} {value}"

    return re.sub(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`", option, text)


def describe(event: Event) -> str | None:
    """Return an event as a line of text; None for those that are none."""
    match event:
        case Note(text, warning):
            return with_options(f"warning: {text}" if warning else text)
        case Trained(logged=True):
            return (
                f"step {event.step}/{event.steps}  loss {event.loss:.4f}  lr {event.learning_rate:.3g}  "
                f"{event.images_per_second:.1f} images/s  waiting {event.waiting:.1%}  "
                f"{duration(event.seconds_left)} left"
            )
        case Validated():
            best = "  (best so far)" if event.best else ""
            return (
                f"step {event.step}: val mIoU {event.miou:.4f}  pixel accuracy {event.pixel_accuracy:.4f}  "
                f"predicts {event.predicted} of {event.present} classes{best}"
            )
    return None


def duration(seconds: float) -> str:
    """Return a time as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def score_rows(scores: dict[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Return headers and rows of the table of classes, from `Evaluation.to_dict`."""
    rows = [
        [entry["name"], percent(entry["iou"]), percent(entry["accuracy"]), f"{entry['pixels']:,}"]
        for entry in scores["classes"]
    ]
    return ("class", "IoU %", "accuracy %", "pixels"), rows


def percent(share: float | None) -> str:
    """Return a fraction as a percentage with two digits, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.2f}"
