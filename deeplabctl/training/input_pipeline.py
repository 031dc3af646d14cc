"""Feed training batches through tf.data: a function of seed and step alone, wherever a training starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Image, Label
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.augmentation import Augment, augment
from deeplabctl.data.dataset import Sample
from deeplabctl.data.images import read_working_image
from deeplabctl.data.labels import read_label, shrink_label
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.architecture import Preprocessing
from deeplabctl.parallel import available_cpus, memory_limit
from deeplabctl.training.plan import Plan

if TYPE_CHECKING:
    import tensorflow as tf

# What a random number is drawn for: the numbers of one purpose never depend on those of another.
_ORDER, _AUGMENT = 1, 2
_KEPT_BYTES = 1 << 30  # of samples at their working size: 1 GiB, and no more than a sixteenth of all memory


@dataclass
class TrainingPipeline:
    """Deliver the batches of a training.

    The sample at position p (``step * batch_size + i``) of the endless stream and what augmentation makes of it are
    functions of (seed, p): epochs are shuffled one by one, batches run over their ends, as Caffe's do.

    Samples that were made smaller are kept while there is room: reading a photo of 12 megapixels takes longer than all
    else that is done to it.
    """

    samples: Sequence[Sample]
    settings: Augment
    batch_size: int
    seed: int
    preprocessing: Preprocessing
    num_classes: int = IGNORE_LABEL
    max_side: int = 0  # of an image, see `working_size`
    _failure: DeepLabError | None = field(default=None, init=False)
    _kept: dict[Sample, tuple[Image, Label]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Return the pipeline of a planned training."""
        recipe = plan.recipe
        batch_size = recipe.solver.batch_size * recipe.solver.accumulate
        preprocessing = ARCHITECTURES[recipe.model.architecture].preprocessing
        num_classes, settings = len(plan.dataset.classes), recipe.augment.at_scale(recipe.data.scale)
        max_side = recipe.data.max_side
        return cls(plan.samples, settings, batch_size, recipe.run.seed, preprocessing, num_classes, max_side)

    def sample_at(self, position: int) -> Sample:
        """Return the sample at a position of the stream."""
        epoch, index = divmod(position, len(self.samples))
        if self.settings.shuffle:
            index = int(_permutation(self.seed, epoch, len(self.samples))[index])
        return self.samples[index]

    def load(self, position: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Read and augment the sample at a position.

        Returns the image (S, S, 3) float32, preprocessed for the network, and its label (S, S) uint8, 255 void.
        """
        sample = self.sample_at(position)
        image, label = self._kept.get(sample) or self._read(sample)
        rng = np.random.default_rng((self.seed, _AUGMENT, position))
        return augment(image, label, self.settings, rng, self.preprocessing)

    def _read(self, sample: Sample) -> tuple[Image, Label]:
        """Read a sample at its working size, and keep it if that is smaller than its own."""
        image, whole = read_working_image(sample.image, self.max_side), read_label(sample.label)
        label = shrink_label(whole, self.max_side)
        if image.shape[:2] != label.shape:
            raise DataError(f"{sample.label}: its size {label.shape} is no longer its image's {image.shape[:2]}")
        wrong = label[(label >= self.num_classes) & (label != IGNORE_LABEL)]
        if wrong.size:
            expected = f"class ids 0 to {self.num_classes - 1} or 255"
            raise DataError(f"{sample.label}: expected {expected}, got {wrong[0]}; it has changed since it was checked")
        if label.shape != whole.shape and len(self._kept) < _places(image, label):
            self._kept[sample] = image, label
        return image, label

    @property
    def kept_share(self) -> float:
        """Return the share of the samples that are kept once all were read, judging by the first."""
        kept = next(iter(self._kept.values()), None)
        return 0.0 if kept is None else min(1.0, _places(*kept) / len(self.samples))

    def positions(self, step: int) -> range:
        """Return the positions in the stream of a step's samples."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def batches(
        self, start: int, stop: int, *, worker: int = 0, workers: int = 1, replicas: int = 1
    ) -> tf.data.Dataset:
        """Return the batches of steps ``start`` to ``stop - 1``.

        A batch is (images (N, S, S, 3) float32, labels (N, S, S) uint8, positions in the stream (N,) int64). Samples
        are made by as many threads as there are CPUs, some batches ahead of the training step. Each worker reads its
        own share of every batch, and each replica gets a batch of its own, one after another.
        """
        import tensorflow as tf

        size = self.settings.crop_size

        def load(position: np.int64) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
            try:
                return self.load(int(position))
            except DeepLabError as error:
                self._failure = error  # TensorFlow would bury it in its own text
                raise

        share = self.batch_size // workers

        def load_tensors(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            position = index // share * self.batch_size + worker * share + index % share
            image, label = tf.numpy_function(load, [position], (tf.float32, tf.uint8), stateful=False)
            image.set_shape((size, size, 3))
            label.set_shape((size, size))
            return image, label, position

        stream = tf.data.Dataset.range(start * share, stop * share)
        # Autograph takes time, and writes a file that a killed process leaves.
        load_plainly = tf.autograph.experimental.do_not_convert(load_tensors)
        stream = stream.map(load_plainly, num_parallel_calls=available_cpus(), deterministic=True)
        return stream.batch(self.batch_size // replicas, drop_remainder=True).prefetch(3)

    def distributed(self, strategy: tf.distribute.Strategy, start: int, stop: int) -> Iterator[Any]:
        """Iterate over these batches, each spread over the replicas of a strategy.

        Raises DataError for a sample that can no longer be read.
        """
        import tensorflow as tf

        def batches_of(context: Any) -> tf.data.Dataset:
            return self.batches(
                start,
                stop,
                worker=context.input_pipeline_id,
                workers=context.num_input_pipelines,
                replicas=context.num_replicas_in_sync,
            )

        try:
            yield from strategy.distribute_datasets_from_function(batches_of)
        except tf.errors.OpError:
            if self._failure is not None:
                raise self._failure from None
            raise


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(size)


def _places(image: Image, label: Label) -> int:
    """Return how many samples of this size are kept."""
    return min(_KEPT_BYTES, memory_limit() // 16) // (image.nbytes + label.nbytes)
