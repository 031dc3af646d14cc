"""Run a network on images: one, or several of equal padded size together. The dense CRF comes after it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.errors import DataError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.parallel import available_memory
from deeplabctl.prediction.engines import Networks
from deeplabctl.prediction.graphs import Graphs
from deeplabctl.prediction.numba_graphs import NumbaGraphs
from deeplabctl.prediction.runtimes import ExportedGraphs
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.prediction.tiled import Tiled, in_tiles_where_needed

Found = tuple[Label, Scores | None]


class Forward:
    """Run a network with some settings, whose engine is not "auto"."""

    def __init__(self, networks: Networks, settings: PredictionSettings) -> None:
        self._networks, self._settings = networks, settings
        self._architecture = ARCHITECTURES[networks.architecture]

    @property
    def on_device(self) -> bool:
        """Tell whether a GPU computes; the network is built here, if it has not been yet."""
        return self._compiled().on_device

    def label(self, image: Image) -> Label:
        """Return the label (H, W) uint8; raises DataError for an image that there is not enough memory for."""
        with self.failures(image):
            return cast(Label, _array(self._for(image).label(*self._inputs(image), image.shape[:2])))

    def scores(self, image: Image) -> tuple[Label, Scores]:
        """Return the label and the scores (H, W, C); raises DataError as `label` does."""
        with self.failures(image):
            label, scores = self._for(image).scores(*self._inputs(image), image.shape[:2])
            return _array(label), _array(scores)

    def several(self, images: Sequence[Image], *, scores: bool) -> list[Found | DataError]:
        """Return labels, and scores or None, of images of one `kind`; in two parts if they take too much memory."""
        if len(images) == 1:
            try:
                return [self.scores(images[0]) if scores else (self.label(images[0]), None)]
            except DataError as error:
                return [error]
        try:
            return list(self._together(images, scores))
        except MemoryError:
            half = len(images) // 2
            return self.several(images[:half], scores=scores) + self.several(images[half:], scores=scores)

    def _together(self, images: Sequence[Image], scores: bool) -> Iterator[Found]:
        graphs = cast(Graphs, self._compiled())  # numba's take one image at a time
        if graphs.least_memory(*self._padded(images[0])) * len(images) > available_memory():
            raise MemoryError
        inputs, sizes = zip(*map(self._inputs, images), strict=True)
        pixels = np.stack(inputs, axis=1).reshape(-1, *inputs[0].shape[1:])  # the mirrored ones after the others
        largest = np.max([image.shape[:2] for image in images], axis=0).astype(np.int32)
        found: Sequence[npt.NDArray[Any]]
        if scores:
            found = [_array(value) for value in graphs.scores_of_several(pixels, sizes[0], largest)]
        else:
            found = [_array(graphs.labels_of_several(pixels, sizes[0], largest))]
        for number, image in enumerate(images):
            height, width = image.shape[:2]
            label, *rest = (np.ascontiguousarray(values[number, :height, :width]) for values in found)
            yield label, rest[0] if rest else None

    def kind(self, image: Image) -> Hashable:
        """Return what images must have in common to be computed together: the padded size; if mirrored, the size."""
        return self._padded(image), image.shape if self._settings.flip else None

    def coarse_logits(self, image: Image) -> list[Scores]:
        """Return the logits (1 or 2, h, w, C) of each scale; raises DataError as `label` does."""
        with self.failures(image):
            return [_array(logits) for logits in self._for(image).coarse(*self._inputs(image))]

    def scores_from(self, coarse: Sequence[Scores], shape: tuple[int, int]) -> Scores:
        """Return the scores (H, W, C) of an image of this shape from its coarse logits."""
        full = [self._architecture.padded_size(side, self._settings.pad) for side in shape]
        scores: Scores = _array(self._compiled().fused_scores(list(coarse), full, shape))
        return scores

    @contextmanager
    def failures(self, image: Image) -> Iterator[None]:
        """Raise DataError if there is not enough memory for an image.

        Linux ends a process that takes more than there is, so what certainly will not do is not tried.
        """
        try:
            if self._for(image).least_memory(*self._padded(image)) > available_memory():
                raise MemoryError
            yield
        except MemoryError:
            raise DataError(
                f"there is not enough memory to segment this image of {size_in_words(image)} pixels; make it smaller, "
                "or run the network at a smaller scale: `scales=0.5`"
            ) from None

    def _padded(self, image: Image) -> tuple[int, int]:
        height, width = (self._architecture.padded_size(side, self._settings.pad) for side in image.shape[:2])
        return height, width

    def prepare(self) -> None:
        """Build what computes the network now, and not at the first image."""
        self._compiled()

    def _inputs(self, image: Image) -> tuple[Any, npt.NDArray[np.int32]]:
        """Return the network's inputs (1 or 2, H, W, 3), padded, and the sizes that they take at the scales.

        An export takes the image itself, and does the rest.
        """
        if isinstance(self._compiled(), ExportedGraphs):
            return image[None], np.empty((0, 2), np.int32)
        settings, full = self._settings, self._padded(image)
        architecture = self._architecture
        inputs = np.full((1 + settings.flip, *full, 3), architecture.preprocessing.padding, np.float32)
        inputs[0, : image.shape[0], : image.shape[1]] = architecture.preprocessing(image)
        if settings.flip:
            inputs[1, : image.shape[0], : image.shape[1]] = inputs[0, : image.shape[0], : image.shape[1]][:, ::-1]
        sizes = [[architecture.scaled_size(side, scale) for side in full] for scale in settings.scales]
        return inputs, np.array(sizes, np.int32)

    def _for(self, image: Image) -> Graphs | NumbaGraphs | ExportedGraphs | Tiled:
        """Return what computes an image of this size."""
        graphs, architecture = self._compiled(), self._networks.architecture
        if isinstance(graphs, ExportedGraphs):
            return graphs
        return in_tiles_where_needed(graphs, self._settings, architecture, self._padded(image))

    def _compiled(self) -> Graphs | NumbaGraphs | ExportedGraphs:
        """Return what computes the network with these settings; built at its first use."""
        return self._networks.graphs(self._settings)


def size_in_words(image: Image) -> str:
    """Return the width and height of an image as errors have them."""
    return f"{image.shape[1]}x{image.shape[0]}"


def _array(value: Any) -> npt.NDArray[Any]:
    """Return an array, of a tensor a copy of its own."""
    return value if isinstance(value, np.ndarray) else cast(npt.NDArray[Any], value.numpy())
