"""Round kernels to int8 such that the sums of convolutions change least, and not each weight by itself.

What rounding one weight changes, the weights that are not rounded yet make up for, as far as their inputs go together
in images (GPTQ, arXiv 2210.17323). A runtime's own rounding then finds the kernels on its grid: 127 steps to each
side of 0, for each output the steps that its largest weight asks for. Labels that differ become half as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from deeplabctl.arrays import Float32, Floats, Image
from deeplabctl.engine.network import NumbaNetwork
from deeplabctl.network import ARCHITECTURES, Architecture, Weights
from deeplabctl.network.ops import BIAS, KERNEL, Convolution, Node
from deeplabctl.network.ops.convolution import SCALE
from deeplabctl.reporting import Reporter, task

STEPS = 127
_POSITIONS = 512  # of an image at which a convolution's inputs are looked at
_AT_ONCE = 512 << 20  # bytes of the matrices that are filled in one pass over the images
_BLOCK = 128  # weights of an output after which the others are changed
_DAMPING = 0.01  # of the inputs' mean square, which makes their matrix invertible


def rounded_network(
    nodes: Sequence[Node],
    architecture: str,
    weights: Weights,
    floats: set[str],
    images: Sequence[Image],
    report: Reporter,
) -> list[Node]:
    """Return the operations with kernels on the grid of int8, and biases that make up for it.

    ``images`` are of one size; the convolutions named in ``floats`` stay as they are.
    """
    numba = NumbaNetwork(architecture, weights)
    places = [n for n, one in enumerate(nodes) if isinstance(one.op, Convolution) and one.name not in floats]
    changed: dict[int, Node] = {}
    with task(report, "rounding to int8", len(places), "layers") as advance:
        for group in _groups(nodes, places):
            for place, products in _products(numba, ARCHITECTURES[architecture], nodes, group, images).items():
                node = nodes[place]
                weights = node.op.constants(node.arrays)
                kernel, shift = rounded(weights[KERNEL].reshape(-1, node.channels), products)
                arrays = {
                    KERNEL: kernel.reshape(weights[KERNEL].shape), BIAS: weights[BIAS] + shift,
                    SCALE: np.ones_like(weights[BIAS]),
                }  # fmt: skip
                changed[place] = replace(node, arrays=arrays)
                advance()
    made: dict[int, Node] = {}
    for place, one in enumerate(nodes):
        inputs = tuple(made[id(below)] for below in one.inputs)
        made[id(one)] = replace(changed.get(place, one), inputs=inputs)
    return list(made.values())


def rounded(kernel: Float32, products: Floats) -> tuple[Float32, Float32]:
    """Return a kernel (inputs, outputs) on its grid, and what its biases change by.

    ``products`` (inputs + 1, inputs + 1) are the mean products of the inputs with each other, and with 1, the last.
    """
    from scipy.linalg import cholesky, inv

    inputs, outputs = kernel.shape
    step = np.abs(kernel).max(0) / STEPS
    step[step == 0] = 1
    largest = np.abs(kernel).argmax(0)  # stays the largest: it tells the runtime the steps
    products = products + np.eye(inputs + 1) * _DAMPING * products.diagonal()[:-1].mean()
    upper = cholesky(inv(products))
    left = np.concatenate([kernel, np.zeros((1, outputs))])
    result = np.empty_like(kernel)
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        errors = np.empty((end - start, outputs))
        for row in range(start, end):
            nearest = np.clip(np.round(left[row] / step), -STEPS, STEPS)
            nearest[largest == row] = (STEPS * np.sign(kernel[row]))[largest == row]
            result[row] = nearest * step
            errors[row - start] = (left[row] - result[row]) / upper[row, row]
            left[row:end] -= np.outer(upper[row, row:end], errors[row - start])
        left[end:] -= upper[start:end, end:].T @ errors
    return result, left[inputs].astype(np.float32)


def _groups(nodes: Sequence[Node], places: Sequence[int]) -> Iterator[list[int]]:
    """Yield convolutions whose matrices fit into memory at once."""
    group: list[int] = []
    taken = 0
    for place in places:
        size = 8 * (_inputs(nodes[place]) + 1) ** 2
        if group and taken + size > _AT_ONCE:
            yield group
            group, taken = [], 0
        group.append(place)
        taken += size
    if group:
        yield group


def _inputs(node: Node) -> int:
    return int(np.prod(node.arrays[KERNEL].shape[:3]))


def _products(
    numba: NumbaNetwork,
    architecture: Architecture,
    nodes: Sequence[Node],
    group: Sequence[int],
    images: Sequence[Image],
) -> dict[int, Floats]:
    """Return the mean products of the inputs of some convolutions, and 1, at some places of the images."""
    sums = {place: np.zeros((_inputs(nodes[place]) + 1,) * 2) for place in group}
    seen = dict.fromkeys(group, 0)
    random = np.random.default_rng(0)

    def look(place: int, before: Float32) -> None:
        if place in sums:
            op = nodes[place].op
            assert isinstance(op, Convolution)
            patches = _patches(op, before, random)
            sums[place] += patches.T @ patches
            seen[place] += len(patches)

    for image in images:
        padded = np.zeros((*map(architecture.padded_size, image.shape[:2]), 3), np.float32)
        padded[: image.shape[0], : image.shape[1]] = architecture.preprocessing(image)
        numba.logits(padded, look)
    return {place: total / seen[place] for place, total in sums.items()}


def _patches(convolution: Convolution, before: Float32, random: np.random.Generator) -> Float32:
    """Return what a convolution (height, width, channels) sums up at some places: (places, inputs + 1), the last 1."""
    side, dilation, stride, pad = convolution.kernel, convolution.dilation, convolution.stride, convolution.pad
    height, width = (-(-length // stride) for length in before.shape[:2])
    places = random.choice(height * width, min(_POSITIONS, height * width), replace=False)
    rows, columns = places // width * stride, places % width * stride
    padded = np.pad(before, ((pad, pad), (pad, pad), (0, 0)))
    taps = [padded[rows + dilation * i, columns + dilation * j] for i in range(side) for j in range(side)]
    return np.concatenate([*taps, np.ones((len(places), 1), np.float32)], 1)
