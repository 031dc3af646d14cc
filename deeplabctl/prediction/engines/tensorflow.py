"""Compute a network by TensorFlow's graphs, on a CPU or a GPU, in any number format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

import numpy as np

from deeplabctl.arrays import Float32, Int32, Size
from deeplabctl.choices import Precision
from deeplabctl.network.keras_model import is_out_of_memory, predict_logits
from deeplabctl.network.ops import resize
from deeplabctl.prediction.engines.engine import Engine, Fusion, Inputs, NetworkSource, Predicted

if TYPE_CHECKING:
    import tensorflow as tf


class TensorFlowEngine(Engine):
    """Compute with graphs that take images of any size without being compiled again."""

    name = "tensorflow"
    precisions: ClassVar = {name: 4 if name == "float32" else 2 for name in get_args(Precision)}
    batches = True
    loads_tensorflow = True
    uses_gpu = True
    follows_model = True

    def __init__(self, source: NetworkSource, precision: str) -> None:
        super().__init__(source, precision)
        self._model = source.model(cast(Precision, precision))
        self._graphs: dict[object, Callable[..., Any]] = {}

    @property
    def on_device(self) -> bool:  # type: ignore[override]
        """Tell whether a GPU computes."""
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))

    def least_memory(self, count: int, height: int, width: int) -> int:
        """Return 0 on a GPU, where TensorFlow says by itself when memory is full."""
        return 0 if self.on_device else super().least_memory(count, height, width)

    def predict(self, inputs: Inputs, *, scores: bool) -> Predicted:
        """Return labels and scores, computed by one graph."""
        import tensorflow as tf

        how = inputs.fusion

        def predict(pixels: tf.Tensor, scaled: tf.Tensor, sizes: tf.Tensor) -> list[tf.Tensor]:
            images = (pixels if scale == 1 else resize(pixels, scaled[at]) for at, scale in enumerate(how.scales))
            coarse = [self._logits(each) for each in images]
            is_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(logits)) for logits in coarse])
            return [is_finite, *fuse_logits(coarse, sizes, how, scores=scores)]

        graph = self._graph((how, scores), predict, _images(3), _integers(len(how.scales), 2), _integers(3, 2))
        is_finite, *found = graph(inputs.pixels, np.array(inputs.scaled, np.int32), _sizes(inputs))
        if not is_finite:
            raise FloatingPointError
        return _predicted(found)

    def resize(self, pixels: Float32, size: Size) -> Float32:
        graph = self._graph("resize", resize, _images(3), _integers(2))
        return cast(Float32, graph(pixels, np.array(size, np.int32)).numpy())

    def logits(self, pixels: Float32, row: str = "", means: Mapping[str, Float32] | None = None) -> Float32:
        known = means or {}

        def values(pixels: tf.Tensor, known: dict[str, tf.Tensor]) -> tf.Tensor:
            return self._logits(pixels, row, known)

        signature = {name: _images(mean.shape[-1]) for name, mean in known.items()}
        return cast(Float32, self._graph((row, *known), values, _images(3), signature)(pixels, known).numpy())

    def fuse(self, coarse: Sequence[Float32], inputs: Inputs, *, scores: bool) -> Predicted:
        how = inputs.fusion

        def fuse(coarse: list[tf.Tensor], sizes: tf.Tensor) -> list[tf.Tensor]:
            return fuse_logits(coarse, sizes, how, scores=scores)

        logits = [_images(self._model.output_shape[-1]) for _ in coarse]
        graph = self._graph((len(coarse), how, scores), fuse, logits, _integers(3, 2))
        return _predicted(graph(list(coarse), _sizes(inputs)))

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


def fuse_logits(coarse: list[tf.Tensor], sizes: tf.Tensor, how: Fusion, *, scores: bool) -> list[tf.Tensor]:
    """Return the labels (N, H, W) of coarse logits, and the scores (N, H, W, C) if asked for."""
    import tensorflow as tf

    fused = fused_logits(coarse, sizes, how)
    labels = tf.cast(tf.argmax(fused, -1, output_type=tf.int32), tf.uint8)
    if not scores:
        return [labels]
    return [labels, fused if how.averages else tf.nn.softmax(fused)]


def fused_logits(coarse: list[tf.Tensor], sizes: tf.Tensor, how: Fusion) -> tf.Tensor:
    """Return the logits of images (N, H, W, C), upsampled and cropped, or the mean of their scores.

    ``sizes`` are the padded images', the images', and that of the padded images' coarse logits.
    """
    import tensorflow as tf

    padded, size, grid = tf.unstack(sizes)
    resized = functools.partial(resize, half_pixel=how.half_pixel)
    if how.averages:
        scaled = zip(coarse, how.scales, strict=True)
        coarse = [resized(logits, grid) if scale < 1 else logits for logits, scale in scaled]
    elif how.on_grid:
        coarse = [functools.reduce(tf.maximum, [resized(logits, grid) for logits in coarse])]
    found = [resized(logits, padded)[:, : size[0], : size[1]] for logits in coarse]
    if how.averages:
        fused = tf.add_n([tf.nn.softmax(logits) for logits in found]) / len(found)
    else:
        fused = functools.reduce(tf.maximum, found)
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
