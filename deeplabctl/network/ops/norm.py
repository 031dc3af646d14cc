"""The batch normalization of a convolution by a fixed mean and variance (Caffe's BatchNorm and Scale)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from deeplabctl.network.ops.activation import RELU, Activation
from deeplabctl.network.ops.convolution import SCALE, Convolution
from deeplabctl.network.ops.operation import BIAS, CaffeSettings, ForwardPass, Node, Operation, Shapes, differences

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

GAMMA, BETA, MEAN, VARIANCE = "gamma", "beta", "moving_mean", "moving_variance"
NORM_PARTS = (GAMMA, BETA, MEAN, VARIANCE)  # the channels each

_CAFFE_EPSILON = 1e-5  # as Caffe nets write it
NORM_EPSILON = float(np.float32(_CAFFE_EPSILON))  # Caffe reads it as a float32, which matters at 1e-12


@dataclass(frozen=True)
class Norm(Operation):
    """Describe ``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` of the convolution above.

    Mean and variance are never updated: batches of segmentation are too small for statistics of their own. Gamma and
    beta are not either, as in DeepLab v2's nets, unless it is ``trained``. With ``in_kernel`` the convolution's kernel
    is multiplied by the factor, in training too, which saves a pass over its results.
    """

    activation: Activation = RELU
    first_gamma: float = 1.0  # of a network that starts random
    epsilon: float = NORM_EPSILON
    trained: bool = False
    in_kernel: bool = False

    caffe_type: ClassVar[str] = "batchnorm"
    caffe_settings: ClassVar[str] = "batch_norm_param"

    @property
    def caffe_scale(self) -> str:
        """Return the name of its Scale layer: ``scale2a_branch1`` for ``bn2a_branch1``."""
        return re.sub("^bn", "scale", self.name)

    def parts(self, incoming: int, outgoing: int) -> Shapes:
        return dict.fromkeys(NORM_PARTS, (outgoing,))

    def multipliers(self, part: str) -> tuple[float, float]:
        """Return 1 for the rate of gamma and beta, where they are trained; neither decays."""
        return float(self.trained and part in (GAMMA, BETA)), 0.0

    def new_array(self, part: str, shape: Sequence[int], seed: int, number: int) -> npt.NDArray[Any]:
        """Return values that change nothing, but for the first gamma."""
        return np.full(shape, {GAMMA: self.first_gamma, VARIANCE: 1.0}.get(part, 0.0), np.float32)

    def keras_layers(self, outgoing: int, dropout: float, dtype: str) -> list[keras.Layer]:
        from keras import layers

        norm = layers.BatchNormalization(epsilon=self.epsilon, trainable=False, dtype=dtype, name=self.name)
        return [norm, *self.activation.layers(self.name, dtype)]

    def compute(self, inputs: list[tf.Tensor], forward: ForwardPass) -> tf.Tensor:
        """Return its input: the convolution below has applied the norm and its activation."""
        return inputs[0]

    def affine(self, layer: keras.Layer, bias: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the factor and the term, float64, that its layer is to the sums of a convolution with a bias."""
        import tensorflow as tf

        gamma, beta, mean, variance = (tf.cast(value, tf.float64) for value in layer.variables)
        scale = gamma / tf.sqrt(variance + layer.epsilon)
        return scale, beta - (mean if bias is None else mean - tf.cast(bias, tf.float64)) * scale

    def node(self, inputs: tuple[Node, ...], weights: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Return the convolution below with the norm's scale and bias, computed in float64."""
        below = inputs[0]
        assert isinstance(below.op, Convolution)
        gamma, beta, mean, variance = (weights[f"{self.name}/{part}"].astype(np.float64) for part in NORM_PARTS)
        scale = gamma / np.sqrt(variance + self.epsilon)
        bias = beta + (below.arrays[BIAS] - mean) * scale
        arrays = {**below.arrays, SCALE: scale.astype(np.float32), BIAS: bias.astype(np.float32)}
        return replace(below, op=replace(below.op, name=self.name, activation=self.activation), arrays=arrays)

    def caffe_differences(self, settings: CaffeSettings, outputs: int | None) -> list[str]:
        return differences(("eps", _CAFFE_EPSILON, settings.values("eps", _CAFFE_EPSILON)))
