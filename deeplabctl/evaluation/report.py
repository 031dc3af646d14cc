"""Write report.html: one file that shows the scores and the best and worst images, and asks nothing of any server."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from io import BytesIO
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabctl.classes import voc_palette
from deeplabctl.data.images import read_image, read_label
from deeplabctl.evaluation.report_pictures import confusion_picture, error_map, shrunk
from deeplabctl.evaluation.split_scores import Evaluation, Extremes, ImageScores
from deeplabctl.render import overlay

Image8 = npt.NDArray[np.uint8]

_PANEL_WIDTH = 480  # pixels of a picture in the page
_HEADLINES = (
    ("miou", "mIoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("mean_accuracy", "mean accuracy"),
    ("fw_iou", "frequency-weighted IoU"),
    ("boundary_f1", "boundary F1"),
)
_CHART = (460, 230, 40)  # width, height and margin of the trimap's curve


def render_report(scores: dict[str, Any], evaluation: Evaluation, extremes: Extremes, title: str, subtitle: str) -> str:
    """Return the page. ``scores`` is what scores.json has; texts of the data set are escaped."""
    page = Template((resources.files("deeplabctl.evaluation") / "report.html").read_text("utf-8"))
    expected = scores.get("expected")
    return page.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        cards="".join(_card(name, scores[key]) for key, name in _HEADLINES if key in scores),
        expected=f"<p class=note>{escape(expected['text'])}</p>" if expected else "",
        classes=_class_table(scores["classes"]),
        trimap=_trimap_chart(scores["trimap"]) if "trimap" in scores else "",
        confusion=_inline(confusion_picture(evaluation.matrix.counts, evaluation.classes), "PNG"),
        worst=_rows(extremes.worst(), evaluation.classes),
        best=_rows(extremes.best(), evaluation.classes) or "<p class=note>All images are shown above.</p>",
        legend=_legend(evaluation.classes),
        settings=_settings(scores["settings"]),
    )


def _card(name: str, value: float | None) -> str:
    return f"<div class=card><b>{_percent(value)}</b><span>{name}</span></div>"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"  # noqa: RUF001 - a dash in a table


def _class_table(classes: Sequence[dict[str, Any]]) -> str:
    boundary = any("boundary_f1" in entry for entry in classes)
    rows = []
    for index, entry in enumerate(classes):
        iou = entry["iou"] or 0.0
        rows.append(
            f"<tr><td>{_swatch(index)}{escape(entry['name'])}</td>"
            f"<td class=bar><div><i style='width:{100 * iou:.1f}%'></i></div></td><td>{_percent(entry['iou'])}</td>"
            f"<td>{_percent(entry['accuracy'])}</td>"
            + (f"<td>{_percent(entry['boundary_f1'])}</td>" if boundary else "")
            + f"<td>{entry['pixels']:,}</td></tr>"
        )
    headers = ["class", "", "IoU %", "accuracy %", *(["boundary F1 %"] if boundary else []), "pixels"]
    return f"<table><tr>{''.join(f'<th>{header}</th>' for header in headers)}</tr>{''.join(rows)}</table>"


def _swatch(index: int) -> str:
    red, green, blue = voc_palette()[index]
    return f"<s style='background:rgb({red},{green},{blue})'></s>"


def _legend(classes: Sequence[str]) -> str:
    return "".join(f"<span>{_swatch(index)}{escape(name)}</span>" for index, name in enumerate(classes))


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
            f"<figure><img alt='{title} of {name}' src='{_inline(shrunk(picture, _PANEL_WIDTH), 'JPEG')}'>"
            f"<figcaption>{title}</figcaption></figure>"
            for title, picture in zip(("image", "label", "prediction", "errors"), pictures, strict=True)
        )
        rows.append(f"<h3>{name} <small>mIoU {_percent(miou)}</small></h3><div class=row>{figures}</div>")
    return "".join(rows)


def _settings(settings: dict[str, Any]) -> str:
    rows = (f"<tr><td>{escape(key)}</td><td>{escape(_in_words(value))}</td></tr>" for key, value in settings.items())
    return f"<table class=settings>{''.join(rows)}</table>"


def _in_words(value: object) -> str:
    """Return a setting as people write it, not as Python does."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_in_words(part) for part in value)
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _inline(picture: Image8, format_: str) -> str:
    """Return a picture as a data URI."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format=format_, quality=88, optimize=True)
    return f"data:image/{format_.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
