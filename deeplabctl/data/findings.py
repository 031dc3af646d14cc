"""Describe what is wrong in a data set: the file, what was expected, what was found and how to fix it.

`deeplabctl data check` lists findings; a training or an evaluation stops at the first error with the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deeplabctl.errors import DataError

# The kinds that `deeplabctl.data.fixing` fixes.
LABEL_COLORS, LABEL_GREY_LEVELS, LABEL_ROTATED = "label-colors", "label-grey-levels", "label-rotated"
LIST_FORMAT = "list-format"
TOO_LARGE = "too-large"  # of images with more pixels than Pillow reads
# Where an image can mean two things: a note that says what was assumed, or an error.
IMAGE_ORIENTATION, IMAGE_VALUES = "image-orientation", "image-values"


@dataclass(frozen=True)
class Finding:
    """Describe one thing that is wrong or unusual in one file."""

    kind: str  # a short name, the same for all findings of its kind
    file: Path
    expected: str  # empty where nothing has to be otherwise
    got: str
    fix: str  # what to do about it, or what comes of it
    severity: Literal["error", "note"] = (
        "error"  # which stops a training or silently spoils it; a note is worth knowing
    )
    line: int | None = None  # of a list
    problem: str = ""  # put before expected and got, where they do not explain themselves
    failed: str = ""  # put before the file: what could not be done with it

    @property
    def text(self) -> str:
        """Return the finding in one line."""
        where = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.failed} {where}" if self.failed else where
        problem = f" {self.problem}:" if self.problem else ""
        found = f"expected {self.expected}, got {self.got}" if self.expected else self.got
        return f"{subject}:{problem} {found}; {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the finding in JSON."""
        keys = ("kind", "severity", "file", "line", "expected", "got", "fix", "text")
        return {key: getattr(self, key) for key in keys} | {"file": str(self.file)}


class FindingError(DataError):
    """Refuse a data set because of a finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def join_some(values: Sequence[str], limit: int = 8) -> str:
    """Return the first values with commas between them: "a, b, c, ..."; those with commas in them are in quotes."""
    return ", ".join(map(quoted, values[:limit])) + (", ..." if len(values) > limit else "")


def quoted(text: str) -> str:
    """Return a text, in quotes if a list would not show where it ends."""
    return repr(text) if "," in text else text
