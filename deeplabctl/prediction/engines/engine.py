"""Say what an engine is: it computes the labels and scores of prepared images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Float32, Image, Size
from deeplabctl.choices import Precision
from deeplabctl.errors import RecipeError, WeightsError
from deeplabctl.network import ARCHITECTURES, Architecture, Weights
from deeplabctl.network.keras_model import (
    POLICIES,
    assign_weights,
    can_compute,
    model_variables,
    zero_model,
)
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.weights.fitting import ExportedNetwork, Network
from deeplabctl.weights.model_info import ModelInfo

if TYPE_CHECKING:
    from pathlib import Path

    import keras

Predicted = tuple[npt.NDArray[np.uint8], Float32 | None]  # labels (N, H, W), and scores (N, H, W, C) if asked for


class Fusion(NamedTuple):
    """Say how the logits of scales and of mirrored images become one.

    The largest of the scales counts, and then the mean with the mirrored image; or the mean of all scores, where logits
    of a scale below 1 go by way of the first scale's grid, as in the authors' program of v3.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    averages: bool = False  # scores
    on_grid: bool = False  # the scales are fused on the logits' grid, as such nets are trained, and then upsampled
    half_pixel: bool = False

    @classmethod
    def of(cls, architecture: Architecture, scales: Sequence[float], *, flip: bool) -> Fusion:
        """Return what a network does."""
        is_several = len(scales) > 1
        averages, on_grid = architecture.fuses == "scores", len(architecture.scales) > 1
        return cls(
            tuple(scales), flip, averages and (is_several or flip), on_grid and is_several, architecture.half_pixel
        )


@dataclass(frozen=True)
class Inputs:
    """Hold images of one padded size, and how their logits become labels.

    The labels are of ``size``, that of the image, or the largest height and width of several.
    """

    images: Sequence[Image]
    size: Size
    settings: PredictionSettings
    architecture: Architecture

    @property
    def padded(self) -> Size:
        """Return the size to which the images are padded."""
        height, width = (self.architecture.padded_size(side, self.settings.pad) for side in self.size)
        return height, width

    @property
    def scaled(self) -> list[Size]:
        """Return the sizes that the padded images take at the scales."""
        (height, width), to_scale = self.padded, self.architecture.scaled_size
        return [(to_scale(height, scale), to_scale(width, scale)) for scale in self.settings.scales]

    @property
    def grid(self) -> Size:
        """Return the size of the padded images' logits."""
        return self.architecture.cells(self.padded[0]), self.architecture.cells(self.padded[1])

    @property
    def fusion(self) -> Fusion:
        """Return how their logits become one."""
        return Fusion.of(self.architecture, self.settings.scales, flip=self.settings.flip)

    @property
    def count(self) -> int:
        """Return the number of arrays that the network computes: the images, and the mirrored ones if asked for."""
        return len(self.images) * (1 + self.settings.flip)

    @cached_property
    def pixels(self) -> Float32:
        """Return the network's inputs (N or 2N, H, W, 3) float32, padded, the mirrored ones after the others."""
        flip, prepare = self.settings.flip, self.architecture.preprocessing
        pixels = np.zeros((1 + flip, len(self.images), *self.padded, 3), np.float32)
        for number, image in enumerate(self.images):
            height, width = image.shape[:2]
            pixels[0, number, :height, :width] = prepare(image)
            if flip:
                pixels[1, number, :height, :width] = pixels[0, number, :height, :width][:, ::-1]
        return pixels.reshape(-1, *pixels.shape[2:])


class NetworkSource:
    """Hold what engines are made of: arrays, a Keras model whose weights may change, or an exported file.

    Segmenters of other settings share it, with the models and the engines that were made of it.
    """

    def __init__(
        self, info: ModelInfo, network: Network | ExportedNetwork | None = None, model: keras.Model | None = None
    ) -> None:
        self.info, self._network = info, network
        self._models: dict[Precision, keras.Model] = {} if model is None else {"float32": model}
        self.engines: dict[tuple[str, str, bool], Engine] = {}  # by name, precision, and whether on one CPU
        self.usual = None if model is None else "tensorflow"  # the engine of "auto", where it is loaded already

    @property
    def exported_file(self) -> Path:
        """Return the file of an export."""
        assert isinstance(self._network, ExportedNetwork)
        return self._network.path

    def weights(self) -> Weights:
        """Return the network's weights, those that a Keras model has now."""
        if isinstance(self._network, Network):
            return self._network.weights
        return {name: variable.numpy() for name, variable in model_variables(self.model()).items()}

    def model(self, precision: Precision = "float32") -> keras.Model:
        """Return the network as a Keras model; TensorFlow loads here. Raises WeightsError for an export."""
        if isinstance(self._network, ExportedNetwork):
            raise WeightsError(
                f"weights {self._network.path}: expected weights for a Keras model, got an export, which is run as it "
                "is; give the weights that it was made from"
            )
        if precision not in self._models:
            info = self.info
            if precision != "float32" and not can_compute(precision):
                raise RecipeError(
                    f"`precision`: expected a format that TensorFlow can compute in here, got {precision}; use float32"
                )
            model = zero_model(info.architecture, len(info.classes), width=info.width, dtype=POLICIES[precision])
            if "float32" in self._models:
                model.set_weights(self._models["float32"].get_weights())
            else:
                assign_weights(model, self.weights())
            self._models[precision] = model
        return self._models[precision]


