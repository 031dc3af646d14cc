"""Compile what a network computes of an image: logits at every scale, their fusion, label and scores."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import predict_logits
from deeplabctl.network.ops import resize

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Graphs:
    """Hold the graphs of a network at some number of scales, with or without the mirrored image.

    The logits of the scales are fused at full size, or with ``fuses_coarse`` on the grid of those of the padded image,
    as the nets that are trained at several scales do.

    Each takes images of any size without being compiled again. ``inputs`` are (1 or 2, H, W, 3) float32, padded, the
    second mirrored; ``sizes`` (scales, 2) int32 the sizes that they take at the scales; ``size`` (2,) the image's.
    Those of several images take (N or 2N, H, W, 3), the mirrored ones after the others, and the size of the largest;
    the results are (N, ...). They raise MemoryError where the device or the machine has not enough memory.
    """

    def __init__(
        self, model: keras.Model, scales: tuple[float, ...], *, flip: bool, fuses_coarse: bool = False
    ) -> None:
        import tensorflow as tf

        self._model, self._scales, self._flip = model, scales, flip
        self._architecture = ARCHITECTURES[model.name]
        self._fuses_coarse = fuses_coarse
        classes = model.output_shape[-1]
        inputs = tf.TensorSpec((1 + flip, None, None, 3), tf.float32)
        several = tf.TensorSpec((None, None, None, 3), tf.float32)
        sizes = tf.TensorSpec((len(scales), 2), tf.int32)
        size = tf.TensorSpec((2,), tf.int32)
        coarse = [tf.TensorSpec((1 + flip, None, None, classes), tf.float32) for _ in scales]

        def compiled(function: object, *signature: object) -> Callable[..., Any]:
            graph = tf.function(function, input_signature=signature, autograph=False)

            def run(*arguments: object) -> Any:
                try:
                    return graph(*arguments)
                except tf.errors.ResourceExhaustedError:
                    raise MemoryError from None

            return run

        self.coarse = compiled(self._coarse, inputs, sizes)
        self.fused_scores = compiled(self._fused_scores, coarse, size, size)
        self.fused_label = compiled(self._fused_label, coarse, size, size)
        self.scaled = compiled(resize, inputs, size)
        self.logits = compiled(self._network_logits, inputs)
        self.label = compiled(self._label, inputs, sizes, size)
        self.scores = compiled(self._scores, inputs, sizes, size)
        self.labels_of_several = compiled(self._labels, several, sizes, size)
        self.scores_of_several = compiled(self._labels_and_scores, several, sizes, size)

    @property
    def on_device(self) -> bool:
        """Tell whether a GPU computes, for which images are put together."""
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))

    def least_memory(self, height: int, width: int) -> int:
        """Return bytes that an image of a padded size takes at least: the most that a layer reads and writes.

        On a GPU it is 0: TensorFlow says by itself when its memory is full.
        """
        import tensorflow as tf

        if self.on_device:
            return 0
        first = next(layer for layer in self._model.layers if layer.weights)
        width = first.filters / self._architecture.convolutions[0].channels
        bytes_of_pixel = self._architecture.most_values(width) * tf.as_dtype(first.compute_dtype).size
        return int(bytes_of_pixel * (1 + self._flip) * height * width * max(self._scales) ** 2)

    def _coarse(self, inputs: tf.Tensor, sizes: tf.Tensor) -> list[tf.Tensor]:
        """Return the logits (N or 2N, h, w, C) float32 of every scale."""
        scaled = (inputs if scale == 1 else resize(inputs, sizes[index]) for index, scale in enumerate(self._scales))
        return [self._network_logits(images) for images in scaled]

    def _network_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Return the logits (N, h, w, C) float32 of images (N, H, W, 3)."""
        import tensorflow as tf

        return tf.cast(predict_logits(self._model, images), tf.float32)

    def _fused(self, coarse: list[tf.Tensor], full: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Fuse coarse logits to those of images (N, H, W, C): upsampled to the padded size ``full``, then cropped."""
        import tensorflow as tf

        if self._fuses_coarse and len(coarse) > 1:
            grid = self._architecture.cells(full)
            coarse = [functools.reduce(tf.maximum, [resize(logits, grid) for logits in coarse])]
        upsampled = [resize(logits, full)[:, : size[0], : size[1]] for logits in coarse]
        fused = functools.reduce(tf.maximum, upsampled)
        if not self._flip:
            return fused
        count = tf.shape(fused)[0] // 2
        return (fused[:count] + fused[count:, :, ::-1]) / 2

    def _fused_scores(self, coarse: list[tf.Tensor], full: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.nn.softmax(self._fused(coarse, full, size)[0])

    def _fused_label(self, coarse: list[tf.Tensor], full: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return _labels_of(self._fused(coarse, full, size)[0])

    def _logits(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return self._fused(self._coarse(inputs, sizes), tf.shape(inputs)[1:3], size)

    def _label(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return _labels_of(self._logits(inputs, sizes, size)[0])

    def _scores(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        logits = self._logits(inputs, sizes, size)[0]
        return _labels_of(logits), tf.nn.softmax(logits)

    def _labels(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return _labels_of(self._logits(inputs, sizes, size))

    def _labels_and_scores(self, inputs: tf.Tensor, sizes: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        logits = self._logits(inputs, sizes, size)
        return _labels_of(logits), tf.nn.softmax(logits)


def _labels_of(logits: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8)
