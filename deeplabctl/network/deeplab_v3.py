"""DeepLab v3 and v3+ as in the authors' TensorFlow program, on MobileNet v2 and on Xception-65.

Papers: arXiv 1706.05587, 1802.02611 (section 3.2 and Figure 4), 1801.04381. Row names are the program's scopes, without
the network's own and ``xception_module``, and with "_" for "/"; the norm of a convolution has ``_BatchNorm`` after
that. The means and variances of norms stay as they are, and gamma and beta are trained: the program's own setting for
small batches (``fine_tune_batch_norm=False``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from deeplabctl.network import ops
from deeplabctl.network.architecture import Architecture, Preprocessing, Rows
from deeplabctl.network.ops import LINEAR, RELU, Activation, Convolution, Operation
from deeplabctl.network.ops.convolution import constant

PREPROCESSING = Preprocessing("RGB", (1.0, 1.0, 1.0), scale=2 / 255)
HEAD_EPSILON = 1e-5
DECODER_STRIDE = 4
_CHANNELS, _LOW_LEVEL_CHANNELS = 256, 48
_MOBILENET_LOW_LEVEL = "expanded_conv_2_depthwise_BatchNorm"  # stride 4
_MIDDLE_UNITS = 16  # of Xception
# Of a random start: on sums of values that no activation has halved, and on what is added to a shortcut.
_FIRST_GAMMA, _FIRST_GAMMA_OF_ADDED = 0.7, 0.25


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
    convolution = ops.DepthwiseConvolution(name, **shared) if depthwise else Convolution(name, channels, **shared)
    norm = norm or f"{name}_BatchNorm"
    return [convolution, ops.Norm(norm, activation, gamma, epsilon, trained=True, in_kernel=True)]


_in_body = partial(normalized, epsilon=1e-3)


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


def _v3_network(
    name: str, body: Sequence[Operation], output_stride: int, *, rates: Sequence[int] = (), low_level: str = "",
    start: str, imagenet: str = "", learning_rate: float = 1e-4, early_layers: tuple[str, ...] = (),
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
        early_layers=early_layers, unused_layers="Conv_1(_BatchNorm)?|Logits_Conv2d_1c_1x1|logits|predictions",
    )  # fmt: skip


_EXPANSION = 6
# Of each group of MobileNet's blocks: channels, blocks, stride of the first.
_GROUPS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_FIRST_LATE_LAYER = "expanded_conv_6_expand"  # of the first group at a sixteenth of the image's size


def divisible(value: float, divisor: int) -> int:
    """Return the nearest multiple of a divisor, and no less than nine tenths of the value."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


def multiplied(channels: int, incoming: int, width: float) -> int:
    """Return the channels at a depth multiplier: multiples of 8 for 1.0 only."""
    return divisible(channels * width, 8 if width == 1 else 1)


def expanded(channels: int, incoming: int, width: float) -> int:
    """Return six times the channels of the input, as a multiple of 8."""
    return divisible(_EXPANSION * incoming, 8)


def _mobilenet(output_stride: int) -> list[Operation]:
    rows = _in_body("Conv", 32, stride=2, widths=multiplied, activation=ops.RELU6, same=True)
    atrous, channels, number = AtrousStrides(output_stride, 2), 32, 0
    for outgoing, blocks, first_stride in _GROUPS:
        for block in range(blocks):
            name = f"expanded_conv_{number}" if number else "expanded_conv"
            stride, dilation = atrous.next(first_stride if block == 0 else 1)
            below = rows[-1].name
            if number:
                rows += _in_body(f"{name}_expand", kernel=1, widths=expanded, activation=ops.RELU6, gamma=_FIRST_GAMMA)
            rows += _in_body(
                f"{name}_depthwise", depthwise=True, stride=stride, dilation=dilation, activation=ops.RELU6, same=True
            )
            rows += _in_body(f"{name}_project", outgoing, kernel=1, widths=multiplied, activation=LINEAR)
            if stride == 1 and outgoing == channels:
                rows.append(ops.Sum(name, inputs=(below, rows[-1].name)))
            channels, number = outgoing, number + 1
    return rows


