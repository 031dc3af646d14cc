"""Define an annotation format, what its reader returns, and what readers share: from names of classes to labels."""

from __future__ import annotations

import difflib
import itertools
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.choices import Crowds, Outside, Unknown
from deeplabctl.class_files import Palette
from deeplabctl.classes import IGNORE_LABEL, ClassNames, is_void, renamed_classes
from deeplabctl.data.findings import join_some, quoted
from deeplabctl.data.formats.documents import Source, naming
from deeplabctl.data.formats.image_search import ImageSearch, failing
from deeplabctl.data.formats.outlines import Outline, bounding_box, outlines_with_holes
from deeplabctl.data.labels import count_values
from deeplabctl.errors import DataError
from deeplabctl.files import composed
from deeplabctl.reporting import Reporter, counted

BACKGROUND = "background"
LABELME_BACKGROUND, LABELME_VOID = "_background_", "__ignore__"  # labelme's own names for class 0 and void


class AnnotationFormat(ABC):
    """Recognize and read the annotations of one program.

    A new format is one file in this package and one entry in `deeplabctl.choices.ANNOTATIONS`. Its file also has the
    functions that write the format, if there are any.
    """

    content: ClassVar[str]  # what a source of this format is, as a message says it: "COCO's JSON"
    own_settings: ClassVar[tuple[str, ...]] = ("outside",)  # of `ImportSettings`, those that not all formats have
    reads_below: ClassVar[bool] = False  # the folders in that of a source, too

    @abstractmethod
    def recognises(self, source: Source) -> bool:
        """Tell whether a source is of this format, where the settings do not name one."""

    @abstractmethod
    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read a source; raises DataError for one that is not of this format, and for what does not follow it.

        Labels are drawn later, one at a time: an error in one of them concerns its image only.
        """


@dataclass(frozen=True)
class ImportSettings:
    """Say what annotations are and what they mean."""

    format: str = "auto"  # one of the formats' names; auto: recognized by the content
    images: Path | None = None  # folder of the images; without it they are found by the annotations
    palette: Palette | None = None  # names and colours of the classes in masks
    classes: tuple[str, ...] | None = None  # class names in the order of their ids
    outside: Outside = "background"  # what pixels outside of all outlines become
    unknown: Unknown = "error"  # what colours and outlines of no class become
    rename: Mapping[str, str] = field(default_factory=dict)  # names of classes: what they become
    mask_suffix: str = ""  # what a mask's name has after that of its image
    image_suffix: str = ""  # what an image's name has after what its mask's name begins with
    attribute: str = ""  # of VIA's regions: their class, if they have several attributes
    crowds: Crowds = "auto"  # what COCO's crowds become; auto: void, if they are few

    def __post_init__(self) -> None:
        """Raise DataError for new names that are old ones of others, or their own: what comes first would matter."""
        if twice := sorted({*self.rename} & {*self.rename.values()}):
            raise DataError(f"`rename`: expected new names that are not renamed themselves, got {join_some(twice)}")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the class names with composed letters, from the palette if they are not given, or None."""
        names = self.classes or (self.palette.names if self.palette else None)
        return names and ClassNames(map(composed, names), getattr(names, "colors", ()))


@dataclass(frozen=True)
class AnnotatedImage:
    """Hold an image, as its file or a function that returns its bytes, and what draws its label (H, W) uint8.

    ``height`` and ``width`` are those that the annotations give for the image, unchecked; None if they do not.
    ``split`` is "train", "val" or "test", or empty if the annotations do not say.
    """

    name: str
    image: Path | Callable[[], bytes]
    draw_label: Callable[[Size], Label]
    height: Any = None
    width: Any = None
    split: str = ""


@dataclass
class Annotations:
    """Hold all annotated images of a source, the names of the classes, notes for the user, and what was read.

    The first of ``sources`` is the one that the user names.
    """

    classes: tuple[str, ...]
    images: list[AnnotatedImage]
    notes: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Region:
    """Hold an object: the name of its class, where it stands in the annotations, and what draws its mask.

    A region that ``is_below`` all others is void: its class is somewhere in it.
    """

    name: str
    where: str
    mask: Callable[[Size], Mask]
    is_below: bool = False

    def __post_init__(self) -> None:
        """Compose the letters of the name: one class may be written in two ways."""
        object.__setattr__(self, "name", composed(self.name))


@dataclass
class OutlinedImage:
    """Hold an image by its name, as its file or a function that raises DataError, and the regions in it."""

    name: str
    file: Path | Callable[[], bytes]
    height: Any = None
    width: Any = None
    split: str = ""  # "train", "val" or "test", if the annotations say
    regions: list[Region] = field(default_factory=list)
    check: Callable[[], None] | None = None  # raises DataError if the file is not the image that was annotated
    is_listed: bool = True  # else it is left out


