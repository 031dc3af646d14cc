"""Score a network on a split: one pass, each image at its label's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from deeplabctl.crf.params import CrfParams
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.errors import DataError
from deeplabctl.evaluation.boundaries import Around
from deeplabctl.evaluation.split_scores import Evaluation, ImageScores, score_image
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.segmenter import Segmenter, segment_many
from deeplabctl.reporting import Advanced, Finished, Reporter, Started, silent

__all__ = ["Evaluation", "evaluate", "read_ahead"]

Image = npt.NDArray[np.uint8]
Label = npt.NDArray[np.uint8]


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    samples: Sequence[Sample],
    report: Reporter = silent,
    *,
    around: Around | None = None,
    crf: CrfParams | None = None,
    adaptive: bool = False,
    on_image: Callable[[ImageScores], None] = lambda image: None,
) -> Evaluation:
    """Score samples of a data set; raises DataError for one that cannot be read or whose label is out of range.

    With ``around`` (see `trimap_place`), the trimap and the boundary F1 are scored, too. A dense CRF refines the scores
    where its parameters are given. Images are read and scores counted in threads, while the network computes;
    ``on_image`` is called in order, in the caller's thread.
    """
    evaluation = Evaluation.empty(
        dataset.classes,
        {"data": str(dataset.root), "pad": segmenter.pad, "scales": list(segmenter.scales), "flip": segmenter.flip},
        around,
    )

    def score(task: tuple[tuple[Sample, Label], Label]) -> ImageScores:
        (sample, label), prediction = task
        try:
            return score_image(sample, label, prediction, len(dataset.classes), around)
        except ValueError as error:
            raise DataError(f"label {sample.label}: {error}; mend the label") from None

    report(Started("scoring", len(samples), "images"))
    try:
        loaded = (((sample, label), image) for sample, image, label in read_ahead(samples))
        for scores in map_ahead(score, segment_many(segmenter, loaded, crf, adaptive=adaptive)):
            evaluation.add(scores)
            on_image(scores)
            report(Advanced(1))
    finally:
        report(Finished())
    return evaluation


def read_ahead(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Image, Label]]:
    """Yield (sample, image, label) in order, read by threads a few samples ahead of their use."""
    for sample, (image, label) in zip(samples, map_ahead(_read, samples), strict=True):
        yield sample, image, label


def _read(sample: Sample) -> tuple[Image, Label]:
    image, label = read_image(sample.image), read_label(sample.label)
    if image.shape[:2] != label.shape:
        raise DataError(
            f"label {sample.label}: expected the size of its image {sample.image.name}, "
            f"{image.shape[1]}x{image.shape[0]}, got {label.shape[1]}x{label.shape[0]}"
        )
    return image, label