def _on_mobilenet(name: str, output_stride: int, rates: Sequence[int] = (), low_level: str = "") -> Architecture:
    body = _mobilenet(output_stride)
    layers = [row.name for row in body if isinstance(row, Convolution)]
    return _v3_network(
        name, body, output_stride, rates=rates, low_level=low_level, start="deeplabv3-mnv2-voc",
        imagenet="MobileNetV2", learning_rate=5e-4, early_layers=tuple(layers[: layers.index(_FIRST_LATE_LAYER)]),
    )  # fmt: skip


DEEPLABV3_MNV2 = _on_mobilenet("deeplabv3-mnv2", 16)
DEEPLABV3_MNV2_OS8 = _on_mobilenet("deeplabv3-mnv2-os8", 8)
DEEPLABV3PLUS_MNV2 = _on_mobilenet("deeplabv3plus-mnv2", 16, (6, 12, 18), _MOBILENET_LOW_LEVEL)
DEEPLABV3PLUS_MNV2_OS8 = _on_mobilenet("deeplabv3plus-mnv2-os8", 8, (12, 24, 36), _MOBILENET_LOW_LEVEL)


def _unit(
    name: str, below: str, channels: Sequence[int], stride: int, dilation: int, shortcut: str
) -> list[Operation]:  # fmt: skip
    """Return three separable convolutions, the last with the stride, and a shortcut: "conv", "sum" or none.

    A ReLU is before each of them; without a shortcut it is after both halves of each.
    """
    rows: list[Operation] = []
    activation = LINEAR if shortcut else RELU
    for number, outgoing in enumerate(channels, 1):
        convolution, source = f"{name}_separable_conv{number}", rows[-1].name if rows else below
        if shortcut:
            rows.append(ops.Rectifier(f"{convolution}_relu", inputs=(source,)))
            source = rows[-1].name
        rows += _in_body(
            f"{convolution}_depthwise", depthwise=True, stride=stride if number == len(channels) else 1,
            dilation=dilation, activation=activation, inputs=(source,),
        )  # fmt: skip
        gamma = 1.0 if not shortcut else _FIRST_GAMMA if number < len(channels) else _FIRST_GAMMA_OF_ADDED
        rows += _in_body(f"{convolution}_pointwise", outgoing, kernel=1, activation=activation, gamma=gamma)
    last, added = rows[-1].name, below
    if shortcut == "conv":
        rows += _in_body(f"{name}_shortcut", channels[-1], kernel=1, stride=stride, activation=LINEAR, inputs=(below,))
        added = rows[-1].name
    return [*rows, ops.Sum(name, inputs=(last, added))] if shortcut else rows


def _xception(output_stride: int) -> list[Operation]:
    rows = [*_in_body("entry_flow_conv1_1", 32, stride=2), *_in_body("entry_flow_conv1_2", 64)]
    atrous = AtrousStrides(output_stride, 2)

    def add(name: str, channels: Sequence[int], stride: int, shortcut: str) -> None:
        rows.extend(_unit(name, rows[-1].name, channels, *atrous.next(stride), shortcut))

    for block, channels in enumerate((128, 256, 728), 1):
        add(f"entry_flow_block{block}_unit_1", [channels] * 3, 2, "conv")
    for unit in range(1, _MIDDLE_UNITS + 1):
        add(f"middle_flow_block1_unit_{unit}", [728] * 3, 1, "sum")
    add("exit_flow_block1_unit_1", [728, 1024, 1024], 2, "conv")
    add("exit_flow_block2_unit_1", [1536, 1536, 2048], 1, "")
    return rows


def _on_xception(name: str, output_stride: int, rates: Sequence[int]) -> Architecture:
    low_level = "entry_flow_block2_unit_1_separable_conv2_pointwise_BatchNorm"  # stride 4, before a ReLU
    return _v3_network(
        name, _xception(output_stride), output_stride, rates=rates, low_level=low_level,
        start="deeplabv3plus-xception65-trainaug-voc",
    )  # fmt: skip


DEEPLABV3PLUS_XCEPTION65 = _on_xception("deeplabv3plus-xception65", 16, (6, 12, 18))
DEEPLABV3PLUS_XCEPTION65_OS8 = _on_xception("deeplabv3plus-xception65-os8", 8, (12, 24, 36))