class Outlines:
    """Collect the images of a source with the regions in them, and what is to be said of them."""

    def __init__(self, settings: ImportSettings) -> None:
        self._settings = settings
        self._images: list[OutlinedImage] = []
        self._searches: dict[tuple[Path, bool, bool], ImageSearch] = {}
        self.without_area = 0  # shapes that are left out
        self.notes: list[str] = []

    def search(self, place: Path, *, by_stem: bool = False) -> ImageSearch:
        """Return what finds images in the folder of the settings, or else in this one."""
        place = self._settings.images or place
        return self._searches.setdefault((place, by_stem, False), ImageSearch([place], by_stem=by_stem))

    def search_beside(self, annotations: Path) -> ImageSearch:
        """Return what finds images in the folder of the settings, or else in those beside a file."""
        folder = annotations.parent
        return self._searches.setdefault((folder, False, True), ImageSearch.beside(annotations, self._settings.images))

    @contextmanager
    def image(
        self, name: str, file: Path | Callable[[], bytes], height: Any = None, width: Any = None
    ) -> Iterator[OutlinedImage]:
        """Yield an image to which regions are added; a DataError meanwhile is why it fails."""
        image = OutlinedImage(name, file, height, width)
        try:
            yield image
        except DataError as error:
            image.file, image.regions = failing(str(error)), []
        if image.is_listed:
            self._images.append(image)

    def annotations(
        self, source: Path, found: Sequence[str] | None = None, *, smaller_on_top: bool = False
    ) -> Annotations:
        """Return the images' annotations; their classes are those ``found``, in this order, or else in that of letters.

        Of overlapping regions the later lies on top, or the smaller one. Raises DataError as `number_classes` does, and
        why the first image failed if nothing is left of any.
        """
        used = [(region.name, image.name) for image in self._images for region in image.regions]
        if not used:
            for image in self._images:
                if not isinstance(image.file, Path):
                    image.file()
        found = sorted({name for name, _ in used}) if found is None else [*map(composed, found)]
        classes = number_classes(source, found, self._settings, used)
        several = [f"{count} of {name!r}" for name, count in Counter(found).items() if count > 1]
        notes = [f"classes with the same name are merged: {join_some(several)}"] if several else []
        notes += classes.notes + [note for search in self._searches.values() for note in search.notes()] + self.notes
        if self.without_area:
            notes.append(f"lines, points and other shapes without an area: {self.without_area} skipped")
        drawn = []
        for image in self._images:
            draw, size = partial(_draw_regions, image, classes, smaller_on_top), (image.height, image.width)
            drawn.append(AnnotatedImage(image.name, image.file, draw, *size, image.split))
        return Annotations(classes.names, drawn, notes)


def _draw_regions(image: OutlinedImage, classes: NamedClasses, smaller_on_top: bool, size: Size) -> Label:
    """Draw the regions of an image; their areas are counted in pixels, and those below others are void."""
    if image.check:
        image.check()
    label = np.full(size, classes.outside, np.uint8)
    lowest = size[0] * size[1]
    top = np.full(size, 2 * lowest, np.int64) if smaller_on_top else None  # the area of what lies on top
    for region in sorted(image.regions, key=lambda region: not region.is_below):
        with naming(region.where):
            mask, class_id = region.mask(size), classes.id_of(region.name)
        if not mask.any() or (region.is_below and class_id == classes.outside):
            continue
        box = bounding_box(mask)
        mask = mask[box]
        if top is not None:
            area = int(np.count_nonzero(mask)) + lowest * region.is_below
            mask = mask & (area <= top[box])
            top[box][mask] = area
        label[box][mask] = IGNORE_LABEL if region.is_below else class_id
    return label


@dataclass(frozen=True)
class NamedClasses:
    """Hold the class names, the label of each name of outlines, and what lies ``outside`` of all of them."""

    names: tuple[str, ...]
    ids: dict[str, int]
    outside: int
    unknown: int  # what names become that are not in ``ids``
    notes: list[str]  # on names in the source that are not among the classes

    def id_of(self, name: str) -> int:
        """Return the label of outlines of a name."""
        return self.ids.get(name, self.unknown)


def is_background(name: str) -> bool:
    """Tell whether a name is that of the background, in any spelling."""
    return name.casefold() in (BACKGROUND, LABELME_BACKGROUND)


