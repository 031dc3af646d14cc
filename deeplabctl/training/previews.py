"""Draw what a network makes of some images."""

from __future__ import annotations

from collections.abc import Sequence

from deeplabctl.arrays import Image
from deeplabctl.data.dataset import Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.render import panels


def preview(segmenter: Segmenter, samples: Sequence[Sample], classes: Sequence[str], rows: int = 4) -> Image:
    """Return a picture of image, label and prediction of some samples, spread evenly over the split."""
    rows = min(rows, len(samples))
    drawn = []
    for sample in (samples[index * len(samples) // rows] for index in range(rows)):
        image = read_image(sample.image)
        drawn.append((image, read_label(sample.label), segmenter.label(image)))
    return panels(drawn, classes)
