"""Say what a metric is; the integer confusion matrix, and the scores that come from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Counts, Floats
from deeplabctl.classes import IGNORE_LABEL

_BLOCK = 1 << 16  # pixels that are counted at once: they stay in a processor's cache


@dataclass(frozen=True)
class Curve:
    """A score over a distance or a threshold, as the report draws it."""

    title: str
    caption: str  # of the horizontal axis
    unit: str
    ticks: Sequence[float]
    points: Sequence[tuple[float, float | None]]  # a fraction at each place; None where nothing was counted


class Metric(ABC):
    """Count something in images, and report scores.

    What is counted is one array, ``counts``: those of images, of threads and of workers add up. A new metric is a
    subclass and its entry in `deeplabctl.evaluation.scores.METRICS`; JSON, text and reports then show it.
    """

    totals: ClassVar[Mapping[str, str]] = {}  # the fractions for a whole split: key in the JSON -> name
    columns: ClassVar[Mapping[str, str]] = {}  # the fractions for each class: key in the JSON -> name

    def __init__(self, num_classes: int, *, has_void: bool = True) -> None:
        self.num_classes = num_classes
        self.has_void = has_void  # whether any label of the split has void pixels
        self.counts: npt.NDArray[Any]

    @abstractmethod
    def update(self, label: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> None:
        """Add an image: two integer arrays (H, W); 255 in the label is void."""

    def merge(self, other: Self) -> None:
        """Add the counts of another one; raises ValueError for one of another number of classes."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"expected counts of {self.num_classes} classes, got those of {other.num_classes}")
        self.counts += other.counts

    def to_dict(self) -> dict[str, Any]:
        """Return the scores of all images as JSON has them, with the keys of ``totals`` and any others."""
        return {}

    def of_classes(self) -> dict[str, Floats | Counts]:
        """Return the scores of each class, (C,), with the keys of ``columns`` and any others."""
        return {}

    def conventions(self) -> dict[str, str]:
        """Return what the JSON's settings say of the way in which this is counted."""
        return {}

    def line(self) -> str | None:
        """Return a line of text beside the totals, if there is more to say."""
        return None

    def curve(self) -> Curve | None:
        """Return a curve for the report, if there is one."""
        return None


class ConfusionMatrix(Metric):
    """Count pixels by (label, prediction) in int64.

    Void pixels of the label are left out. A class that appears in neither labels nor predictions has no IoU (NaN) and
    is left out of the means; one that is predicted but never labelled has IoU 0 and counts in the mean IoU.
    """

    totals: ClassVar = {
        "miou": "mIoU",
        "pixel_accuracy": "pixel accuracy",
        "mean_accuracy": "mean accuracy",
        "fw_iou": "frequency-weighted IoU",
    }
    columns: ClassVar = {"iou": "IoU", "accuracy": "accuracy"}

    def __init__(self, num_classes: int, *, has_void: bool = True) -> None:
        if num_classes not in range(1, IGNORE_LABEL + 1):
            raise ValueError(f"num_classes: expected 1 to {IGNORE_LABEL}, got {num_classes!r}")
        super().__init__(num_classes, has_void=has_void)
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, label: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> None:
        """Add an image: two integer arrays, or tensors, of the same shape; 255 in the label is void.

        Raises ValueError for other types and shapes, and for an id out of range on a pixel that counts.
        """
        label, prediction = np.asarray(label), np.asarray(prediction)
        if label.shape != prediction.shape:
            raise ValueError(f"label {label.shape} and prediction {prediction.shape} differ in shape")
        for what, array in (("label", label), ("prediction", prediction)):
            if array.dtype.kind not in "biu":
                raise ValueError(f"{what}: expected integers, the class ids, got {array.dtype}")
        counts = np.zeros(self.num_classes**2, np.int64)
        flat_label, flat_prediction = label.ravel(), prediction.ravel()
        for start in range(0, label.size, _BLOCK):
            ids = flat_label[start : start + _BLOCK]
            valid = ids != IGNORE_LABEL
            rows = ids[valid].astype(np.int64)
            columns = flat_prediction[start : start + _BLOCK][valid].astype(np.int64)
            for what, found in (("label", rows), ("prediction", columns)):
                if found.size and not 0 <= found.min() <= found.max() < self.num_classes:
                    wrong = found[(found < 0) | (found >= self.num_classes)][0]
                    raise ValueError(f"{what}: expected class ids 0 to {self.num_classes - 1}, got {wrong}")
            counts += np.bincount(rows * self.num_classes + columns, minlength=counts.size)
        self.counts += counts.reshape(self.counts.shape)

    def iou(self) -> Floats:
        """Return (C,) intersection over union; NaN for a class in neither labels nor predictions."""
        hits = np.diag(self.counts)
        return ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    def mean_iou(self) -> float:
        """Return the mean of the classes' IoU, a fraction; NaN if nothing was counted."""
        return _mean(self.iou())

    def accuracy(self) -> Floats:
        """Return (C,) the share of each class's pixels that were found (recall); NaN for a class without pixels."""
        return ratio(np.diag(self.counts), self.counts.sum(1))

    def mean_accuracy(self) -> float:
        """Return the mean of the classes' accuracy over the classes that have pixels."""
        return _mean(self.accuracy())

    def pixel_accuracy(self) -> float:
        """Return the share of all valid pixels that are right."""
        return float(ratio(np.trace(self.counts), self.counts.sum()))

    def fw_iou(self) -> float:
        """Return the mean IoU weighted by the classes' pixels."""
        return float(ratio(np.nansum(self.counts.sum(1) * self.iou()), self.counts.sum()))

    def pixels(self) -> Counts:
        """Return (C,) the labelled pixels of each class."""
        sums: Counts = self.counts.sum(1)
        return sums

    def predicted(self) -> Counts:
        """Return (C,) the predicted pixels of each class, void excluded."""
        sums: Counts = self.counts.sum(0)
        return sums

    def to_dict(self) -> dict[str, Any]:
        means = (self.mean_iou(), self.pixel_accuracy(), self.mean_accuracy(), self.fw_iou())
        return {key: as_json(value) for key, value in zip(self.totals, means, strict=True)}

    def of_classes(self) -> dict[str, Floats | Counts]:
        return {"iou": self.iou(), "accuracy": self.accuracy(), "pixels": self.pixels()}

    def conventions(self) -> dict[str, str]:
        return {"absent_classes": "classes in neither labels nor predictions are left out of the means"}


def as_json(value: float | np.floating[Any] | np.integer[Any]) -> float | int | None:
    """Return a number as JSON has it: null for NaN."""
    return int(value) if isinstance(value, np.integer) else None if np.isnan(value) else float(value)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """Divide, with NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    quotient = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient


def _mean(values: Floats) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
