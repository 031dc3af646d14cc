"""Count the pixels and images of each class, the sizes of images and the share of void, and weigh classes by them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Dataset
from deeplabctl.data.inspection import LabelFacts, check_samples
from deeplabctl.reporting import Reporter

_SAME_WITHIN = 0.06
LARGEST_AS_IT_IS, WORKING_SIDE, _LARGEST_WORKING_SIDE = 1024, 640, 2048  # pixels of images' longer sides
_SMALLEST_OBJECT = 16  # pixels of a side


@dataclass(frozen=True)
class SplitCounts:
    """Hold the counts of a split."""

    split: str
    images: int
    pixels: list[int]  # of each class
    images_with: list[int]  # number of images in which each class appears
    void: int  # pixels
    heights: tuple[int, float, int]  # smallest, median, largest
    widths: tuple[int, float, int]

    @property
    def shares(self) -> list[float]:
        """Return the share of each class among the pixels that are not void."""
        valid = sum(self.pixels)
        return [count / valid if valid else 0.0 for count in self.pixels]

    @property
    def void_share(self) -> float:
        """Return the share of void among all pixels."""
        return self.void / max(self.void + sum(self.pixels), 1)


@dataclass(frozen=True)
class Statistics:
    """Hold the counts of some splits, and the median-frequency class weights of the first."""

    classes: tuple[str, ...]
    splits: list[SplitCounts]
    weights: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON has them."""
        return {
            "splits": [
                {
                    "name": counts.split,
                    "images": counts.images,
                    "void_share": counts.void_share,
                    "height": dict(zip(("min", "median", "max"), counts.heights, strict=True)),
                    "width": dict(zip(("min", "median", "max"), counts.widths, strict=True)),
                    "classes": [
                        dict(zip(("name", "pixels", "share", "images"), row, strict=True))
                        for row in zip(self.classes, counts.pixels, counts.shares, counts.images_with, strict=True)
                    ],
                }
                for counts in self.splits
            ],
            "median_frequency_weights": {"split": self.splits[0].split, "weights": self.weights},
        }


def count_splits(dataset: Dataset, splits: Sequence[str], report: Reporter) -> Statistics:
    """Count the classes of these splits. Raises DataError at the first error, as a training does."""
    samples = {split: dataset.samples(split) for split in splits}
    facts = check_samples(dataset, [sample for part in samples.values() for sample in part], report)
    num_classes, left = len(dataset.classes), iter(facts)
    counts = [_count_split(split, [*islice(left, len(part))], num_classes) for split, part in samples.items()]
    return Statistics(dataset.classes, counts, median_frequency_weights(facts[: counts[0].images], num_classes))


def default_splits(dataset: Dataset) -> list[str]:
    """Return the splits that a training uses by default, if there are any of them, else all splits; at least one."""
    used = [split for split in (dataset.training_split, "val") if split in dataset.splits]
    return used or dataset.splits or [dataset.training_split]


def _count_split(split: str, facts: Sequence[LabelFacts], num_classes: int) -> SplitCounts:
    heights, widths = [fact.height for fact in facts], [fact.width for fact in facts]
    return SplitCounts(
        split,
        len(facts),
        [sum(fact.pixels.get(index, 0) for fact in facts) for index in range(num_classes)],
        [sum(index in fact.pixels for fact in facts) for index in range(num_classes)],
        sum(fact.pixels.get(IGNORE_LABEL, 0) for fact in facts),
        (min(heights), median(heights), max(heights)),
        (min(widths), median(widths), max(widths)),
    )


def shows_upright(facts: Sequence[LabelFacts]) -> bool | None:
    """Tell whether labels show which side of their images is up, as streets do and views from above do not.

    They do not if it is all the same which of two classes lies above the other, and if classes meet side by side as
    often as one above the other, within 6%. None where that is not known: of fewer than three classes.
    """
    above: dict[tuple[int, int], int] = defaultdict(int)
    beside: dict[tuple[int, int], int] = defaultdict(int)
    for fact in facts:
        for one, other, times_above, times_left in fact.neighbours:
            above[one, other] += times_above
            beside[one, other] += times_left
    pairs = {(min(pair), max(pair)) for pair in above}
    of_above, of_beside = (sum(counts.values()) for counts in (above, beside))
    if len({number for pair in pairs for number in pair}) < 3 or not of_above or not of_beside:
        return None
    turned = sum(abs(above[a, b] - above[b, a]) for a, b in pairs) / of_above
    meetings = (((above[a, b] + above[b, a]) / of_above, (beside[a, b] + beside[b, a]) / of_beside) for a, b in pairs)
    others = sum(abs(one - other) for one, other in meetings) / 2
    more = abs(of_above - of_beside) / (of_above + of_beside)
    return bool(max(turned, others, more) > _SAME_WITHIN)


def max_side_for(facts: Sequence[LabelFacts]) -> int:
    """Return the longer side at which images with these labels are worked on, 0 for their own size.

    The network's start has seen objects in photos of 500 pixels. Images with more than 1,024 become 640 pixels, or as
    many as the rarest class needs to cover 16 x 16 pixels where it is seen, at most 2,048.
    """
    longest = median(max(fact.height, fact.width) for fact in facts)
    if longest <= LARGEST_AS_IT_IS:
        return 0
    shares: dict[int, list[float]] = defaultdict(list)  # of the square of the longer side, in each image that has it
    for fact in facts:
        for value, count in fact.pixels.items():
            if value != IGNORE_LABEL:
                shares[value].append(count / max(fact.height, fact.width) ** 2)
    smallest = min((median(found) for found in shares.values()), default=1.0)
    side = min(max(WORKING_SIDE, math.ceil(_SMALLEST_OBJECT / math.sqrt(smallest))), _LARGEST_WORKING_SIDE)
    return 0 if side >= longest else side


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
