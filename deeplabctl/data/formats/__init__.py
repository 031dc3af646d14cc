"""Annotations of other programs: one file a format, which reads it and, where labels are written so, writes it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from deeplabctl import choices
from deeplabctl.data.findings import join_some
from deeplabctl.data.formats.annotations import AnnotatedImage, AnnotationFormat, Annotations, ImportSettings
from deeplabctl.data.formats.documents import Source, other_program
from deeplabctl.data.formats.image_search import failing, files_below
from deeplabctl.data.image_files import unreadable
from deeplabctl.data.layout import split_of
from deeplabctl.errors import DataError
from deeplabctl.files import web_address
from deeplabctl.reporting import Reporter

_CLASSES: dict[str, type[AnnotationFormat]] = choices.load_classes(choices.ANNOTATIONS)
FORMATS: tuple[AnnotationFormat, ...] = tuple(kind() for kind in dict.fromkeys(_CLASSES.values()))  # in that order
_ANY_FOLDER = FORMATS[-1]  # of masks


def read_annotations(
    path: Path, settings: ImportSettings, report: Reporter, *, like: Annotations | None = None
) -> Annotations:
    """Read annotations in the format that the settings name, or that their content shows.

    Folders that are named as splits (``train``, ``valid``, ``test``) and files of COCO's (``instances_train.json``) are
    read together; so are images in such folders. The classes are those of the annotations that these are ``like``:
    outlines get their numbers, and masks, whose values have a meaning of their own, must have the same.

    Raises DataError for an unknown format, for annotations that do not follow theirs, and for masks of other classes.
    """
    try:
        path.stat()
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError):  # also for names that no file can have
        address = web_address(path)
        problem = f"{address}: expected a file or a folder, got an address; download it, and name the file"
        raise DataError(problem if address else f"{path}: there is no such file or folder") from None
    if settings.images is not None and not os.path.isdir(settings.images):  # noqa: PTH112
        got = "a file" if os.path.exists(settings.images) else "none"  # noqa: PTH110
        raise DataError(f"`images={settings.images}`: expected a folder, got {got}; name the folder of the images")
    source, parts = Source(path), _parts(path)
    kinds = {part: _format_of(Source(part), settings) for part in parts}
    kinds = {part: kind if kind and kind.recognises(Source(part)) else None for part, kind in kinds.items()}
    found = {*kinds.values()} - {None, _ANY_FOLDER}
    known = found.pop() if len(found) == 1 else None
    parts = {part: split for part, split in parts.items() if kinds[part] is known}
    in_parts = known is not None and "train" in parts.values()
    if not in_parts or next(iter(parts)).is_dir():
        of_whole = _format_of(source, settings)
        if not in_parts or (of_whole not in (None, _ANY_FOLDER) and of_whole.recognises(source)):
            known, parts = of_whole, {}
    if known is None:
        _refuse(path, settings)
    _check_settings(path, known, settings)
    if like and known is not _ANY_FOLDER:
        settings = replace(settings, classes=like.classes)
    annotations = _read_parts(known, parts, settings, report) if parts else known.read(source, settings, report)
    empty = kinds.keys() - parts.keys() if parts else ()
    annotations.notes += [f"{part}: no {known.content} in it, left out" for part in sorted(empty)]
    annotations.notes += [] if known.reads_below else _not_read(path, parts)
    if like and annotations.classes != like.classes:
        raise DataError(
            f"{path}: expected the classes of {like.sources[0]}, {join_some(like.classes)}, got "
            f"{join_some(annotations.classes)}; convert masks with one list of classes"
        )
    annotations.images = _refuse_shared(annotations.images)
    if not any(image.split for image in annotations.images):
        _split_by_folders(annotations)
    annotations.sources = [path, *annotations.sources, *([settings.images] if settings.images else [])]
    return annotations


def _check_settings(path: Path, known: AnnotationFormat, settings: ImportSettings) -> None:
    """Raise DataError for settings that the format does not have: they would do nothing."""
    for name in sorted({name for each in FORMATS for name in each.own_settings} - {*known.own_settings}):
        if getattr(settings, name) != getattr(ImportSettings, name):
            formats = [each for each, kind in _CLASSES.items() if name in kind.own_settings]
            raise DataError(
                f"`{name}` has no effect on {path}, which is {known.content}: it is for {join_some(formats, 9)}; "
                "remove it, or choose another `format`"
            )


def _refuse(path: Path, settings: ImportSettings) -> NoReturn:
    if settings.format != "auto":
        raise DataError(f"unknown format {settings.format!r}: expected one of {', '.join(('auto', *_CLASSES))}")
    *others, last = (known.content for known in FORMATS)
    got = "a different kind of file; export the annotations as one of these"
    if path.suffix == ".zip":
        got = "a zip file; unpack it and choose the folder"
    got = other_program([path]) or got
    raise DataError(f"{path}: expected {', '.join(others)} or {last}, got {got}")


def _format_of(source: Source, settings: ImportSettings) -> AnnotationFormat | None:
    kind, is_auto = _CLASSES.get(settings.format), settings.format == "auto"
    return next((known for known in FORMATS if type(known) is kind or (is_auto and known.recognises(source))), None)


def _parts(path: Path) -> dict[Path, str]:
    """Return the folders, or COCO's files, that a folder has for each of several splits."""
    if not path.is_dir():
        return {}
    files = [file for place in (path, path / "annotations") for file in sorted(place.glob("instances_*.json"))]
    for places in (files, [place for place in sorted(path.iterdir()) if place.is_dir()]):
        splits = {place: split for place in places if (split := split_of(place.stem.removeprefix("instances_")))}
        if "train" in splits.values() and len(splits) == len(set(splits.values())):
            return splits
    return {}


