"""Segment images with a trained network: numpy in, numpy out."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, Unpack, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from deeplabctl.arrays import Image, Label, Scores, Size
from deeplabctl.choices import DEFAULT_WEIGHTS
from deeplabctl.crf import CrfParams, refine
from deeplabctl.crf.mean_field import memory_to_refine
from deeplabctl.data.images import as_image, shrink, working_size
from deeplabctl.data.labels import count_values, write_mask
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.files import check_new_file
from deeplabctl.interpolation import enlarge, label_of
from deeplabctl.network.keras_model import check_model
from deeplabctl.parallel import available_cpus, map_ahead
from deeplabctl.prediction.engines import engine_class, engines_for
from deeplabctl.prediction.engines.engine import NetworkSource
from deeplabctl.prediction.forward import NetworkRunner, failed, size_in_words
from deeplabctl.prediction.results import Result, in_batches
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest, checked, resolve
from deeplabctl.render import overlay, overlay_png, overlay_with_legend
from deeplabctl.reporting import area, tqdm_reporter
from deeplabctl.weights.fitting import ExportedNetwork, Network, open_network
from deeplabctl.weights.locating import find_weights
from deeplabctl.weights.model_info import ModelInfo

if TYPE_CHECKING:
    import keras

Item = TypeVar("Item")
_GPU_BATCH = 8  # images that a GPU computes together
ImageSource = str | os.PathLike[str] | PillowImage.Image | npt.NDArray[Any]  # what `as_image` reads


class Prediction(NamedTuple):
    """Hold the label (H, W) uint8 of an image and the classes' scores (H, W, C) float32 after softmax."""

    label: Label
    scores: Scores


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Hold an image's label and scores, of the image's own upright size."""

    image: Image  # (H, W, 3) uint8 RGB
    label: Label  # (H, W) uint8 class ids
    classes: tuple[str, ...]
    find_scores: Callable[[], Scores]

    @cached_property
    def scores(self) -> Scores:
        """Return the scores (H, W, C) float32 after softmax, or the CRF's marginals where it is used.

        Without a CRF the network computes them when they are first asked for: they take as long as the label, and more
        memory than everything else.
        """
        return self.find_scores()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the scores, and not the network."""
        return Segmentation, (self.image, self.label, self.classes, partial(np.asarray, self.scores))

    def __repr__(self) -> str:
        """Return the size and what is seen, in a line."""
        height, width = self.label.shape
        seen = ", ".join(f"{name} {area(share)}" for name, share in self.areas.items())
        return f"<Segmentation of {width}x{height} pixels: {seen}>"

    def _repr_png_(self) -> bytes:
        """Return the overlay with its legend as a PNG, which notebooks show."""
        return overlay_png(self.image, self.label, self.classes)

    @property
    def areas(self) -> dict[str, float]:
        """Return the share of the image that each class takes, the largest first, without those that are absent."""
        return {self.classes[index]: count / self.label.size for index, count in count_pixels(self.label).items()}

    def overlay(self, *, legend: bool = True) -> PillowImage.Image:
        """Draw the classes' colours over the image, with a legend below it."""
        draw = overlay_with_legend if legend else overlay
        return PillowImage.fromarray(draw(self.image, self.label, self.classes))

    def save(self, path: str | Path) -> None:
        """Write the label as an 8-bit palette PNG in the classes' colours; pixel value = class id.

        Raises OutputError for a name that does not end in .png, and where the system refuses.
        """
        check_new_file(Path(path), overwrite=True, suffixes=(".png",))
        write_mask(Path(path), self.label, self.classes)


def count_pixels(label: Label) -> dict[int, int]:
    """Return the number of pixels of each class id in a label, the largest first."""
    return dict(sorted(count_values(label).items(), key=lambda entry: -entry[1]))


