"""DeepLab v3 and v3+ on MobileNet v2 (arXiv 1706.05587, 1802.02611, 1801.04381), in the authors' names.

Source: the authors' TensorFlow program. Row names are its scopes, without the network's own and with "_" for "/".
"""

from __future__ import annotations

from collections.abc import Sequence

from deeplabctl.network.architecture import Architecture
from deeplabctl.network.deeplab_v3 import AtrousStrides, normalized, v3_network
from deeplabctl.network.ops import LINEAR, RELU6, Operation, Sum

_EPSILON = 1e-3
_EXPANSION = 6
_FIRST_GAMMA = 0.7  # on sums of values that no activation has halved
_LOW_LEVEL = "expanded_conv_2_depthwise_BatchNorm"  # stride 4
# Of each group of blocks: channels, blocks, stride of the first.
_GROUPS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


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


def _body(output_stride: int) -> list[Operation]:
    rows = normalized("Conv", 32, stride=2, widths=multiplied, epsilon=_EPSILON, activation=RELU6, same=True)
    atrous, channels, number = AtrousStrides(output_stride, 2), 32, 0
    for outgoing, blocks, first_stride in _GROUPS:
        for block in range(blocks):
            name = f"expanded_conv_{number}" if number else "expanded_conv"
            stride, dilation = atrous.next(first_stride if block == 0 else 1)
            below = rows[-1].name
            if number:
                rows += normalized(
                    f"{name}_expand", kernel=1, widths=expanded, epsilon=_EPSILON, activation=RELU6, gamma=_FIRST_GAMMA
                )
            rows += normalized(
                f"{name}_depthwise", depthwise=True, stride=stride, dilation=dilation, epsilon=_EPSILON,
                activation=RELU6, same=True,
            )  # fmt: skip
            rows += normalized(
                f"{name}_project", outgoing, kernel=1, widths=multiplied, epsilon=_EPSILON, activation=LINEAR
            )
            if stride == 1 and outgoing == channels:
                rows.append(Sum(name, inputs=(below, rows[-1].name)))
            channels, number = outgoing, number + 1
    return rows


def _network(name: str, output_stride: int, rates: Sequence[int] = (), low_level: str = "") -> Architecture:
    return v3_network(
        name, _body(output_stride), output_stride, rates=rates, low_level=low_level, start="deeplabv3-mnv2-voc",
        imagenet="MobileNetV2", learning_rate=5e-4,
    )  # fmt: skip


DEEPLABV3_MNV2 = _network("deeplabv3-mnv2", 16)
DEEPLABV3_MNV2_OS8 = _network("deeplabv3-mnv2-os8", 8)
DEEPLABV3PLUS_MNV2 = _network("deeplabv3plus-mnv2", 16, (6, 12, 18), _LOW_LEVEL)
DEEPLABV3PLUS_MNV2_OS8 = _network("deeplabv3plus-mnv2-os8", 8, (12, 24, 36), _LOW_LEVEL)
