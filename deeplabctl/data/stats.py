"""Count what a data set holds: pixels and images of each class, sizes, the share of void, class weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Dataset
from deeplabctl.data.inspection import LabelFacts, check_labels, median_frequency_weights
from deeplabctl.reporting import Reporter


@dataclass(frozen=True)
class SplitCounts:
    """Hold the counts of a split."""

    split: str
    images: int
    pixels: list[int]  # of each class
    images_with: list[int]  # the images in which each class appears
    void: int  # pixels
    heights: tuple[int, float, int]  # smallest, median, largest
    widths: tuple[int, float, int]

    @property
    def shares(self) -> list[float]:
        """Return the share of each class in the pixels that are not void."""
        valid = sum(self.pixels)
        return [count / valid if valid else 0.0 for count in self.pixels]

    @property
    def void_share(self) -> float:
        """Return the share of void in all pixels."""
        return self.void / max(self.void + sum(self.pixels), 1)


@dataclass(frozen=True)
class Statistics:
    """Hold the counts of some splits, and the class weights of the first of them."""

    classes: tuple[str, ...]
    splits: list[SplitCounts]
    weights: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        return {
            "splits": [
                {
                    "name": counts.split,
                    "images": counts.images,
                    "void_share": counts.void_share,
                    "height": dict(zip(("min", "median", "max"), counts.heights, strict=True)),
                    "width": dict(zip(("min", "median", "max"), counts.widths, strict=True)),
                    "classes": [
                        {"name": name, "pixels": pixels, "share": share, "images": images}
                        for name, pixels, share, images in zip(
                            self.classes, counts.pixels, counts.shares, counts.images_with, strict=True
                        )
                    ],
                }
                for counts in self.splits
            ],
            "median_frequency_weights": {"split": self.splits[0].split, "weights": self.weights},
        }


def count_splits(dataset: Dataset, splits: Sequence[str], report: Reporter) -> Statistics:
    """Count the classes of these splits; the weights are the first's. Raises DataError as a training would."""
    samples = {split: dataset.samples(split) for split in splits}
    facts = check_labels(dataset, [sample for part in samples.values() for sample in part], report)
    counts: list[SplitCounts] = []
    weights: list[float] = []
    for split, part in samples.items():
        own, facts = facts[: len(part)], facts[len(part) :]
        counts.append(_count(split, own, len(dataset.classes)))
        weights = weights or median_frequency_weights(own, len(dataset.classes))
    return Statistics(dataset.classes, counts, weights)


def usual_splits(dataset: Dataset) -> list[str]:
    """Return the splits that a training would use, those of them that are there; else all."""
    usual = [split for split in (dataset.training_split, "val") if split in dataset.splits]
    return usual or dataset.splits


def _count(split: str, facts: Sequence[LabelFacts], num_classes: int) -> SplitCounts:
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
