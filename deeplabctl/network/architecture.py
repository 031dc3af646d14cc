"""What a network is: its table of operations, and the facts of how it is applied to images.

Everything else of a network is a loop over its table: channels, weights, sizes, the Keras model, exports, a comparison
with a Caffe net definition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Image, Pixels
from deeplabctl.network.ops.convolution import Convolution
from deeplabctl.network.ops.onnx_graph import OnnxGraph
from deeplabctl.network.ops.operation import KERNEL, Field, Input, Node, Operation, Shapes, fold, inputs_of
from deeplabctl.network.ops.resize import resize

if TYPE_CHECKING:
    import tensorflow as tf

PAPER_SIZE = 513  # the test size of the original prototxt: VOC images (at most 500 pixels) are padded to it

Rows = tuple[Operation, ...]
Weights = dict[str, npt.NDArray[Any]]  # "layer/part" -> array; an operation's `parts` are listed in its file


@dataclass(frozen=True)
class Preprocessing:
    """Turn RGB images into a network's input: ``pixel * scale - mean``, the channels in reverse order for BGR.

    Images are padded with 0 after that, the mean. The default is Caffe's.
    """

    channels: Literal["RGB", "BGR"] = "BGR"
    mean: tuple[float, float, float] = (104.008, 116.669, 122.675)  # in the order of ``channels``, as ``scale``
    scale: float | tuple[float, float, float] = 1

    def __call__(self, image: Image) -> Pixels:
        """Turn an image (H, W, 3) or a batch of them, uint8 RGB, into float32."""
        *lines, width, _ = image.shape
        # In whole lines: numpy is slow on a last axis of 3.
        pixels = image[..., :: self._step].reshape(*lines, 3 * width).astype(np.float32)
        if self.scale != 1:
            pixels *= np.tile(np.broadcast_to(np.array(self.scale, np.float32), 3), width)
        pixels -= np.tile(np.array(self.mean, np.float32), width)
        return pixels.reshape(image.shape)

    def undo(self, pixels: Pixels) -> Image:
        """Turn the network's input (H, W, 3) back into uint8 RGB."""
        values = (pixels + np.array(self.mean, np.float32)) / np.array(self.scale, np.float32)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., :: self._step]

    def export_tensorflow(self, images: tf.Tensor) -> tf.Tensor:
        """Turn images (N, H, W, 3) uint8 RGB into float32."""
        import tensorflow as tf

        pixels = tf.cast(images, tf.float32)[..., :: self._step]
        pixels = pixels if self.scale == 1 else pixels * np.array(self.scale, np.float32)
        return pixels - tf.constant(self.mean, tf.float32)

    def export_onnx(self, graph: OnnxGraph, images: str) -> str:
        """Add the nodes that turn images (N, 3, H, W) uint8 RGB into float32."""
        if self._step < 0:
            images = graph.add("Gather", images, graph.ints(2, 1, 0), axis=1)
        pixels = graph.floats(images)
        if self.scale != 1:
            scale = np.broadcast_to(np.array(self.scale, np.float32), 3).reshape(1, 3, 1, 1)
            pixels = graph.add("Mul", pixels, graph.array("scale", scale))
        return graph.add("Sub", pixels, graph.array("mean", np.array(self.mean, np.float32).reshape(1, 3, 1, 1)))

    def to_dict(self) -> dict[str, Any]:
        """Return it as model files have it."""
        return {"channels": self.channels, "mean": self.mean, "scale": self.scale}

    @property
    def _step(self) -> int:
        return -1 if self.channels == "BGR" else 1


CAFFE_PREPROCESSING = Preprocessing()


@dataclass(frozen=True)
class Parameter:
    """Hold the facts of an array of weights."""

    op: Operation
    part: str
    shape: tuple[int, ...]
    number: int  # of its kernel in the network, which chooses its random numbers

    @property
    def lr_multiplier(self) -> float:
        """Return Caffe's ``lr_mult``; 0: it is never trained."""
        return self.op.multipliers(self.part)[0]

    @property
    def decay_multiplier(self) -> float:
        """Return Caffe's ``decay_mult``."""
        return self.op.multipliers(self.part)[1]

    def new_array(self, seed: int) -> npt.NDArray[Any]:
        """Draw weights of a layer on top of trained ones."""
        return self.op.new_array(self.part, self.shape, seed, self.number)

    def random_array(self, seed: int) -> npt.NDArray[Any]:
        """Draw weights of a network that starts from nothing."""
        return self.op.random_array(self.part, self.shape, seed, self.number)