class Segmenter:
    """Segment images as a network's original program does.

    The prepared image is padded with 0 at the bottom and right, "tight" to the next multiple of the network's largest
    stride plus 1 (8k + 1, or 16k + 1) or "paper" to 513; the logits are upsampled with aligned corners (Caffe's
    INTERP), cropped to the image, and only then the largest is taken. torchvision's networks pad nothing, and upsample
    with half pixels. An image of another size compiles nothing again.

    At several scales the padded image is resized, with aligned corners as the original nets' INTERP layers do it, the
    logits of each are brought to the full size, and the largest at each pixel counts (arXiv 1606.00915, section 4.1.2).
    A network that was trained at several scales fuses them before that, on the grid of its logits. With ``flip``, the
    mean is taken with the mirrored image's logits, mirrored back. DeepLab v3 and v3+ take the mean of all scores
    instead. The dense CRF comes last.
    """

    def __init__(
        self, model: keras.Model | NetworkSource, info: ModelInfo, settings: PredictionSettings | None = None
    ) -> None:
        """Take a model that `build_model` made, and its facts.

        Raises ValueError where these are another model's, and RecipeError for settings that are not possible.
        """
        if not isinstance(model, NetworkSource):
            check_model(model, info.architecture, len(info.classes), info.width)
        self.info = info
        self.settings = resolve({}, info) if settings is None else checked(settings, info)
        self._source = model if isinstance(model, NetworkSource) else NetworkSource(info, model=model)
        self.engine_class = engine_class(self.settings, info, self._source.usual)
        self.applied = replace(self.settings, engine=self.engine_class.name)  # not "auto" here
        self.runner = NetworkRunner(self._source, self.applied)  # without the CRF, at the image's own size

    @property
    def model(self) -> keras.Model:
        """Return the network as a Keras model, float32; TensorFlow loads here, if it has not yet."""
        return self._source.model()

    @classmethod
    def from_network(cls, network: Network | ExportedNetwork, settings: PredictionSettings | None = None) -> Self:
        """Take a network that was read already; TensorFlow is loaded only by an engine that needs it."""
        return cls(NetworkSource(network.info, network), network.info, settings)

    def __repr__(self) -> str:
        """Return the network and the settings, in a line."""
        info = self.info
        return f"<Segmenter: {info.architecture} of width {info.width:g}, {len(info.classes)} classes; {self.settings}>"

    def with_settings(self, settings: PredictionSettings) -> Segmenter:
        """Return the same network with other settings; what was compiled is shared."""
        return self if settings == self.settings else Segmenter(self._source, self.info, settings)

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: ImageSource, **changes: Unpack[SettingsRequest]
    ) -> Segmentation: ...
    @overload
    def __call__(self, images: Iterable[ImageSource], **changes: Unpack[SettingsRequest]) -> list[Segmentation]: ...
    def __call__(
        self, images: ImageSource | Iterable[ImageSource], **changes: Unpack[SettingsRequest]
    ) -> Segmentation | list[Segmentation]:
        """Segment an image, or many: paths, PIL images, arrays or tensors (H, W, 3) uint8 RGB or (H, W) uint8 grey.

        ``changes`` are settings for this call: pad, scales, flip, crf (True, parameters, or a text such as "bi_w=5",
        False for none), crf_adaptive, image_size, tile, precision, engine. Raises DataError for an image that cannot be
        read or segmented, and RecipeError for a setting that is not possible.
        """
        segmenter = self.with_settings(resolve(changes, self.info, before=self.settings))
        is_one = isinstance(images, str | bytes | bytearray | io.IOBase | Mapping) or hasattr(images, "__array__")
        if isinstance(images, Iterable) and not is_one:
            results = (Result(None, as_image(image, f"images[{place}]")) for place, image in enumerate(images))
            return list(
                map(segmenter._segmentation, segmenter.segment(results, scores=segmenter.settings.crf is not None))
            )
        image = cast(ImageSource, images)
        return segmenter._segmentation(segmenter._segment_one(image, scores=segmenter.settings.crf is not None))

    def _segmentation(self, result: Result[None]) -> Segmentation:
        image, label, scores = cast(Image, result.image), result.found(), result.scores
        find = partial(np.asarray, scores) if scores is not None else lambda: self.predict(image).scores
        return Segmentation(image, label, self.info.classes, find)

    def predict(self, image: ImageSource) -> Prediction:
        """Return label and scores of an image, in any form that `as_image` takes, both of the image's own size.

        Raises DataError as `as_image` does, and for an image that there is not enough memory for, or that the CRF
        cannot refine.
        """
        result = self._segment_one(image, scores=True)
        return Prediction(result.found(), cast(Scores, result.scores))

    def label(self, image: ImageSource) -> Label:
        """Return the label (H, W) uint8 only, which costs less without a CRF; raises DataError as `predict` does."""
        return self._segment_one(image, scores=False).found()

    def _segment_one(self, image: ImageSource, *, scores: bool) -> Result[None]:
        return self._segmented(Result(None, as_image(image)), self.runner, scores)

    def _segmented(self, result: Result[Item], runner: NetworkRunner, scores: bool) -> Result[Item]:
        """Give a result its label, and scores if asked for, or an error."""
        if result.error is not None:
            return result
        crf, result = self.settings.crf, self._shrink(result)
        self._compute([result], scores or crf is not None, runner)
        return self._enlarge(result if crf is None else self._refine(result, crf, scores), scores)

    def labels(
        self, items: Iterable[tuple[Item, ImageSource]], *, batch_size: int | None = None
    ) -> Iterator[tuple[Item, Label]]:
        """Yield (item, label) for each (item, image), in order; raises DataError as `label` does.

        The labels are those of `label`, bit for bit on CPUs; for the rest see `segment`.
        """
        for result in self.segment((Result(item, as_image(image)) for item, image in items), batch_size=batch_size):
            yield result.item, result.found()

    def segment(
        self, results: Iterable[Result[Item]], *, scores: bool = False, batch_size: int | None = None
    ) -> Iterator[Result[Item]]:
        """Yield results in order, with labels, and scores if asked for, of their images, or with the errors instead.

        Results that have an error come back unchanged. A dense CRF refines images at once on all cores. An engine that
        can do so computes images at once, each on a core; or images of equal padded size (with ``flip``, of equal size)
        together, up to ``batch_size``: by default 8 on GPUs, else 1. The scores of an image that is computed with
        others differ by rounding errors only. Raises RecipeError as `largest_batch` does. Images are taken a few ahead
        of their results.
        """
        crf, classes, largest = self.settings.crf, len(self.info.classes), self.largest_batch(batch_size)
        if self.engine_class.in_threads and not self.engine_class.compiles(self.settings) and available_cpus() > 1:
            results = iter(results)
            first = list(itertools.islice(results, 2))
            results = itertools.chain(first, results)
            if len(first) > 1:
                return self._segment_in_threads(results, scores)
        needs_scores = scores or crf is not None
        found = in_batches(
            map(self._shrink, results), lambda batch: self._compute(batch, needs_scores, self.runner), self._kind,
            largest=largest, bytes_of_pixel=4 + needs_scores * 4 * classes,
            on_device=self.runner.engine.on_device,
        )  # fmt: skip
        if crf is None:
            return (self._enlarge(result, scores) for result in found)

        return map_ahead(
            lambda result: self._enlarge(self._refine(result, crf, scores), scores), found, ahead=4,
            size=self._memory_to_refine,
        )  # fmt: skip

    def _segment_in_threads(self, results: Iterable[Result[Item]], scores: bool) -> Iterator[Result[Item]]:
        runner = NetworkRunner(self._source, self.applied, on_one_cpu=True)

        def memory(result: Result[Item]) -> int:
            if result.image is None:
                return 0
            size = self._working_size(result.image)
            return runner.memory(size) + (self._memory_to_refine(result) if self.settings.crf else 0)

        return map_ahead(
            lambda result: self._segmented(result, runner, scores), results, ahead=2, size=memory, prompt=True
        )

    def _memory_to_refine(self, result: Result[Item]) -> int:
        if result.image is None:
            return 0
        return memory_to_refine((*self._working_size(result.image), len(self.info.classes)))

    def _working_size(self, image: Image) -> Size:
        return working_size(image.shape[:2], self.settings.image_size)

    def largest_batch(self, asked: int | None = None) -> int:
        """Return how many images are computed together at most; raises RecipeError where the engine cannot do that."""
        if asked is not None and asked < 1:
            raise RecipeError(f"`batch_size`: expected at least 1, got {asked}")
        if self.engine_class.batches:
            together = self.runner.engine.on_device and not isinstance(self.settings.tile, int)
            return asked or (_GPU_BATCH if together else 1)
        if (asked or 1) > 1:
            others = [f"use `engine={other.name}`" for other in engines_for(self.info) if other.batches]
            raise RecipeError(
                f"`batch_size`: the engine {self.engine_class.name} computes one image at a time, got {asked}; "
                f"{' or '.join(others) or 'leave it out'}"
            )
        return 1

    def _kind(self, image: Image) -> Hashable:
        """Return what images must have in common to be computed together: the padded size; if mirrored, the size."""
        return self.runner.padded(image), image.shape if self.settings.flip else None

    def _compute(self, batch: Sequence[Result[Item]], scores: bool, runner: NetworkRunner) -> None:
        """Let the network fill in results of equal kind; in two parts if they take too much memory, or one fails."""
        images = [cast(Image, result.image) for result in batch]
        try:
            are_small = any(result.whole is not None for result in batch)
            predicted = runner.predict(images, scores=scores or are_small)
        except (MemoryError, FloatingPointError) as error:
            if len(batch) == 1:
                batch[0].error = failed(images[0], error)
            else:
                half = len(batch) // 2
                self._compute(batch[:half], scores, runner)
                self._compute(batch[half:], scores, runner)
            return
        for result, (label, found) in zip(batch, predicted, strict=True):
            result.label, result.scores = label, found

    def _refine(self, result: Result[Item], crf: CrfParams, keep_scores: bool) -> Result[Item]:
        """Let the CRF refine a result."""
        if result.error is not None:
            return result
        image, scores = cast(Image, result.image), cast(Scores, result.scores)
        try:
            scores = refine(image, scores, crf, adaptive=self.settings.crf_adaptive)
            keep_scores = keep_scores or result.whole is not None
            result.label, result.scores = scores.argmax(-1).astype(np.uint8), scores if keep_scores else None
        except MemoryError as error:
            size, reason = size_in_words(image), str(error) or "there is not enough memory"
            result.error = DataError(
                f"cannot refine this image of {size} pixels: {reason}; make it smaller, or leave out `crf`"
            )
        except ValueError as error:  # the parameters do not fit the image
            result.error = DataError(f"cannot refine this image of {size_in_words(image)} pixels: {error}")
        return result

    def _shrink(self, result: Result[Item]) -> Result[Item]:
        """Replace the image of a result by a smaller one where it is larger than the settings say."""
        if (image := result.image) is not None:
            small = shrink(image, self.settings.image_size)
            result.image, result.whole = small, None if small is image else image
        return result

    def _enlarge(self, result: Result[Item], keep_scores: bool) -> Result[Item]:
        """Give a result its own image again, and label and scores of this size."""
        if (whole := result.whole) is None:
            return result
        result.image, result.whole = whole, None
        if (scores := result.scores) is not None:
            try:
                result.label = label_of(scores, whole.shape[:2])
                result.scores = enlarge(scores, whole.shape[:2]) if keep_scores else None
            except MemoryError as error:
                result.error = failed(whole, error)
        return result

    def prepare(self) -> None:
        """Load what computes the network now, and not at the first image; raises DeepLabError if it cannot be."""
        _ = self.runner.engine


def load(weights: str | os.PathLike[str] | None = None, **settings: Unpack[SettingsRequest]) -> Segmenter:
    """Load a network: a run directory, a weight file of any format, an export, or published weights by name.

    Without ``weights`` it is the best of the newest run under ./runs, else published weights, which stderr says.
    ``settings`` are those that `Segmenter` takes at each call; what is not given is as in the recipe that the weights
    were trained with, and the test size is "tight". Raises WeightsError, and DownloadError for published weights that
    no address has.
    """
    given, report = os.fspath(weights or ""), tqdm_reporter()
    network = open_network(find_weights(given, default=DEFAULT_WEIGHTS, report=report), report)
    return Segmenter.from_network(network, resolve({"pad": "tight", **settings}, network.info))
