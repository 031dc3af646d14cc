"""Compute a network's logits tile by tile, for images that take too much memory as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from deeplabctl.arrays import Float32, Int32
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Field
from deeplabctl.network.tiling import in_tiles, margin
from deeplabctl.parallel import available_memory
from deeplabctl.prediction.graphs import Graphs
from deeplabctl.prediction.numba_graphs import NumbaGraphs
from deeplabctl.prediction.settings import PredictionSettings

_MOST_MEMORY = 3 << 30  # bytes of a tile's layers that "auto" allows: 3 GiB, and no more than a quarter of all
_MOST_REACH = 320  # pixels; ResNet-101's is 705, but what is so far away has hardly any weight
_LEAST_SIDE = 256  # pixels of a tile of "auto": smaller ones are mostly margin


@dataclass(frozen=True)
class Tiled:
    """Compute label and scores with the methods of `Graphs`, from logits that are computed tile by tile."""

    graphs: Graphs | NumbaGraphs
    scales: tuple[float, ...]
    field: Field
    side: int  # pixels of a tile that count

    def coarse(self, inputs: Float32, sizes: Int32) -> list[Float32]:
        """Return the logits (1 or 2, h, w, C) of every scale."""
        scaled = (
            inputs if scale == 1 else _array(self.graphs.scaled(inputs, size))
            for scale, size in zip(self.scales, sizes, strict=True)
        )
        return [in_tiles(lambda tile: _array(self.graphs.logits(tile)), images, self.field, self.side)
                for images in scaled]  # fmt: skip

    def label(self, inputs: Float32, sizes: Int32, size: Sequence[int]) -> Any:
        """Return the label (H, W)."""
        return self.graphs.fused_label(self.coarse(inputs, sizes), inputs.shape[1:3], size)

    def scores(self, inputs: Float32, sizes: Int32, size: Sequence[int]) -> tuple[Any, Any]:
        """Return the label (H, W) and the scores (H, W, C)."""
        coarse, full = self.coarse(inputs, sizes), inputs.shape[1:3]
        return self.graphs.fused_label(coarse, full, size), self.graphs.fused_scores(coarse, full, size)

    def least_memory(self, height: int, width: int) -> int:
        """Return bytes that a tile takes at least."""
        grid = self.field.grid
        whole = (self.side + 2 * margin(self.field) - 1) // grid * grid + 1
        needed = self.graphs.least_memory(min(height, whole), min(width, whole))
        return int(needed / max(self.scales) ** 2)


def in_tiles_where_needed(
    graphs: Graphs | NumbaGraphs, settings: PredictionSettings, architecture: str, full: tuple[int, int]
) -> Graphs | NumbaGraphs | Tiled:
    """Return what computes images of a padded size: the graphs, or tiles of them if the settings, or memory, ask so."""
    if settings.tile == "off":
        return graphs
    field = list(ARCHITECTURES[architecture].fields.values())[-1]
    field = replace(field, reach=min(field.reach, _MOST_REACH))
    if settings.tile != "auto":
        return Tiled(graphs, settings.scales, field, settings.tile)
    needed, room = graphs.least_memory(*full), min(_MOST_MEMORY, available_memory() // 4)
    if needed <= room:
        return graphs
    bytes_of_pixel = needed / math.prod(full) / max(settings.scales) ** 2
    side = int(math.sqrt(room / bytes_of_pixel)) - 2 * margin(field)
    return Tiled(graphs, settings.scales, field, max(_LEAST_SIDE, side))


def _array(value: Any) -> npt.NDArray[Any]:
    return value.numpy() if hasattr(value, "numpy") else value  # type: ignore[no-any-return]
