"""Gather the scores of a split, image by image: everything from one pass, in memory that does not grow with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from deeplabctl.arrays import Floats, Label
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Sample
from deeplabctl.data.inspection import LabelFacts
from deeplabctl.evaluation.boundaries import BANDS, BF_TOLERANCE, Around, BoundaryF1, Trimap, boundary_f1
from deeplabctl.evaluation.metrics import ConfusionMatrix

ABSENT_CLASSES = "classes in neither labels nor predictions are left out of the means"
BF_CONVENTION = (
    f"Csurka et al. 2013, tolerance {BF_TOLERANCE:g} of the diagonal; mean over the classes of an image's label, then "
    "over the images (as SegNet)"
)

TRIMAP_CONVENTIONS: dict[Around, str] = {
    "void": "width w: the pixels that void dilated by a square of 2w + 1 reaches (as the script of arXiv 1606.00915)",
    "boundaries": "width 1: the pixels beside one of another class; each further one dilates that by a pixel",
}


@dataclass(frozen=True)
class ImageScores:
    """Hold what one image adds to the scores of a split."""

    sample: Sample
    prediction: Label
    matrix: ConfusionMatrix
    trimap: Trimap | None
    boundary_f1: Floats | None  # (C,)


def score_image(
    sample: Sample, label: Label, prediction: Label, num_classes: int, around: Around | None = None
) -> ImageScores:
    """Score an image; raises ValueError for ids out of range on a pixel that counts, and for unequal shapes.

    ``around`` says where the trimap lies; None leaves out the trimap and the boundary F1, which cost most.
    """
    matrix = ConfusionMatrix(num_classes)
    matrix.update(label, prediction)
    if around is None:
        return ImageScores(sample, prediction, matrix, None, None)
    trimap = Trimap(num_classes, around)
    trimap.update(label, prediction)
    return ImageScores(sample, prediction, matrix, trimap, boundary_f1(label, prediction, num_classes))


@dataclass
class SplitScores:
    """Gather the scores of a split."""

    classes: tuple[str, ...]
    matrix: ConfusionMatrix
    images: int
    settings: dict[str, Any]
    trimap: Trimap | None = None
    boundary_f1: BoundaryF1 | None = None

    @classmethod
    def empty(cls, classes: Sequence[str], settings: Mapping[str, Any], around: Around | None = None) -> Self:
        """Begin with no image; ``around`` says where the trimap lies, None leaves out trimap and boundary F1."""
        count = len(classes)
        scores = cls(tuple(classes), ConfusionMatrix(count), 0, dict(settings))
        if around is not None:
            scores.trimap, scores.boundary_f1 = Trimap(count, around), BoundaryF1(count)
        return scores

    def add(self, image: ImageScores) -> None:
        """Add an image."""
        self.images += 1
        self.matrix.merge(image.matrix)
        if self.trimap is not None and image.trimap is not None:
            self.trimap.merge(image.trimap)
        if self.boundary_f1 is not None and image.boundary_f1 is not None:
            self.boundary_f1.add(image.boundary_f1)

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON has them: fractions, and null for a class that is absent."""
        matrix, trimap, boundary = self.matrix, self.trimap, self.boundary_f1
        rows = zip(self.classes, matrix.iou(), matrix.accuracy(), matrix.pixels(), strict=True)
        classes: list[dict[str, Any]] = [
            {"name": name, "iou": _number(iou), "accuracy": _number(accuracy), "pixels": int(pixels)}
            for name, iou, accuracy, pixels in rows
        ]
        scores: dict[str, Any] = {
            "miou": _number(matrix.mean_iou()),
            "pixel_accuracy": _number(matrix.pixel_accuracy()),
            "mean_accuracy": _number(matrix.mean_accuracy()),
            "fw_iou": _number(matrix.fw_iou()),
        }
        settings = {**self.settings, "absent_classes": ABSENT_CLASSES}
        if boundary is not None:
            for entry, f1 in zip(classes, boundary.classes(), strict=True):
                entry["boundary_f1"] = _number(f1)
            scores["boundary_f1"] = _number(boundary.mean())
            settings["boundary_f1"] = BF_CONVENTION
        if trimap is not None:
            scores["trimap"] = {
                "around": trimap.around,
                "widths": list(range(1, BANDS + 1)),
                "miou": [_number(value) for value in trimap.mean_iou()],
                "pixels": trimap.pixels().tolist(),
            }
            settings["trimap"] = TRIMAP_CONVENTIONS[trimap.around]
        return {**scores, "classes": classes, "images": self.images, "settings": settings}


class Extremes:
    """Keep the images with the best and the worst mean IoU of their own; those without a scored pixel are left out."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._best: list[tuple[float, ImageScores]] = []
        self._worst: list[tuple[float, ImageScores]] = []

    def add(self, image: ImageScores) -> None:
        """Keep an image while it is among the extremes."""
        miou = image.matrix.mean_iou()
        image = replace(image, trimap=None)  # of 255 classes it takes 20 MB
        if not math.isnan(miou):
            self._best = sorted([*self._best, (miou, image)], key=lambda entry: -entry[0])[: self._count]
            self._worst = sorted([*self._worst, (miou, image)], key=lambda entry: entry[0])[: self._count]

    def worst(self) -> list[tuple[float, ImageScores]]:
        """Return (mean IoU, image), the worst first."""
        return self._worst

    def best(self) -> list[tuple[float, ImageScores]]:
        """Return (mean IoU, image), the best first, without those that are also among the worst."""
        worst = {image.sample.id for _, image in self._worst}
        return [entry for entry in self._best if entry[1].sample.id not in worst]


def trimap_place(facts: Sequence[LabelFacts]) -> Around:
    """Return where a set's trimap lies: around void, or around label boundaries if no label has any void."""
    return "void" if any(IGNORE_LABEL in fact.pixels for fact in facts) else "boundaries"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