class Engine(ABC):
    """Compute a network: labels and scores of images, and, with ``gives_logits``, the logits that they are made of.

    The attributes of a class say what it can do before anything is loaded. All methods raise MemoryError where the
    device or the machine has not enough memory, and `predict` and `coarse_logits` FloatingPointError for logits that
    are not finite.
    """

    name: ClassVar[str]  # in settings
    precisions: ClassVar[Mapping[str, int]]  # number formats that it computes in, and the bytes of a value
    batches: ClassVar[bool] = False  # computes several images at once
    gives_logits: ClassVar[bool] = True  # so that images can be computed in tiles
    loads_tensorflow: ClassVar[bool] = False
    uses_gpu: ClassVar[bool] = False  # where there is one
    trains: ClassVar[bool] = False  # its kernels can compute the convolutions of a training step
    follows_model: ClassVar[bool] = False  # computes with the weights that a Keras model has now, not with a copy
    in_threads: ClassVar[bool] = False  # is faster with many images at once, each on a CPU
    on_device: bool = False  # a GPU computes, for which images are put together

    def __init__(self, source: NetworkSource, precision: str) -> None:
        """Build or load what computes the network; raises DeepLabError where that is not possible."""
        self._architecture = ARCHITECTURES[source.info.architecture]
        self._bytes_of_pixel = self.precisions[precision] * self._architecture.most_values(source.info.width)

    @classmethod
    def computes(cls, info: ModelInfo) -> bool:
        """Tell whether this engine can compute a network: has all its operations, or is the runtime of its export."""
        return True

    @classmethod
    def is_usual(cls, architecture: str) -> bool:
        """Tell whether "auto" may choose this engine for a network on this machine."""
        return True

    @classmethod
    def compiles(cls, settings: PredictionSettings) -> bool:
        """Tell whether numba compiles kernels for predictions with these settings."""
        return False

    def least_memory(self, count: int, height: int, width: int) -> int:
        """Return bytes that arrays (N, H, W, 3) take at least: the most that a layer reads and writes."""
        return int(self._bytes_of_pixel * count * height * width)

    def on_one_cpu(self) -> Engine:
        """Return an engine that computes on one CPU, in several threads at once, where this one is ``in_threads``."""
        return self

    def predict(self, inputs: Inputs, *, scores: bool) -> Predicted:
        """Return the labels and scores of images."""
        return self.fuse(self.coarse_logits(inputs), inputs, scores=scores)

    @abstractmethod
    def resize(self, pixels: Float32, size: Size) -> Float32:
        """Return arrays (N, H, W, C) in another size, with aligned corners (Caffe's INTERP)."""

    @abstractmethod
    def logits(self, pixels: Float32, row: str = "", means: Mapping[str, Float32] | None = None) -> Float32:
        """Return the logits (N, h, w, C) of arrays (N, H, W, 3).

        Or, of a tile, the values of another ``row`` of the table, where the ``means`` of the whole image are known.
        """

    @abstractmethod
    def fuse(self, coarse: Sequence[Float32], inputs: Inputs, *, scores: bool) -> Predicted:
        """Return labels and scores of images from their logits (N or 2N, h, w, C) at every scale.

        They are upsampled to the padded size, cropped, and fused as `Fusion` says.
        """

    def coarse_logits(self, inputs: Inputs, logits: Callable[[Float32], Float32] | None = None) -> list[Float32]:
        """Return the logits (N or 2N, h, w, C) at every scale, computed by ``logits`` in place of the engine's own."""
        scales = zip(inputs.settings.scales, inputs.scaled, strict=True)
        images = (inputs.pixels if scale == 1 else self.resize(inputs.pixels, size) for scale, size in scales)
        found = [(logits or self.logits)(pixels) for pixels in images]
        if not all(np.isfinite(coarse).all() for coarse in found):
            raise FloatingPointError
        return found
