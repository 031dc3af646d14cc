"""Write annotated images as a data set in VOC layout."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image

from deeplabctl.arrays import Label, Size
from deeplabctl.class_files import format_classes
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.findings import join_some
from deeplabctl.data.formats.annotations import AnnotatedImage, Annotations, is_background
from deeplabctl.data.formats.documents import naming, whole_number
from deeplabctl.data.image_files import IMAGE_SUFFIXES, open_image
from deeplabctl.data.images import read_image, read_working_image
from deeplabctl.data.inspection import ImageFacts, inspect_image, same_images
from deeplabctl.data.labels import count_values, mask_bytes, shrink_label, turn_upright
from deeplabctl.data.layout import (
    IMAGES,
    LABELS,
    SPLITS,
    check_outside,
    make_layout,
    new_dataset,
    write_class_names,
    write_list,
)
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.files import composed, file_names
from deeplabctl.parallel import map_ahead
from deeplabctl.reporting import Note, Reporter, counted, task

_LONGEST_ID = 200  # bytes of UTF-8
_QUALITY = 95  # of JPEGs that are written smaller
_SHARE = 0.2  # of the images, for validation


@dataclass(frozen=True)
class Conversion:
    """Hold what was written, and which images failed."""

    classes: tuple[str, ...]
    train: list[str]  # ids
    val: list[str]
    test: list[str]
    pixels: Counter[int]  # of each label value, in the images of the lists
    images: int  # all of them: those in the lists, those in none, and those that failed
    failed: list[str]  # the reasons, one line per image


def write_dataset(
    annotations: Annotations,
    out: Path,
    report: Reporter,
    *,
    val: float | Annotations | None,
    seed: int | None = None,
    max_side: int = 0,
    overwrite: bool = False,
) -> Conversion:
    """Write annotated images to ``out`` in VOC layout; images that fail are reported and left out.

    The list val gets a share ``val`` of the images, chosen by the seed (0 if it is not given), or annotations of its
    own, whose images are left out of the others; the list test gets those that the annotations name for it, and the
    list train the others. With None, the lists train, val and test are those of the annotations; where these name no
    images for val, it gets a fifth of those for train. Images whose labels are only class 0 and void, which look like
    masks of 0 and 255, are written, but are in no list. Larger images than ``max_side``, and their labels, are written
    at their working size. Raises DataError if no image can be converted, if the annotations name images for val or test
    only and there is no ``val``, and for a seed that chooses nothing; and OutputError if ``out`` must not be written:
    it may neither hold nor be in what is read.
    """
    if isinstance(val, Annotations):
        annotations = _without(annotations, val, report)
    parts = [annotations, val] if isinstance(val, Annotations) else [annotations]
    sources = [source for part in parts for source in part.sources]
    format_classes(annotations.classes, (sources or [out])[0])  # names that cannot be written are refused first
    images = [image for part in parts for image in part.images]
    if not images:
        raise DataError(f"{_origin(annotations)}: expected annotated images, got none; export the annotations again")
    check_outside(out, [*sources, *(image.image for image in images if isinstance(image.image, Path))])
    for note in (note for part in parts for note in part.notes):
        report(Note(note))
    if alone := _unannotated(parts):
        report(Note(f"images without an annotation: {len(alone)} left out ({join_some(alone, 4)})"))
    jobs = dict(zip(_unique_ids([image.name for image in images]), images, strict=True))
    splits = dict(zip(jobs, _splits_of(annotations, val, report), strict=True))
    if seed is not None and "val" in splits.values():
        raise DataError(
            f"`seed` has no effect: {_origin(parts[-1])} says which images are for validation; remove it, or use `val` "
            "for a share of the images"
        )
    with new_dataset(out, overwrite=overwrite) as root:
        make_layout(root)
        written = _write_samples(root, jobs, annotations.classes, max_side, report)
        written.say(annotations.classes[0], report)
        of = {split: sorted(name for name in written.listed if splits[name] == split) for split in SPLITS}
        if not isinstance(val, Annotations) and not of["val"]:
            if "val" in splits.values():
                text = "no image that the source has for val can be scored: val is a share of those for train instead"
                report(Note(text, warning=True))
            of["train"], of["val"] = _split_randomly(of["train"], _SHARE if val is None else val, seed or 0)
        _say_shared(of, written.digests, report)
        for split, ids in of.items():
            if ids:
                write_list(root, split, ids)
        write_class_names(root, annotations.classes)
    lists = (of["train"], of["val"], of["test"])
    return Conversion(annotations.classes, *lists, written.pixels, len(jobs), written.failed)


@dataclass
class _Written:
    """Hold what is known of the images that were written, by their ids, and why others failed."""

    pixels: Counter[int] = field(default_factory=Counter)  # of each label value, in the images listed
    listed: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)  # of images
    failed: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)  # without any object: in no list
    blank: list[str] = field(default_factory=list)  # that are all of class 0
    turned: list[str] = field(default_factory=list)  # whose sizes do not show whether labels were drawn before EXIF
    any_before: bool = False  # whether any label was
    assumed: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # ids and notes, by the notes' kind

    def add(self, name: str, image: AnnotatedImage, values: dict[int, int], facts: ImageFacts, size: Size) -> None:
        """Add an image, with the size at which its label was drawn."""
        self.digests[name] = facts.digest
        if facts.note:
            self.assumed.setdefault(re.sub(r"[\d.]+", "", facts.note), []).append((name, facts.note))
        is_upright = size == (facts.height, facts.width)
        self.any_before |= not is_upright
        says_nothing = None in (image.height, image.width) or facts.stored_size == size
        if facts.orientation > 1 and is_upright and says_nothing:
            self.turned.append(name)
        if set(values) - {IGNORE_LABEL} and set(values) != {0, IGNORE_LABEL}:
            self.listed.append(name)
            self.pixels.update(values)
        else:
            self.empty.append(name)
        self.blank += [name] if set(values) == {0} else []

    def say(self, first_class: str, report: Reporter) -> None:
        """Report what is worth knowing; raises DataError if nothing was written that a list can have."""
        if not self.listed:
            why = self.failed[0] if self.failed else f"their labels have only {first_class} and void"
            raise DataError(f"none of {len(self.failed) + len(self.empty)} images could be converted: {why}")
        for (name, note), *more in self.assumed.values():
            others = f" (and {len(more)} others: {join_some([other for other, _ in more], 4)})" if more else ""
            report(Note(f"{name}{others}: {note}", warning=True))
        if self.turned:
            others = ", although others were drawn before it" if self.any_before else ""
            text = f"images turned by EXIF, without a size that says whether their labels are: {len(self.turned)} "
            text += f"({join_some(self.turned, 4)}); they are taken as drawn after the turn{others}: look at them with "
            report(Note(f"{text}deeplabctl data preview", warning=True))
        if self.empty:
            have = f"images with only {first_class} and void: {len(self.empty)}"
            report(Note(f"{have} left out of the lists ({join_some(self.empty, 4)})"))
        if self.blank and is_background(first_class):
            have = f"images that are all {first_class}: {len(self.blank)} ({join_some(self.blank, 4)})"
            report(Note(f"{have}; leave them out if nobody annotated them"))


def _write_samples(
    root: Path, jobs: Mapping[str, AnnotatedImage], classes: Sequence[str], max_side: int, report: Reporter
) -> _Written:
    """Write images and labels, each in its turn; those that fail are reported."""
    written = _Written()

    def write(job: tuple[str, AnnotatedImage]) -> Sampled | str:
        try:
            return _write_sample(root, max_side, classes, *job)
        except DeepLabError as error:
            return str(error)

    with task(report, "converting", len(jobs), "images") as advance:
        for (name, image), result in zip(jobs.items(), map_ahead(write, jobs.items()), strict=True):
            if isinstance(result, str):
                written.failed.append(result)
                report(Note(result, warning=True))
            else:
                written.add(name, image, *result)
            advance()
    return written


def _splits_of(annotations: Annotations, val: float | Annotations | None, report: Reporter) -> list[str]:
    """Return the split of each image, those of annotations for ``val`` last, and report what becomes of the source's.

    Images to be split at random are in train. Images for test stay what they are, unless there are no others.
    """
    splits = [image.split or "train" for image in annotations.images]
    counts = Counter(splits)
    numbers = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    keeps_test = 0 < counts["test"] < len(splits)
    if val is None:
        if splits and not counts["train"]:
            kept = ", which keeps those for test" if keeps_test else ""
            raise DataError(
                f"{_origin(annotations)}: expected images for training, got only {numbers}; use `val={_SHARE}` to "
                f"split them again{kept}"
            )
        if len(counts) > 1:
            report(Note(f"splits as in the source: {numbers}; use `val` for others"))
        return splits
    if set(counts) - {"train"}:
        which = "test stays, and the others" if keeps_test else "all"
        what = "for training" if isinstance(val, Annotations) else "split again"
        report(Note(f"splits in the source: {numbers}; {which} are {what}"))
    splits = ["test" if keeps_test and split == "test" else "train" for split in splits]
    return splits + ["val"] * (len(val.images) if isinstance(val, Annotations) else 0)


def _without(annotations: Annotations, val: Annotations, report: Reporter) -> Annotations:
    """Return annotations without the images that those for ``val`` have as well, as their source may lie in the other.

    Raises DataError if none is left, and where two labels of an image differ: one may be that of another photo.
    """
    taken = {_place(image, val): image for image in val.images}
    both = [(image, taken[place]) for image in annotations.images if (place := _place(image, annotations)) in taken]
    if different := [one.image for (one, _), differ in zip(both, map_ahead(_differ, both), strict=True) if differ]:
        raise DataError(
            f"{different[0]}: expected the same label in {_origin(annotations)} and {_origin(val)}, got different ones "
            f"({counted(len(different), 'such image')}); if `val_source` has photos of its own, convert it separately; "
            "otherwise remove the wrong labels"
        )
    images = [image for image in annotations.images if _place(image, annotations) not in taken]
    count = counted(len(annotations.images) - len(images), "image")
    if not images:
        raise DataError(
            f"{_origin(annotations)}: expected images for training that are not in {_origin(val)}, got none: {count} "
            "in both; choose another `val_source`"
        )
    if len(images) < len(annotations.images):
        report(Note(f"left out of train, as {_origin(val)} has them: {count}"))
    return replace(annotations, images=images)


def _differ(labels: tuple[AnnotatedImage, AnnotatedImage]) -> bool:
    """Tell whether two labels of an image file differ; those that fail are reported where they are written."""
    path = labels[0].image
    if not isinstance(path, Path):
        return False
    try:
        facts = inspect_image(path)
        one, other = (_upright_label(label, path, facts)[0] for label in labels)
    except DeepLabError:
        return False
    return not np.array_equal(one, other)


def _place(image: AnnotatedImage, annotations: Annotations) -> str:
    """Return where an image lies; of one that is inside of its annotation, or missing, where its name says."""
    path = image.image if isinstance(image.image, Path) else Path(_origin(annotations), image.name)
    return os.path.realpath(path)


def _say_shared(of: Mapping[str, Sequence[str]], digests: Mapping[str, str], report: Reporter) -> None:
    """Report images to score that are trained on, too."""
    train = [(name, digests[name]) for name in of["train"]]
    for split in ("val", "test"):
        if same := same_images([(name, digests[name]) for name in of[split]], train):
            have = f"images of {split} that are in train, too: {len(same)} of {len(of[split])} ({join_some(same, 4)})"
            report(Note(f"{have}; a score on {split} is not fair", warning=True))


def _origin(annotations: Annotations) -> Path | str:
    """Return what annotations were read from, as a message names it."""
    return annotations.sources[0] if annotations.sources else "the source"


def _unannotated(parts: Sequence[Annotations]) -> list[str]:
    """Return the images beside those with annotations, in the same folders, that have none."""
    images = [image for part in parts for image in part.images]
    taken = {image.image for image in images} | {path for part in parts for path in part.sources}
    failed = {PurePosixPath(image.name).name for image in images if not isinstance(image.image, Path)}
    folders = dict.fromkeys(image.image.parent for image in images if isinstance(image.image, Path))
    beside = [folder / name for folder in folders for name in file_names(folder)]
    return [
        str(path)
        for path in beside
        if path.suffix.lower() in IMAGE_SUFFIXES and path not in taken and not {path.name, path.stem} & failed
    ]


Sampled = tuple[dict[int, int], ImageFacts, Size]  # pixels of each label value; the label's size, as drawn


def _write_sample(root: Path, max_side: int, classes: Sequence[str], name: str, annotated: AnnotatedImage) -> Sampled:
    """Write an image and its label, and return what is in them."""
    path = annotated.image
    if not isinstance(path, Path):
        content = path()
        with TemporaryDirectory(dir=root) as folder:
            file = Path(folder, "image")
            file.write_bytes(content)
            try:
                return _write_sample(root, max_side, classes, name, replace(annotated, image=file))
            except DataError as error:
                raise DataError(f"the image inside {name}'s annotation: {error}") from None
    facts = inspect_image(path)
    label, size = _upright_label(annotated, path, facts)
    with open_image(path) as opened:
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}.get(opened.format or "")
    if 0 < max_side < max(label.shape):
        label, small = shrink_label(label, max_side), PIL.Image.fromarray(read_working_image(path, max_side))
        small.save(root / IMAGES / f"{name}{suffix or '.png'}", quality=_QUALITY, subsampling=0)
    elif suffix:
        (root / IMAGES / f"{name}{suffix}").write_bytes(path.read_bytes())
    else:
        PIL.Image.fromarray(read_image(path)).save(root / IMAGES / f"{name}.png")
    (root / LABELS / f"{name}.png").write_bytes(mask_bytes(label, classes))
    return count_values(label), facts, size


def _upright_label(annotated: AnnotatedImage, path: Path, facts: ImageFacts) -> tuple[Label, Size]:
    """Return the label of the upright image, and the size at which it was drawn; raises DataError for another one."""
    upright = (facts.height, facts.width)
    with naming(f"{path}: the height and width in its annotations"):
        height, width = (
            own if given is None else whole_number(given)
            for given, own in zip((annotated.height, annotated.width), upright, strict=True)
        )
    _check_size(path, (height, width), facts)  # before an array of it is made
    label = annotated.draw_label((height, width))
    _check_size(path, label.shape, facts)
    size = label.shape
    if size != upright:
        label = turn_upright(label, facts.orientation)  # drawn by a program that ignores EXIF
    return label, size


def _check_size(path: Path, size: Size, facts: ImageFacts) -> None:
    if size not in ((facts.height, facts.width), facts.stored_size):
        expected, got = f"{facts.width}x{facts.height}", f"{size[1]}x{size[0]}"
        raise DataError(
            f"{path}: expected annotations of its size, {expected}, got {got}; use `images` to name the folder of the "
            "images that were annotated"
        )


def _unique_ids(names: Sequence[str]) -> list[str]:
    """Return an id for each image: its name without folder, suffix and spaces; equal names get folders or numbers.

    An id is the name of a file and a word of a list: only characters that can be printed, no dot at the beginning,
    and no longer than a file name may be.
    """
    paths = [PurePosixPath(composed(name).replace("\\", "/")) for name in names]
    paths = [path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path for path in paths]
    counts = Counter(path.name for path in paths)
    ids: dict[str, str] = {}  # by their names in small letters, as some systems take "A" and "a" for one file
    for path in paths:
        parts = [part for part in path.parts if not part.startswith("/") and part != ".."]
        text = "_".join(parts if counts[path.name] > 1 else parts[-1:])
        plain = "".join(character if character.isprintable() else " " for character in text)
        name = "_".join(plain.split()).encode()[-_LONGEST_ID:].decode("utf-8", "ignore")
        name = re.sub(r"^(\.|~\$)+", "", name) or "image"  # not that of a hidden file
        candidates = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        name = next(candidate for candidate in candidates if candidate.casefold() not in ids)
        ids[name.casefold()] = name
    return list(ids.values())


def _split_randomly(ids: Sequence[str], val_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the ids for training and those for validation, each in order."""
    count = min(max(round(val_share * len(ids)), int(val_share > 0)), len(ids) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(ids))[:count].tolist())
    return (
        [name for index, name in enumerate(ids) if index not in chosen],
        [name for index, name in enumerate(ids) if index in chosen],
    )
