"""Outlined objects of images: what readers of annotations share, from the names of classes to the label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.formats.annotations import (
    AnnotatedImage,
    Annotations,
    ImportSettings,
    NamedClasses,
    naming,
    number_classes,
)


@dataclass(frozen=True)
class Region:
    """Hold an object: the name of its class, where it stands in the annotations, and what draws its mask.

    A region that ``is_below`` all others is void: its class is somewhere in it.
    """

    name: str
    where: str
    mask: Callable[[Size], Mask]
    is_below: bool = False


@dataclass(frozen=True)
class OutlinedImage:
    """Hold an image by its name, as its file or a function that raises DataError, and the regions in it."""

    name: str
    image: Path | Callable[[], bytes]
    regions: list[Region] = field(default_factory=list)
    height: Any = None
    width: Any = None
    split: str = ""  # "train", "val" or "test", if the annotations say


def outlined(
    source: Path,
    found: Sequence[str],
    images: Iterable[OutlinedImage],
    settings: ImportSettings,
    *,
    smaller_on_top: bool = False,
) -> Annotations:
    """Return the annotations of images with regions, whose classes are those ``found`` in a source, in this order.

    Of overlapping regions the later lies on top, or the smaller one. Raises DataError as `number_classes` does, and
    why the first image failed if nothing is left of any.
    """
    images = list(images)
    used = [(region.name, image.name) for image in images for region in image.regions]
    if not used:
        for image in images:
            if not isinstance(image.image, Path):
                image.image()
    classes = number_classes(source, found, settings, used)
    annotated = [
        AnnotatedImage(
            image.name,
            image.image,
            partial(draw_regions, image.regions, classes, smaller_on_top=smaller_on_top),
            image.height,
            image.width,
            image.split,
        )
        for image in images
    ]
    return Annotations(classes.names, annotated, classes.notes)


def draw_regions(regions: Sequence[Region], classes: NamedClasses, size: Size, *, smaller_on_top: bool) -> Label:
    """Draw the regions of an image; their areas are counted in pixels, and those below others are void."""
    label = np.full(size, classes.outside, np.uint8)
    lowest = size[0] * size[1]
    top = np.full(size, 2 * lowest, np.int64) if smaller_on_top else None  # the area of what lies on top
    for region in sorted(regions, key=lambda region: not region.is_below):
        with naming(region.where):
            mask, class_id = region.mask(size), classes.id_of(region.name)
        if region.is_below and class_id == classes.outside:
            continue
        if top is not None:
            area = int(np.count_nonzero(mask)) + lowest * region.is_below
            mask = mask & (area <= top)
            top[mask] = area
        label[mask] = IGNORE_LABEL if region.is_below else class_id
    return label
