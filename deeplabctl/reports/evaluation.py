"""Write the results of an evaluation into a folder: JSON, CSV tables, the confusion matrix and a page."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from deeplabctl.arrays import Counts, Image, Label
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import read_label
from deeplabctl.evaluation.metrics import Curve
from deeplabctl.evaluation.scores import Extremes, ImageScores, SplitScores, class_columns
from deeplabctl.files import check_folder, check_new_file, check_writable, write_text
from deeplabctl.render import INK, PAPER, Font, drawable_name, font, overlay, write_image
from deeplabctl.reports.page import (
    cards,
    class_names,
    inline_image,
    legend,
    percent,
    render_page,
    settings_table,
    shrunk,
    swatch,
    table,
)

SCORES, CLASSES, CONFUSION, CONFUSION_IMAGE, PAGE = (
    "scores.json", "classes.csv", "confusion.csv", "confusion.png", "report.html",
)  # fmt: skip

_PANEL_WIDTH = 480  # pixels of an image in the page
_CHART = (460, 230, 40)  # width, height and margin of a curve
_WRONG = np.array((222, 45, 38), np.float32)
_EMPTY = (232, 232, 232)
_FULL = np.array((8, 69, 148), np.float32)  # of a cell that holds all of its row
_MOST_MISTAKES = 10
_MOST_NUMBERS = 40  # classes up to which cells have room for their numbers


def check_results(out: Path, *, overwrite: bool) -> None:
    """Raise OutputError where `write_results` may not or cannot write: into a file, or over files that exist."""
    check_folder(out)
    check_writable(out)
    for name in (SCORES, CLASSES, CONFUSION, CONFUSION_IMAGE, PAGE):
        check_new_file(out / name, overwrite=overwrite)


def write_results(
    out: Path, scores: dict[str, Any], split_scores: SplitScores, extremes: Extremes, title: str, subtitle: str
) -> None:
    """Write all files, each whole or not at all. ``scores`` is `SplitScores.to_dict` and what is known beside it."""
    write_text(out / SCORES, json.dumps(scores, indent=1) + "\n")
    keys = list(scores["classes"][0])
    write_text(out / CLASSES, _csv([keys, *([_percent(entry[key]) for key in keys] for entry in scores["classes"])]))
    counts = split_scores.matrix.counts
    rows = ([name, *row.tolist()] for name, row in zip(split_scores.classes, counts, strict=True))
    write_text(out / CONFUSION, _csv([["labelled\\predicted", *split_scores.classes], *rows]))
    write_image(out / CONFUSION_IMAGE, confusion_image(counts, split_scores.classes))
    write_text(out / PAGE, render_report(scores, split_scores, extremes, title, subtitle))


def render_report(
    scores: dict[str, Any], split_scores: SplitScores, extremes: Extremes, title: str, subtitle: str
) -> str:
    """Return the page; ``scores`` is what scores.json has."""
    expected = scores.get("expected")
    parts = {
        "cards": cards(
            (f"{name} %", percent(scores[key]))
            for metric in split_scores.metrics
            for key, name in metric.totals.items()
        ),
        "expected": f"<p class=note>{escape(expected['text'])}</p>" if expected else "",
        "classes": class_table(scores["classes"]),
        "curves": "".join(_chart(curve) for metric in split_scores.metrics if (curve := metric.curve())),
        "mistakes": _mistakes(split_scores.matrix.counts, split_scores.classes),
        "confusion": _confusion(split_scores.matrix.counts, split_scores.classes),
        "worst": _rows(extremes.worst(), split_scores.classes),
        "best": _rows(extremes.best(), split_scores.classes) or "<p class=note>All images are shown above.</p>",
        "legend": legend(split_scores.classes, _drawn([*extremes.worst(), *extremes.best()])),
        "settings": settings_table(scores["settings"]),
    }
    return render_page("evaluation", title, subtitle, parts)


def class_table(classes: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the classes' scores, from `SplitScores.to_dict`."""
    columns = class_columns(classes)
    names = class_names(classes)
    rows = [
        [
            f"{swatch(names, index)}{escape(entry['name'])}",
            f"<div class=bar><i style='width:{100 * (entry['iou'] or 0.0):.1f}%'></i></div>",
            *(percent(entry.get(key)) for key in columns),
            f"{entry['pixels']:,}",
        ]
        for index, entry in enumerate(classes)
    ]
    return table(["class", "", *(f"{name} %" for name in columns.values()), "pixels"], rows)


