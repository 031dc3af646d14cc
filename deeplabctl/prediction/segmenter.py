"""Segment images with a trained network: numpy in, numpy out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar, Unpack, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.crf import CrfParams, refine
from deeplabctl.crf.mean_field import memory_to_refine
from deeplabctl.data.images import as_image
from deeplabctl.errors import DataError
from deeplabctl.network.geometry import padded_size, scaled_size
from deeplabctl.network.preprocessing import preprocess
from deeplabctl.parallel import available_memory, map_ahead
from deeplabctl.prediction.engines import Networks, with_engine
from deeplabctl.prediction.graphs import Graphs
from deeplabctl.prediction.numba_graphs import NumbaGraphs
from deeplabctl.prediction.runtimes import ExportedGraphs
from deeplabctl.prediction.segmentation import Segmentation
from deeplabctl.prediction.settings import (
    PredictionSettings,
    SettingsOptions,
    as_exported,
    read_options,
    usual_settings,
)
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.locating import find_weights
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.networks import read_network

if TYPE_CHECKING:
    import keras

Tag = TypeVar("Tag")
Result = TypeVar("Result")
P = ParamSpec("P")
Picture = str | Path | PillowImage.Image | npt.NDArray[Any]  # what `as_image` reads


class Prediction(NamedTuple):
    """Hold the label (H, W) uint8 of an image and the classes' scores (H, W, C) float32 after softmax."""

    label: Label
    scores: Scores


