"""Score predictions: everything from one integer confusion matrix over the whole split."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Counts, Floats
from deeplabctl.classes import IGNORE_LABEL


class ConfusionMatrix:
    """Count pixels by (label, prediction) in int64.

    Void pixels of the label are left out. A class that appears in neither labels nor predictions has no IoU (NaN) and
    is left out of the means; one that is predicted but never labelled has IoU 0 and counts in the mean IoU.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, label: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> None:
        """Add an image: two integer arrays of the same shape; 255 in the label is void.

        Raises ValueError for other shapes, and for a label or a prediction out of range on a pixel that counts.
        """
        if label.shape != prediction.shape:
            raise ValueError(f"label {label.shape} and prediction {prediction.shape} differ in shape")
        valid = label != IGNORE_LABEL
        rows, columns = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
        for what, ids in (("label", rows), ("prediction", columns)):
            if ids.size and not 0 <= ids.min() <= ids.max() < self.num_classes:
                wrong = ids[(ids < 0) | (ids >= self.num_classes)][0]
                raise ValueError(f"{what}: expected class ids 0 to {self.num_classes - 1}, got {wrong}")
        pairs = np.bincount(rows * self.num_classes + columns, minlength=self.num_classes**2)
        self.counts += pairs.reshape(self.num_classes, self.num_classes)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix."""
        self.counts += other.counts

    def iou(self) -> Floats:
        """Return (C,) intersection over union; NaN for a class in neither labels nor predictions."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    def mean_iou(self) -> float:
        """Return the mean of the classes' IoU, a fraction; NaN if nothing was counted."""
        return _mean(self.iou())

    def accuracy(self) -> Floats:
        """Return (C,) the share of each class's pixels that were found (recall); NaN for a class without pixels."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    def mean_accuracy(self) -> float:
        """Return the mean of the classes' accuracy over the classes that have pixels."""
        return _mean(self.accuracy())

    def pixel_accuracy(self) -> float:
        """Return the share of all valid pixels that are right."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def fw_iou(self) -> float:
        """Return the mean IoU weighted by the classes' pixels."""
        return float(_ratio(np.nansum(self.counts.sum(1) * np.nan_to_num(self.iou())), self.counts.sum()))

    def pixels(self) -> Counts:
        """Return (C,) the labelled pixels of each class."""
        sums: Counts = self.counts.sum(1)
        return sums

    def predicted(self) -> Counts:
        """Return (C,) the predicted pixels of each class, void excluded."""
        sums: Counts = self.counts.sum(0)
        return sums


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """Divide, with NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    quotient = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=quotient, where=whole != 0)
    return quotient


def _mean(values: Floats) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
