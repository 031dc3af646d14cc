"""Segment images with a trained network: numpy in, numpy out."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from deeplabctl.crf.params import CrfParams
from deeplabctl.network.geometry import padded_size, upsampled_size
from deeplabctl.network.keras_model import apply_model, assign_weights, build_model
from deeplabctl.network.layers import OUTPUT_STRIDE
from deeplabctl.network.preprocessing import preprocess
from deeplabctl.weights.fitting import ModelInfo
from deeplabctl.weights.reading import Network, read_network

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Image = npt.NDArray[np.uint8]
Label = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]
Tag = TypeVar("Tag")


class Prediction(NamedTuple):
    """Hold the label (H, W) uint8 of an image and the classes' scores (H, W, C) float32 after softmax."""

    label: Label
    scores: Scores


class Segmenter:
    """Segment images as the original program does.

    The image is padded with 0 (after the mean is taken) at the bottom and right, "tight" to the next 8k + 1 or "paper"
    to 513; the logits are upsampled by 8 with aligned corners (Caffe's INTERP), cropped to the image, and only then the
    largest is taken. An image of another size compiles nothing anew.

    At several ``scales`` the padded image is resized, with aligned corners as the original nets' INTERP layers do it,
    the logits of each are brought to the full size, and the largest at each pixel counts (arXiv 1606.00915, section
    4.1.2). With ``flip``, the mean is taken with the mirrored image's logits, mirrored back.
    """

    def __init__(
        self, model: keras.Model, info: ModelInfo, pad: str = "tight", scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:  # fmt: skip
        import tensorflow as tf

        self.model = model
        self.info = info
        self.pad = pad
        self.scales = tuple(scales)
        self.flip = flip
        inputs = tf.TensorSpec((1 + flip, None, None, 3), tf.float32)
        sizes = tf.TensorSpec((len(self.scales), 2), tf.int32)
        size = tf.TensorSpec((2,), tf.int32)
        coarse = [tf.TensorSpec((1 + flip, None, None, len(info.classes)), tf.float32) for _ in self.scales]

        def compiled(function: object, *signature: object) -> tf.types.experimental.PolymorphicFunction:
            return tf.function(function, input_signature=signature, autograph=False)

        self._coarse = compiled(self._coarse_graph, inputs, sizes)
        self._fused_scores = compiled(self._fused_scores_graph, coarse, size, size)
        self._label = compiled(self._label_graph, inputs, sizes, size)
        self._scores = compiled(self._scores_graph, inputs, sizes, size)

    @classmethod
    def from_weights(
        cls, path: Path | str, pad: str = "tight", scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> Self:
        """Load a network from a file of any format that can be read, or a run directory; raises WeightsError."""
        return cls.from_network(read_network(Path(path)), pad, scales, flip)

    @classmethod
    def from_network(
        cls, network: Network, pad: str = "tight", scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> Self:
        """Build a network that was read already."""
        info = network.info
        model = build_model(info.architecture, len(info.classes), width=info.width)
        assign_weights(model, network.weights)
        return cls(model, info, pad, scales, flip)

    def predict(self, image: Image) -> Prediction:
        """Return label and scores of an image (H, W, 3) uint8 RGB, both of the image's own size."""
        label, scores = self._scores(*self._prepared(image), image.shape[:2])
        return Prediction(label.numpy(), scores.numpy())

    def label(self, image: Image) -> Label:
        """Return the label (H, W) uint8 alone, which costs less."""
        label: Label = self._label(*self._prepared(image), image.shape[:2]).numpy()
        return label

    def coarse_logits(self, image: Image) -> list[Scores]:
        """Return the logits as the network gives them, at stride 8, one array (1 or 2, h, w, C) for each scale.

        They take a fiftieth of the memory of an image's scores, which `scores_from` makes of them at any time.
        """
        return [logits.numpy() for logits in self._coarse(*self._prepared(image))]

    def scores_from(self, coarse: Sequence[Scores], shape: tuple[int, int]) -> Scores:
        """Return the scores (H, W, C) that `predict` gives for an image of this shape, from its coarse logits."""
        full = [padded_size(side, self.pad) for side in shape]
        scores: Scores = self._fused_scores(list(coarse), full, shape).numpy()
        return scores

    def _prepared(self, image: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Return the network's inputs (1 or 2, H, W, 3), padded, and the sizes that they take at the scales."""
        full = [padded_size(side, self.pad) for side in image.shape[:2]]
        inputs = np.zeros((1 + self.flip, *full, 3), np.float32)
        inputs[0, : image.shape[0], : image.shape[1]] = preprocess(image)
        if self.flip:
            inputs[1, : image.shape[0], : image.shape[1]] = inputs[0, : image.shape[0], : image.shape[1]][:, ::-1]
        sizes = [[scaled_size(side, scale) for side in full] for scale in self.scales]
        return inputs, np.array(sizes, np.int32)

    def _label_graph(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.cast(tf.argmax(self._logits_graph(inputs, sizes, size), -1, output_type=tf.int32), tf.uint8)

    def _scores_graph(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        logits = self._logits_graph(inputs, sizes, size)
        return tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8), tf.nn.softmax(logits)

    def _fused_scores_graph(self, coarse: list[tf.Tensor], full: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.nn.softmax(self._fused_graph(coarse, full, size))

    def _logits_graph(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return self._fused_graph(self._coarse_graph(inputs, sizes), tf.shape(inputs)[1:3], size)

    def _coarse_graph(self, inputs: tf.Tensor, sizes: tf.Tensor) -> list[tf.Tensor]:
        """Run the network at every scale."""
        scaled = (inputs if scale == 1 else _resize(inputs, sizes[index]) for index, scale in enumerate(self.scales))
        return [apply_model(self.model, images) for images in scaled]

    def _fused_graph(self, coarse: list[tf.Tensor], full: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Fuse coarse logits to those of the image (H, W, C)."""
        import tensorflow as tf

        upsampled = [_resize(logits, full)[:, : size[0], : size[1]] for logits in coarse]
        fused = functools.reduce(tf.maximum, upsampled)
        return (fused[0] + fused[1][:, ::-1]) / 2 if self.flip else fused[0]


def segment_many(
    segmenter: Segmenter, items: Iterable[tuple[Tag, Image]], crf: CrfParams | None = None, *, adaptive: bool = False
) -> Iterator[tuple[Tag, Label]]:
    """Yield (tag, label) for each (tag, image), in order; a dense CRF refines several images at once on all cores."""
    if crf is None:
        for tag, image in items:
            yield tag, segmenter.label(image)
        return
    from deeplabctl.crf import refine_many

    tags: deque[Tag] = deque()

    def pairs() -> Iterator[tuple[Image, Scores]]:
        for tag, image in items:
            tags.append(tag)
            yield image, segmenter.predict(image).scores

    for refined in refine_many(pairs(), crf, adaptive=adaptive):
        yield tags.popleft(), refined.argmax(-1).astype(np.uint8)


def scaled_size(size: int, scale: float) -> int:
    """Return the size that a side of 8k + 1 pixels takes at a scale: the 8k + 1 nearest to ``(size - 1) * scale + 1``.

    The corners of the image, of the scaled image and of its logits coincide then. 513 becomes 385 at scale 0.75 and 257
    at 0.5, as in the original nets (INTERP layers with zoom factor 3 and shrink factors 4 and 2).
    """
    return upsampled_size(round((size - 1) * scale / OUTPUT_STRIDE) + 1)


def upsample(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Upsample logits (N, h, w, C) by 8 with aligned corners and crop them to ``size`` (height, width)."""
    import tensorflow as tf

    return _resize(logits, upsampled_size(tf.shape(logits)[1:3]))[:, : size[0], : size[1]]


def _resize(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resize (N, h, w, C) bilinearly to ``size`` (height, width) with aligned corners."""
    import tensorflow as tf

    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)
