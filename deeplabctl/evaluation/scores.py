"""Gather the scores of a split, image by image: everything from one pass, in memory that does not grow with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL, hex_color
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.findings import join_some
from deeplabctl.data.inspection import LabelFacts, check_samples, repeated_images
from deeplabctl.evaluation.boundaries import BoundaryF1, Trimap
from deeplabctl.evaluation.metrics import ConfusionMatrix, Metric, as_json
from deeplabctl.reporting import Note, Reporter, counted

# In the order of the JSON; the first checks the ids. A new metric has its entry here.
METRICS: tuple[type[Metric], ...] = (ConfusionMatrix, BoundaryF1, Trimap)


@dataclass(frozen=True)
class ImageScores:
    """Hold what one image adds to the scores of a split."""

    sample: Sample
    prediction: Label
    miou: float  # the mean IoU of its own classes; NaN if it is all void
    metrics: Sequence[Metric]


class SplitScores:
    """Gather the scores of a split with these classes.

    ``has_void`` tells whether any of its labels has void pixels: it decides where the trimap lies. ``settings`` stand
    in the JSON.
    """

    def __init__(
        self,
        classes: Sequence[str],
        settings: Mapping[str, Any],
        kinds: Iterable[type[Metric]] | None = None,  # None: all
        *,
        has_void: bool = True,
    ) -> None:
        self.classes, self.settings, self.images = classes, dict(settings), 0
        self.metrics = [kind(len(classes), has_void=has_void) for kind in (METRICS if kinds is None else kinds)]

    @property
    def matrix(self) -> ConfusionMatrix:
        """Return the confusion matrix of all images."""
        return _matrix(self.metrics)

    @property
    def nbytes(self) -> int:
        """Return the memory that the counts take, and those of each image."""
        return sum(metric.counts.nbytes for metric in self.metrics)

    def score(self, sample: Sample, label: Label, prediction: Label) -> ImageScores:
        """Score an image, in any thread; `add` it afterwards.

        Raises ValueError for ids out of range on a pixel that counts, and for unequal shapes.
        """
        metrics = [type(total)(len(self.classes), has_void=total.has_void) for total in self.metrics]
        for metric in metrics:
            metric.update(label, prediction)
        return ImageScores(sample, prediction, _matrix(metrics).mean_iou(), metrics)

    def add(self, image: ImageScores) -> None:
        """Add an image."""
        self.images += 1
        for total, metric in zip(self.metrics, image.metrics, strict=True):
            total.merge(metric)

    def sum_over_workers(self, summed: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], images: int) -> None:
        """Add the counts of other workers: ``summed`` adds up an array of all of them; ``images`` are those of all."""
        for metric in self.metrics:
            metric.counts = summed(metric.counts)
        self.images = images

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON has them: fractions, and null for a class that is absent."""
        classes: list[dict[str, Any]] = [{"name": name} for name in self.classes]
        for entry, color in zip(classes, getattr(self.classes, "colors", ()), strict=False):
            entry["color"] = hex_color(color)
        totals: dict[str, Any] = {}
        settings = dict(self.settings)
        for metric in self.metrics:
            totals |= metric.to_dict()
            settings |= metric.conventions()
            for key, values in metric.of_classes().items():
                for entry, value in zip(classes, values, strict=True):
                    entry[key] = as_json(value)
        return {**totals, "classes": classes, "images": self.images, "settings": settings}


class Extremes:
    """Keep the images with the best and the worst mean IoU of their own; those without a scored pixel are left out."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._best: list[ImageScores] = []
        self._worst: list[ImageScores] = []

    def add(self, image: ImageScores) -> None:
        """Keep an image while it is among the extremes, without its counts: a trimap of 255 classes takes 20 MB."""
        kept = replace(image, metrics=())
        if not math.isnan(kept.miou):
            self._best = sorted([*self._best, kept], key=lambda entry: -entry.miou)[: self._count]
            self._worst = sorted([*self._worst, kept], key=lambda entry: entry.miou)[: self._count]

    def worst(self) -> list[ImageScores]:
        """Return the worst images, the very worst first."""
        return self._worst

    def best(self) -> list[ImageScores]:
        """Return the best images, the very best first, without those that are also among the worst."""
        worst = {image.sample.id for image in self._worst}
        return [image for image in self._best if image.sample.id not in worst]


def class_columns(classes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return keys and names of the fractions that entries of classes in the JSON have, in the order of the metrics."""
    columns = {key: name for metric in METRICS for key, name in metric.columns.items()}
    return {key: name for key, name in columns.items() if any(key in entry for entry in classes)}


def samples_to_score(
    dataset: Dataset, split: str, limit: int | None, report: Reporter
) -> tuple[list[Sample], list[LabelFacts]]:
    """Return the first ``limit`` samples of a split, or all, and what their labels contain; warns of repeated ones."""
    samples = dataset.samples(split)[:limit]
    if repeated := repeated_images(samples):
        text = f"{dataset.list_file(split)} has {counted(len(repeated), 'image')} more than once"
        report(Note(f"{text}, which count more than others ({join_some(repeated, 3)})", warning=True))
    return samples, check_samples(dataset, samples, report)


def any_void(facts: Iterable[LabelFacts]) -> bool:
    """Tell whether any label of a set has void pixels."""
    return any(IGNORE_LABEL in fact.pixels for fact in facts)


def _matrix(metrics: Sequence[Metric]) -> ConfusionMatrix:
    matrix = metrics[0]
    assert isinstance(matrix, ConfusionMatrix)
    return matrix
