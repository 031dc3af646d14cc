"""Score a network on a split: one pass, one confusion matrix, each image at its label's own size."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.errors import DataError
from deeplabctl.metrics import ConfusionMatrix
from deeplabctl.prediction import Segmenter
from deeplabctl.reporting import Advanced, Finished, Reporter, Started, silent

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Evaluation:
    """Hold the scores of a split."""

    classes: tuple[str, ...]
    matrix: ConfusionMatrix
    images: int
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON knows them: fractions, and null for a class that is absent."""
        matrix = self.matrix
        rows = zip(self.classes, matrix.iou(), matrix.accuracy(), matrix.pixels(), strict=True)
        return {
            "miou": _number(matrix.mean_iou()),
            "pixel_accuracy": _number(matrix.pixel_accuracy()),
            "mean_accuracy": _number(matrix.mean_accuracy()),
            "fw_iou": _number(matrix.fw_iou()),
            "classes": [
                {"name": name, "iou": _number(iou), "accuracy": _number(accuracy), "pixels": int(pixels)}
                for name, iou, accuracy, pixels in rows
            ],
            "images": self.images,
            "settings": self.settings,
        }


def evaluate(
    segmenter: Segmenter, dataset: Dataset, samples: Sequence[Sample], report: Reporter = silent
) -> Evaluation:
    """Score samples of a data set; raises DataError for one that cannot be read or whose label is out of range."""
    matrix = ConfusionMatrix(len(dataset.classes))
    report(Started("scoring", len(samples), "images"))
    try:
        for sample, (image, label) in zip(samples, read_ahead(samples), strict=True):
            try:
                matrix.update(label, segmenter.label(image))
            except ValueError as error:
                raise DataError(f"label {sample.label}: {error}; mend the label") from None
            report(Advanced(1))
    finally:
        report(Finished())
    settings = {"data": str(dataset.root), "pad": segmenter.pad, "absent_classes": "left out of the means"}
    return Evaluation(dataset.classes, matrix, len(samples), settings)


def read_ahead(samples: Sequence[Sample], ahead: int = 4) -> Iterator[Pair]:
    """Yield (image, label) of the samples in order, read by threads a few samples ahead of their use."""
    queue: deque[Future[Pair]] = deque()
    with ThreadPoolExecutor(min(ahead, os.cpu_count() or 1)) as pool:
        for sample in samples:
            queue.append(pool.submit(_read, sample))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()


def _read(sample: Sample) -> Pair:
    image, label = read_image(sample.image), read_label(sample.label)
    if image.shape[:2] != label.shape:
        raise DataError(
            f"label {sample.label}: expected the size of its image {sample.image.name}, "
            f"{image.shape[1]}x{image.shape[0]}, got {label.shape[1]}x{label.shape[0]}"
        )
    return image, label


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
