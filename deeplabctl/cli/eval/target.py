"""Find and read what ``deeplabctl eval`` works on: weights, data set, and how the network is applied."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeplabctl.cli.prediction_options import settle_wishes

if TYPE_CHECKING:
    from deeplabctl.data.dataset import Dataset, Sample
    from deeplabctl.data.inspection import LabelFacts
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.prediction.settings import Inference, Wishes
    from deeplabctl.reporting import Reporter
    from deeplabctl.weights.fitting import ModelInfo
    from deeplabctl.weights.reading import Network


@dataclass(frozen=True)
class Subject:
    """Hold weights, a split, and how the network is applied; TensorFlow is not loaded yet."""

    path: Path
    network: Network
    dataset: Dataset
    split: str
    inference: Inference

    def samples(self, limit: int | None, report: Reporter) -> tuple[list[Sample], list[LabelFacts]]:
        """Return the samples of the split and what their labels contain; warn if the weights know them."""
        from deeplabctl.data.inspection import check_labels
        from deeplabctl.reporting import Note

        samples = self.dataset.samples(self.split)[:limit]
        facts = check_labels(self.dataset, samples, report)
        if seen := _trained_on(self.network.info, self.dataset, samples):
            text = f"the weights were trained on {seen} of these {len(samples)} images; this is no fair score"
            report(Note(text, warning=True))
        report(Note(f"data set: {self.dataset.root}, {len(samples)} images of {self.split}"))
        return samples, facts

    def segmenter(self) -> Segmenter:
        """Load TensorFlow and build the network."""
        from deeplabctl.cli.tensorflow_startup import start_tensorflow

        start_tensorflow()
        from deeplabctl.prediction.segmenter import Segmenter

        return Segmenter.from_network(self.network, self.inference.pad, self.inference.scales, self.inference.flip)


def open_subject(weights: str | None, data: str | None, split: str, wishes: Wishes, report: Reporter) -> Subject:
    """Find and read the weights, and find the data set."""
    from deeplabctl.reporting import Note
    from deeplabctl.weights.fitting import find_weights
    from deeplabctl.weights.reading import read_network

    path = find_weights(weights)
    network = read_network(path)
    dataset = _dataset(network.info, data, report)
    report(Note(f"weights: {path}"))
    return Subject(path, network, dataset, split, settle_wishes(wishes, network.info, is_voc=dataset.is_voc))


def _trained_on(info: ModelInfo, dataset: Dataset, samples: list[Sample]) -> int:
    """Count the samples that the weights were trained on."""
    from deeplabctl.data.locate import lasting_name

    split = info.provenance.get("split")
    if split not in dataset.splits or info.provenance.get("data") != lasting_name(dataset):
        return 0
    return len({sample.image for sample in dataset.samples(split)} & {sample.image for sample in samples})


def _dataset(info: ModelInfo, given: str | None, report: Reporter) -> Dataset:
    """Return the data set as given, else that of the training, and refuse one of other classes."""
    from deeplabctl.data.locate import SHAPES, find_dataset
    from deeplabctl.errors import DataError
    from deeplabctl.reporting import Note

    trained_on = info.provenance.get("data")
    if given is None and trained_on and (trained_on == SHAPES or Path(trained_on).is_dir()):
        given = trained_on
    given = given or os.environ.get("DEEPLABCTL_DATA")
    if given is None and trained_on:
        raise DataError(
            f"data set {trained_on}, on which the weights were trained, is not there any more; give --data DIR"
        )
    dataset = find_dataset(given, report)
    if len(dataset.classes) != len(info.classes):
        raise DataError(
            f"data set {dataset.root}: expected the {len(info.classes)} classes that the weights know "
            f"({', '.join(info.classes[:4])}, ...), got {len(dataset.classes)} "
            f"({', '.join(dataset.classes[:4])}, ...); give --data the set that the weights are for"
        )
    if dataset.classes != info.classes:
        report(Note("the data set and the weights name their classes differently; scoring by number", warning=True))
    return dataset
