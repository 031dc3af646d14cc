"""Segment images with a trained network: numpy in, numpy out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from deeplabctl.data.transforms import preprocess
from deeplabctl.geometry import padded_size, upsampled_size
from deeplabctl.model import apply_model, assign_weights, build_model
from deeplabctl.origins import Network, read_network
from deeplabctl.weights import ModelInfo

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Prediction(NamedTuple):
    """Hold the label (H, W) uint8 of an image and the classes' scores (H, W, C) float32 after softmax."""

    label: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]


class Segmenter:
    """Segment images as the original program does.

    The image is padded with 0 (after the mean is taken) at the bottom and right, "tight" to the next 8k + 1 or "paper"
    to 513; the logits are upsampled by 8 with aligned corners (Caffe's INTERP), cropped to the image, and only then the
    largest is taken. An image of another size compiles nothing anew.
    """

    def __init__(self, model: keras.Model, info: ModelInfo, pad: str = "tight") -> None:
        import tensorflow as tf

        self.model = model
        self.info = info
        self.pad = pad
        signature = [tf.TensorSpec((1, None, None, 3), tf.float32), tf.TensorSpec((2,), tf.int32)]
        self._label = tf.function(self._label_graph, input_signature=signature, autograph=False)
        self._scores = tf.function(self._scores_graph, input_signature=signature, autograph=False)

    @classmethod
    def from_weights(cls, path: Path | str, pad: str = "tight") -> Self:
        """Load a network from a file of any format that can be read, or a run directory; raises WeightsError."""
        return cls.from_network(read_network(Path(path)), pad)

    @classmethod
    def from_network(cls, network: Network, pad: str = "tight") -> Self:
        """Build a network that was read already."""
        info = network.info
        model = build_model(info.architecture, len(info.classes), width=info.width)
        assign_weights(model, network.weights)
        return cls(model, info, pad)

    def predict(self, image: npt.NDArray[np.uint8]) -> Prediction:
        """Return label and scores of an image (H, W, 3) uint8 RGB, both of the image's own size."""
        label, scores = self._scores(self._padded(image), image.shape[:2])
        return Prediction(label.numpy(), scores.numpy())

    def label(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the label (H, W) uint8 alone, which costs less."""
        label: npt.NDArray[np.uint8] = self._label(self._padded(image), image.shape[:2]).numpy()
        return label

    def _padded(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        height, width = image.shape[:2]
        below, beside = padded_size(height, self.pad) - height, padded_size(width, self.pad) - width
        return np.pad(preprocess(image), ((0, below), (0, beside), (0, 0)))[None]

    def _label_graph(self, image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.cast(tf.argmax(self._logits_graph(image, size), -1, output_type=tf.int32), tf.uint8)

    def _scores_graph(self, image: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        logits = self._logits_graph(image, size)
        return tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8), tf.nn.softmax(logits)

    def _logits_graph(self, image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return upsample(apply_model(self.model, image), size)[0]


def upsample(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Upsample logits (N, h, w, C) by 8 with aligned corners and crop them to ``size`` (height, width)."""
    import tensorflow as tf

    cells = tf.shape(logits)[1:3]
    full = tf.raw_ops.ResizeBilinear(images=logits, size=upsampled_size(cells), align_corners=True)
    return full[:, : size[0], : size[1]]
