"""Update the weights: Caffe's SGD with its multipliers and L2 rule, and Adam with the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import model_variables
from deeplabctl.recipe import Recipe

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Parameter:
    """Hold a variable with its factors: of the learning rate (``lr_mult``) and of the weight decay."""

    variable: tf.Variable
    lr_multiplier: float
    weight_decay: float
    first_step: int = 0  # until then it is frozen
    name: str = ""  # of its weights, "layer/part"


def trained_parameters(model: keras.Model, recipe: Recipe, new_layers: Collection[str]) -> list[Parameter]:
    """Return the variables that are trained, those of each layer, with their factors.

    Without the norms and the layers that are frozen for good; those that start random are never frozen. Caffe's
    factors: the rate of a bias is twice that of its kernel and biases do not decay; a classifier's rate is
    ``head_multiplier`` times the others', or ``new_layer_multiplier`` (where set) that of all layers that start random.
    """
    solver, variables = recipe.solver, model_variables(model)
    trained = []
    for name, facts in ARCHITECTURES[recipe.model.architecture].parameters(1).items():
        layer = facts.op.name
        frozen = layer in solver.freeze and layer not in new_layers
        if not facts.lr_multiplier or (frozen and not solver.freeze_steps):
            continue
        first_step = solver.freeze_steps if frozen else 0
        factor = solver.head_multiplier if facts.op.is_classifier else 1.0
        if solver.new_layer_multiplier and layer in new_layers:
            factor = solver.new_layer_multiplier
        rate, decay = factor * facts.lr_multiplier, solver.weight_decay * facts.decay_multiplier
        trained.append(Parameter(variables[name].value, rate, decay, first_step, name))
    return trained


class Optimizer:
    """Apply gradients to parameters.

    SGD is Caffe's: ``g += decay * w; v = momentum * v + lr * g; w -= v``, the learning rate inside the velocity. Adam
    is arXiv 1412.6980's Algorithm 1 in its efficient order (section 2), with L2 in the gradient.

    With an average (``solver.average``), the last slot of each variable is the exponential moving average of its
    values: ``a += (1 - d) * (w - a)`` after each update, with ``d = min(average, (1 + t) / (10 + t))`` after update
    ``t`` (from 0), so that the first values do not weigh on the average of a short training.
    """

    def __init__(self, parameters: list[Parameter], recipe: Recipe) -> None:
        import tensorflow as tf

        self.parameters = parameters
        self._kind = recipe.solver.optimizer
        self._momentum = recipe.solver.momentum
        self._clip = recipe.solver.gradient_clip
        self._average = recipe.solver.average
        moments = 1 if self._kind == "sgd" else 2
        self.slots = [
            [tf.Variable(tf.zeros_like(parameter.variable), trainable=False) for _ in range(moments)]
            + ([tf.Variable(tf.identity(parameter.variable), trainable=False)] if self._average else [])
            for parameter in parameters
        ]

    @property
    def averages(self) -> list[tf.Variable]:
        """Return what is validated and saved of each parameter: its average, else the variable itself."""
        if not self._average:
            return [parameter.variable for parameter in self.parameters]
        return [slots[-1] for slots in self.slots]

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
            for parameter, slots, gradient in zip(self.parameters, self.slots, gradients, strict=True):
                if gradient is None:
                    continue

                def update(
                    variable: tf.Variable,
                    slots: list[tf.Variable],
                    gradient: tf.Tensor,
                    parameter: Parameter = parameter,
                ) -> None:
                    self._update(variable, slots, gradient, parameter, learning_rate, step, accept)

                strategy.extended.update(parameter.variable, update, args=(slots, gradient))

        tf.distribute.get_replica_context().merge_call(update_everywhere, args=(gradients,))

    def _update(
        self,
        variable: tf.Variable,
        slots: list[tf.Variable],
        gradient: tf.Tensor,
        parameter: Parameter,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        accept: tf.Tensor | None,
    ) -> None:
        """Update one variable and its slots on one device."""
        import tensorflow as tf

        rate = learning_rate * tf.cast(parameter.lr_multiplier, variable.dtype)
        if parameter.weight_decay:
            gradient += tf.cast(parameter.weight_decay, variable.dtype) * variable
        if self._kind == "sgd":
            new_slots = [self._momentum * slots[0] + rate * gradient]
            change = new_slots[0]
        else:
            new_slots, direction = _adam(slots, gradient, step - parameter.first_step)
            change = rate * direction
        if accept is not None:
            change = tf.where(accept, change, tf.zeros_like(change))
            new_slots = [tf.where(accept, new, old) for new, old in zip(new_slots, slots, strict=False)]
        for slot, value in zip(slots, new_slots, strict=False):  # the average is not a moment
            slot.assign(value)
        variable.assign_sub(change)
        if self._average:
            moved = self._share(step, variable.dtype) * (variable - slots[-1])
            slots[-1].assign_add(moved if accept is None else tf.where(accept, moved, tf.zeros_like(moved)))

    def _share(self, step: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Return the weight of the new value in the average."""
        import tensorflow as tf

        time = tf.cast(step, dtype)
        return 1 - tf.minimum(tf.cast(self._average, dtype), (1 + time) / (10 + time))


def _adam(slots: list[tf.Variable], gradient: tf.Tensor, step: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Return both updated moments, and what the learning rate multiplies."""
    import tensorflow as tf

    time = tf.cast(step + 1, gradient.dtype)
    correction = tf.sqrt(1 - tf.pow(tf.cast(ADAM_BETA2, gradient.dtype), time))
    correction /= 1 - tf.pow(tf.cast(ADAM_BETA1, gradient.dtype), time)
    mean = slots[0] + (1 - ADAM_BETA1) * (gradient - slots[0])
    square = slots[1] + (1 - ADAM_BETA2) * (tf.square(gradient) - slots[1])
    return [mean, square], correction * mean / (tf.sqrt(square) + ADAM_EPSILON)
