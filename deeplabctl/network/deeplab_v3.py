"""What the networks of DeepLab v3 and v3+ share in the authors' TensorFlow program (arXiv 1706.05587, 1802.02611).

Layers have TensorFlow's scopes as names, with "_" for "/"; the norm of a convolution has ``_BatchNorm`` after that.
The means and variances of norms stay as they are, and gamma and beta are trained: the program's own setting for small
batches (``fine_tune_batch_norm=False``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deeplabctl.network import ops
from deeplabctl.network.architecture import Architecture, Preprocessing, Rows
from deeplabctl.network.ops import LINEAR, RELU, Activation, Convolution, DepthwiseConvolution, Norm, Operation
from deeplabctl.network.ops.convolution import constant

PREPROCESSING = Preprocessing("RGB", (1.0, 1.0, 1.0), scale=2 / 255)
HEAD_EPSILON = 1e-5
DECODER_STRIDE = 4
_CHANNELS, _LOW_LEVEL_CHANNELS = 256, 48


class AtrousStrides:
    """Turn strides into dilations: once the output stride is reached, a stride multiplies those of later layers."""

    def __init__(self, output_stride: int, stride: int) -> None:
        self._output_stride, self._stride, self._dilation = output_stride, stride, 1

    def next(self, stride: int) -> tuple[int, int]:
        """Return the stride and the dilation of a block that has a stride."""
        if self._stride < self._output_stride:
            self._stride *= stride
            return stride, 1
        dilation = self._dilation
        self._dilation *= stride
        return 1, dilation


def normalized(
    name: str,
    channels: int = 0,
    *,
    norm: str = "",
    depthwise: bool = False,
    epsilon: float = HEAD_EPSILON,
    activation: Activation = RELU,
    gamma: float = 1.0,
    **settings: Any,
) -> list[Operation]:
    """Return a convolution without bias, and its norm with an activation; ``gamma`` is that of a random start."""
    shared = {"bias": False, "activation": LINEAR, "first_std": 0.0, **settings}
    convolution = DepthwiseConvolution(name, **shared) if depthwise else Convolution(name, channels, **shared)
    norm = norm or f"{name}_BatchNorm"
    return [convolution, Norm(norm, activation, gamma, epsilon, trained=True, in_kernel=True)]


def _separable(name: str, dilation: int = 1, inputs: tuple[str, ...] = ()) -> list[Operation]:
    """Return a separable convolution of the head: a norm and a ReLU after both halves."""
    depthwise = normalized(f"{name}_depthwise", depthwise=True, dilation=dilation, inputs=inputs)
    return [*depthwise, *normalized(f"{name}_pointwise", _CHANNELS, kernel=1, widths=constant)]


def _head(body: str, rates: Sequence[int]) -> list[Operation]:
    """Return image pooling, a branch for each rate and their projection, on the body's last row."""
    pooled = normalized("image_pooling", _CHANNELS, kernel=1, widths=constant)
    branches = [normalized("aspp0", _CHANNELS, kernel=1, widths=constant, inputs=(body,))]
    branches += [_separable(f"aspp{number}", rate, (body,)) for number, rate in enumerate(rates, 1)]
    ends = [branch[-1].name for branch in branches]
    return [
        ops.ImageMean("image_pooling_mean", inputs=(body,)), *pooled, *(row for branch in branches for row in branch),
        ops.Broadcast("image_pooling_map", inputs=(pooled[-1].name, ends[0])),
        ops.Concatenation("concat", inputs=("image_pooling_map", *ends)),
        *normalized("concat_projection", _CHANNELS, kernel=1, widths=constant),
        ops.Dropout("concat_projection_dropout"),
    ]  # fmt: skip


def _decoder(deep: str, low_level: str, factor: int) -> list[Operation]:
    """Return v3+'s decoder on the head's last row, and on features of stride 4."""
    projected = normalized(
        "decoder_feature_projection0", _LOW_LEVEL_CHANNELS, kernel=1, widths=constant, inputs=(low_level,)
    )
    return [
        *projected,
        ops.Resize("decoder_resize", factor, inputs=(deep, projected[-1].name)),
        ops.Concatenation("decoder_concat", inputs=("decoder_resize", projected[-1].name)),
        *_separable("decoder_decoder_conv0"),
        *_separable("decoder_decoder_conv1"),
    ]


def v3_network(
    name: str, body: Sequence[Operation], output_stride: int, *, rates: Sequence[int] = (), low_level: str = "",
    start: str, imagenet: str = "", learning_rate: float = 1e-4,
) -> Architecture:  # fmt: skip
    """Return a network on a body; with a decoder where its row ``low_level`` is named."""
    rows: list[Operation] = [*body, *_head(body[-1].name, rates)]
    if low_level:
        rows += _decoder(rows[-1].name, low_level, output_stride // DECODER_STRIDE)
    table: Rows = (*rows, Convolution.to_classes("logits_semantic"))
    return Architecture(
        name, table, crf="largefov-v1", imagenet=imagenet, start=start,
        output_stride=DECODER_STRIDE if low_level else output_stride,
        preprocessing=PREPROCESSING, fuses="scores", dropout=0.1, learning_rate=learning_rate, label_stride=1,
    )  # fmt: skip
