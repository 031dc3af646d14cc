"""DeepLab v3+ on Xception-65 (arXiv 1802.02611, section 3.2 and Figure 4), in the authors' names.

Source: the authors' TensorFlow program. Row names are its scopes, without the network's own and ``xception_module``,
and with "_" for "/".
"""

from __future__ import annotations

from collections.abc import Sequence

from deeplabctl.network.deeplab_v3 import AtrousStrides, normalized, v3_network
from deeplabctl.network.ops import LINEAR, RELU, Operation, Rectifier, Sum

_EPSILON = 1e-3
_LOW_LEVEL = "entry_flow_block2_unit_1_separable_conv2_pointwise_BatchNorm"  # stride 4, before a ReLU
_MIDDLE_UNITS = 16
# Of a random start: on sums of values that no activation has halved, and on what is added to a shortcut.
_FIRST_GAMMA, _FIRST_GAMMA_OF_ADDED = 0.7, 0.25
_START = "deeplabv3plus-xception65-trainaug-voc"


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
            rows.append(Rectifier(f"{convolution}_relu", inputs=(source,)))
            source = rows[-1].name
        rows += normalized(
            f"{convolution}_depthwise", depthwise=True, stride=stride if number == len(channels) else 1,
            dilation=dilation, epsilon=_EPSILON, activation=activation, inputs=(source,),
        )  # fmt: skip
        gamma = 1.0 if not shortcut else _FIRST_GAMMA if number < len(channels) else _FIRST_GAMMA_OF_ADDED
        rows += normalized(
            f"{convolution}_pointwise", outgoing, kernel=1, epsilon=_EPSILON, activation=activation, gamma=gamma
        )
    last, added = rows[-1].name, below
    if shortcut == "conv":
        rows += normalized(
            f"{name}_shortcut", channels[-1], kernel=1, stride=stride, epsilon=_EPSILON, activation=LINEAR,
            inputs=(below,),
        )  # fmt: skip
        added = rows[-1].name
    return [*rows, Sum(name, inputs=(last, added))] if shortcut else rows


def _body(output_stride: int) -> list[Operation]:
    rows = [
        *normalized("entry_flow_conv1_1", 32, stride=2, epsilon=_EPSILON),
        *normalized("entry_flow_conv1_2", 64, epsilon=_EPSILON),
    ]
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


DEEPLABV3PLUS_XCEPTION65 = v3_network(
    "deeplabv3plus-xception65", _body(16), 16, rates=(6, 12, 18), low_level=_LOW_LEVEL, start=_START
)
DEEPLABV3PLUS_XCEPTION65_OS8 = v3_network(
    "deeplabv3plus-xception65-os8", _body(8), 8, rates=(12, 24, 36), low_level=_LOW_LEVEL, start=_START
)
