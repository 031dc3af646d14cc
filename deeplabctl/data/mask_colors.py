"""Turn the colours of masks into class ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeplabctl.arrays import Image, Label
from deeplabctl.classes import IGNORE_LABEL, Color, voc_palette

_CODE = np.array([1 << 16, 1 << 8, 1])  # turns RGB into one number


@dataclass(frozen=True)
class DecodedMask:
    """Hold class ids (H, W), void for unknown colours, and the number of pixels of each unknown colour."""

    label: Label
    unknown: dict[Color, int]


def decode_colors(mask: Image, ids: Mapping[Color, int]) -> DecodedMask:
    """Turn a mask in colours, (H, W, 3) uint8 RGB, into class ids; only exact colours of the table count."""
    codes = np.array(list(ids)) @ _CODE
    order = np.argsort(codes)
    pixels = mask @ _CODE
    places = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    known = codes[order][places] == pixels
    label = np.array(list(ids.values()), np.uint8)[order][places]
    label[~known] = IGNORE_LABEL
    others, counts = np.unique(pixels[~known], return_counts=True)
    unknown = {
        (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255): int(count)
        for code, count in zip(others, counts, strict=True)
    }
    return DecodedMask(label, unknown)


def voc_color_ids(num_classes: int) -> dict[Color, int]:
    """Return the class id of each of VOC's colours, including void's."""
    colors = voc_palette().tolist()
    return {tuple(colors[index]): index for index in (*range(num_classes), IGNORE_LABEL)}
