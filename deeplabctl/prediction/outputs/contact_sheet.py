"""Make index.html: a page that shows the results of a run as a grid of small overlays, with legend and areas."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from deeplabctl.html_page import legend, render_page, swatch
from deeplabctl.prediction.outputs.picture_files import THUMBNAIL, PictureResult

_NAMED = 6  # classes of a picture, the largest


class ContactSheet:
    """Take the pictures of a page in ``folder``, in order; the page has links to the files beside it, and no script."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder, self._classes = folder, classes
        self._figures: list[str] = []
        self._pixels: Counter[int] = Counter()

    def add(self, result: PictureResult) -> None:
        """Add a picture: its small overlay, a link to its overlay or mask, its name, the areas of its classes."""
        job = result.job
        assert job.thumbnail is not None
        self._pixels.update(result.pixels)
        scale = min(1, THUMBNAIL / max(result.width, result.height))
        size = f"width={max(1, round(result.width * scale))} height={max(1, round(result.height * scale))}"
        total = sum(result.pixels.values())
        areas = [(index, count / total) for index, count in list(result.pixels.items())[:_NAMED]]
        others = len(result.pixels) - len(areas)
        more = f" and {others} more" if others else ""
        words = ", ".join(f"{self._classes[index]} {share:.1%}" for index, share in areas) + more
        image = f'<img loading=lazy {size} src="{self._link(job.thumbnail)}" alt="{escape(words)}">'
        if target := job.overlay or job.mask:
            image = f'<a href="{self._link(target)}">{image}</a>'
        shown = " ".join(
            f"<span>{swatch(index)}{escape(self._classes[index])} {share:.1%}</span>" for index, share in areas
        )
        shown += f"<span>{more}</span>"
        name = escape(job.image.name)
        self._figures.append(f"<figure>{image}<figcaption><b>{name}</b>{shown}</figcaption></figure>\n")

    def render(self, title: str) -> str:
        """Return the page."""
        count = len(self._figures)
        parts = {
            "legend": legend(self._classes, [index for index, _ in self._pixels.most_common()]),
            "pictures": "".join(self._figures),
        }
        heading = f"{count} image{'s' if count != 1 else ''} segmented"
        template = resources.files("deeplabctl.prediction.outputs") / "contact_sheet.html"
        return render_page(template, heading, title, parts, pictures_beside=True)

    def _link(self, path: Path) -> str:
        """Return the address of a file from the page; names may be any bytes."""
        return quote(os.fsencode(path.relative_to(self._folder).as_posix()))
