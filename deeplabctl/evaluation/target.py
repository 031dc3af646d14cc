"""Find and read what is scored: weights, a split of a data set, and how the network is applied."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deeplabctl.data.dataset import SHAPES, Dataset, Sample, name_or_path, open_dataset
from deeplabctl.data.inspection import LabelFacts, check_samples
from deeplabctl.errors import DataError
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest, resolve
from deeplabctl.reporting import Note, Reporter
from deeplabctl.weights.fitting import Network, read_network
from deeplabctl.weights.locating import find_weights
from deeplabctl.weights.model_info import ModelInfo


@dataclass(frozen=True)
class EvaluationRequest:
    """Hold what a user asks to be scored; None leaves the choice to the weights."""

    weights: str | None = None  # None: the best of the newest run
    data: str | None = None  # None: the data set that the weights were trained on
    split: str = "val"
    limit: int | None = None  # the first images only
    settings: SettingsRequest = field(default_factory=SettingsRequest)


@dataclass(frozen=True)
class EvaluationTarget:
    """Hold what is scored: the weights, a split, and how the network is applied; TensorFlow is not loaded yet."""

    path: Path
    network: Network
    dataset: Dataset
    split: str
    limit: int | None
    settings: PredictionSettings

    def samples(self, report: Reporter) -> tuple[list[Sample], list[LabelFacts]]:
        """Return the samples and what their labels contain; warns if the weights were trained on some of them."""
        return checked_samples(self.network.info, self.dataset, self.split, self.limit, report)


def open_target(request: EvaluationRequest, report: Reporter, *, default_data: str | None = None) -> EvaluationTarget:
    """Find and read the weights, and find the data set: as asked for, else that of the training, else the default.

    Raises WeightsError and DataError, also for a data set of another number of classes than the weights.
    """
    path = find_weights(request.weights)
    network = read_network(path)
    dataset = dataset_for(network.info, request.data, report, default_data)
    report(Note(f"weights: {path}"))
    settings = resolve(request.settings, network.info, is_voc=dataset.is_voc)
    return EvaluationTarget(path, network, dataset, request.split, request.limit, settings)


def dataset_for(info: ModelInfo, given: str | None, report: Reporter, default: str | None = None) -> Dataset:
    """Return the data set as given, else that of the training, else the default; refuse one of other classes."""
    trained_on = info.provenance.get("data")
    if given is None and trained_on and (trained_on == SHAPES or Path(trained_on).is_dir()):
        given = trained_on
    given = given or default
    if given is None and trained_on:
        raise DataError(f"data set {trained_on}, which the weights were trained on, no longer exists; name one: `data`")
    dataset = open_dataset(given, report)
    if len(dataset.classes) != len(info.classes):
        raise DataError(
            f"data set {dataset.root}: expected the {len(info.classes)} classes that the weights know "
            f"({', '.join(info.classes[:4])}, ...), got {len(dataset.classes)} "
            f"({', '.join(dataset.classes[:4])}, ...); name the data set that the weights are for: `data`"
        )
    if dataset.classes != info.classes:
        report(Note("the data set and the weights name their classes differently; scoring by number", warning=True))
    return dataset


def checked_samples(
    info: ModelInfo, dataset: Dataset, split: str, limit: int | None, report: Reporter
) -> tuple[list[Sample], list[LabelFacts]]:
    """Return the samples of a split and what their labels contain; warns if the weights were trained on some."""
    if limit is not None and limit < 1:
        raise DataError(f"`limit`: expected at least 1 image, got {limit}")
    samples = dataset.samples(split)[:limit]
    facts = check_samples(dataset, samples, report)
    if seen := _trained_on(info, dataset, samples):
        text = f"the weights were trained on {seen} of these {len(samples)} images; this is not a fair score"
        report(Note(text, warning=True))
    report(Note(f"data set: {dataset.root}, {len(samples)} images of {split}"))
    return samples, facts


def _trained_on(info: ModelInfo, dataset: Dataset, samples: list[Sample]) -> int:
    """Count the samples that the weights were trained on."""
    split = info.provenance.get("split")
    if split not in dataset.splits or info.provenance.get("data") != name_or_path(dataset):
        return 0
    return len({sample.image for sample in dataset.samples(split)} & {sample.image for sample in samples})
