"""Recognise the format of annotations and read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplabctl.classes import read_palette
from deeplabctl.data.importing.annotations import Annotations, read_json
from deeplabctl.data.importing.coco import read_coco
from deeplabctl.data.importing.cvat import read_cvat
from deeplabctl.data.importing.labelme import LabelmeFile, read_labelme
from deeplabctl.data.importing.masks import read_masks
from deeplabctl.data.importing.settings import ImportSettings
from deeplabctl.data.layout import LABELS
from deeplabctl.errors import DataError
from deeplabctl.reporting import Note, Reporter


def read_annotations(source: Path, settings: ImportSettings, report: Reporter) -> Annotations:
    """Read annotations in the format that the settings name, or that their content shows."""
    annotations = _read(source, settings, report)
    annotations.sources += [source] if settings.images is None else [source, settings.images]
    return annotations


def _read(source: Path, settings: ImportSettings, report: Reporter) -> Annotations:
    name = settings.format
    coco, labelme = _read_json_files(source) if name in ("auto", "coco", "labelme") else ({}, [])
    xml = source / "annotations.xml" if source.is_dir() else source
    if name == "coco" or (name == "auto" and coco and not labelme):
        if len(coco) != 1:
            names = ", ".join(path.name for path in coco) or "none"
            raise DataError(f"{source}: expected one file of COCO instances, got {names}; choose the file itself")
        (path, document), *_ = coco.items()
        return read_coco(path, document, settings)
    if name == "labelme" or (name == "auto" and labelme):
        if not labelme:
            raise DataError(f"{source}: expected labelme's JSON files, got none; choose the folder that contains them")
        return read_labelme(labelme, settings)
    if name == "cvat" or (name == "auto" and xml.suffix == ".xml" and xml.is_file()):
        return read_cvat(xml, settings)
    if not source.is_dir():
        got = "a zip file; unpack it and choose the folder" if source.suffix == ".zip" else "another file, or none"
        raise DataError(
            f"{source}: expected a folder of masks or of labelme's files, COCO's JSON or CVAT's XML, got {got}"
        )
    return _read_mask_folder(source, settings, report)


def _read_mask_folder(source: Path, settings: ImportSettings, report: Reporter) -> Annotations:
    """Read masks from a folder or its SegmentationClass, with the palette of CVAT's labelmap.txt if there is one."""
    folder = source / LABELS if (source / LABELS).is_dir() else source
    labelmap = source / "labelmap.txt"
    if settings.palette is None and labelmap.is_file() and settings.format in ("auto", "colors"):
        report(Note(f"palette: {labelmap}"))
        settings = replace(settings, palette=read_palette(labelmap))
    return read_masks(folder, settings, report)


def _read_json_files(source: Path) -> tuple[dict[Path, dict[str, Any]], list[LabelmeFile]]:
    """Return COCO's documents, and what is needed of labelme's: a file, or those of a folder and its ``annotations``.

    Of several documents of COCO, which are an error, only the names are kept.
    """
    if source.is_dir():
        paths = sorted([*source.glob("*.json"), *source.glob("annotations/*.json")])
    else:
        paths = [source] if source.suffix.lower() == ".json" else []
    coco: dict[Path, dict[str, Any]] = {}
    labelme = []
    for path in paths:
        document = read_json(path)
        if not isinstance(document, dict):
            continue
        if "shapes" in document:
            labelme.append(LabelmeFile.of(path, document))
        elif {"annotations", "images"} <= document.keys():
            coco = {**{other: {} for other in coco}, path: {} if coco else document}
    return coco, labelme
