"""Score a network on samples: one pass, each image at its label's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from deeplabctl.arrays import Image, Label
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.errors import DataError
from deeplabctl.evaluation.boundaries import BANDS, Around
from deeplabctl.evaluation.split_scores import ImageScores, SplitScores, score_image
from deeplabctl.parallel import available_cpus, map_ahead
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.reporting import Reporter, silent, task

READERS = 8  # threads that read pictures, at most: each holds a whole one, and a network is slower than so many
Item = TypeVar("Item")
Read = TypeVar("Read")


def score_network(
    segmenter: Segmenter,
    dataset: Dataset,
    samples: Sequence[Sample],
    report: Reporter = silent,
    *,
    around: Around | None = None,
    on_image: Callable[[ImageScores], None] = lambda image: None,
) -> SplitScores:
    """Score samples of a data set.

    Raises DataError for one that cannot be read or segmented, or whose label is out of range.

    With ``around`` (see `trimap_place`), the trimap and the boundary F1 are scored as well. Images are read and scores
    counted in threads, while the network computes; ``on_image`` is called in order, in the caller's thread.
    """
    settings = {"data": str(dataset.root), **segmenter.applied.to_dict()}
    total = SplitScores.empty(dataset.classes, settings, around)

    def score(result: Result[tuple[Sample, Label]]) -> ImageScores:
        sample, label = result.item
        if result.error is not None:
            raise DataError(f"image {sample.image}: {result.error}")
        try:
            return score_image(sample, label, result.found(), len(dataset.classes), around)
        except ValueError as error:
            raise DataError(f"label {sample.label}: {error}; fix the label") from None

    counted = 0 if around is None else 8 * BANDS * len(dataset.classes) ** 2  # bytes of an image's trimap

    with task(report, "scoring", len(samples), "images") as advance:
        read = (Result((sample, label), image) for sample, image, label in read_ahead(samples))
        predicted = segmenter.segment(read)
        for scores in map_ahead(score, predicted, ahead=4, size=lambda result: counted + 5 * result.pixels):
            total.add(scores)
            on_image(scores)
            advance()
    return total


def read_ahead(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Image, Label]]:
    """Yield (sample, image, label) in order, read by threads a few samples ahead of their use."""
    for sample, (image, label) in zip(samples, map_reading(_read, samples), strict=True):
        yield sample, image, label


def map_reading(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """Yield ``read(item)`` in order, whole pictures, read by a few threads a few items ahead of their use."""
    return map_ahead(read, items, workers=min(available_cpus(), READERS), ahead=4)


def _read(sample: Sample) -> tuple[Image, Label]:
    image, label = read_image(sample.image), read_label(sample.label)
    if image.shape[:2] != label.shape:
        raise DataError(
            f"label {sample.label}: expected the size of its image {sample.image.name}, "
            f"{image.shape[1]}x{image.shape[0]}, got {label.shape[1]}x{label.shape[0]}"
        )
    return image, label
