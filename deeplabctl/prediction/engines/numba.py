"""Compute a network without TensorFlow: by the kernels of the room `engine`, in float32 on CPUs."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from deeplabctl.arrays import Float32, Size
from deeplabctl.engine.network import NumbaNetwork, has_kernels
from deeplabctl.network.tensorflow_startup import has_gpu
from deeplabctl.prediction.engines.engine import Engine, Inputs, NetworkSource, Predicted
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.weights.model_info import ModelInfo

_MEASURED = ("x86_64", "AMD64")  # processors on which these kernels were measured, and were faster


class NumbaEngine(Engine):
    """Compute one image at a time; a label without scores is found without writing any."""

    name = "numba"
    precisions: ClassVar = {"float32": 4}
    trains = True

    def __init__(self, source: NetworkSource, precision: str) -> None:
        super().__init__(source, precision)
        self._weights = source.weights()

    @cached_property
    def _network(self) -> NumbaNetwork:
        return NumbaNetwork(self._architecture.name, self._weights)

    @classmethod
    def computes(cls, info: ModelInfo) -> bool:
        return has_kernels(info.architecture)

    @classmethod
    def is_usual(cls, architecture: str) -> bool:
        """Tell whether this is a CPU on which the kernels were measured, without a GPU that TensorFlow can use."""
        return platform.machine() in _MEASURED and not has_gpu()

    @classmethod
    def compiles(cls, settings: PredictionSettings) -> bool:
        return True

    def least_memory(self, count: int, height: int, width: int) -> int:
        """Return bytes that arrays take at least, which are computed one after another."""
        return self._network.least_memory(height, width)

    def resize(self, pixels: Float32, size: Size, *, half_pixel: bool = False) -> Float32:
        from deeplabctl.engine.row_kernels import resized

        return np.stack([resized([image], size, self._network.workers, half_pixel=half_pixel) for image in pixels])

    def logits(self, pixels: Float32, row: str = "", means: Mapping[str, Float32] | None = None) -> Float32:
        known = [{name: mean[at] for name, mean in (means or {}).items()} for at in range(len(pixels))]
        return np.stack([self._network.logits(image, row, own) for image, own in zip(pixels, known, strict=True)])

    def fuse(self, coarse: Sequence[Float32], inputs: Inputs, *, scores: bool) -> Predicted:
        from deeplabctl.engine.row_kernels import fused, resized

        workers, how = self._network.workers, inputs.fusion
        if how.averages:
            coarse = [
                self.resize(logits, inputs.grid, half_pixel=how.half_pixel) if scale < 1 else logits
                for scale, logits in zip(how.scales, coarse, strict=True)
            ]
        images = [list(logits) for logits in zip(*coarse, strict=True)]  # the image, and the mirrored one
        if how.on_grid:
            images = [[resized(image, inputs.grid, workers)] for image in images]
        label, found = fused(
            images, inputs.padded, inputs.size, workers, with_scores=scores, half_pixel=how.half_pixel,
            averages=how.averages,
        )  # fmt: skip
        return label[None], found[None] if scores else None
