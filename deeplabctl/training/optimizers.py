"""Update the weights: learning-rate schedules, and the optimizers with Caffe's multipliers and L2 rule.

A schedule is a function, an optimizer a `Rule`; each has an entry in deeplabctl.choices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from deeplabctl.choices import OPTIMIZERS, SCHEDULES, load
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import model_variables
from deeplabctl.network.ops import KERNEL
from deeplabctl.recipe import Recipe, Solver

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Update = tuple[list["tf.Tensor"], "tf.Tensor"]  # the new moments, and what is subtracted from the weights


class Rule(NamedTuple):
    """Say what an optimizer computes, and how many moments, which are variables, it keeps for each weight."""

    update: Callable[..., Update]
    moments: int


def fixed(solver: Solver, step: int) -> float:
    """Return the factor of the base rate at update ``step`` (0 is the first), as every schedule: here 1."""
    return 1.0


def step_down(solver: Solver, step: int) -> float:
    """Return the factor of Caffe's policy "step"."""
    return float(solver.gamma ** (step // solver.step_size))


def poly(solver: Solver, step: int) -> float:
    """Return the factor of Caffe's policy "poly"; it is still above zero at the last update."""
    return float((1 - step / solver.steps) ** solver.power)


def learning_rate(solver: Solver, step: int) -> float:
    """Return the rate of update ``step`` (0 is the first), before any layer's multiplier.

    The warm-up multiplies the schedule's first steps by ``(step + 1) / warmup_steps``.
    """
    rate = solver.learning_rate * load(SCHEDULES[solver.policy])(solver, step)
    return float(rate) * min(1.0, (step + 1) / max(1, solver.warmup_steps))


def sgd(
    solver: Solver, moments: Sequence[tf.Variable], gradient: tf.Tensor, rate: tf.Tensor, step: tf.Tensor
) -> Update:
    """Compute Caffe's SGD: ``v = momentum * v + rate * g; w -= v``, the learning rate inside the velocity.

    As for every optimizer, ``step`` counts the updates before.
    """
    velocity = solver.momentum * moments[0] + rate * gradient
    return [velocity], velocity


def adam(
    solver: Solver, moments: Sequence[tf.Variable], gradient: tf.Tensor, rate: tf.Tensor, step: tf.Tensor
) -> Update:
    """Compute Adam: Algorithm 1 of arXiv 1412.6980 in its efficient order (section 2); see `sgd`."""
    import tensorflow as tf

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    time = tf.cast(step + 1, gradient.dtype)
    correction = tf.sqrt(1 - tf.pow(tf.cast(beta2, gradient.dtype), time))
    correction /= 1 - tf.pow(tf.cast(beta1, gradient.dtype), time)
    mean = moments[0] + (1 - beta1) * (gradient - moments[0])
    square = moments[1] + (1 - beta2) * (tf.square(gradient) - moments[1])
    return [mean, square], rate * (correction * mean / (tf.sqrt(square) + epsilon))


SGD, ADAM = Rule(sgd, 1), Rule(adam, 2)


@dataclass(frozen=True)
class TrainedVariable:
    """Hold a variable with its factor of the learning rate (Caffe's ``lr_mult``) and its weight decay."""

    variable: tf.Variable
    lr_multiplier: float
    weight_decay: float  # L2, in the gradient
    first_step: int = 0  # until then it is frozen
    name: str = ""  # of its weights, "layer/part"


def trained_variables(model: keras.Model, recipe: Recipe, new_layers: Collection[str]) -> list[TrainedVariable]:
    """Return the variables that are trained, in the order of the layers.

    Norms that are never trained are left out, and so are layers that are frozen for good, with the norms on them;
    layers that start random are never frozen. The factors are Caffe's: the rate of a bias is twice that of its kernel,
    and biases do not decay; a classifier's rate is ``head_multiplier`` times the others', or, where it is set,
    ``new_layer_multiplier`` times for all layers that start random.
    """
    solver, variables = recipe.solver, model_variables(model)
    trained = []
    parameters = ARCHITECTURES[recipe.model.architecture].parameters(1)
    kernels = {facts.number: facts.op.name for facts in parameters.values() if facts.part == KERNEL}
    for name, facts in parameters.items():
        layer = facts.op.name
        frozen = kernels[facts.number] in solver.freeze and layer not in new_layers
        if not facts.lr_multiplier or (frozen and not solver.freeze_steps):
            continue
        first_step = solver.freeze_steps if frozen else 0
        factor = solver.head_multiplier if facts.op.is_classifier else 1.0
        if solver.new_layer_multiplier and layer in new_layers:
            factor = solver.new_layer_multiplier
        rate, decay = factor * facts.lr_multiplier, solver.weight_decay * facts.decay_multiplier
        trained.append(TrainedVariable(variables[name].value, rate, decay, first_step, name))
    return trained


class Optimizer:
    """Apply gradients to variables by the solver's rule, with weight decay, clipping and averages.

    With an average (``solver.average``), the last slot of each variable is the exponential moving average of its
    values: ``a += (1 - d) * (w - a)`` after each update, with ``d = min(average, (1 + t) / (10 + t))`` after update
    ``t`` (from 0), so that the first values do not weigh on the average of a short training.
    """

    def __init__(self, trained: list[TrainedVariable], solver: Solver) -> None:
        import tensorflow as tf

        self.trained, self._solver = trained, solver
        self._rule: Rule = load(OPTIMIZERS[solver.optimizer])
        self._clip, self._average = solver.gradient_clip, solver.average
        self.slots = [
            [tf.Variable(tf.zeros_like(one.variable), trainable=False) for _ in range(self._rule.moments)]
            + ([tf.Variable(tf.identity(one.variable), trainable=False)] if self._average else [])
            for one in trained
        ]

    @property
    def averages(self) -> dict[str, tf.Variable]:
        """Return the average of each variable, by the name of its weights; nothing without averages."""
        if not self._average:
            return {}
        return {one.name: slots[-1] for one, slots in zip(self.trained, self.slots, strict=True)}

    def apply(
        self,
        gradients: Sequence[tf.Tensor | None],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        accept: tf.Tensor | None = None,
    ) -> None:
        """Update all variables by the gradients of the loss, which all replicas have summed already.

        A variable without a gradient (None) keeps its value. ``step`` (0 is the first) corrects Adam's bias. Where
        ``accept`` is given and false, nothing changes.
        """
        import tensorflow as tf

        if self._clip:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip)

        def update_everywhere(strategy: tf.distribute.Strategy, gradients: list[tf.Tensor | None]) -> None:
            for one, slots, gradient in zip(self.trained, self.slots, gradients, strict=True):
                if gradient is not None:
                    update = partial(self._update, one, learning_rate, step, accept)
                    strategy.extended.update(one.variable, update, args=(slots, gradient))

        tf.distribute.get_replica_context().merge_call(update_everywhere, args=(gradients,))

    def _update(
        self,
        trained: TrainedVariable,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        accept: tf.Tensor | None,
        variable: tf.Variable,
        slots: list[tf.Variable],
        gradient: tf.Tensor,
    ) -> None:
        """Update one variable and its slots on one device."""
        import tensorflow as tf

        def accepted(change: tf.Tensor) -> tf.Tensor:
            return change if accept is None else tf.where(accept, change, tf.zeros_like(change))

        rate = learning_rate * tf.cast(trained.lr_multiplier, variable.dtype)
        if trained.weight_decay:
            gradient += tf.cast(trained.weight_decay, variable.dtype) * variable
        moments = slots[: self._rule.moments]
        values, change = self._rule.update(self._solver, moments, gradient, rate, step - trained.first_step)
        for moment, value in zip(moments, values, strict=True):
            moment.assign(value if accept is None else tf.where(accept, value, moment))
        variable.assign_sub(accepted(change))
        if self._average:
            time = tf.cast(step, variable.dtype)
            decay = tf.minimum(tf.cast(self._average, variable.dtype), (1 + time) / (10 + time))
            slots[-1].assign_add(accepted((1 - decay) * (variable - slots[-1])))