class Segmenter:
    """Segment images as the original program does.

    The image is padded with 0 (after the mean is subtracted) at the bottom and right, "tight" to the next 8k + 1 or
    "paper" to 513; the logits are upsampled by 8 with aligned corners (Caffe's INTERP), cropped to the image, and only
    then the largest is taken. An image of another size compiles nothing again.

    At several scales the padded image is resized, with aligned corners as the original nets' INTERP layers do it, the
    logits of each are brought to the full size, and the largest at each pixel counts (arXiv 1606.00915, section 4.1.2).
    A network that was trained at several scales fuses them before that, on the grid of its logits.
    With ``flip``, the mean is taken with the mirrored image's logits, mirrored back. The dense CRF comes last.
    """

    def __init__(
        self, model: keras.Model | Networks, info: ModelInfo, settings: PredictionSettings | None = None
    ) -> None:
        self.info = info
        self.settings = usual_settings(info) if settings is None else as_exported(settings, info)
        self._networks = model if isinstance(model, Networks) else Networks(info, None, model)
        self.applied = with_engine(self.settings, self._networks.usual_engine)  # the engine is not "auto" here

    @property
    def model(self) -> keras.Model:
        """Return the network as a Keras model, float32; TensorFlow loads here, if it has not yet."""
        return self._networks.model()

    @classmethod
    def from_weights(cls, path: Path | str, settings: PredictionSettings | None = None) -> Self:
        """Load a network from a file of any format that can be read, or a run directory; raises WeightsError."""
        return cls.from_network(read_network(Path(path)), settings)

    @classmethod
    def from_network(cls, network: Network, settings: PredictionSettings | None = None) -> Self:
        """Take a network that was read already; with numba's engine, or an export's, TensorFlow is not loaded."""
        return cls(Networks(network.info, network.weights, None, network.export), network.info, settings)

    def __repr__(self) -> str:
        """Return the network and the settings, in a line."""
        info = self.info
        return f"<Segmenter: {info.architecture} of width {info.width:g}, {len(info.classes)} classes; {self.settings}>"

    def with_settings(self, settings: PredictionSettings) -> Segmenter:
        """Return the same network with other settings; what was compiled is shared."""
        return Segmenter(self._networks, self.info, settings)

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: Picture, **changes: Unpack[SettingsOptions]
    ) -> Segmentation: ...
    @overload
    def __call__(self, images: Iterable[Picture], **changes: Unpack[SettingsOptions]) -> list[Segmentation]: ...
    def __call__(
        self, images: Picture | Iterable[Picture], **changes: Unpack[SettingsOptions]
    ) -> Segmentation | list[Segmentation]:
        """Segment an image, or several: paths, PIL images, or arrays (H, W, 3) uint8 RGB or (H, W) uint8 grey.

        ``changes`` are settings for this call: pad, scales, flip, crf (True, parameters, or a text such as
        "bi_w=5", False for none), crf_adaptive, precision, engine. Raises DataError for an image that cannot be read or
        segmented, and RecipeError for a setting that is not possible.
        """
        segmenter = self.with_settings(read_options(changes).change(self.settings, self.info))
        if isinstance(images, Iterable) and not isinstance(images, str | Mapping | PillowImage.Image | np.ndarray):
            return [segmenter._segmentation(as_image(image)) for image in images]
        return segmenter._segmentation(as_image(cast(Picture, images)))

    def _segmentation(self, image: Image) -> Segmentation:
        return Segmentation(image, *self.predict(image), self.info.classes)

    def predict(self, image: Image) -> Prediction:
        """Return label and scores of an image (H, W, 3) uint8 RGB, both of the image's own size.

        Raises DataError for an image that there is not enough memory for, or that the CRF cannot refine.
        """
        with self._failures(image):
            label, scores = self._compiled().scores(*self._inputs(image), image.shape[:2])
            prediction = Prediction(_array(label), _array(scores))
        return prediction if self.settings.crf is None else self._refined(image, prediction, self.settings.crf)

    def label(self, image: Image) -> Label:
        """Return the label (H, W) uint8 only, which costs less without a CRF; raises DataError as `predict` does."""
        if self.settings.crf is not None:
            return self.predict(image).label
        with self._failures(image):
            label: Label = _array(self._compiled().label(*self._inputs(image), image.shape[:2]))
        return label

    def labels(
        self, items: Iterable[tuple[Tag, Image]], failed: Callable[[Tag, DataError], None] | None = None
    ) -> Iterator[tuple[Tag, Label]]:
        """Yield (tag, label) for each (tag, image), in order; a dense CRF refines several images at once on all cores.

        The labels are those of `label`, bit for bit. An image that cannot be segmented raises DataError, or is left out
        if there is a ``failed``, which is called with its tag and the error.
        """
        for tag, label in self._labels_or_errors(items):
            if not isinstance(label, DataError):
                yield tag, label
            elif failed is None:
                raise label
            else:
                failed(tag, label)

    def _labels_or_errors(self, items: Iterable[tuple[Tag, Image]]) -> Iterator[tuple[Tag, Label | DataError]]:
        crf = self.settings.crf
        if crf is None:
            for tag, image in items:
                yield tag, _or_error(self.label, image)
            return
        network, classes = self.with_settings(replace(self.settings, crf=None)), len(self.info.classes)
        predicted = ((tag, image, _or_error(network.predict, image)) for tag, image in items)

        def refined(item: tuple[Tag, Image, Prediction | DataError]) -> tuple[Tag, Label | DataError]:
            tag, image, found = item
            found = found if isinstance(found, DataError) else _or_error(self._refined, image, found, crf)
            return tag, found if isinstance(found, DataError) else found.label

        yield from map_ahead(
            refined, predicted, ahead=4, size=lambda item: memory_to_refine((*item[1].shape[:2], classes))
        )

    def _refined(self, image: Image, prediction: Prediction, crf: CrfParams) -> Prediction:
        """Return what the CRF makes of the network's scores; raises DataError if it cannot."""
        with self._failures(image):
            try:
                scores = refine(image, prediction.scores, crf, adaptive=self.settings.crf_adaptive)
            except ValueError as error:  # the parameters do not go with the image, or the scores are not numbers
                raise DataError(f"cannot refine this image of {_size(image)} pixels: {error}") from None
            return Prediction(scores.argmax(-1).astype(np.uint8), scores)

    @contextmanager
    def _failures(self, image: Image) -> Iterator[None]:
        """Raise DataError if there is not enough memory for an image.

        Linux ends a process that takes more than there is, so what certainly will not do is not tried.
        """
        try:
            full = [padded_size(side, self.settings.pad) for side in image.shape[:2]]
            if self._compiled().least_memory(*full) > available_memory():
                raise MemoryError
            yield
        except MemoryError:
            raise DataError(
                f"there is not enough memory to segment this image of {_size(image)} pixels; make it smaller, or run "
                "the network at a smaller scale: `scales=0.5`"
            ) from None

    def coarse_logits(self, image: Image) -> list[Scores]:
        """Return the logits as the network gives them, at stride 8, one array (1 or 2, h, w, C) for each scale.

        They take a fiftieth of the memory of an image's scores, which `scores_from` makes of them at any time. Raises
        DataError as `predict` does.
        """
        with self._failures(image):
            return [_array(logits) for logits in self._compiled().coarse(*self._inputs(image))]

    def scores_from(self, coarse: Sequence[Scores], shape: tuple[int, int]) -> Scores:
        """Return the network's scores (H, W, C), before any CRF, of an image of this shape from its coarse logits."""
        full = [padded_size(side, self.settings.pad) for side in shape]
        scores: Scores = _array(self._compiled().fused_scores(list(coarse), full, shape))
        return scores

    def _inputs(self, image: Image) -> tuple[Any, npt.NDArray[np.int32]]:
        """Return the network's inputs (1 or 2, H, W, 3), padded, and the sizes that they take at the scales.

        An export takes the image itself, and does the rest.
        """
        settings = self.settings
        if self.info.export is not None:
            return image[None], np.empty((0, 2), np.int32)
        full = [padded_size(side, settings.pad) for side in image.shape[:2]]
        inputs = np.zeros((1 + settings.flip, *full, 3), np.float32)
        inputs[0, : image.shape[0], : image.shape[1]] = preprocess(image)
        if settings.flip:
            inputs[1, : image.shape[0], : image.shape[1]] = inputs[0, : image.shape[0], : image.shape[1]][:, ::-1]
        sizes = [[scaled_size(side, scale) for side in full] for scale in settings.scales]
        return inputs, np.array(sizes, np.int32)

    def prepare(self) -> None:
        """Load what computes the network now, and not at the first image; raises WeightsError if it cannot be."""
        self._compiled()

    def _compiled(self) -> Graphs | NumbaGraphs | ExportedGraphs:
        """Return what computes the network with these settings; built at its first use."""
        return self._networks.graphs(self.applied)


def _or_error(function: Callable[P, Result], *arguments: P.args, **options: P.kwargs) -> Result | DataError:
    """Return what a function returns, or the DataError that it raises."""
    try:
        return function(*arguments, **options)
    except DataError as error:
        return error


def _array(value: Any) -> npt.NDArray[Any]:
    """Return an array, of a tensor a copy of its own."""
    return value if isinstance(value, np.ndarray) else cast(npt.NDArray[Any], value.numpy())


def _size(image: Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def load(weights: str | os.PathLike[str] | None = None, **settings: Unpack[SettingsOptions]) -> Segmenter:
    """Load a network: a run directory, a weight file of any format, or an export; raises WeightsError.

    Without ``weights`` it is the best of the newest run under ./runs. ``settings`` are pad, scales, flip, crf,
    crf_adaptive, precision and engine, as `Segmenter` takes them at each call; what is not given is as in the recipe
    that the weights were trained with, and the test size is "tight".
    """
    network = read_network(find_weights(None if weights is None else os.fspath(weights)))
    request = read_options({"pad": "tight", **settings})
    return Segmenter.from_network(network, request.resolve(network.info))
