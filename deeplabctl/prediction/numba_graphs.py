"""Compute of an image what `Graphs` does, without TensorFlow: by the kernels of the engine, in float32 on CPUs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplabctl.arrays import Float32, Int32, Label, Scores
from deeplabctl.engine.network import NumbaNetwork

Sides = Sequence[int]


class NumbaGraphs:
    """Compute logits, label and scores at some scales, with or without the mirrored image.

    Arguments and results are those of `Graphs`, as numpy arrays; it takes one image at a time.
    """

    on_device = False

    def __init__(
        self, network: NumbaNetwork, scales: tuple[float, ...], *, flip: bool, fuses_coarse: bool = False
    ) -> None:
        self._network, self._scales, self._flip, self._fuses_coarse = network, scales, flip, fuses_coarse

    def coarse(self, inputs: Float32, sizes: Int32) -> list[Float32]:
        """Return the logits (1 or 2, h, w, C) of every scale."""
        scaled = (
            inputs if scale == 1 else self.scaled(inputs, size) for scale, size in zip(self._scales, sizes, strict=True)
        )
        return [self.logits(images) for images in scaled]

    def scaled(self, inputs: Float32, size: Int32) -> Float32:
        """Return images (1 or 2, H, W, 3) in another size."""
        from deeplabctl.engine.row_kernels import resized

        height, width = map(int, size)
        return np.stack([resized([image], (height, width), self._network.workers) for image in inputs])

    def logits(self, images: Float32) -> Float32:
        """Return the logits (1 or 2, h, w, C) of images."""
        return np.stack([self._network.logits(image) for image in images])

    def fused_label(self, coarse: Sequence[Float32], full: Sides, size: Sides) -> Label:
        """Return the label (H, W) of an image of a size, padded to ``full``, from its coarse logits."""
        return self._fused(coarse, full, size, with_scores=False)[0]

    def fused_scores(self, coarse: Sequence[Float32], full: Sides, size: Sides) -> Scores:
        """Return the scores (H, W, C) of an image of a size, padded to ``full``, from its coarse logits."""
        return self._fused(coarse, full, size, with_scores=True)[1]

    def label(self, inputs: Float32, sizes: Int32, size: Sides) -> Label:
        """Return the label (H, W); no scores are written anywhere."""
        return self._fused(self.coarse(inputs, sizes), inputs.shape[1:3], size, with_scores=False)[0]

    def scores(self, inputs: Float32, sizes: Int32, size: Sides) -> tuple[Label, Scores]:
        """Return the label (H, W) and the scores (H, W, C)."""
        return self._fused(self.coarse(inputs, sizes), inputs.shape[1:3], size, with_scores=True)

    def least_memory(self, height: int, width: int) -> int:
        """Return bytes that an image of a padded size takes at least: the most that a layer reads and writes."""
        return int(self._network.least_memory(height, width) * max(self._scales) ** 2)

    def _fused(self, coarse: Sequence[Float32], full: Sides, size: Sides, *, with_scores: bool) -> tuple[Label, Scores]:
        from deeplabctl.engine.row_kernels import fused, resized

        height, width = full
        workers = self._network.workers
        images = [[logits[number] for logits in coarse] for number in range(1 + self._flip)]
        if self._fuses_coarse and len(coarse) > 1:
            architecture = self._network.architecture
            grid = architecture.cells(height), architecture.cells(width)
            images = [[resized(image, grid, workers)] for image in images]
        return fused(images, (height, width), (size[0], size[1]), workers, with_scores=with_scores)
