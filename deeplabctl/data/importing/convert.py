"""Write annotated images as a data set in VOC layout."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.file_facts import ImageFacts, count_values, inspect_image
from deeplabctl.data.images import IMAGE_SUFFIXES, mask_picture, read_image, turn_upright
from deeplabctl.data.importing.annotations import AnnotatedImage, Annotations
from deeplabctl.data.layout import IMAGES, LABELS, make_layout, new_dataset, write_class_names, write_list
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter, task


@dataclass(frozen=True)
class Conversion:
    """Hold what was written, and which images failed."""

    classes: tuple[str, ...]
    train: list[str]  # ids
    val: list[str]
    pixels: Counter[int]  # of each label value
    failed: list[str]  # the reasons, one line per image


def write_dataset(
    annotations: Annotations,
    out: Path,
    report: Reporter,
    *,
    val: float | Annotations,
    seed: int = 0,
    overwrite: bool = False,
) -> Conversion:
    """Write annotated images to ``out`` in VOC layout; images that fail are reported and left out.

    The list val gets a share ``val`` of the images, chosen by the seed, or annotations of its own; the list train gets
    the others. Images whose labels are only background and void are written, but are in no list. Raises DataError if
    no image can be converted, and OutputError if ``out`` must not be written.
    """
    val_images = val.images if isinstance(val, Annotations) else []
    for note in [*annotations.notes, *(val.notes if isinstance(val, Annotations) else [])]:
        report(Note(note))
    images = [*annotations.images, *val_images]
    jobs = list(zip(_unique_ids([image.name for image in images]), images, strict=True))
    pixels: Counter[int] = Counter()
    written: list[str] = []
    failed: list[str] = []
    empty: list[str] = []
    with new_dataset(out, overwrite=overwrite) as root:
        make_layout(root)
        with task(report, "converting", len(jobs), "images") as advance:
            for (name, _), result in zip(jobs, map_ahead(partial(_try_to_write, root), jobs), strict=True):
                if isinstance(result, str):
                    failed.append(result)
                    report(Note(result, warning=True))
                else:
                    pixels.update(result)
                    useful = set(result) - {IGNORE_LABEL} and set(result) != {0, IGNORE_LABEL}
                    (written if useful else empty).append(name)
                advance()
        if not written:
            why = failed[0] if failed else "their labels have only background and void"
            raise DataError(f"none of {len(jobs)} images could be converted: {why}")
        if empty:
            report(Note(f"{len(empty)} images have only background and void: left out of the lists"))
        if isinstance(val, Annotations):
            first = {name for name, _ in jobs[: len(annotations.images)]}
            train_ids = sorted(name for name in written if name in first)
            val_ids = sorted(name for name in written if name not in first)
        else:
            train_ids, val_ids = _split_randomly(sorted(written), val, seed)
        for split, ids in (("train", train_ids), ("val", val_ids)):
            if ids:
                write_list(root, split, ids)
        write_class_names(root, annotations.classes)
    return Conversion(annotations.classes, train_ids, val_ids, pixels, failed)


def _try_to_write(root: Path, job: tuple[str, AnnotatedImage]) -> dict[int, int] | str:
    """Write a sample; returns the number of pixels of each label value, or why it failed."""
    try:
        return _write_sample(root, *job)
    except DeepLabError as error:
        return str(error)


def _write_sample(root: Path, name: str, annotated: AnnotatedImage) -> dict[int, int]:
    """Write an image and its label; returns the number of pixels of each label value."""
    path = annotated.image
    if isinstance(path, bytes):
        with TemporaryDirectory(dir=root) as folder:
            file = Path(folder, "image")
            file.write_bytes(path)
            try:
                return _write_sample(root, name, replace(annotated, image=file))
            except DataError as error:
                raise DataError(f"the image inside of {name}'s annotation: {error}") from None
    if not path.is_file():
        raise DataError(f"{path}: there is no such image; use `images` to name the folder of the images")
    label = _upright_label(annotated, path, inspect_image(path))
    with PIL.Image.open(path) as picture:
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}.get(picture.format or "")
    if suffix:
        (root / IMAGES / f"{name}{suffix}").write_bytes(path.read_bytes())
    else:
        PIL.Image.fromarray(read_image(path)).save(root / IMAGES / f"{name}.png")
    mask_picture(label).save(root / LABELS / f"{name}.png")
    return count_values(label)


def _upright_label(annotated: AnnotatedImage, path: Path, facts: ImageFacts) -> Label:
    """Return the label of the upright image; raises DataError if it was drawn on an image of another size."""
    label = annotated.draw_label(facts)
    if label.shape == (facts.height, facts.width):
        return label
    if label.shape == facts.stored_size:  # drawn by a program that ignores EXIF
        return turn_upright(label, facts.orientation)
    size, got = f"{facts.width}x{facts.height}", f"{label.shape[1]}x{label.shape[0]}"
    raise DataError(
        f"{path}: expected annotations of its size, {size}, got {got}; use `images` to name the folder of the images "
        "that were annotated"
    )


def _unique_ids(names: Sequence[str]) -> list[str]:
    """Return an id for each image: its name without folder, suffix and spaces; equal names get folders or numbers."""
    paths = [PurePosixPath(re.sub(r"\s+", "_", name.replace("\\", "/"))) for name in names]
    paths = [path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path for path in paths]
    counts = Counter(path.name for path in paths)
    ids: dict[str, None] = {}
    for path in paths:
        parts = [part for part in path.parts if part not in ("/", "..")]
        name = "_".join(parts) if counts[path.name] > 1 else path.name
        candidates = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        ids[next(candidate for candidate in candidates if candidate not in ids)] = None
    return list(ids)


def _split_randomly(ids: Sequence[str], val_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the ids for training and those for validation, each in order."""
    count = min(max(round(val_share * len(ids)), int(val_share > 0)), len(ids) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(ids))[:count].tolist())
    return (
        [name for index, name in enumerate(ids) if index not in chosen],
        [name for index, name in enumerate(ids) if index in chosen],
    )