@dataclass(frozen=True)
class Architecture:
    """Hold a network's table, and how it is applied.

    With several ``scales`` it is applied at each with the same weights, the logits are brought to the grid of the
    first, and the largest counts. ``crf`` is the preset of the dense CRF that the authors used with it. ``test_rows``
    are those of prediction, where they differ: all names of ``rows`` are among them, with the same channels and
    weights, and logits are of the image's own size.
    ``imagenet`` is the network of keras.applications whose ImageNet weights it may start from; "" for none. ``start``
    are the weights that trainings start from unless they name others: "random", "imagenet", or published ones.

    ``output_stride`` is that of the logits. ``fuses`` says what is made of several scales and of mirrored images: the
    "max" of the scales' logits, then the mean with the mirrored image's (v2), or the mean of all "scores" (v3).
    ``dropout`` and ``label_stride`` are the authors', for recipes that give none; ``learning_rate`` is Adam's for
    small sets. ``half_pixel``: logits are upsampled without aligned corners, and images are not padded (torchvision's).
    ``tile_reach``: pixels that are further away have hardly any weight in a result. ``early_layers``: those that may
    keep the weights of the start in trainings on few images. ``unused_layers``: a pattern of the names of others that
    files have beside the network's, such as those that classify ImageNet.
    """

    name: str
    rows: Rows = field(repr=False)
    crf: str
    imagenet: str = ""
    start: str = "random"
    scales: tuple[float, ...] = (1.0,)
    test_rows: Rows = field(default=(), repr=False)
    output_stride: int = 8
    preprocessing: Preprocessing = CAFFE_PREPROCESSING
    fuses: Literal["max", "scores"] = "max"
    dropout: float = 0.5
    learning_rate: float = 1e-4
    label_stride: int = 8
    half_pixel: bool = False
    tile_reach: int = 1 << 20
    early_layers: tuple[str, ...] = field(default=(), repr=False)
    unused_layers: str = field(default="", repr=False)

    @property
    def prediction_rows(self) -> Rows:
        """Return the table that is applied in prediction."""
        return self.test_rows or self.rows

    @cached_property
    def convolutions(self) -> tuple[Convolution, ...]:
        """Return the convolutions, in order."""
        return tuple(row for row in self.rows if isinstance(row, Convolution))

    @cached_property
    def classifiers(self) -> tuple[str, ...]:
        """Return the names of the layers whose sum is the classes' logits."""
        return tuple(row.name for row in self.rows if row.is_classifier)

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Return the field of every row in prediction, by name; the image's is ``data``."""
        return fold(self.prediction_rows, Field(1, 0, 1), lambda row, inputs: row.field(inputs))

    @cached_property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the rows whose results each row takes, in prediction."""
        return inputs_of(self.prediction_rows)

    @cached_property
    def image_means(self) -> dict[str, str]:
        """Return the row that each mean of the whole image is taken of, by the mean's row, in order."""
        return {row.name: self.inputs[row.name][0] for row in self.prediction_rows if row.takes_image_mean}

    def channels(self, num_classes: int, width: float = 1.0) -> dict[str, int]:
        """Return the channels of every row, and of the image."""
        return fold(self.prediction_rows, 3, lambda row, inputs: row.channels_of(inputs, num_classes, width))

    def width_of(self, found: Mapping[str, int]) -> float:
        """Return the width at which convolutions of these names have these channels, by all of them.

        It is the ratio of the widest one if that fits the others, else the shortest number that does. Where none does,
        the layers are another network's, and the ratio is returned.
        """
        usual = {row.name: row.channels for row in self.convolutions if row.name in found and row.channels}
        widest = max(usual, key=lambda name: usual[name])
        ratio = found[widest] / usual[widest]

        def missing(width: float) -> list[int]:
            """Return how many channels each of them lacks at a width; below 0 where it has more than found."""
            outgoing = self.channels(2, width)
            return [found[name] - outgoing[name] for name in usual]

        def least(unit: int) -> float:
            """Return the least width in steps of 1 / unit at which none of them lacks channels."""
            return (bisect_left(range(1, 2**31), True, key=lambda step: max(missing(step / unit)) <= 0) + 1) / unit

        widths = chain([ratio], (least(10**digits) for digits in range(1, 9)))
        return next((width for width in widths if not any(missing(width))), ratio)

    def parameters(self, num_classes: int, width: float = 1.0) -> dict[str, Parameter]:
        """Return the facts of every array of weights by its name, "layer/part", in the table's order."""
        outgoing, inputs = self.channels(num_classes, width), inputs_of(self.rows)
        found: dict[str, Parameter] = {}
        number = -1
        for row in self.rows:
            parts = row.parts(outgoing[inputs[row.name][0]], outgoing[row.name])
            number += KERNEL in parts
            found |= {f"{row.name}/{part}": Parameter(row, part, shape, number) for part, shape in parts.items()}
        return found

    def weight_shapes(self, num_classes: int, width: float = 1.0) -> Shapes:
        """Return the shape of every array of weights; a kernel's is (height, width, in, out)."""
        return {name: facts.shape for name, facts in self.parameters(num_classes, width).items()}

    def random_weights(self, num_classes: int, width: float, seed: int) -> Weights:
        """Draw all weights of a network that starts from nothing: a function of the seed and the layer only."""
        return {name: facts.random_array(seed) for name, facts in self.parameters(num_classes, width).items()}

    def graph(self, weights: Weights) -> list[Node]:
        """Return the nodes of prediction in an order in which they can be computed, the image first."""
        image = Node(Input(), (), 3)
        found = fold(self.prediction_rows, image, lambda row, inputs: row.node(tuple(inputs), weights))
        *_, last = nodes = list(dict.fromkeys(found.values()))  # one node may be two rows
        needed = {last}
        for node in reversed(nodes):
            if node in needed:
                needed.update(node.inputs)
        return [node for node in nodes if node in needed]

    def most_values(self, width: float) -> float:
        """Return the most values for each pixel of the image that a row reads and writes at once, except the first."""
        outgoing, fields = self.channels(2, width), self.fields
        taken = {name: count / fields[name].stride ** 2 for name, count in outgoing.items()}
        _, *later = self.inputs.items()
        return max(sum(taken[name] for name in (*inputs, row)) for row, inputs in later)

    @cached_property
    def grid(self) -> int:
        """Return the largest stride on the way to the logits: sizes of ``grid * k + 1`` keep all corners aligned."""
        return max(field.grid for field in self.fields.values())

    @property
    def padded_step(self) -> int:
        """Return the step of padded sizes: the grid, or 1 where images are not padded."""
        return 1 if self.half_pixel else self.grid

    def cells(self, size: int) -> int:
        """Return the logits along a side: at stride 8 and of 8k + 1 pixels, cell i lies on pixel 8i."""
        return (size - 1) // self.output_stride + 1

    def scaled_size(self, size: int, scale: float) -> int:
        """Return the size that a padded side takes at a scale: the ``grid * j + 1`` that is nearest.

        The nearest to ``(size - 1) * scale + 1``: the corners of the image, of the scaled image and of its logits
        coincide then. 513 becomes 385 at scale 0.75 and 257 at 0.5, as in the original nets (INTERP layers with zoom
        factor 3 and shrink factors 4 and 2).
        """
        step = self.padded_step
        return step * round((size - 1) * scale / step) + 1

    def padded_size(self, size: int, pad: str = "tight") -> int:
        """Return the size to which prediction pads an image at the bottom and right.

        ``pad`` is "tight" (the next ``grid * k + 1``) or "paper" (513; a larger image to the next ``grid * k + 1``).
        """
        if pad == "paper" and size <= PAPER_SIZE and not self.half_pixel:
            return PAPER_SIZE
        return -(-(size - 1) // self.padded_step) * self.padded_step + 1

    @cached_property
    def crop_step(self) -> int:
        """Return the smallest m for which a crop of mk + 1 is grid * j + 1 at every scale: 32 for 1, 0.75 and 0.5."""
        grid = self.grid
        steps = range(grid, 100 * grid, grid)
        return next(step for step in steps if all((step * scale) % grid == 0 for scale in self.scales))

    def is_crop_size(self, size: int) -> bool:
        """Tell whether labels of a crop of this size lie on the cells of the logits: at stride 8 pixel 8i on cell i."""
        return size >= self.crop_step + 1 and size % self.crop_step == 1

    def at_scales(self, images: tf.Tensor) -> Iterator[tf.Tensor]:
        """Yield images (N, S, S, 3) of a padded size that is known, at the scales."""
        for scale in self.scales:
            size = [self.scaled_size(side, scale) for side in images.shape[1:3]]
            yield images if scale == 1 else resize(images, size)


def layer_of(name: str) -> str:
    """Return the layer of an array of weights."""
    return name.rpartition("/")[0]


def part_of(name: str) -> str:
    """Return which of its layer's arrays an array of weights is."""
    return name.rpartition("/")[2]
