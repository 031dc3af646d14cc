"""Search the CRF parameters with the best mean IoU on a part of a split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.crf import CrfParams, refine
from deeplabctl.crf.mean_field import memory_to_refine
from deeplabctl.crf.search_grid import SearchTable, best_point, finer, point_text, points
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import shrink
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.evaluation.metrics import ConfusionMatrix
from deeplabctl.evaluation.network import read_ahead
from deeplabctl.interpolation import label_of
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.reporting import Note, Reporter, counted, percent, silent, task


def samples_sha256(samples: Sequence[Sample]) -> str:
    """Return a checksum of the names and the files of samples, which tells them from others and from changed ones."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.id.encode(errors="surrogateescape") + b"\0")
        for path in (sample.image, sample.label):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def search(
    segmenter: Segmenter,
    dataset: Dataset,
    samples: Sequence[Sample],
    table: SearchTable,
    report: Reporter = silent,
    *,
    rounds: int = 2,
) -> float:
    """Score the points of the table's grid, then those around the best at half its steps, and so on; ``rounds`` in all.

    The table has the results; returns the mean IoU without a CRF.
    What is not searched is as the table's base has it; the segmenter's settings tell whether the CRF is adaptive.
    Points that the table has already are not scored again, and count only in the round that asks for them: a search
    that was interrupted ends as one that was not. A point of a later round at which the CRF cannot be computed is left
    out. The network runs once over the images; its logits are kept at its output stride (at 8 a third of a MiB for an
    image of VOC's size and a scale), from which the scores are made again for each point. Raises DataError for a sample
    that cannot be read and where all labels are void, RecipeError for a point of the grid that cannot be computed.
    """
    subset = _Subset(segmenter, dataset, samples, report)
    scored: dict[CrfParams, float] = {}  # of the rounds so far
    for level in range(rounds):
        wanted = points(table.grid, table.base) if level == 0 else finer(table.grid, best_point(scored), level)
        missing = [point for point in wanted if point not in table.rows]
        if len(missing) < len(wanted):
            report(Note(f"{len(wanted) - len(missing)} of {len(wanted)} points are already in {table.path}"))
        done = (len(wanted) - len(missing)) * len(samples)
        name = f"CRF search, round {level + 1} of {rounds}"
        with task(report, name, len(wanted) * len(samples), "CRF runs", done) as advance:
            for point in missing:
                words = point_text(point, table.grid, "  ")
                try:
                    miou = subset.miou(point, advance)
                except MemoryError as error:
                    raise DataError(f"{words}: {error}; leave large images out") from None
                except ValueError as error:
                    if level == 0:
                        raise RecipeError(f"{words}: {error}; leave this value out") from None
                    report(Note(f"{words}: left out: {error}", warning=True))
                    continue
                table.add(point, miou)
                best = "  (best so far)" if table.best()[0] == point else ""
                report(Note(f"{words}: mIoU {percent(miou)}{best}"))
        scored |= {point: table.rows[point] for point in wanted if point in table.rows}
    return subset.without_crf


class _Subset:
    """Hold the coarse logits of some images."""

    def __init__(self, segmenter: Segmenter, dataset: Dataset, samples: Sequence[Sample], report: Reporter) -> None:
        self._segmenter, self._samples, self._num_classes = segmenter, samples, len(dataset.classes)
        self._coarse: list[list[Scores]] = []
        matrix = ConfusionMatrix(self._num_classes)
        with task(report, "running the network", len(samples), "images") as advance:
            for sample, image, label in read_ahead(samples):
                small = shrink(image, segmenter.settings.image_size)
                try:
                    coarse = segmenter.runner.coarse_logits(small)
                except DataError as error:
                    raise DataError(f"image {sample.image}: {error}") from None
                self._coarse.append(coarse)
                matrix.update(label, label_of(segmenter.runner.scores_from(coarse, small.shape[:2]), label.shape))
                advance()
        self.without_crf = matrix.mean_iou()
        if math.isnan(self.without_crf):
            images = counted(len(samples), "image")
            raise DataError(
                f"data set {dataset.root}: expected class ids in the labels of {images}, got void (255) only; choose "
                "another `split`"
            )

    def miou(self, params: CrfParams, advance: Callable[[], None]) -> float:
        """Return the mean IoU with these parameters; raises ValueError where the CRF cannot be computed with them."""
        matrix, settings = ConfusionMatrix(self._num_classes), self._segmenter.settings

        def refined(item: tuple[Image, Scores, Label]) -> tuple[Scores, Label]:
            image, scores, label = item
            return refine(image, scores, params, adaptive=settings.crf_adaptive), label

        found = map_ahead(refined, self._items(), ahead=4, size=lambda item: memory_to_refine(item[1].shape))
        for scores, label in found:
            matrix.update(label, label_of(scores, label.shape))
            advance()
        return matrix.mean_iou()

    def _items(self) -> Iterator[tuple[Image, Scores, Label]]:
        """Yield each image at its working size, with its scores, and its label."""
        for coarse, (_, image, label) in zip(self._coarse, read_ahead(self._samples), strict=True):
            small = shrink(image, self._segmenter.settings.image_size)
            yield small, self._segmenter.runner.scores_from(coarse, small.shape[:2]), label
