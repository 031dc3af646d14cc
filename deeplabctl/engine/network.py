"""Compute a network's logits from its table and weights, without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from deeplabctl.arrays import Float32, Pixels, Size
from deeplabctl.engine.layers import LAYERS, depth
from deeplabctl.engine.workspace import Arena, Use, Workers, padded, placed
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.network.ops import Dropout, Node, Norm
from deeplabctl.network.tiling import tiles
from deeplabctl.parallel import FairLock, available_cpus

Means = Mapping[str, Float32]  # of the whole image, by the rows' names

# Of the first layers of a large image: these take most of the memory, and see few pixels around their own.
_FRONT_REACH = 32  # pixels
FRONT_SIDE = 640  # pixels, and 32 around; a tile's two largest arrays have 64 channels and take 250 MB


def has_kernels(architecture: str) -> bool:
    """Tell whether there are kernels for all operations of a network, but for norms and dropout, which have no node."""
    return all(type(row) in (*LAYERS, Norm, Dropout) for row in ARCHITECTURES[architecture].prediction_rows)


class NumbaNetwork:
    """Compute logits of images of any size, on ``threads`` CPUs or all that this process may use.

    Weights are packed at the first image that needs them, and kept: they take about four times the memory of the
    file's. Kept as well is the memory of the results between the layers, as much as the largest image so far needs. The
    first layers of an image of more than half a million pixels are computed in tiles, which saves most of its memory.
    """

    def __init__(self, architecture: str, weights: Weights, threads: int | None = None) -> None:
        self.architecture, self.workers = ARCHITECTURES[architecture], Workers(threads or available_cpus())
        self._nodes = self.architecture.graph(weights)
        self._layers = {node: LAYERS[type(node.op)](node, self.workers) for node in self._nodes[1:]}
        self._arena, self._front_arena, self._lock = Arena(), Arena(), FairLock()
        self._front = self._front_length()

    def logits(self, image: Pixels, row: str = "", means: Means | None = None) -> Float32:
        """Return the logits (h, w, classes) of a preprocessed image (H, W, 3) float32.

        They are at the output stride, or as `Architecture.test_rows` say. Or, of a tile, the values of another ``row``,
        where the ``means`` (1, 1, C) of the whole image are known.
        """
        image, nodes = np.ascontiguousarray(image, np.float32), self._nodes
        if row:
            nodes = nodes[: [node.name for node in nodes].index(row) + 1]
        last, known = nodes[-1], means or {}
        with self._lock:
            if self._has_front(*image.shape[:2]) and len(nodes) > self._front:
                array, size = self._compute(nodes[self._front - 1 :], *self._front_in_tiles(image), known)
            else:
                array, size = self._compute(nodes, image.reshape(-1), image.shape[:2], known)
            whole: Float32 = array[: math.prod(size) * depth(last)].reshape(*size, depth(last))
            return whole[..., : last.channels].copy()

    def least_memory(self, height: int, width: int) -> int:
        """Return the bytes of the results between the layers of an image; the layers' own work takes more."""
        if not self._has_front(height, width):
            return 4 * placed(tuple(self._uses(self._nodes, (height, width))[1]))[1]
        front, rest = self._nodes[: self._front], self._nodes[self._front - 1 :]
        sizes, uses = self._uses(front, (height, width))
        return 4 * (uses[-1][0] + placed(tuple(self._uses(rest, sizes[front[-1]])[1]))[1])

    def _has_front(self, height: int, width: int) -> bool:
        """Tell whether the first layers of an image of this size are computed in tiles.

        Tiles have odd sides, so convolutions whose zeros depend on that ("SAME") need the same of the image.
        """
        if not self._front or height * width <= FRONT_SIDE**2:
            return False
        front = self._nodes[: self._front]
        grid = self.architecture.fields[front[-1].name].grid
        return height % grid == width % grid == 1 or not any(getattr(node.op, "same", False) for node in front)

    def _front_in_tiles(self, image: Pixels) -> tuple[Float32, Size]:
        """Return the result of the front of the network, computed tile by tile, and its size."""
        front = self._nodes[: self._front]
        field = self.architecture.fields[front[-1].name]
        sizes, uses = self._uses(front, image.shape[:2])
        size, channels = sizes[front[-1]], depth(front[-1])
        (result,) = self._front_arena.arrays(uses[-1:])
        whole = result.reshape(*size, channels)
        for line, column in tiles(image.shape[:2], size, field, FRONT_SIDE):
            tile = np.ascontiguousarray(image[line.first : line.last, column.first : column.last])
            array, own = self._compute(front, tile.reshape(-1), tile.shape[:2], {})
            inner = line.own(field.stride), column.own(field.stride)
            whole[line.begin : line.end, column.begin : column.end] = array.reshape(*own, channels)[inner]
        return result, size

    def _compute(self, nodes: Sequence[Node], array: Float32, size: Size, known: Means) -> tuple[Float32, Size]:
        """Return the last node's result, valid until the next call, and its size, from the first one's."""
        sizes, uses = self._uses(nodes, size)
        arrays = dict(zip(nodes, [array, *self._arena.arrays(uses)], strict=True))
        for node in nodes[1:]:
            if node.name in known:
                arrays[node][:] = 0
                arrays[node][: node.channels] = known[node.name].reshape(-1)
                continue
            inputs, own = [arrays[below] for below in node.inputs], [sizes[below] for below in node.inputs]
            self._layers[node].compute(inputs, own, arrays[node])
        return arrays[nodes[-1]], sizes[nodes[-1]]

    def _uses(self, nodes: Sequence[Node], size: Size) -> tuple[dict[Node, Size], list[Use]]:
        """Return the sizes of the nodes' results, and the uses of the arrays that hold all but the first one's."""
        sizes, last = {nodes[0]: size}, {nodes[0]: 0}
        for place, node in enumerate(nodes[1:], 1):
            sizes[node] = node.op.size([sizes[below] for below in node.inputs])
            last |= dict.fromkeys((*node.inputs, node), place)
        floats = [math.prod(size) * padded(node.channels) for node, size in sizes.items()]
        return sizes, list(zip(floats, range(len(nodes)), last.values(), strict=True))[1:]

    def _front_length(self) -> int:
        """Return the number of nodes of the front: the others take its last result only."""
        found = 0
        for count in range(2, len(self._nodes)):
            last = self._nodes[count - 1]
            inside = set(self._nodes[: count - 1])
            later = (below for node in self._nodes[count:] for below in node.inputs)
            field = self.architecture.fields[last.name]
            is_near = field.reach <= _FRONT_REACH and field.stride > 1 and not field.whole
            if is_near and inside.isdisjoint(later):
                found = count
        return found
