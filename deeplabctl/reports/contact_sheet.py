"""Make index.html: a page that shows the results of a run as a grid of small overlays, with legend and areas."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from deeplabctl.files import write_text
from deeplabctl.prediction.outputs.image_files import THUMBNAIL
from deeplabctl.prediction.outputs.output import Written
from deeplabctl.reporting import area, counted
from deeplabctl.reports.page import legend, render_page, swatch

_NAMED = 6  # classes of an image, the largest


class ContactSheet:
    """Collect the images of a page, in order; the page has links to the files in its folder, and no script."""

    def __init__(self, page: Path, classes: Sequence[str], subtitle: str) -> None:
        self._page, self._classes, self._subtitle = page, classes, subtitle
        self._figures: list[str] = []
        self._pixels: Counter[int] = Counter()

    def add(self, result: Written) -> None:
        """Add an image: its small overlay, a link to its overlay or mask, its name, the areas of its classes."""
        files, (height, width) = result.job.files, result.size
        self._pixels.update(result.pixels)
        scale = min(1, THUMBNAIL / max(height, width))
        size = f"width={max(1, round(width * scale))} height={max(1, round(height * scale))}"
        total = sum(result.pixels.values())
        listed = list(result.pixels.items())[:_NAMED]
        others = len(result.pixels) - len(listed)
        more = f" and {others} more" if others else ""
        texts = [f"{self._classes[index]} {area(count / total)}" for index, count in listed]
        words = escape(", ".join(texts) + more)
        image = f'<img loading=lazy {size} src="{self._link(files["thumbnail"])}" alt="{words}">'
        if target := files.get("overlay") or files.get("mask"):
            image = f'<a href="{self._link(target)}">{image}</a>'
        shown = " ".join(
            f"<span>{swatch(self._classes, index)}{escape(text)}</span>"
            for (index, _), text in zip(listed, texts, strict=True)
        )
        shown += f"<span>{more}</span>"
        name = escape(result.job.source.name)
        self._figures.append(f"<figure>{image}<figcaption><b>{name}</b>{shown}</figcaption></figure>\n")

    def finish(self) -> None:
        """Write the page; raises OutputError where the system refuses."""
        write_text(self._page, self.render())

    def render(self) -> str:
        """Return the page."""
        count = len(self._figures)
        parts = {
            "legend": legend(self._classes, [index for index, _ in self._pixels.most_common()]),
            "figures": "".join(self._figures),
        }
        heading = f"{counted(count, 'image')} segmented"
        return render_page("contact_sheet", heading, self._subtitle, parts, images_beside=True)

    def _link(self, path: Path) -> str:
        """Return the address of a file from the page; names may be any bytes."""
        return quote(os.fsencode(path.relative_to(self._page.parent).as_posix()))
