"""Remember what image and label files contain, so that unchanged files are not opened again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from deeplabctl.data.file_facts import ImageFacts, LabelFacts, inspect_image, inspect_label
from deeplabctl.errors import DataError, OutputError
from deeplabctl.files import user_cache, write_text

Facts = TypeVar("Facts", LabelFacts, ImageFacts)

_FORMAT = 4  # of the JSON file and of what it says; raised when a file would be read in another way


class InspectionCache:
    """Keep facts of files by path, size and time of change, in one JSON file per data set in the user's cache folder.

    With ``reuse=False`` every file is opened again, and the facts of before are replaced.
    """

    def __init__(self, root: Path, *, reuse: bool = True) -> None:
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        folder = user_cache()
        self.path = folder / "labels" / f"{digest}.json" if folder else None
        self._known: dict[str, str] = {}  # JSON of [size and time, facts], a tenth of the memory of lists
        self._changed = False
        if reuse and self.path:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: start empty
                stored = json.loads(self.path.read_text("utf-8"))
                if stored["format"] == _FORMAT and isinstance(stored["files"], dict):
                    self._known = stored["files"]

    def label_facts(self, path: Path) -> LabelFacts:
        """Return what a label file contains; raises DataError if it cannot be read."""

        def read() -> list[Any]:
            facts = inspect_label(path)
            return [facts.height, facts.width, list(facts.pixels.items())]

        def parse(height: Any, width: Any, pixels: Any) -> LabelFacts:
            return LabelFacts(int(height), int(width), {int(value): int(count) for value, count in pixels})

        return self._recall(f"label {path}", path, read, parse)

    def image_facts(self, path: Path) -> ImageFacts:
        """Return what an image file contains; raises DataError if it cannot be read."""

        def read() -> list[Any]:
            facts = inspect_image(path)
            return [facts.height, facts.width, facts.orientation, facts.mode, facts.digest]

        def parse(height: Any, width: Any, orientation: Any, mode: Any, digest: Any) -> ImageFacts:
            return ImageFacts(int(height), int(width), int(orientation), str(mode), str(digest))

        return self._recall(f"image {path}", path, read, parse)

    def save(self) -> None:
        """Write the facts for the next time; a cache folder that cannot be written only costs time."""
        if self._changed and self.path:
            with contextlib.suppress(OutputError):
                write_text(self.path, json.dumps({"format": _FORMAT, "files": self._known}))

    def _recall(self, key: str, path: Path, read: Callable[[], list[Any]], parse: Callable[..., Facts]) -> Facts:
        """Return the facts of a file, reading it only if it has changed."""
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        stamp = [status.st_size, status.st_mtime_ns]
        if key in self._known:
            with contextlib.suppress(ValueError, TypeError, OverflowError):  # damaged: read the file again
                then, facts = json.loads(self._known[key])
                if then == stamp:
                    return parse(*facts)
        facts = read()
        self._known[key] = json.dumps([stamp, facts])
        self._changed = True
        return parse(*facts)