def _not_read(path: Path, parts: dict[Path, str]) -> list[str]:
    """Return a note on annotations that are in a folder, but not in what was read of it."""
    read = {*parts, *(folder for place in parts or (path,) for folder in (place, place / "annotations"))}
    files = [file for file in files_below(path) if file.suffix.lower() in (".json", ".xml")]
    others = [file.relative_to(path).as_posix() for file in files if not {file, file.parent} & read]
    return [f"other files of annotations in {path}: {len(others)} left out ({join_some(others, 3)})"] if others else []


def _read_parts(
    known: AnnotationFormat, parts: dict[Path, str], settings: ImportSettings, report: Reporter
) -> Annotations:
    """Read the annotations of all splits; the classes are those for training."""
    whole = Annotations((), [])
    for part, split in sorted(parts.items(), key=lambda entry: entry[1] != "train"):
        read = known.read(Source(part), settings, report)
        above = f"{part.name}/" if part.is_dir() else ""
        whole.classes, settings = read.classes, replace(settings, classes=read.classes)
        whole.images += [replace(image, name=above + image.name, split=split) for image in read.images]
        whole.notes += read.notes
        whole.sources += read.sources
    return whole


def _refuse_shared(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """Make the images fail that several annotations name: at most one of these labels is right."""
    names: dict[Path, list[str]] = defaultdict(list)
    for image in images:
        if isinstance(image.image, Path):
            names[image.image].append(image.name)
    message = "{path}: expected one label for each image, got those of {names}; leave out those of other images"
    return [
        replace(image, image=failing(message.format(path=image.image, names=" and ".join(names[image.image][:3]))))
        if isinstance(image.image, Path) and len(names[image.image]) > 1
        else image
        for image in images
    ]


def _split_by_folders(annotations: Annotations) -> None:
    """Give the images the split that the name of each has as a folder, if all have one; else say which have not."""
    names = [image.name.replace("\\", "/") for image in annotations.images]
    splits = [{split for folder in PurePosixPath(name).parts[:-1] if (split := split_of(folder))} for name in names]
    if others := [name for name, found in zip(names, splits, strict=True) if len(found) != 1]:
        if known := sorted({split for found in splits if len(found) == 1 for split in found}):
            annotations.notes.append(
                f"folders named {join_some(known)} are not taken as splits, as images are also in others: "
                f"{len(others)} of {len(names)} ({join_some(others, 3)})"
            )
        return
    annotations.images = [
        replace(image, split=found.pop()) for image, found in zip(annotations.images, splits, strict=True)
    ]
