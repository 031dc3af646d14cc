"""Draw what a network makes of some images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deeplabctl.arrays import Image, Label
from deeplabctl.data.dataset import Sample, spread_evenly
from deeplabctl.data.images import read_image, read_label
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.render import panels

PREVIEW_ROWS = 4


def preview(segmenter: Segmenter, samples: Sequence[Sample], classes: Sequence[str]) -> Image:
    """Return a picture of image, label and prediction of some samples, spread evenly over the split."""

    def draw() -> Iterator[tuple[Image, Label, Label]]:
        for sample in spread_evenly(samples, PREVIEW_ROWS):
            image = read_image(sample.image)
            yield image, read_label(sample.label), segmenter.label(image)

    return panels(draw(), classes)
