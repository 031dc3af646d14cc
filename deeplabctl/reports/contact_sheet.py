"""Make index.html: a page that shows the results of a run as a grid of small overlays, with legend and areas."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from urllib.parse import quote

from deeplabctl.files import write_text
from deeplabctl.prediction.outputs.image_files import THUMBNAIL
from deeplabctl.prediction.outputs.output import Add, Written
from deeplabctl.reporting import area, counted
from deeplabctl.reports.page import legend, render_page, swatch

_NAMED = 6  # classes of an image, the largest


@contextmanager
def page_of_results(page: Path, classes: Sequence[str], subtitle: str) -> Iterator[Add]:
    """Yield what adds an image, in order, to a page that is written when the block ends without an error.

    Each has its small overlay, a link to its overlay or mask, its name and the areas of its classes. The page has links
    to the files in its folder, and no script.
    """
    figures: list[str] = []
    pixels: Counter[int] = Counter()

    def link(path: Path) -> str:
        """Return the address of a file from the page; names may be any bytes."""
        return quote(os.fsencode(path.relative_to(page.parent).as_posix()))

    def add(result: Written) -> None:
        files, (height, width) = result.job.files, result.size
        pixels.update(result.pixels)
        scale = min(1, THUMBNAIL / max(height, width))
        size = f"width={max(1, round(width * scale))} height={max(1, round(height * scale))}"
        total = sum(result.pixels.values())
        listed = list(result.pixels.items())[:_NAMED]
        others = len(result.pixels) - len(listed)
        more = f" and {others} more" if others else ""
        texts = [f"{classes[index]} {area(count / total)}" for index, count in listed]
        words = escape(", ".join(texts) + more)
        image = f'<img loading=lazy {size} src="{link(files["thumbnail"])}" alt="{words}">'
        if target := files.get("overlay") or files.get("mask"):
            image = f'<a href="{link(target)}">{image}</a>'
        shown = " ".join(
            f"<span>{swatch(classes, index)}{escape(text)}</span>"
            for (index, _), text in zip(listed, texts, strict=True)
        )
        shown += f"<span>{more}</span>"
        name = escape(result.job.source.name)
        figures.append(f"<figure>{image}<figcaption><b>{name}</b>{shown}</figcaption></figure>\n")

    yield add
    parts = {"legend": legend(classes, [index for index, _ in pixels.most_common()]), "figures": "".join(figures)}
    heading = f"{counted(len(figures), 'image')} segmented"
    write_text(page, render_page("contact_sheet", heading, subtitle, parts, images_beside=True))
