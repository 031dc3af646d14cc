"""Weigh classes by their frequency."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.file_facts import LabelFacts


def median_frequency_weights(facts: Sequence[LabelFacts], num_classes: int) -> list[float]:
    """Return (C,) the median of the classes' frequencies over each class's own (arXiv 1411.4734, section 6.3.2).

    The frequency of a class is its share of the valid pixels of the images in which it appears. A class that appears in
    no image has weight 0.
    """
    pixels, area = np.zeros(num_classes), np.zeros(num_classes)
    for fact in facts:
        valid = sum(count for value, count in fact.pixels.items() if value != IGNORE_LABEL)
        for value, count in fact.pixels.items():
            if value != IGNORE_LABEL:
                pixels[value] += count
                area[value] += valid
    present = pixels > 0
    frequency = pixels[present] / area[present]
    weights = np.zeros(num_classes)
    if present.any():
        weights[present] = np.median(frequency) / frequency
    return [float(weight) for weight in weights]


def sqrt_median_frequency_weights(facts: Sequence[LabelFacts], num_classes: int) -> list[float]:
    """Return (C,) the square roots of `median_frequency_weights`, which leave large classes their part."""
    return [math.sqrt(weight) for weight in median_frequency_weights(facts, num_classes)]
