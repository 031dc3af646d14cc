"""Define the void label, VOC's classes, and names of classes with their colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt

IGNORE_LABEL = 255  # void: not trained on, not scored

Color = tuple[int, int, int]  # RGB
LUMA = (0.299, 0.587, 0.114)  # of R, G and B in grey (ITU-R BT.601)

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@cache
def voc_palette() -> npt.NDArray[np.uint8]:
    """Return VOC's colour map, (256, 3) uint8 RGB: the bits of the id, spread over the channels from the highest."""
    ids = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    colors.setflags(write=False)
    return colors


@cache
def voc_grey_ids(num_classes: int) -> dict[int, set[int]]:
    """Return the luminances of the palette colours of the classes and of void, and the ids that have each.

    A palette label has these values (0, 38, 75, 113, ... 220) after a program has read it as a grey image. Both
    neighbouring integers are included, as programs round differently. Above 16 classes some have several ids.
    """
    ids = [*range(num_classes), IGNORE_LABEL]
    found: dict[int, set[int]] = {}
    for index, value in zip(ids, voc_palette()[ids].astype(float) @ LUMA, strict=True):
        for level in {int(np.floor(value)), int(np.ceil(value))}:
            found.setdefault(level, set()).add(index)
    return found


class ClassNames(tuple[str, ...]):
    """Hold class names and the colours that a palette gives them; equal to a tuple of the names."""

    colors: tuple[Color, ...]  # RGB, one per class; empty without a palette

    def __new__(cls, names: Iterable[str], colors: Iterable[Color] = ()) -> Self:
        """Take the names and the colours."""
        made = super().__new__(cls, names)
        made.colors = tuple(colors)
        return made


def colored_names(names: Iterable[str], colors: Iterable[Color | None]) -> ClassNames:
    """Return the names with these colours; without, if some are missing, or all are grey levels of masks."""
    every = list(colors)
    known = [color for color in every if color is not None]
    has_colors = len(known) == len(every) and any(len(set(color)) > 1 for color in known)
    return ClassNames(names, known if has_colors else ())


def renamed_classes(classes: Sequence[str], rename: Mapping[str, str]) -> ClassNames:
    """Return the classes under their new names; those that become one have the colour of the first.

    A class whose new name is one of void is left out.
    """
    names = [rename.get(name, name) for name in classes]
    kept = [(index, name) for index, name in enumerate(names) if name in classes or not is_void(name)]
    firsts = {name: index for index, name in reversed(kept)}
    order = sorted(firsts.values())
    colors = getattr(classes, "colors", ())
    return ClassNames((names[index] for index in order), (colors[index] for index in order) if colors else ())


def other_order(classes: Sequence[str], of: Sequence[str]) -> list[int]:
    """Return the places of classes among those ``of`` weights, which are the same in another order; else nothing."""
    is_other = tuple(classes) != tuple(of) and sorted(classes) == sorted(of)
    return [of.index(name) for name in classes] if is_other else []


def class_colors(classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the colours of classes, (256, 3) uint8 RGB by the values of labels.

    They are those of their palette; without one VOC's if they are VOC's classes, and else those of `distinct_colors`,
    with black for a background that comes first.
    """
    colors = (voc_palette() if tuple(classes) == VOC_CLASSES else distinct_colors()).copy()
    if given := getattr(classes, "colors", ()):
        colors[: len(given)] = given
    elif classes and classes[0] == "background":
        colors[0] = 0
    return colors


@cache
def distinct_colors() -> npt.NDArray[np.uint8]:
    """Return colours (256, 3) uint8 RGB that can be told apart, the first ones best, and seen on white and on black.

    Each is the farthest of all from those before it, in CIELAB. None is one of VOC's; the last is VOC's of void.
    """
    levels = np.arange(21, 256, 26)  # which VOC's map does not have
    found = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    linear = np.where(found / 255 <= 0.04045, found / 255 / 12.92, ((found / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    keep = (luminance > 0.12) & (luminance < 0.6)  # a contrast of 1.6 to white and 3 to black, as WCAG counts it
    keep &= found.min(-1) < found.max(-1)  # grey is what images have
    found, linear = found[keep], linear[keep]
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    root = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    lab = np.stack([116 * root[:, 1], 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], -1)
    chosen = [int(np.argmax(found @ (1, -1, -1)))]  # red
    apart = np.full(len(lab), np.inf)
    while len(chosen) < IGNORE_LABEL:
        apart = np.minimum(apart, ((lab - lab[chosen[-1]]) ** 2).sum(-1))
        chosen.append(int(np.argmax(apart)))
    colors = np.concatenate([found[chosen], voc_palette()[IGNORE_LABEL:]]).astype(np.uint8)
    colors.setflags(write=False)
    return colors


def hex_color(color: Iterable[int]) -> str:
    """Return a colour as pages have it: "#804080"."""
    return "#" + bytes(map(int, color)).hex()


def is_void(name: str) -> bool:
    """Tell whether a name beside a colour, or of outlines, is one of void."""
    return name.casefold() in ("void", "ignore", "unlabeled", "unlabelled", "__ignore__")
