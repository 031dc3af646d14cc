"""Make the HTML of the pages: a page with its style sheet, tables, colour swatches, images inside the page.

All text that is handed over is escaped. A page loads nothing from anywhere, except images beside it where it says so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from io import BytesIO
from string import Template
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from deeplabctl import reporting
from deeplabctl.arrays import Image
from deeplabctl.classes import ClassNames, class_colors, colored_names, hex_color

DASH = "–"  # noqa: RUF001 - a dash in a table: there is no such number


def render_page(name: str, title: str, subtitle: str, parts: Mapping[str, str], *, images_beside: bool = False) -> str:
    """Return a page: title, subtitle, and the template of this name with its parts, which are HTML.

    Its images are inside the page; with ``images_beside``, also in files beside it.
    """
    sources = "data: 'self' file:" if images_beside else "data:"
    body = _template(name).substitute(parts)
    text = _template("page").substitute(
        title=escape(title), subtitle=escape(subtitle), body=body, image_sources=sources
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # names of files may be anything


def _template(name: str) -> Template:
    return Template((resources.files("deeplabctl.reports") / f"{name}.html").read_text("utf-8"))


def cards(values: Iterable[tuple[str, str]]) -> str:
    """Return (name, value) pairs as cards; the first stands out."""
    shown = (f"<div class=card><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in values)
    return f"<div class=cards>{''.join(shown)}</div>"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are HTML; the first column is text, the others are numbers."""
    head = "".join(f"<th>{header}</th>" if header else "<td></td>" for header in headers)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll tabindex=0><table><tr>{head}</tr>{body}</table></div>"


def class_names(classes: Sequence[Mapping[str, Any]]) -> ClassNames:
    """Return the names in entries of classes as JSON has them, with their colours where it has these."""
    codes = [bytes.fromhex((entry.get("color") or "#")[1:]) for entry in classes]
    colors = [(code[0], code[1], code[2]) if code else None for code in codes]
    return colored_names([entry["name"] for entry in classes], colors)


def swatch(classes: Sequence[str], class_id: int) -> str:
    """Return a small square in the colour of a class."""
    return f"<s style='background:{hex_color(class_colors(classes)[class_id])}'></s>"


def legend(classes: Sequence[str], ids: Iterable[int]) -> str:
    """Return the names of the classes with these ids, with their colours."""
    return "".join(f"<span>{swatch(classes, index)}{escape(classes[index])}</span>" for index in ids)


def settings_table(settings: Mapping[str, Any]) -> str:
    """Return a table of settings and their values."""
    rows = (f"<tr><td>{escape(key)}</td><td>{escape(in_words(value))}</td></tr>" for key, value in settings.items())
    return f"<table class=settings>{''.join(rows)}</table>"


def in_words(value: object) -> str:
    """Return a setting as people write it, not as Python does."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(in_words(part) for part in value) or "none"
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def percent(share: float | None) -> str:
    """Return a fraction as a percentage with two digits, or a dash where there is none."""
    return reporting.percent(share, DASH)


def shrunk(image: Image, width: int) -> Image:
    """Return an image of at most this width."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BOX))


def inline_image(image: Image, format_: str) -> str:
    """Return an image as a data URI; ``format_`` is "PNG" or "JPEG"."""
    buffer = BytesIO()
    PillowImage.fromarray(image).save(buffer, format=format_, quality=88, optimize=True)
    return data_uri(buffer.getvalue(), format_)


def data_uri(data: bytes, format_: str) -> str:
    """Return the bytes of an image file as a data URI."""
    return f"data:image/{format_.lower()};base64,{base64.b64encode(data).decode('ascii')}"
