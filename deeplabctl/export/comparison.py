"""Compare an export with its network, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deeplabctl.arrays import Image
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.reporting import Reporter, task
from deeplabctl.weights.export_facts import ExportPrecision

# Of the labels, at least. Sums in another order change labels at ties only; float16 and int8 round the weights.
LEAST_AGREEMENT: dict[ExportPrecision, float] = {"float32": 0.9999, "float16": 0.999, "int8": 0.99}


@dataclass(frozen=True)
class Agreement:
    """Hold how far an export computes what its network does."""

    labels: float  # share of the pixels with the same label
    scores: float  # largest difference of two scores
    pixels: int
    pictures: int
    source: str  # of the pictures
    engine: str  # that computed the network, in float32

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def compare(
    network: Segmenter, exported: Segmenter, images: Sequence[Image], source: str, report: Reporter
) -> Agreement:
    """Compare labels and scores on images; raises DataError for one that is too large."""
    equal = pixels = 0
    largest = 0.0
    with task(report, "comparing", len(images), "images") as advance:
        for image in images:
            expected, got = network.predict(image), exported.predict(image)
            equal += int(np.count_nonzero(expected.label == got.label))
            pixels += got.label.size
            difference = float(np.abs(expected.scores - got.scores).max())
            largest = max(largest, difference if np.isfinite(difference) else np.inf)
            advance()
    return Agreement(equal / pixels, largest, pixels, len(images), source, network.applied.engine)
