"""Turn the colours of masks into class ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabctl.classes import IGNORE_LABEL, voc_palette

Label = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_PLACES = np.array([1 << 16, 1 << 8, 1])


@dataclass(frozen=True)
class Recoloured:
    """Hold class ids (H, W), void where a colour is not known, and the pixels of each unknown colour."""

    label: Label
    unknown: dict[Colour, int]


def ids_of_colours(rgb: npt.NDArray[np.uint8], ids: Mapping[Colour, int]) -> Recoloured:
    """Turn (H, W, 3) uint8 RGB into class ids by a table of exact colours; no colour is ever guessed."""
    codes = np.array(list(ids)) @ _PLACES
    order = np.argsort(codes)
    pixels = rgb @ _PLACES
    places = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    known = codes[order][places] == pixels
    label = np.array(list(ids.values()), np.uint8)[order][places]
    label[~known] = IGNORE_LABEL
    left, counts = np.unique(pixels[~known], return_counts=True)
    unknown = {
        (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255): int(count)
        for code, count in zip(left, counts, strict=True)
    }
    return Recoloured(label, unknown)


def voc_colour_ids(num_classes: int) -> dict[Colour, int]:
    """Return the class ids behind VOC's colours, void's among them."""
    colors = voc_palette().tolist()
    return {tuple(colors[index]): index for index in (*range(num_classes), IGNORE_LABEL)}
