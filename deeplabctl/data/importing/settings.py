"""Hold the settings of an import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deeplabctl.classes import Palette
from deeplabctl.data.importing.choices import Format, Outside, UnknownColors


@dataclass(frozen=True)
class ImportSettings:
    """Say what annotations are and what they mean."""

    format: Format = "auto"  # auto: recognised by the content
    images: Path | None = None  # folder of the images; without it they are found by the annotations
    palette: Palette | None = None  # names and colours of the classes in masks
    classes: tuple[str, ...] | None = None  # class names in the order of their ids
    outside: Outside = "background"  # what pixels outside of all outlines become
    unknown: UnknownColors = "error"  # what colours become that the palette does not have
    mask_suffix: str = ""  # what a mask's name has after that of its image

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the class names, from the palette if they are not given, or None."""
        return self.classes or (self.palette.names if self.palette else None)
