"""Score and draw the validation split during a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deeplabctl.arrays import Image
from deeplabctl.data.dataset import Sample, spread_evenly
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import read_label
from deeplabctl.evaluation.network import score_network
from deeplabctl.evaluation.scores import SplitScores
from deeplabctl.prediction.engines import report_compiling, with_engine
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.settings import SettingsRequest, resolve
from deeplabctl.render import panels
from deeplabctl.reporting import Advanced, Event, Note, Reporter, Validated
from deeplabctl.training.checkpoint import Progress
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.plan import Plan
from deeplabctl.training.signals import TrainingStopped

if TYPE_CHECKING:
    import keras


PREVIEW_ROWS = 4
_AGREEMENTS = 20  # of several workers in a validation


class Validator:
    """Score a network on the validation split, each worker its share, with the recipe's test size, scales and flip."""

    def __init__(self, plan: Plan, model: keras.Model, cluster: Cluster, report: Reporter) -> None:
        self._plan, self._cluster, self._report = plan, cluster, report
        evaluation, info = plan.recipe.eval, plan.model_info(step=0)
        pad, engine = None if evaluation.pad == "auto" else evaluation.pad, plan.recipe.run.engine
        request = SettingsRequest(pad=pad, scales=evaluation.scales or None, flip=evaluation.flip, engine=engine)
        settings = with_engine(resolve(request, info, is_voc=plan.dataset.is_voc), info)
        self._model, self._segmenter = model, Segmenter(model, info, settings)
        self.seconds = self.preview_seconds = 0.0  # that the last ones took
        self._missed: list[str] = []  # the classes of the last warning

    def preview(self) -> Image:
        """Return image, label and prediction of some samples, spread evenly over the split, as one image."""
        begin = time.perf_counter()
        segmenter = self._current()
        images = ((read_image(sample.image), sample) for sample in spread_evenly(self._plan.val_samples, PREVIEW_ROWS))
        rows = ((image, read_label(sample.label), segmenter.label(image)) for image, sample in images)
        preview = panels(rows, self._plan.dataset.classes)
        self.preview_seconds = time.perf_counter() - begin
        return preview

    def _current(self) -> Segmenter:
        """Return a segmenter with the weights that the model has now: numba's kernels work on a copy of them."""
        segmenter = self._segmenter
        if segmenter.engine_class.follows_model:
            return segmenter
        report_compiling(segmenter.engine_class, segmenter.settings, self._report)
        return Segmenter(self._model, segmenter.info, segmenter.settings)

    def score(self, should_stop: Callable[[], bool], samples: Sequence[Sample] | None = None) -> SplitScores:
        """Return the scores of the split, or of these samples of it.

        Several workers stop together: they ask one another now and then, each after as many images of its own. Raises
        TrainingStopped if it was asked to stop, DataError for an unreadable sample.
        """
        samples, cluster = self._plan.val_samples if samples is None else samples, self._cluster
        own = samples[cluster.index :: cluster.workers]
        common = len(samples) // cluster.workers  # images that every worker has
        interval = max(math.ceil(common / _AGREEMENTS), 1) if cluster.workers > 1 else 1
        done = 0

        def report(event: Event) -> None:
            nonlocal done
            self._report(event)
            if isinstance(event, Advanced):
                done += 1
                if done % interval == 0 and (cluster.workers == 1 or done <= common) and cluster.any(should_stop()):
                    raise TrainingStopped

        begin = time.perf_counter()
        scores = score_network(self._current(), self._plan.dataset, own, report)
        if cluster.workers > 1:
            scores.sum_over_workers(cluster.sum, images=len(samples))
        self.seconds = time.perf_counter() - begin
        return scores

    def report(self, scores: SplitScores, progress: Progress, steps: int, *, best: bool) -> Validated:
        """Report a validation, and warn of classes that are never predicted; returns the event.

        ``steps`` is the number of all steps, which may have been fitted again since the training began.
        """
        matrix, step = scores.matrix, progress.step
        found, labelled = matrix.predicted() > 0, matrix.pixels() > 0
        event = Validated(
            step=step,
            miou=matrix.mean_iou(),
            pixel_accuracy=matrix.pixel_accuracy(),
            best=best,
            predicted=int((found & labelled).sum()),
            present=int(labelled.sum()),
            classes=scores.to_dict()["classes"],
        )
        self._report(event)
        names = zip(scores.classes, found, labelled, strict=True)
        missed = [name for name, is_found, is_labelled in names if is_labelled and not is_found]
        if missed and (step == steps or (2 * step >= steps and missed != self._missed)):  # before, it is usual
            text = f"step {step}: the model predicts no {', no '.join(missed)}"
            if step < steps:
                advice = "more steps, or a larger augment.class_crops"
                if self._plan.recipe.solver.class_weights == "none":
                    advice = "--set solver.class_weights=sqrt-median"
                text += f"; if this continues, start a new training with {advice}"
            self._report(Note(text, warning=True))
            self._missed = missed
        return event
