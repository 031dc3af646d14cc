"""Annotations of other programs: one file a format, which reads it and, where labels are written so, writes it."""

from __future__ import annotations

from pathlib import Path

from deeplabctl.data.formats.annotations import AnnotationFormat, Annotations, ImportSettings, Source
from deeplabctl.data.formats.coco import Coco
from deeplabctl.data.formats.cvat import Cvat
from deeplabctl.data.formats.labelme import Labelme
from deeplabctl.data.formats.masks import Masks
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

# In the order in which they are tried; any folder may be one of masks.
FORMATS: tuple[AnnotationFormat, ...] = (Labelme(), Coco(), Cvat(), Masks())


def read_annotations(path: Path, settings: ImportSettings, report: Reporter) -> Annotations:
    """Read annotations in the format that the settings name, or that their content shows.

    Raises DataError for an unknown format, and for annotations that do not follow theirs.
    """
    source = Source(path)
    for known in FORMATS:
        if settings.format in known.names or (settings.format == "auto" and known.recognises(source)):
            annotations = known.read(source, settings, report)
            annotations.sources += [path] if settings.images is None else [path, settings.images]
            return annotations
    if settings.format != "auto":
        names = ", ".join(["auto", *(name for known in FORMATS for name in known.names)])
        raise DataError(f"unknown format {settings.format!r}: expected one of {names}")
    *others, last = (known.content for known in FORMATS)
    got = (
        "a zip file; unpack it and choose the folder" if path.suffix == ".zip" else "a different kind of file, or none"
    )
    raise DataError(f"{path}: expected {', '.join(others)} or {last}, got {got}")