def _mistakes(counts: Counts, classes: Sequence[str]) -> str:
    """Return a table of the pairs of classes with the most wrong pixels."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_MISTAKES]
    pairs = [divmod(int(place), len(classes)) for place in order if wrong.flat[place]]
    rows = [
        [
            f"{swatch(classes, label)}{escape(classes[label])}",
            f"{swatch(classes, guess)}{escape(classes[guess])}",
            percent(float(wrong[label, guess] / counts[label].sum())),
            f"{wrong[label, guess]:,}",
        ]
        for label, guess in pairs
    ]
    headers = ["labelled", "predicted", "% of the class", "pixels"]
    return f"<div class=pairs>{table(headers, rows)}</div>" if rows else "<p class=note>None.</p>"


def _confusion(counts: Counts, classes: Sequence[str]) -> str:
    """Return the confusion matrix as a table, or, where it has too many cells for that, as an image."""
    note = "<p class=note>A row is a labelled class, a column what was predicted{}.</p><div class=scroll tabindex=0>"
    if len(classes) > _MOST_NUMBERS:
        image = inline_image(confusion_image(counts, classes), "PNG")
        shades = "; the darker, the larger its share of the row. Rows of classes without a pixel are grey"
        return f"{note.format(shades)}<img alt='confusion matrix' src='{image}'></div>"
    head = "".join(f"<th scope=col><span>{escape(name)}</span></th>" for name in classes)
    rows = []
    for index, (name, row) in enumerate(zip(classes, counts, strict=True)):
        shares = [100 * count / max(int(row.sum()), 1) for count in row.tolist()]
        cells = "".join(_cell(share, is_right=index == column) for column, share in enumerate(shares))
        rows.append(f"<tr><th scope=row>{swatch(classes, index)}{escape(name)}</th>{cells}</tr>")
    note = note.format(", in percent of the row; what is right is bold")
    return f"{note}<table class=matrix><tr><td></td>{head}</tr>{''.join(rows)}</table></div>"


def _cell(share: float, *, is_right: bool) -> str:
    text = f"{share:.0f}".removeprefix("0")
    shade = f" style='--share:{text}%'" if text else ""
    return f"<td{' class=right' if is_right else ''}{shade}>{text}</td>"


def error_map(image: Image, label: Label, prediction: Label) -> Image:
    """Return the image in pale grey, (H, W, 3) uint8, with wrong pixels in red and void in white."""
    grey = image.astype(np.float32).mean(-1, keepdims=True)
    drawn = np.repeat(140 + 0.35 * grey, 3, -1)
    wrong = (label != prediction)[..., None]
    drawn = np.where(wrong, 0.2 * grey + 0.8 * _WRONG, drawn)
    drawn[label == IGNORE_LABEL] = 255
    errors: Image = np.rint(drawn).astype(np.uint8)
    return errors


def confusion_image(counts: Counts, classes: Sequence[str]) -> Image:
    """Draw a confusion matrix (C, C): one row per labelled class, as percentages of the row.

    The diagonal is what was found correctly; rows without a pixel are grey.
    """
    cell = 34 if len(classes) <= _MOST_NUMBERS else 12
    letters, small = font(13 if len(classes) <= _MOST_NUMBERS else 9), font(12)
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in map(drawable_name, range(len(classes)), classes)]
    margin = 12
    side = round(max(letters.getlength(name) for name in names)) + 2 * margin
    size = side + cell * len(classes) + margin
    canvas = PillowImage.new("RGB", (size + 18, size + 18), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((18 + side, 9), "predicted", INK, letters, anchor="lm")
    _draw_upright(canvas, "labelled", (9, 18 + side), letters, below=True)
    left = top = 18 + side
    totals = counts.sum(1)
    for row, name in enumerate(names):
        y = top + row * cell
        draw.text((left - margin / 2, y + cell / 2), name, INK, letters, anchor="rm")
        _draw_upright(canvas, name, (left + row * cell + cell // 2, top - margin // 2), letters)
        for column in range(len(names)):
            x = left + column * cell
            share = counts[row, column] / totals[row] if totals[row] else 0.0
            shade = PAPER if totals[row] else _EMPTY
            color = tuple(int(value) for value in np.rint(np.array(shade) * (1 - share) + _FULL * share))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=color, outline=_EMPTY)
            if len(classes) <= _MOST_NUMBERS and share >= 0.005:
                ink = PAPER if share > 0.5 else INK
                draw.text((x + cell / 2 - 1, y + cell / 2 - 1), f"{100 * share:.0f}", ink, small, anchor="mm")
    return np.asarray(canvas)


def _chart(curve: Curve) -> str:
    """Draw a curve as SVG; nothing where none of its points is known."""
    known = [(at, 100 * score) for at, score in curve.points if score is not None]
    if not known:
        return ""
    wide, high, margin = _CHART
    scores = [score for _, score in known]
    low, top = 10 * min(min(scores) // 10, 9), 10 * min(max(scores) // 10 + 1, 10)
    first, last = curve.points[0][0], curve.points[-1][0]

    def place(at: float, score: float) -> tuple[float, float]:
        x = margin + (at - first) / (last - first) * (wide - margin - 10)
        return round(x, 1), round(10 + (top - score) / (top - low) * (high - margin - 10), 1)

    lines = []
    for level in np.arange(low, top + 1, 10 if top - low <= 60 else 20):
        (x, y), (end, _) = place(first, level), place(last, level)
        lines.append(
            f"<path class=grid d='M{x} {y}H{end}'/><text x={x - 6} y={y + 4} text-anchor=end>{level:.0f}</text>"
        )
    for tick in curve.ticks:
        x, y = place(tick, low)
        lines.append(f"<text x={x} y={y + 18} text-anchor=middle>{tick:g}</text>")
    line = " ".join("{},{}".format(*place(*point)) for point in known)
    dots = "".join(
        "<circle cx={} cy={} r=3><title>{:g} {}: {:.2f}</title></circle>".format(
            *place(at, score), at, curve.unit, score
        )
        for at, score in known
    )
    return (
        f"<section><h3>{curve.title}</h3><svg viewBox='0 0 {wide} {high}' role=img aria-label='{curve.title}'>"
        f"{''.join(lines)}"
        f"<polyline points='{line}'/>{dots}"
        f"<text x={wide / 2} y={high - 4} text-anchor=middle>{curve.caption}</text></svg></section>"
    )


def _rows(ranked: Sequence[ImageScores], classes: Sequence[str]) -> str:
    rows = []
    for scored in ranked:
        sample, prediction = scored.sample, scored.prediction
        image, label = read_image(sample.image), read_label(sample.label)
        panels = (
            image,
            overlay(image, label, classes),
            overlay(image, prediction, classes),
            error_map(image, label, prediction),
        )
        name = escape(sample.id)
        figures = "".join(
            f"<figure><img alt='{title} of {name}' src='{inline_image(shrunk(panel, _PANEL_WIDTH), 'JPEG')}'>"
            f"<figcaption>{title}</figcaption></figure>"
            for title, panel in zip(("image", "label", "prediction", "errors"), panels, strict=True)
        )
        rows.append(f"<h3>{name} <small>mIoU {percent(scored.miou)}</small></h3><div class=row>{figures}</div>")
    return "".join(rows)


def _drawn(images: Iterable[ImageScores]) -> list[int]:
    """Return the classes in the labels and the predictions of images, in ascending order."""
    labels = (label for image in images for label in (read_label(image.sample.label), image.prediction))
    return sorted({int(index) for label in labels for index in np.unique(label)} - {IGNORE_LABEL})


def _draw_upright(
    canvas: PillowImage.Image, text: str, at: tuple[int, int], letters: Font, *, below: bool = False
) -> None:  # fmt: skip
    """Draw a text from below to above, centred on ``at`` across; it ends there, or (below) begins."""
    length, height = round(letters.getlength(text)) + 2, 18
    strip = PillowImage.new("RGB", (length, height), PAPER)
    ImageDraw.Draw(strip).text((0, height / 2), text, INK, letters, anchor="lm")
    turned = strip.transpose(PillowImage.Transpose.ROTATE_90)
    canvas.paste(turned, (at[0] - height // 2, at[1] if below else at[1] - length))


def _percent(value: Any) -> Any:
    """Return a share as a percentage; counts and names as they are."""
    return f"{100 * value:.4f}" if isinstance(value, float) else value


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
