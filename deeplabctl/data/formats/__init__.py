"""Annotations of other programs: one file a format, which reads it and, where labels are written so, writes it."""

from __future__ import annotations

import os
from pathlib import Path

from deeplabctl import choices
from deeplabctl.data.formats.annotations import AnnotationFormat, Annotations, ImportSettings, Source
from deeplabctl.data.formats.image_search import refuse_shared
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_CLASSES: dict[str, type[AnnotationFormat]] = choices.load_classes(choices.ANNOTATIONS)
FORMATS: tuple[AnnotationFormat, ...] = tuple(kind() for kind in dict.fromkeys(_CLASSES.values()))  # in that order


def read_annotations(path: Path, settings: ImportSettings, report: Reporter) -> Annotations:
    """Read annotations in the format that the settings name, or that their content shows.

    Raises DataError for an unknown format, and for annotations that do not follow theirs.
    """
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise DataError(f"{path}: there is no such file or folder")
    source = Source(path)
    for known in FORMATS:
        if type(known) is _CLASSES.get(settings.format) or (settings.format == "auto" and known.recognises(source)):
            annotations = known.read(source, settings, report)
            annotations.images = refuse_shared(annotations.images)
            annotations.sources += [path] if settings.images is None else [path, settings.images]
            return annotations
    if settings.format != "auto":
        raise DataError(f"unknown format {settings.format!r}: expected one of {', '.join(('auto', *_CLASSES))}")
    *others, last = (known.content for known in FORMATS)
    got = "a different kind of file; export the annotations as one of these"
    if path.suffix == ".zip":
        got = "a zip file; unpack it and choose the folder"
    raise DataError(f"{path}: expected {', '.join(others)} or {last}, got {got}")
