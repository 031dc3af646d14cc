"""Run a network on prepared images, whole or in tiles. The dense CRF comes after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from deeplabctl.arrays import Float32, Image, Label, Scores, Size
from deeplabctl.errors import DataError, LogitsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Field
from deeplabctl.network.tiling import in_tiles, margin
from deeplabctl.parallel import memory_limit
from deeplabctl.prediction.engines import build_engine
from deeplabctl.prediction.engines.engine import Engine, Inputs, NetworkSource
from deeplabctl.prediction.settings import PredictionSettings

TILES_MEMORY = 3 << 30  # bytes of a tile's layers that "auto" allows: 3 GiB, and no more than a quarter of all
_SMALLEST_TILE = 256  # pixels of a side of "auto": smaller ones are mostly margin


class NetworkRunner:
    """Run a network with settings whose engine is not "auto"; the engine is built at its first use."""

    def __init__(self, source: NetworkSource, settings: PredictionSettings, *, on_one_cpu: bool = False) -> None:
        self._source, self._settings, self._on_one_cpu = source, settings, on_one_cpu
        self._architecture = ARCHITECTURES[source.info.architecture]

    @property
    def engine(self) -> Engine:
        """Return what computes the network; raises DeepLabError where it cannot be built."""
        return build_engine(self._source, self._settings, on_one_cpu=self._on_one_cpu)

    def predict(self, images: Sequence[Image], *, scores: bool) -> list[tuple[Label, Scores | None]]:
        """Return the label (H, W) uint8, and the scores (H, W, C) if asked for, of images of one padded size.

        Raises MemoryError where there is not enough memory for them, and FloatingPointError for logits that are not
        finite. How much a GPU has shows when it is full: an image is tried in smaller and smaller tiles then.
        """
        inputs, engine = self._inputs(images), self.engine
        tile = self._tile(inputs, scores=scores)
        while True:
            try:
                if tile is None:
                    labels, found = engine.predict(inputs, scores=scores)
                else:
                    coarse = engine.coarse_logits(inputs, self._in_tiles(tile))
                    labels, found = engine.fuse(coarse, inputs, scores=scores)
                break
            except MemoryError:
                tile = (tile or max(inputs.padded)) // 2
                can_tile = engine.gives_logits and self._settings.tile == "auto" and len(images) == 1
                if not (engine.on_device and can_tile) or tile < _SMALLEST_TILE:
                    raise
        own = [np.s_[number, : image.shape[0], : image.shape[1]] for number, image in enumerate(images)]
        return [
            (np.ascontiguousarray(labels[at]), None if found is None else np.ascontiguousarray(found[at])) for at in own
        ]

    def coarse_logits(self, image: Image) -> list[Float32]:
        """Return the logits (1 or 2, h, w, C) of each scale; raises DataError where `failed` says why.

        At output stride 8 they take a fiftieth of the memory of an image's scores, which `scores_from` makes of them.
        """
        inputs = self._inputs([image])
        try:
            tile = self._tile(inputs)
            return self.engine.coarse_logits(inputs, None if tile is None else self._in_tiles(tile))
        except (MemoryError, FloatingPointError) as error:
            raise failed(image, error) from None

    def scores_from(self, coarse: Sequence[Float32], size: Size) -> Scores:
        """Return the scores (H, W, C) of an image of a size from its coarse logits."""
        inputs = Inputs((), size, self._settings, self._architecture)
        found = self.engine.fuse(coarse, inputs, scores=True)[1]
        assert found is not None
        scores: Scores = found[0]
        return scores

    def memory(self, size: Size) -> int:
        """Return the bytes that an image of a size takes at least while it is computed."""
        return self.engine.least_memory(1, *Inputs((), size, self._settings, self._architecture).padded)

    def padded(self, image: Image) -> Size:
        """Return the size to which an image is padded."""
        return self._inputs([image]).padded

    def _inputs(self, images: Sequence[Image]) -> Inputs:
        height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
        return Inputs(images, (height, width), self._settings, self._architecture)

    def _tile(self, inputs: Inputs, *, scores: bool = False) -> int | None:
        """Return the pixels of a side of the tiles in which images are computed, besides their margins; None: whole.

        Raises MemoryError if the images, or a tile, and their scores certainly take more memory than there is: Linux
        ends a process that tries.
        """
        engine, (height, width) = self.engine, inputs.padded
        side = self._tile_side(inputs)
        if side is None:
            needed = engine.least_memory(inputs.count, height, width) * max(self._settings.scales) ** 2
        else:
            grid = self._field.grid
            whole = (side + 2 * margin(self._field) - 1) // grid * grid + 1
            needed = engine.least_memory(inputs.count, min(height, whole), min(width, whole))
        if scores:  # as they are computed, and cropped
            needed += 8 * len(inputs.images) * height * width * len(self._source.info.classes)
        if needed > memory_limit():
            raise MemoryError
        return side

    def _tile_side(self, inputs: Inputs) -> int | None:
        if not self.engine.gives_logits or self._settings.tile == "off":
            return None
        if self._settings.tile != "auto":
            return self._settings.tile
        needed = self.engine.least_memory(inputs.count, *inputs.padded)
        room = min(TILES_MEMORY, memory_limit() // 4)
        if len(inputs.images) > 1 or needed * max(self._settings.scales) ** 2 <= room:
            return None
        side = int(math.sqrt(room * math.prod(inputs.padded) / needed)) - 2 * margin(self._field)
        return max(_SMALLEST_TILE, side)

    @property
    def _field(self) -> Field:
        """Return how far the network's logits see, and no further than their weights reach."""
        field = list(self._architecture.fields.values())[-1]
        return replace(field, reach=min(field.reach, self._architecture.tile_reach))

    def _in_tiles(self, side: int) -> Callable[[Float32], Float32]:
        return partial(in_tiles, self.engine.logits, architecture=self._architecture, field=self._field, side=side)


def failed(image: Image, error: MemoryError | FloatingPointError) -> DataError:
    """Return the error of an image that there is not enough memory for, or of which the logits are not finite."""
    if isinstance(error, MemoryError):
        return DataError(
            f"there is not enough memory to segment this image of {size_in_words(image)} pixels; make it smaller, or "
            "run the network at a smaller scale: `scales=0.5`"
        )
    return LogitsError(
        "expected finite logits of this image, got some that are not: the weights are those of a training that "
        "diverged, or, with `precision=float16`, too large for it; use other weights, or float32"
    )


def size_in_words(image: Image) -> str:
    """Return the width and height of an image as errors have them."""
    return f"{image.shape[1]}x{image.shape[0]}"
