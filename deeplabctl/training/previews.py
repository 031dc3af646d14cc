"""Draw what a network makes of some images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deeplabctl.arrays import Image, Label
from deeplabctl.data.dataset import Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.render import panels


def preview(segmenter: Segmenter, samples: Sequence[Sample], classes: Sequence[str], rows: int = 4) -> Image:
    """Return a picture of image, label and prediction of some samples, spread evenly over the split."""
    rows = min(rows, len(samples))

    def draw() -> Iterator[tuple[Image, Label, Label]]:
        for sample in (samples[index * len(samples) // rows] for index in range(rows)):
            image = read_image(sample.image)
            yield image, read_label(sample.label), segmenter.label(image)

    return panels(draw(), classes)
