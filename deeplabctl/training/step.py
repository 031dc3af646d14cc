"""Compute one training step: forward, loss, backward and update, as one TensorFlow graph."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from deeplabctl.choices import LOSSES, load
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.network.keras_model import apply_model, model_variables, shared_variables
from deeplabctl.network.ops import resize
from deeplabctl.network.ops.joins import add_in_order
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction.engines import training_engine
from deeplabctl.recipe import Recipe
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.convolutions import training_convolutions
from deeplabctl.training.losses import Loss
from deeplabctl.training.optimizers import Optimizer, learning_rate, trained_variables

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Dynamic loss scaling of float16 (arXiv 1710.03740, section 3.2; the numbers are Keras').
_FIRST_SCALE = 2.0**15
_GROW_EVERY = 2000  # steps without an overflow


class TrainingStep:
    """Train a model on a batch.

    A batch of ``batch_size * accumulate`` images is worked through in ``accumulate`` parts, one after another, on each
    replica of the cluster at once. The gradients are those of the whole batch: the loss is divided by the weight of
    the valid pixels of all parts and replicas together; or, with the normalization "batch", they are the mean of the
    parts' gradients, where the loss of each part is divided by the weight of this part alone (Caffe's iter_size). With
    a float16 model the loss is scaled, and a step whose gradients overflow is left out.

    A network of several scales has a loss for each of them and one for their maximum, which are added; see `_outputs`.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        class_weights: Sequence[float],
        new_layers: Collection[str] = (),
        cluster: Cluster | None = None,
    ) -> None:
        import tensorflow as tf

        self._model = model
        self._recipe = recipe
        self._architecture = ARCHITECTURES[recipe.model.architecture]
        self._cluster = cluster or Cluster()
        self._dtype = tf.as_dtype(model.layers[-1].variable_dtype)
        threads = self._threads_of_kernels()
        self._loss: Loss = load(LOSSES[recipe.solver.loss])(
            recipe.solver, class_weights, self._dtype, half_pixel=self._architecture.half_pixel, threads=threads
        )
        self._convolve = training_convolutions(threads) if threads else None
        self._scaling: list[tf.Variable] = []  # the loss's scale, and the steps since it changed
        with self._cluster.strategy.scope():
            self._optimizer = Optimizer(trained_variables(model, recipe, new_layers), recipe.solver)
            if model.layers[-1].compute_dtype == "float16":
                self._scaling = [
                    tf.Variable(start, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
                    for start in (_FIRST_SCALE, 0.0)
                ]
        self._graph = tf.function(self._on_all_replicas, autograph=False)  # it would take half a second

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, step: int) -> float:
        """Update the model and return the loss that it had.

        ``images`` (N, S, S, 3), preprocessed, ``labels`` (N, S, S) integers with 255 void, ``positions`` (N,)
        int64 of the images in the stream of samples, which seed their dropout (each a distributed value where there
        are several replicas); ``step`` counts from 0.
        """
        import tensorflow as tf

        solver = self._recipe.solver
        rate = tf.constant(learning_rate(solver, step), self._dtype)
        thawed = step >= solver.freeze_steps  # a graph each
        return float(self._graph(images, labels, positions, rate, tf.constant(step, tf.int64), thawed))

    def follow(self, recipe: Recipe) -> None:
        """Go on with the learning rates of a recipe that differs in its number of steps only."""
        self._recipe = recipe

    def weights(self) -> Weights:
        """Return the weights to validate and to save: averages where the recipe asks for them."""
        variables = {name: variable.value for name, variable in model_variables(self._model).items()}
        return {name: variable.numpy() for name, variable in (variables | self._optimizer.averages).items()}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that the next step depends on, weights and optimizer, as arrays by name."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Set a state; raises KeyError or ValueError for one of another training."""
        for name, variable in self._variables().items():
            variable.assign(state[name])

    def checksum(self) -> int:
        """Return a checksum of the state."""
        checksum = 0
        for _, array in sorted(self.state().items()):
            checksum = zlib.crc32(array.tobytes(), checksum)
        return checksum

    def is_stuck(self) -> bool:
        """Tell whether float16 gradients overflow even where the loss is not scaled up."""
        return bool(self._scaling) and float(self._scaling[0]) <= 1 and float(self._scaling[1]) == 0

    def _threads_of_kernels(self) -> int:
        """Return on how many threads numba's kernels compute parts of the step: on one CPU; 0 if TensorFlow does all.

        They know float32 and bfloat16, and losses in float32.
        """
        engine = training_engine(self._recipe.run.engine, self._architecture.name)
        one_cpu = self._cluster.replicas == 1 and not self._cluster.gpus
        formats = self._model.layers[-1].compute_dtype, self._dtype.name
        is_known = formats in (("float32", "float32"), ("bfloat16", "float32"))
        return available_cpus() if engine.trains and one_cpu and is_known else 0

    def _variables(self) -> dict[str, tf.Variable]:
        found = {f"weights/{name}": variable.value for name, variable in model_variables(self._model).items()}
        for trained, slots in zip(self._optimizer.trained, self._optimizer.slots, strict=True):
            found |= {f"slot{number}/{trained.name}": slot for number, slot in enumerate(slots)}
        return found | dict(zip(("loss_scale", "good_steps"), self._scaling, strict=False))

    def _on_all_replicas(
        self, images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, rate: tf.Tensor, step: tf.Tensor, thawed: bool
    ) -> tf.Tensor:
        """Run the update on every replica; the loss that each returns is that of all."""
        strategy = self._cluster.strategy
        losses = strategy.run(partial(self._update, thawed=thawed), args=(images, labels, positions, rate, step))
        return strategy.experimental_local_results(losses)[0]

    def _update(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        positions: tf.Tensor,
        rate: tf.Tensor,
        step: tf.Tensor,
        *,
        thawed: bool,
    ) -> tf.Tensor:
        import tensorflow as tf

        moves = [thawed or not trained.first_step for trained in self._optimizer.trained]
        parts = self._recipe.solver.accumulate
        by_part = self._recipe.solver.normalization == "batch"

        def summed(values: Any) -> Any:
            if self._cluster.replicas == 1:
                return values
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        def total(stride: int) -> tf.Tensor:
            """Return what losses of labels at a stride are divided by: a number, or one for each part."""
            weights = self._loss.weights(labels[:, ::stride, ::stride])
            return summed(tf.reduce_sum(tf.reshape(weights, (parts, -1)), 1) if by_part else tf.reduce_sum(weights))

        totals = {stride: total(stride) for stride in self._label_strides()}
        seeds = tf.stack([tf.fill(tf.shape(positions), self._recipe.run.seed), tf.cast(positions, tf.int32)], axis=1)
        size = images.shape[0] // parts

        def gradients_of(part: tf.Tensor | int) -> tuple[tf.Tensor, list[tf.Tensor]]:
            window = slice(part * size, (part + 1) * size)
            inputs = tf.ensure_shape(images[window], (size, *images.shape[1:]))
            own = {stride: whole[part] if by_part else whole for stride, whole in totals.items()}
            return self._gradients(inputs, labels[window], seeds[window], own, moves)

        def add(part: tf.Tensor, loss: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[tf.Tensor, ...]:
            part_loss, part_gradients = gradients_of(part)
            return part + 1, loss + part_loss, [a + b for a, b in zip(gradients, part_gradients, strict=True)]

        loss, gradients = gradients_of(0)
        if parts > 1:
            first = (tf.constant(1), loss, gradients)
            _, loss, gradients = tf.while_loop(lambda part, *_: part < parts, add, first)
        loss, gradients = summed([loss, gradients])
        if by_part:
            loss, gradients = loss / parts, [gradient / parts for gradient in gradients]
        accept = None
        if self._scaling:
            gradients = [gradient / self._scaling[0] for gradient in gradients]
            accept = self._rescale(gradients)
        computed = iter(gradients)
        self._optimizer.apply([next(computed) if moving else None for moving in moves], rate, step, accept)
        return loss

    def _gradients(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        seeds: tf.Tensor,
        totals: dict[int, tf.Tensor],
        moves: Sequence[bool],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return the loss of a part of the batch and the gradients of the variables that are trained now."""
        import tensorflow as tf

        trained = zip(self._optimizer.trained, moves, strict=True)
        variables = [one.variable for one, moving in trained if moving]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            losses = [
                self._loss(logits, labels[:, ::stride, ::stride], totals[stride])
                for logits, stride in self._outputs(images, seeds)
            ]
            loss, reported = map(add_in_order, zip(*losses, strict=True))
            if self._scaling:
                loss *= self._scaling[0]
        return reported, tape.gradient(loss, variables)

    def _label_strides(self) -> list[int]:
        """Return the stride at which the label is that of the crop at each scale: 2 at scale 0.5.

        At scale 0.75 the label has no pixel for each pixel of the crop: the logits are enlarged to those of scale 1.
        """
        return [round(1 / scale) if (1 / scale).is_integer() else 1 for scale in self._architecture.scales]

    def _outputs(self, images: tf.Tensor, seeds: tf.Tensor) -> list[tuple[tf.Tensor, int]]:
        """Return the logits that have a loss, with the strides of their labels: the maximum of all scales, then each.

        Where scales are equal, the maximum's gradient goes where Caffe's Eltwise sends it: to the second before the
        first, to these before the others.
        """
        import tensorflow as tf

        inputs = list(self._architecture.at_scales(images))
        passes = shared_variables(self._model, [trained.name for trained in self._optimizer.trained], len(inputs))
        logits = []
        for scaled, variables in zip(inputs, passes, strict=True):
            with variables:
                logits.append(tf.cast(apply_model(self._model, scaled, seeds, self._convolve), self._dtype))
        if len(logits) == 1:
            return [(logits[0], 1)]
        grid = [self._architecture.cells(side) for side in images.shape[1:3]]
        first, second, *others = [logits[0], *(resize(values, grid) for values in logits[1:])]
        largest = reduce(tf.maximum, others, tf.maximum(second, first))
        scales = zip([first, second, *others], logits, self._label_strides(), strict=True)
        return [(largest, 1), *((enlarged if stride == 1 else own, stride) for enlarged, own, stride in scales)]

    def _rescale(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Return whether all gradients are finite, and set the scale of the next step's loss."""
        import tensorflow as tf

        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        scale, steps = self._scaling
        grown = steps + 1 >= _GROW_EVERY
        new_scale = tf.where(finite, tf.where(grown, scale * 2, scale), tf.maximum(scale / 2, 1.0))
        new_steps = tf.where(finite & ~grown, steps + 1, 0.0)
        scale.assign(new_scale)
        steps.assign(new_steps)
        return finite