def number_classes(
    source: Path, found: Sequence[str], settings: ImportSettings, used: Iterable[tuple[str, str]]
) -> NamedClasses:
    """Assign ids to the classes of the settings, or else to those ``found`` in a source, in their order.

    The background comes first unless pixels outside of all outlines are void. ``used`` are the name of each outline and
    the image that it is in. Names of void, which no class of the settings has, are void. Raises DataError for fewer
    than 2 classes, if no class is what lies outside, and for outlines of other classes, unless the settings say what
    these become.
    """
    rename = {composed(old): composed(new) for old, new in settings.rename.items()}
    images: dict[str, list[str]] = defaultdict(list)
    for name, image in used:
        images[rename.get(name, name)].append(image)
    known = {*found, *images, *(settings.class_names or ())}
    found = list(dict.fromkeys([*(rename.get(name, name) for name in found), *images]))
    classes = settings.class_names
    if classes is None:
        others = [name for name in found if not (is_background(name) or is_void(name))]
        no_background = settings.outside == "void" and not any(map(is_background, found))
        classes = tuple(others) if no_background else (BACKGROUND, *others)
    classes = renamed_classes(classes, rename)
    if not 2 <= len(classes) <= IGNORE_LABEL:
        got = f"{len(classes)} ({join_some(classes)})"
        raise DataError(
            f"{source}: expected outlines of 2 to {IGNORE_LABEL} classes, got {got}; use `classes` to name them"
        )
    ids = {name: index for index, name in enumerate(classes)}
    background = ids.get(BACKGROUND, next((index for name, index in ids.items() if is_background(name)), None))
    if background is None and "background" in (settings.outside, settings.unknown):
        option = "outside" if settings.outside == "background" else "unknown"
        raise DataError(
            f"{source}: expected a class named {BACKGROUND} for pixels outside all outlines, got {join_some(classes)}; "
            f"add it to `classes`, or use `{option}=void`"
        )
    notes = []
    for old, new in rename.items():
        if old not in known and new not in images:
            close = difflib.get_close_matches(old, known, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            notes.append(f"no outlines of class {old!r} to rename to {new!r}{meant}")
    for name in [name for name in found if name not in ids]:
        meaning = IGNORE_LABEL if is_void(name) else background if is_background(name) else None
        if meaning is not None:
            ids[name] = meaning
            if name in images and name not in (LABELME_VOID, LABELME_BACKGROUND):
                what = "void (255)" if meaning == IGNORE_LABEL else f"the class {classes[meaning]}"
                notes.append(f"outlines of {name!r} are {what}, as `classes` does not name it: {len(images[name])}")
    notes += similar_names(classes, images)
    unlisted = ", ".join(
        f"{len(where)} of {quoted(name)} ({_some(where)})" for name, where in sorted(images.items()) if name not in ids
    )
    if unlisted and settings.unknown == "error":
        others, meant = sorted(images.keys() - ids.keys()), ""
        for name in classes:
            if name not in images and (close := difflib.get_close_matches(name, others, 1)):
                meant = f"did you mean {close[0]!r} by {name!r}? Otherwise "
        raise DataError(
            f"{source}: expected outlines of {join_some(classes, 20)}, got others: {unlisted}; {meant}add these to "
            "`classes`, or use `rename`, `unknown=background` or `unknown=void`"
        )
    if unlisted:
        notes.append(f"outlines that are not of the classes become {settings.unknown}: {unlisted}")
    outside = background if settings.outside == "background" else IGNORE_LABEL
    unknown = background if settings.unknown == "background" else IGNORE_LABEL
    assert outside is not None
    assert unknown is not None
    ids |= {old: ids.get(new, unknown) for old, new in rename.items()}
    return NamedClasses(classes, ids, outside, unknown, notes)


def similar_names(classes: Sequence[str], images: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Return a note for each two classes whose names differ in case or spaces, or as by a slip of the keys.

    ``images`` are those in which each outline of a class is.
    """

    def described(name: str) -> str:
        where = (images or {}).get(name)
        return f"{name!r} ({counted(len(where), 'outline')}: {_some(where)})" if where else repr(name)

    return [
        f"{described(one)} and {described(other)} are different classes, although their names hardly differ; use "
        f"`rename` to make them one"
        for one, other in itertools.combinations(classes, 2)
        if _is_like(one, other)
    ]


def _is_like(one: str, other: str) -> bool:
    """Tell whether two names are the same but for case, spaces and signs, or one slip in five letters or more."""
    short, long = sorted(("".join(filter(str.isalnum, name.casefold())) for name in (one, other)), key=len)
    digits = [[*filter(str.isdigit, name)] for name in (short, long)]
    if short == long or len(short) < 5 or len(long) > len(short) + 1 or digits[0] != digits[1]:
        return short == long
    slips = {long[:at] + long[at + 1 :] for at in range(len(long))}  # a letter too many, and two in the wrong order
    return short in slips | {long[:at] + long[at : at + 2][::-1] + long[at + 2 :] for at in range(len(long))}


def _some(images: Sequence[str]) -> str:
    return join_some(list(dict.fromkeys(images)), 3)


def first_object(classes: Sequence[str]) -> int:
    """Return the first class id that objects have in annotations: 1 where class 0 is the background, else 0."""
    return int(classes[0] == BACKGROUND)


def drawn_classes(label: Label, classes: Sequence[str]) -> list[int]:
    """Return the class ids in a label (H, W) uint8 without void and a class 0 that is the background."""
    return [index for index in count_values(label) if first_object(classes) <= index != IGNORE_LABEL]


def drawn_outlines(label: Label, classes: Sequence[str], tolerance: float) -> list[Outline]:
    """Return the outlines of `drawn_classes` as `outlines_with_holes` does."""
    found = outlines_with_holes(label, tolerance)
    return [outline for outline in found if first_object(classes) <= outline.class_id != IGNORE_LABEL]
