"""Turn what annotation programs write into a data set in VOC layout."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from PIL import Image

from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES, Palette, read_classes, read_palette
from deeplabctl.data.dataset import CLASS_NAMES, IMAGES, LABELS
from deeplabctl.data.images import IMAGE_SUFFIXES, ImageFacts, inspect_image, mask_picture, read_image, upright
from deeplabctl.data.importing.annotations import Annotated, Annotations
from deeplabctl.data.importing.coco import read_coco
from deeplabctl.data.importing.cvat import read_cvat
from deeplabctl.data.importing.labelme import read_labelme
from deeplabctl.data.importing.masks import MaskKind, read_masks
from deeplabctl.data.layout import check_target, make_layout, whole_folder, write_list
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Advanced, Finished, Note, Reporter, Started

Format = Literal["auto", "colors", "ids", "binary", "coco", "labelme", "cvat"]
FORMATS: tuple[Format, ...] = ("auto", "colors", "ids", "binary", "coco", "labelme", "cvat")
_KEPT = (".jpg", ".jpeg", ".png")  # pictures that are copied as they are


@dataclass(frozen=True)
class Meaning:
    """Say how annotations are to be understood."""

    format: Format = "auto"
    pictures: Path | None = None  # folder of the pictures
    palette: Palette | None = None
    classes: tuple[str, ...] | None = None
    outside: int = 0  # class id of what lies in no outline: 0, or 255 for void
    mask_suffix: str = ""  # behind a picture's name in the name of its mask
    unknown_void: bool = False  # colours that the palette has not become void


@dataclass(frozen=True)
class Converted:
    """Hold what was written, and which pictures failed."""

    classes: tuple[str, ...]
    train: list[str]  # ids
    val: list[str]
    pixels: Counter[int]  # of each label value
    failed: list[str]  # why, a line a picture


def class_names(text: str) -> tuple[str, ...]:
    """Return the classes that a user names: "voc", a file, or the names with commas between them."""
    if text == "voc":
        return VOC_CLASSES
    if Path(text).is_file():
        return read_classes(Path(text))
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not 2 <= len(names) <= IGNORE_LABEL or len(set(names)) < len(names):
        raise DataError(
            f"classes {text!r}: expected a file with a name a line, or 2 to {IGNORE_LABEL} different names with commas "
            "between them (background,road,tree), or voc"
        )
    return names


def read_annotations(source: Path, meaning: Meaning, report: Reporter) -> Annotations:
    """Read annotations of a format that is told from their content, unless it is named."""
    form = meaning.format
    documents = _json_files(source) if form in ("auto", "coco", "labelme") else {}
    coco = {path: found for path, found in documents.items() if "annotations" in found and "images" in found}
    labelme = {path: found for path, found in documents.items() if "shapes" in found}
    xml = source / "annotations.xml" if source.is_dir() else source
    by_names = (meaning.pictures, meaning.classes or (meaning.palette.names if meaning.palette else None))
    if form == "coco" or (form == "auto" and coco and not labelme):
        if len(coco) != 1:
            names = ", ".join(path.name for path in coco) or "none"
            raise DataError(f"{source}: expected one file of COCO instances, got {names}; name the file itself")
        (path, document), *_ = coco.items()
        return read_coco(path, document, *by_names, meaning.outside)
    if form == "labelme" or (form == "auto" and labelme):
        if not labelme:
            raise DataError(f"{source}: expected labelme's JSON files, got none; name the folder in which they lie")
        return read_labelme(labelme, *by_names, meaning.outside)
    if form == "cvat" or (form == "auto" and xml.suffix == ".xml" and xml.is_file()):
        return read_cvat(xml, *by_names, meaning.outside)
    if not source.is_dir():
        got = "a zip file; unpack it and name the folder" if source.suffix == ".zip" else "another file, or none"
        raise DataError(
            f"{source}: expected a folder of masks or of labelme files, COCO's JSON or CVAT's XML, got {got}"
        )
    return _masks(source, meaning, report)


def _masks(source: Path, meaning: Meaning, report: Reporter) -> Annotations:
    kind: MaskKind | None = meaning.format if meaning.format in ("colors", "ids", "binary") else None
    folder = source / LABELS if (source / LABELS).is_dir() else source
    palette = meaning.palette
    labelmap = source / "labelmap.txt"
    if palette is None and labelmap.is_file() and kind in (None, "colors"):
        report(Note(f"palette: {labelmap}"))
        palette = read_palette(labelmap)
    return read_masks(
        folder,
        meaning.pictures,
        kind,
        palette,
        meaning.classes,
        meaning.mask_suffix,
        meaning.unknown_void,
        report,
    )


def _json_files(source: Path) -> dict[Path, dict[str, Any]]:
    """Return the JSON objects in a file, or in the files of a folder and of its folder ``annotations``."""
    if source.is_dir():
        paths = sorted([*source.glob("*.json"), *source.glob("annotations/*.json")])
    else:
        paths = [source] if source.suffix.lower() == ".json" else []
    found = {}
    for path in paths:
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"cannot read {path}: expected JSON, got {error}") from None
        if isinstance(document, dict):
            found[path] = document
    return found


def write_dataset(
    annotations: Annotations,
    out: Path,
    report: Reporter,
    *,
    val: float | Annotations,
    seed: int = 0,
    overwrite: bool = False,
) -> Converted:
    """Write annotated pictures to ``out`` in VOC layout, all of them or, where some fail, the others.

    The list val gets a share ``val`` of them, drawn by the seed, or annotations of its own; train the others. Pictures
    whose labels have nothing but background and void are written but left off the lists. Raises DataError if none can
    be written.
    """
    check_target(out, overwrite=overwrite)
    apart = val.items if isinstance(val, Annotations) else []
    for note in [*annotations.notes, *(val.notes if isinstance(val, Annotations) else [])]:
        report(Note(note))
    items = [*annotations.items, *apart]
    jobs = list(zip(_ids([item.name for item in items]), items, strict=True))
    pixels: Counter[int] = Counter()
    written: list[str] = []
    failed: list[str] = []
    empty: list[str] = []
    with whole_folder(out, overwrite=overwrite) as root:
        make_layout(root)
        report(Started("converting", len(jobs), "pictures"))
        for (name, _), result in zip(jobs, map_ahead(_attempt(root), jobs), strict=True):
            if isinstance(result, str):
                failed.append(result)
                report(Note(result, warning=True))
            else:
                pixels.update(result)
                useful = set(result) - {IGNORE_LABEL} and set(result) != {0, IGNORE_LABEL}
                (written if useful else empty).append(name)
            report(Advanced(1))
        report(Finished())
        if not written:
            why = failed[0] if failed else "their labels have nothing but background and void"
            raise DataError(f"none of {len(jobs)} pictures could be converted: {why}")
        if empty:
            report(Note(f"{len(empty)} pictures have nothing but background and void: left off the lists"))
        if isinstance(val, Annotations):
            first = {name for name, _ in jobs[: len(annotations.items)]}
            train = sorted(name for name in written if name in first)
            validation = sorted(name for name in written if name not in first)
        else:
            train, validation = _divided(sorted(written), val, seed)
        for split, ids in (("train", train), ("val", validation)):
            if ids:
                write_list(root, split, ids)
        (root / CLASS_NAMES).write_text("".join(f"{name}\n" for name in annotations.classes), "utf-8")
    return Converted(annotations.classes, train, validation, pixels, failed)


def _attempt(root: Path) -> Callable[[tuple[str, Annotated]], dict[int, int] | str]:
    def attempt(job: tuple[str, Annotated]) -> dict[int, int] | str:
        try:
            return _write(root, *job)
        except DeepLabError as error:
            return str(error)

    return attempt


def _write(root: Path, name: str, item: Annotated) -> dict[int, int]:
    """Write a picture and its label; returns the pixels of each value."""
    if isinstance(item.picture, bytes):
        with TemporaryDirectory(dir=root) as folder:
            path = Path(folder, "picture")
            path.write_bytes(item.picture)
            try:
                return _write(root, name, replace(item, picture=path))
            except DataError as error:
                raise DataError(f"the picture inside of {name}'s annotation: {error}") from None
    path = item.picture
    if not path.is_file():
        raise DataError(f"{path}: there is no such picture; give --images the folder in which the pictures lie")
    facts = inspect_image(path)
    label = _fitting(item, path, facts)
    with Image.open(path) as picture:
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}.get(picture.format or "")
    if suffix:
        (root / IMAGES / f"{name}{suffix}").write_bytes(path.read_bytes())
    else:
        Image.fromarray(read_image(path)).save(root / IMAGES / f"{name}.png")
    mask_picture(label).save(root / LABELS / f"{name}.png")
    counts = Image.fromarray(label).histogram()
    return {value: count for value, count in enumerate(counts) if count}


def _fitting(item: Annotated, path: Path, facts: ImageFacts) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the label as it lies on the upright picture."""
    label = item.label(facts)
    if label.shape == (facts.height, facts.width):
        return label
    if label.shape == facts.stored_size:  # annotated by a program that does not look at EXIF
        return upright(label, facts.orientation)
    size, got = f"{facts.width}x{facts.height}", f"{label.shape[1]}x{label.shape[0]}"
    raise DataError(
        f"{path}: expected annotations of its size, {size}, got {got}; they were made on a picture of another size: "
        "give --images those"
    )


def _ids(names: Sequence[str]) -> list[str]:
    """Return an id for each picture: its name without folder and suffix, without blanks, and never the same twice."""
    paths = [PurePosixPath(re.sub(r"\s+", "_", name.replace("\\", "/"))) for name in names]
    paths = [path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path for path in paths]
    counts = Counter(path.name for path in paths)
    ids: dict[str, None] = {}
    for path in paths:
        parts = [part for part in path.parts if part not in ("/", "..")]
        name = "_".join(parts) if counts[path.name] > 1 else path.name
        tries = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        ids[next(other for other in tries if other not in ids)] = None
    return list(ids)


def _divided(ids: Sequence[str], val: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the ids to train on and those to validate, each in order."""
    count = min(max(round(val * len(ids)), int(val > 0)), len(ids) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(ids))[:count].tolist())
    return (
        [name for index, name in enumerate(ids) if index not in chosen],
        [name for index, name in enumerate(ids) if index in chosen],
    )
