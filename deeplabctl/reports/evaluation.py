"""Make report.html: one file that shows the scores and the best and worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from deeplabctl.data.images import read_image, read_label
from deeplabctl.evaluation.split_scores import Extremes, ImageScores, SplitScores
from deeplabctl.render import overlay
from deeplabctl.reports.evaluation_pictures import confusion_picture, error_map, shrunk
from deeplabctl.reports.page import (
    cards,
    inline_picture,
    legend,
    percent,
    render_page,
    settings_table,
    swatch,
    table,
)

_PANEL_WIDTH = 480  # pixels of a picture in the page
_HEADLINES = (
    ("miou", "mIoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("mean_accuracy", "mean accuracy"),
    ("fw_iou", "frequency-weighted IoU"),
    ("boundary_f1", "boundary F1"),
)
_CHART = (460, 230, 40)  # width, height and margin of the trimap's curve


def render_report(
    scores: dict[str, Any], split_scores: SplitScores, extremes: Extremes, title: str, subtitle: str
) -> str:
    """Return the page; ``scores`` is what scores.json has."""
    expected = scores.get("expected")
    parts = {
        "cards": cards((name, percent(scores[key])) for key, name in _HEADLINES if key in scores),
        "expected": f"<p class=note>{escape(expected['text'])}</p>" if expected else "",
        "classes": class_table(scores["classes"]),
        "trimap": _trimap_chart(scores["trimap"]) if "trimap" in scores else "",
        "confusion": inline_picture(confusion_picture(split_scores.matrix.counts, split_scores.classes), "PNG"),
        "worst": _rows(extremes.worst(), split_scores.classes),
        "best": _rows(extremes.best(), split_scores.classes) or "<p class=note>All images are shown above.</p>",
        "legend": legend(split_scores.classes),
        "settings": settings_table(scores["settings"]),
    }
    return render_page("evaluation", title, subtitle, parts)


def class_table(classes: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the classes' scores, from `SplitScores.to_dict`."""
    boundary = any("boundary_f1" in entry for entry in classes)
    rows = [
        [
            f"{swatch(index)}{escape(entry['name'])}",
            f"<div class=bar><i style='width:{100 * (entry['iou'] or 0.0):.1f}%'></i></div>",
            percent(entry["iou"]),
            percent(entry["accuracy"]),
            *([percent(entry["boundary_f1"])] if boundary else []),
            f"{entry['pixels']:,}",
        ]
        for index, entry in enumerate(classes)
    ]
    return table(["class", "", "IoU %", "accuracy %", *(["boundary F1 %"] if boundary else []), "pixels"], rows)


def _trimap_chart(trimap: dict[str, Any]) -> str:
    """Draw the mean IoU over the width of the trimap as SVG."""
    known = [
        (width, 100 * miou) for width, miou in zip(trimap["widths"], trimap["miou"], strict=True) if miou is not None
    ]
    if not known:
        return ""
    wide, high, margin = _CHART
    low, top = 10 * (min(miou for _, miou in known) // 10), 10 * (max(miou for _, miou in known) // 10 + 1)
    widest = trimap["widths"][-1]

    def place(width: float, miou: float) -> tuple[float, float]:
        x = margin + (width - 1) / (widest - 1) * (wide - margin - 10)
        return round(x, 1), round(10 + (top - miou) / (top - low) * (high - margin - 10), 1)

    lines = []
    for level in np.arange(low, top + 1, 10 if top - low <= 60 else 20):
        (x, y), (end, _) = place(1, level), place(widest, level)
        lines.append(
            f"<path class=grid d='M{x} {y}H{end}'/><text x={x - 6} y={y + 4} text-anchor=end>{level:.0f}</text>"
        )
    for width in (1, 10, 20, 30, 40):
        x, y = place(width, low)
        lines.append(f"<text x={x} y={y + 18} text-anchor=middle>{width}</text>")
    curve = " ".join("{},{}".format(*place(*point)) for point in known)
    dots = "".join(
        "<circle cx={} cy={} r=3><title>{} px: {:.2f}</title></circle>".format(*place(*point), *point)
        for point in known
    )
    around = "void" if trimap["around"] == "void" else "label boundaries"
    caption = f"width of the trimap around {around}, pixels"
    return (
        f"<h2>Mean IoU near boundaries</h2><svg viewBox='0 0 {wide} {high}' role=img>{''.join(lines)}"
        f"<polyline points='{curve}'/>{dots}<text x={wide / 2} y={high - 4} text-anchor=middle>{caption}</text></svg>"
    )


def _rows(images: Sequence[tuple[float, ImageScores]], classes: Sequence[str]) -> str:
    rows = []
    for miou, scored in images:
        image, label = read_image(scored.sample.image), read_label(scored.sample.label)
        pictures = (
            image,
            overlay(image, label, classes),
            overlay(image, scored.prediction, classes),
            error_map(image, label, scored.prediction),
        )
        name = escape(scored.sample.id)
        figures = "".join(
            f"<figure><img alt='{title} of {name}' src='{inline_picture(shrunk(picture, _PANEL_WIDTH), 'JPEG')}'>"
            f"<figcaption>{title}</figcaption></figure>"
            for title, picture in zip(("image", "label", "prediction", "errors"), pictures, strict=True)
        )
        rows.append(f"<h3>{name} <small>mIoU {percent(miou)}</small></h3><div class=row>{figures}</div>")
    return "".join(rows)
