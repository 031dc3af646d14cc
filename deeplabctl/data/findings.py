"""Say what is wrong with a data set: the file, what was expected, what was found and how to mend it.

``data check`` lists findings; ``train`` and ``eval`` stop at the first ruinous one, with the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplabctl.errors import DataError


@dataclass(frozen=True)
class Finding:
    """Describe one thing that is wrong, or odd, in one file."""

    kind: str  # a short name, the same for all of its kind
    file: Path
    expected: str
    got: str
    mend: str
    ruinous: bool = True  # would silently ruin a training, or stop it; else worth knowing
    line: int | None = None  # of a list
    problem: str = ""  # its name, where expected and got alone would not make sense
    failed: str = ""  # what could not be done with the file

    @property
    def text(self) -> str:
        """Return the finding in one line."""
        where = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        lead = f"{self.failed} {where}" if self.failed else where
        problem = f" {self.problem}:" if self.problem else ""
        return f"{lead}:{problem} expected {self.expected}, got {self.got}; {self.mend}"

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        return {
            "kind": self.kind,
            "severity": "ruinous" if self.ruinous else "note",
            "file": str(self.file),
            "line": self.line,
            "expected": self.expected,
            "got": self.got,
            "mend": self.mend,
            "text": self.text,
        }


class FoundError(DataError):
    """Refuse a data set for a finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def listed(values: list[str], most: int = 8) -> str:
    """Return the first of the values in words: "a, b, c, ..."."""
    return ", ".join(values[:most]) + (", ..." if len(values) > most else "")
