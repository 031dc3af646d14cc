"""Compute a network by TensorFlow's graphs, on a CPU or a GPU, in any number format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import numpy as np

from deeplabctl.arrays import Float32, Int32, Size
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import Precision, is_out_of_memory, predict_logits
from deeplabctl.network.ops import resize
from deeplabctl.prediction.engines.engine import Engine, Inputs, NetworkSource, Predicted

if TYPE_CHECKING:
    import tensorflow as tf


class TensorFlowEngine(Engine):
    """Compute with graphs that take images of any size without being compiled again."""

    name = "tensorflow"
    precisions = get_args(Precision)
    batches = True
    loads_tensorflow = True
    uses_gpu = True
    follows_model = True

    def __init__(self, source: NetworkSource, precision: str) -> None:
        self._model = source.model(cast(Precision, precision))
        self._architecture = ARCHITECTURES[source.info.architecture]
        self._graphs: dict[object, Callable[..., Any]] = {}

    @property
    def on_device(self) -> bool:  # type: ignore[override]
        """Tell whether a GPU computes."""
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))

    def least_memory(self, count: int, height: int, width: int) -> int:
        """Return bytes that arrays take at least; 0 on a GPU, where TensorFlow says by itself when memory is full."""
        import tensorflow as tf

        if self.on_device:
            return 0
        first = next(layer for layer in self._model.layers if layer.weights)
        multiplier = first.filters / self._architecture.convolutions[0].channels
        bytes_of_pixel = self._architecture.most_values(multiplier) * tf.as_dtype(first.compute_dtype).size
        return int(bytes_of_pixel * count * height * width)

    def predict(self, inputs: Inputs, *, scores: bool) -> Predicted:
        """Return labels and scores, computed by one graph."""
        scales, how = inputs.settings.scales, Fusion.of(inputs, scores)

        def predict(pixels: tf.Tensor, scaled: tf.Tensor, sizes: tf.Tensor) -> list[tf.Tensor]:
            images = (pixels if scale == 1 else resize(pixels, scaled[at]) for at, scale in enumerate(scales))
            return fuse_logits([self._logits(each) for each in images], sizes, how)

        graph = self._graph((scales, how), predict, _images(3), _integers(len(scales), 2), _integers(3, 2))
        return _predicted(graph(inputs.pixels, np.array(inputs.scaled, np.int32), _sizes(inputs)))

    def resize(self, pixels: Float32, size: Size) -> Float32:
        """Return arrays in another size."""
        graph = self._graph("resize", resize, _images(3), _integers(2))
        return cast(Float32, graph(pixels, np.array(size, np.int32)).numpy())

    def logits(self, pixels: Float32, row: str = "", means: Mapping[str, Float32] | None = None) -> Float32:
        """Return the logits of arrays, or the values of another row, where the means of the whole image are known."""
        if not means and not row:
            return cast(Float32, self._graph("logits", self._logits, _images(3))(pixels).numpy())
        known = means or {}

        def values(pixels: tf.Tensor, known: dict[str, tf.Tensor]) -> tf.Tensor:
            return self._logits(pixels, row, known)

        signature = {name: _images(mean.shape[-1]) for name, mean in known.items()}
        return cast(Float32, self._graph((row, *known), values, _images(3), signature)(pixels, known).numpy())

    def fuse(self, coarse: Sequence[Float32], inputs: Inputs, *, scores: bool) -> Predicted:
        """Return labels and scores of images from their logits."""
        how = Fusion.of(inputs, scores)

        def fuse(coarse: list[tf.Tensor], sizes: tf.Tensor) -> list[tf.Tensor]:
            return fuse_logits(coarse, sizes, how)

        logits = [_images(self._model.output_shape[-1]) for _ in coarse]
        return _predicted(self._graph((len(coarse), how), fuse, logits, _integers(3, 2))(list(coarse), _sizes(inputs)))

    def _graph(self, key: object, function: object, *signature: object) -> Callable[..., Any]:
        """Return the graph of a function, compiled at its first use; ``key`` has all that the function depends on."""
        import tensorflow as tf

        if (known := self._graphs.get(key)) is not None:
            return known
        graph = tf.function(function, input_signature=signature, autograph=False)

        def run(*arguments: object) -> Any:
            try:
                return graph(*arguments)
            except tf.errors.OpError as error:
                if is_out_of_memory(error):
                    raise MemoryError from None
                raise

        return self._graphs.setdefault(key, run)  # another thread may have been first

    def _logits(self, images: tf.Tensor, row: str = "", means: Mapping[str, tf.Tensor] | None = None) -> tf.Tensor:
        """Return the logits (N, h, w, C) float32 of images (N, H, W, 3)."""
        import tensorflow as tf

        known = {name: tf.cast(mean, self._model.compute_dtype) for name, mean in (means or {}).items()}
        return tf.cast(predict_logits(self._model, images, row, known), tf.float32)


class Fusion(NamedTuple):
    """Say how a graph makes labels of logits, and whether it returns scores."""

    flip: bool
    fuses_coarse: bool
    scores: bool
    averages_scores: bool = False
    half_pixel: bool = False
    below_one: tuple[bool, ...] = ()  # which scales are

    @classmethod
    def of(cls, inputs: Inputs, scores: bool) -> Fusion:
        """Return what the settings and the network ask for."""
        averages, below_one = inputs.averages_scores, tuple(scale < 1 for scale in inputs.settings.scales)
        half_pixel = inputs.architecture.half_pixel
        return cls(inputs.settings.flip, inputs.fuses_coarse, scores, averages, half_pixel, below_one)


def fuse_logits(coarse: list[tf.Tensor], sizes: tf.Tensor, how: Fusion) -> list[tf.Tensor]:
    """Return the labels (N, H, W) of coarse logits, and the scores (N, H, W, C) if asked for."""
    import tensorflow as tf

    fused = mean_scores(coarse, sizes, how) if how.averages_scores else fused_logits(coarse, sizes, how)
    labels = tf.cast(tf.argmax(fused, -1, output_type=tf.int32), tf.uint8)
    if not how.scores:
        return [labels]
    return [labels, fused if how.averages_scores else tf.nn.softmax(fused)]


def mean_scores(coarse: list[tf.Tensor], sizes: tf.Tensor, how: Fusion) -> tf.Tensor:
    """Return the mean of the scores (N, H, W, C) of scales and mirrored images."""
    import tensorflow as tf

    padded, size, grid = tf.unstack(sizes)
    scores = []
    for logits, below_one in zip(coarse, how.below_one, strict=True):
        logits = resize(logits, grid, half_pixel=how.half_pixel) if below_one else logits
        upsampled = resize(logits, padded, half_pixel=how.half_pixel)[:, : size[0], : size[1]]
        scores.append(tf.nn.softmax(upsampled))
    mean = tf.add_n(scores) / len(scores)
    if how.flip:
        count = tf.shape(mean)[0] // 2
        mean = (mean[:count] + mean[count:, :, ::-1]) / 2
    return mean


def fused_logits(coarse: list[tf.Tensor], sizes: tf.Tensor, how: Fusion) -> tf.Tensor:
    """Return the logits of images (N, H, W, C), upsampled and cropped.

    ``sizes`` are the padded images', the images', and that of the padded images' coarse logits.
    """
    import tensorflow as tf

    padded, size, grid = tf.unstack(sizes)
    if how.fuses_coarse:
        coarse = [functools.reduce(tf.maximum, [resize(logits, grid) for logits in coarse])]
    upsampled = [resize(logits, padded, half_pixel=how.half_pixel)[:, : size[0], : size[1]] for logits in coarse]
    fused = functools.reduce(tf.maximum, upsampled)
    if how.flip:
        count = tf.shape(fused)[0] // 2
        fused = (fused[:count] + fused[count:, :, ::-1]) / 2
    return fused


def _images(channels: int) -> tf.TensorSpec:
    import tensorflow as tf

    return tf.TensorSpec((None, None, None, channels), tf.float32)


def _integers(*shape: int) -> tf.TensorSpec:
    import tensorflow as tf

    return tf.TensorSpec(shape, tf.int32)


def _sizes(inputs: Inputs) -> Int32:
    return np.array([inputs.padded, inputs.size, inputs.grid], np.int32)


def _predicted(found: Sequence[tf.Tensor]) -> Predicted:
    labels, *scores = (tensor.numpy() for tensor in found)
    return labels, scores[0] if scores else None
