"""Segment images with a trained network: numpy in, numpy out."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, Unpack, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.crf import CrfParams, refine
from deeplabctl.crf.mean_field import memory_to_refine
from deeplabctl.data.images import as_image
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.batching import Batches
from deeplabctl.prediction.engines import Networks, with_engine
from deeplabctl.prediction.forward import Forward, Found, size_in_words
from deeplabctl.prediction.segmentation import Segmentation
from deeplabctl.prediction.settings import (
    PredictionSettings,
    SettingsOptions,
    as_exported,
    read_options,
    usual_settings,
)
from deeplabctl.weights.fitting import Network, read_network
from deeplabctl.weights.locating import find_weights
from deeplabctl.weights.model_info import ModelInfo

if TYPE_CHECKING:
    import keras

Tag = TypeVar("Tag")
_GPU_BATCH = 8  # images that a GPU computes together
Outcome = Found | DataError
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
        self._forward = Forward(self._networks, self.applied)

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
        prediction = Prediction(*self._forward.scores(image))
        return prediction if self.settings.crf is None else self._refined(image, prediction, self.settings.crf)

    def label(self, image: Image) -> Label:
        """Return the label (H, W) uint8 only, which costs less without a CRF; raises DataError as `predict` does."""
        return self._forward.label(image) if self.settings.crf is None else self.predict(image).label

    def labels(
        self,
        items: Iterable[tuple[Tag, Image]],
        failed: Callable[[Tag, DataError], None] | None = None,
        *,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Tag, Label]]:
        """Yield (tag, label) for each (tag, image), in order; a dense CRF refines several images at once on all cores.

        The labels are those of `label`, bit for bit on CPUs; on GPUs images are computed together (see `outcomes`). An
        image that cannot be segmented raises DataError, or is left out if there is a ``failed``, which is called with
        its tag and the error.
        """
        for tag, found in self.outcomes(items, batch_size=batch_size):
            if not isinstance(found, DataError):
                yield tag, found[0]
            elif failed is None:
                raise found
            else:
                failed(tag, found)

    def outcomes(
        self, items: Iterable[tuple[Tag, Image | DataError]], *, scores: bool = False, batch_size: int | None = None
    ) -> Iterator[tuple[Tag, Outcome]]:
        """Yield (tag, (label, scores or None)) for each (tag, image), in order, or (tag, DataError) for a failure.

        An error in the place of an image comes back as it is. TensorFlow computes images of equal padded size (with
        ``flip``, of equal size) together, up to ``batch_size``: by default 8 on GPUs, else 1. The scores of an image
        that is computed with others differ by rounding errors only. Raises RecipeError for numba's engine with a
        ``batch_size`` above 1.
        """
        crf, largest = self.settings.crf, self.largest_batch(batch_size)
        if crf is None:
            yield from self._without_crf(items, scores, largest)
            return
        kept = (((tag, image), image) for tag, image in items)
        predicted = self._without_crf(kept, True, largest)
        classes = len(self.info.classes)

        def refined(item: tuple[tuple[Tag, Image | DataError], Outcome]) -> tuple[Tag, Outcome]:
            (tag, image), found = item
            if isinstance(found, DataError) or isinstance(image, DataError):
                return tag, found
            try:
                result = self._refined(image, Prediction(*cast(tuple[Label, Scores], found)), crf)
            except DataError as error:
                return tag, error
            return tag, (result.label, result.scores if scores else None)

        def memory(item: tuple[tuple[Tag, Image | DataError], Outcome]) -> int:
            image = item[0][1]
            return 0 if isinstance(image, DataError) else memory_to_refine((*image.shape[:2], classes))

        yield from map_ahead(refined, predicted, ahead=4, size=memory)

    def largest_batch(self, asked: int | None = None) -> int:
        """Return how many images are computed together at most; raises RecipeError for numba's engine and several."""
        if self.info.export is None and self.applied.engine == "tensorflow":
            together = self._forward.on_device and not isinstance(self.settings.tile, int)
            return asked or (_GPU_BATCH if together else 1)
        if (asked or 1) > 1:
            other = "use `engine=tensorflow`" if self.info.export is None else "leave it out"
            raise RecipeError(
                f"`batch_size`: the engine {self.applied.engine} computes one image at a time, got {asked}; {other}"
            )
        return 1

    def _without_crf(
        self, items: Iterable[tuple[Tag, Image | DataError]], scores: bool, largest: int
    ) -> Iterator[tuple[Tag, Outcome]]:
        bytes_of_pixel = 4 + scores * 4 * len(self.info.classes)

        def kind(item: tuple[Tag, Image | DataError]) -> Hashable:
            return None if isinstance(item[1], DataError) else self._forward.kind(item[1])

        def run(batch: Sequence[tuple[Tag, Image | DataError]]) -> Sequence[Outcome]:
            errors = [image for _, image in batch if isinstance(image, DataError)]
            images = [image for _, image in batch if not isinstance(image, DataError)]
            return errors or self._forward.several(images, scores=scores)

        def size(item: tuple[Tag, Image | DataError]) -> int:
            image = item[1]
            return 0 if isinstance(image, DataError) else bytes_of_pixel * image.shape[0] * image.shape[1]

        for (tag, _), outcome in Batches(run, kind, size, largest, self._forward.on_device).results(items):
            yield tag, outcome

    def _refined(self, image: Image, prediction: Prediction, crf: CrfParams) -> Prediction:
        """Return what the CRF makes of the network's scores; raises DataError if it cannot."""
        with self._forward.failures(image):
            try:
                scores = refine(image, prediction.scores, crf, adaptive=self.settings.crf_adaptive)
            except ValueError as error:  # the parameters do not go with the image, or the scores are not numbers
                raise DataError(f"cannot refine this image of {size_in_words(image)} pixels: {error}") from None
            return Prediction(scores.argmax(-1).astype(np.uint8), scores)

    def coarse_logits(self, image: Image) -> list[Scores]:
        """Return the logits as the network gives them, at stride 8, one array (1 or 2, h, w, C) for each scale.

        They take a fiftieth of the memory of an image's scores, which `scores_from` makes of them at any time. Raises
        DataError as `predict` does.
        """
        return self._forward.coarse_logits(image)

    def scores_from(self, coarse: Sequence[Scores], shape: tuple[int, int]) -> Scores:
        """Return the network's scores (H, W, C), before any CRF, of an image of this shape from its coarse logits."""
        return self._forward.scores_from(coarse, shape)

    def prepare(self) -> None:
        """Load what computes the network now, and not at the first image; raises WeightsError if it cannot be."""
        self._forward.prepare()


def load(weights: str | os.PathLike[str] | None = None, **settings: Unpack[SettingsOptions]) -> Segmenter:
    """Load a network: a run directory, a weight file of any format, or an export; raises WeightsError.

    Without ``weights`` it is the best of the newest run under ./runs. ``settings`` are pad, scales, flip, crf,
    crf_adaptive, precision and engine, as `Segmenter` takes them at each call; what is not given is as in the recipe
    that the weights were trained with, and the test size is "tight".
    """
    network = read_network(find_weights(None if weights is None else os.fspath(weights)))
    request = read_options({"pad": "tight", **settings})
    return Segmenter.from_network(network, request.resolve(network.info))
