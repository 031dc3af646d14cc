"""Tell which architecture the layers of a weight file belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE, Shapes, layer_of


def architecture_of(shapes: Shapes, dilations: Mapping[str, tuple[int, ...]], path: Path) -> str:
    """Return the architecture that knows most of the layers; the first in the list, where several do.

    Architectures that differ by their dilations alone (aspp-s and aspp-l) are told apart by those in the file; raises
    WeightsError for a file that has none.
    """
    layers = set(map(layer_of, shapes))
    known = {name: len(layers & set(map(layer_of, ARCHITECTURES[name].weight_shapes(1)))) for name in ARCHITECTURES}
    best = max(known, key=lambda name: known[name])  # the first of equals
    twins = [name for name in ARCHITECTURES if known[name] == known[best] and _same_names(name, best)]
    if len(twins) == 1 or not known[best]:
        return best if known[best] else DEFAULT_ARCHITECTURE
    fitting = [name for name in twins if _agrees(name, dilations)]
    if len(fitting) != 1:
        raise WeightsError(
            f"weights {path}: expected a network whose dilations tell {' from '.join(twins)}, which have the same "
            "layers, got none of these dilations in the file; name it: `architecture`"
        )
    return fitting[0]


def _same_names(one: str, other: str) -> bool:
    return ARCHITECTURES[one].weight_shapes(1) == ARCHITECTURES[other].weight_shapes(1)


def _agrees(architecture: str, dilations: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether the stated dilations are all the architecture's, and one at least above 1 is stated."""
    stated = {
        conv.name: set(dilations[conv.name])
        for conv in ARCHITECTURES[architecture].convolutions
        if conv.name in dilations
    }
    wanted = {conv.name: {conv.dilation} for conv in ARCHITECTURES[architecture].convolutions if conv.name in stated}
    return stated == wanted and any(max(values) > 1 for values in stated.values())
