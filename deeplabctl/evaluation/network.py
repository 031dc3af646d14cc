"""Score a network on a split: find the weights and the data set, segment each image at its label's size, and count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Unpack

from deeplabctl.arrays import Image, Label
from deeplabctl.classes import other_order
from deeplabctl.data.dataset import SHAPES, Dataset, Sample, name_or_path, open_dataset
from deeplabctl.data.findings import join_some
from deeplabctl.data.images import read_image
from deeplabctl.data.inspection import LabelFacts
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError
from deeplabctl.evaluation.metrics import ConfusionMatrix, Metric
from deeplabctl.evaluation.scores import (
    METRICS,
    ImageScores,
    SplitScores,
    any_void,
    samples_to_score,
)
from deeplabctl.parallel import available_cpus, map_ahead
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter, load
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest, expected_score, resolve
from deeplabctl.recipe import Expect
from deeplabctl.reporting import Note, Reporter, counted, python_warnings, silent, task
from deeplabctl.weights.fitting import ExportedNetwork, Network, open_network
from deeplabctl.weights.locating import find_weights
from deeplabctl.weights.model_info import ModelInfo

READERS = 8  # threads that read images, at most: each holds a whole one, and a network is slower than 8 of them
Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass(frozen=True)
class EvaluationRequest:
    """Hold what a user asks to be scored; None leaves the choice to the weights."""

    weights: str | None = None  # None: the best of the newest run
    data: str | None = None  # None: the data set that the weights were trained on
    split: str = "val"
    limit: int | None = None  # the first images only
    settings: SettingsRequest = field(default_factory=SettingsRequest)

    def dataset(self, info: ModelInfo, report: Reporter, default: str | None = None) -> Dataset:
        """Find the data set: as given, else that of the training, else the default.

        Raises DataError for one that is not there, or has another number of classes than the weights, or another order.
        """
        given, trained_on = self.data, info.provenance.get("data")
        if given is None and trained_on and (trained_on == SHAPES or os.path.isdir(trained_on)):  # noqa: PTH112
            given = trained_on  # Path.is_dir raises where another user's folders may not be entered
        given = given or default
        if given is None and trained_on:
            raise DataError(
                f"data set {trained_on}, which the weights were trained on, cannot be found; name one: `data`"
            )
        dataset = open_dataset(given, report)
        if len(dataset.classes) != len(info.classes):
            raise DataError(
                f"data set {dataset.root}: expected the {len(info.classes)} classes that the weights know "
                f"({join_some(info.classes, 4)}), got {len(dataset.classes)} "
                f"({join_some(dataset.classes, 4)}); name the data set that the weights are for: `data`"
            )
        if order := other_order(dataset.classes, info.classes):
            number = next(number for number, place in enumerate(order) if number != place)
            raise DataError(
                f"data set {dataset.root}: expected the classes in the order of the weights, got another order: class "
                f"{number} is {dataset.classes[number]}, and {info.classes[number]} in the weights; number labels and "
                "classes.txt as the weights do, or name the data set that the weights are for: `data`"
            )
        if dataset.classes != info.classes:
            report(Note("the data set and the weights name their classes differently; scoring by number", warning=True))
        return dataset

    def samples(self, dataset: Dataset, report: Reporter) -> tuple[list[Sample], list[LabelFacts]]:
        """Return the samples to score and what their labels contain."""
        if self.limit is not None and self.limit < 1:
            raise DataError(f"`limit`: expected at least 1 image, got {self.limit}")
        samples, facts = samples_to_score(dataset, self.split, self.limit, report)
        report(Note(f"data set: {dataset.root}, {counted(len(samples), 'image')} of {self.split}"))
        return samples, facts


@dataclass(frozen=True)
class EvaluationTarget:
    """Hold the weights, the data set, and how the network is applied; TensorFlow is not loaded yet."""

    path: Path
    network: Network | ExportedNetwork
    dataset: Dataset
    settings: PredictionSettings


def open_target(request: EvaluationRequest, report: Reporter, *, default_data: str | None = None) -> EvaluationTarget:
    """Find and read the weights, and find the data set; raises WeightsError and DataError."""
    path = find_weights(request.weights, report=report)
    network = open_network(path, report)
    dataset = request.dataset(network.info, report, default_data)
    report(Note(f"weights: {path}"))
    return EvaluationTarget(path, network, dataset, resolve(request.settings, network.info, is_voc=dataset.is_voc))


def evaluate(
    network: Segmenter | str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: str = "val",
    *,
    limit: int | None = None,
    report: Reporter = python_warnings,
    **settings: Unpack[SettingsRequest],
) -> dict[str, Any]:
    """Score a network on a split and return the scores as the JSON of ``deeplabctl eval`` has them, fractions of 1.

    ``network`` is what `load` returns, or weights; ``data`` a folder in VOC layout or "shapes", by default the data set
    of the training; ``limit`` scores the first images only. ``settings`` are those that a `Segmenter` takes at each
    call; the test size is that of the weights' recipe unless ``pad`` names one. ``report`` takes the events; by default
    warnings become Python's. Raises DeepLabError for weights or data that cannot be used.
    """
    segmenter = network if isinstance(network, Segmenter) else load(network)
    info = segmenter.info
    request = EvaluationRequest(None, None if data is None else os.fspath(data), split, limit, settings)
    dataset = request.dataset(info, report)
    pad = settings.get("pad") or resolve({}, info, is_voc=dataset.is_voc).pad
    chosen = resolve({**settings, "pad": pad}, info, before=segmenter.settings)
    samples, facts = request.samples(dataset, report)
    return score_split(segmenter.with_settings(chosen), dataset, split, samples, facts, report)[0]


def score_split(
    segmenter: Segmenter,
    dataset: Dataset,
    split: str,
    samples: Sequence[Sample],
    facts: Sequence[LabelFacts],
    report: Reporter = silent,
    *,
    on_image: Callable[[ImageScores], None] = lambda image: None,
) -> tuple[dict[str, Any], SplitScores]:
    """Score samples of a split by all metrics; returns the scores as JSON has them, and themselves.

    ``facts`` are those of the samples' labels. The document has the expected score, where the weights' recipe has one.
    Warns if the weights were trained on some of the samples.
    """
    if seen := _count_trained_on(segmenter.info, dataset, samples):
        text = f"the weights were trained on {seen} of these {len(samples)} images; this is not a fair score"
        report(Note(text, warning=True))
    scores = score_network(
        segmenter, dataset, samples, report, kinds=METRICS, has_void=any_void(facts), on_image=on_image
    )
    document = scores.to_dict()
    document["settings"] = {"split": split, **document["settings"]}
    expect = expected_score(segmenter.info, split, len(samples), segmenter.settings)
    document["expected"] = _compared(expect, document["miou"])
    return document, scores


def score_network(
    segmenter: Segmenter,
    dataset: Dataset,
    samples: Sequence[Sample],
    report: Reporter = silent,
    *,
    kinds: Iterable[type[Metric]] = (ConfusionMatrix,),
    has_void: bool = True,
    on_image: Callable[[ImageScores], None] = lambda image: None,
) -> SplitScores:
    """Score samples of a data set by some kinds of metrics, by default the one of a validation in a training.

    ``has_void`` tells whether any label has void pixels. Images are read and scores counted in threads, while the
    network computes; ``on_image`` is called in order, in the caller's thread. Raises DataError for a sample that cannot
    be read or segmented, or whose label is out of range.
    """
    settings = {"data": str(dataset.root), **segmenter.applied.to_dict()}
    total = SplitScores(dataset.classes, settings, kinds, has_void=has_void)

    def score(result: Result[tuple[Sample, Label]]) -> ImageScores:
        sample, label = result.item
        if result.error is not None:
            raise type(result.error)(f"image {sample.image}: {result.error}")
        try:
            return total.score(sample, label, result.found())
        except ValueError as error:
            raise DataError(f"label {sample.label}: {error}; fix the label") from None

    with task(report, "scoring", len(samples), "images") as advance:
        read = (Result((sample, label), image) for sample, image, label in read_ahead(samples))
        predicted = segmenter.segment(read)
        for scores in map_ahead(score, predicted, ahead=4, size=lambda result: total.nbytes + 5 * result.pixels):
            total.add(scores)
            on_image(scores)
            advance()
    return total


def read_ahead(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Image, Label]]:
    """Yield (sample, image, label) in order, read by threads a few samples ahead of their use."""
    return map_reading(_read, samples)


def map_reading(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """Yield ``read(item)`` in order, whole images, read by a few threads a few items ahead of their use."""
    return map_ahead(read, items, workers=min(available_cpus(), READERS), ahead=4)


def _read(sample: Sample) -> tuple[Sample, Image, Label]:
    image, label = read_image(sample.image), read_label(sample.label)
    if image.shape[:2] != label.shape:
        raise DataError(
            f"label {sample.label}: expected the size of its image {sample.image.name}, "
            f"{image.shape[1]}x{image.shape[0]}, got {label.shape[1]}x{label.shape[0]}"
        )
    return sample, image, label


def _count_trained_on(info: ModelInfo, dataset: Dataset, samples: Sequence[Sample]) -> int:
    """Count the samples that the weights were trained on."""
    split = info.provenance.get("split")
    if split not in dataset.splits or info.provenance.get("data") != name_or_path(dataset):
        return 0
    trained_on = {entry.image for entry in dataset.entries(split) if isinstance(entry, Sample)}
    return len(trained_on & {sample.image for sample in samples})


def _compared(expect: Expect | None, miou: float | None) -> dict[str, Any] | None:
    """Return the expected score, and how far this one is from it, as JSON has it."""
    if expect is None or miou is None:
        return None
    off = round(miou, 4) - round(expect.miou, 4)  # as they are printed
    text = expect.text
    within = round(abs(off), 4) <= expect.tolerance
    if not within:
        text += f"; this is {100 * abs(off):.2f} {'above' if off > 0 else 'below'}"
    return asdict(expect) | {"within_tolerance": within, "text": text}
