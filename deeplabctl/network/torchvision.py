"""DeepLab v3 as torchvision has it: on ResNet-50, ResNet-101 and MobileNet v3 (arXiv 1706.05587, 1905.02244).

Row names are those of its modules with "_" for ".". It differs from the authors' program: 3x3 convolutions that are not
separable, rates 12, 24 and 36 at any output stride, image pooling as the last branch, upsampling with half pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deeplabctl.network import ops
from deeplabctl.network.architecture import Architecture, Preprocessing
from deeplabctl.network.deeplab_v3 import AtrousStrides, normalized
from deeplabctl.network.ops import HARD_SIGMOID, HARD_SWISH, LINEAR, RELU, Activation, Convolution, Operation, Sum

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PREPROCESSING = Preprocessing(
    "RGB",
    (_MEAN[0] / _STD[0], _MEAN[1] / _STD[1], _MEAN[2] / _STD[2]),
    scale=(1 / 255 / _STD[0], 1 / 255 / _STD[1], 1 / 255 / _STD[2]),
)
_RATES = (12, 24, 36)
_MOBILENET_EPSILON = 1e-3
# Of each block: kernel, expanded channels, channels, channels of the squeeze (0: none), activation, stride, dilation.
_MOBILENET_BLOCKS: tuple[tuple[int, int, int, int, Activation, int, int], ...] = (
    (3, 16, 16, 0, RELU, 1, 1),
    (3, 64, 24, 0, RELU, 2, 1),
    (3, 72, 24, 0, RELU, 1, 1),
    (5, 72, 40, 24, RELU, 2, 1),
    (5, 120, 40, 32, RELU, 1, 1),
    (5, 120, 40, 32, RELU, 1, 1),
    (3, 240, 80, 0, HARD_SWISH, 2, 1),
    (3, 200, 80, 0, HARD_SWISH, 1, 1),
    (3, 184, 80, 0, HARD_SWISH, 1, 1),
    (3, 184, 80, 0, HARD_SWISH, 1, 1),
    (3, 480, 112, 120, HARD_SWISH, 1, 1),
    (3, 672, 112, 168, HARD_SWISH, 1, 1),
    (5, 672, 160, 168, HARD_SWISH, 1, 2),
    (5, 960, 160, 240, HARD_SWISH, 1, 2),
    (5, 960, 160, 240, HARD_SWISH, 1, 2),
)


def _normalized(name: str, norm: str, channels: int, **settings: Any) -> list[Operation]:
    gamma = 2.0 if settings.get("activation") is HARD_SWISH else 1.0  # near 0 it halves values
    return normalized(name, channels, norm=norm, **{"gamma": gamma, **settings})


def _resnet(*blocks: int) -> list[Operation]:
    rows = [
        *_normalized("backbone_conv1", "backbone_bn1", 64, kernel=7, stride=2),
        ops.Pooling("backbone_maxpool", "max", 2, rounds_up=False),
    ]
    atrous = AtrousStrides(8, 4)
    for layer, count in enumerate(blocks, 1):
        for block in range(count):
            stride, dilation = atrous.next(2 if layer > 1 and block == 0 else 1)
            rows += _bottleneck(f"backbone_layer{layer}_{block}", rows[-1].name, 32 * 2**layer, stride, dilation)
    return rows


def _bottleneck(name: str, below: str, channels: int, stride: int, dilation: int) -> list[Operation]:
    """Return a bottleneck block; the first of a layer has a convolution in its shortcut, and the stride on its 3x3."""
    rows: list[Operation] = []
    shortcut = below
    if name.endswith("_0"):
        rows = _normalized(
            f"{name}_downsample_0", f"{name}_downsample_1", 4 * channels, kernel=1, stride=stride, activation=LINEAR,
            inputs=(below,),
        )  # fmt: skip
        shortcut = rows[-1].name
    rows += _normalized(f"{name}_conv1", f"{name}_bn1", channels, kernel=1, inputs=(below,))
    rows += _normalized(f"{name}_conv2", f"{name}_bn2", channels, stride=stride, dilation=dilation)
    rows += _normalized(f"{name}_conv3", f"{name}_bn3", 4 * channels, kernel=1, activation=LINEAR, gamma=0.25)
    return [*rows, Sum(name, inputs=(rows[-1].name, shortcut), activation=RELU)]


def _mobilenet() -> list[Operation]:
    last: dict[str, Any] = {"activation": HARD_SWISH, "epsilon": _MOBILENET_EPSILON}
    rows = _normalized("backbone_0_0", "backbone_0_1", 16, stride=2, **last)
    incoming = 16
    for number, (kernel, wide, channels, squeezed, activation, stride, dilation) in enumerate(_MOBILENET_BLOCKS, 1):
        name, below, part = f"backbone_{number}_block", rows[-1].name, 0
        settings: dict[str, Any] = {"activation": activation, "epsilon": _MOBILENET_EPSILON}
        if wide != incoming:
            rows += _normalized(f"{name}_0_0", f"{name}_0_1", wide, kernel=1, **settings)
            part = 1
        rows += _normalized(
            f"{name}_{part}_0", f"{name}_{part}_1", 0, depthwise=True, kernel=kernel, stride=stride,
            dilation=dilation, **settings,
        )  # fmt: skip
        if squeezed:
            part += 1
            rows += _squeeze_and_excite(f"{name}_{part}", rows[-1].name, squeezed, wide)
        settings |= {"activation": LINEAR, "gamma": 2.0 if squeezed else 1.0}  # a new gate is one half
        rows += _normalized(f"{name}_{part + 1}_0", f"{name}_{part + 1}_1", channels, kernel=1, **settings)
        if stride == 1 and channels == incoming:
            rows.append(Sum(name, inputs=(rows[-1].name, below)))
        incoming = channels
    return [*rows, *_normalized("backbone_16_0", "backbone_16_1", 960, kernel=1, **last)]


def _squeeze_and_excite(name: str, below: str, squeezed: int, channels: int) -> list[Operation]:
    return [
        ops.ImageMean(f"{name}_mean", inputs=(below,)),
        Convolution(f"{name}_fc1", squeezed, kernel=1),
        Convolution(f"{name}_fc2", channels, kernel=1, activation=HARD_SIGMOID),
        ops.Product(name, inputs=(below, f"{name}_fc2")),
    ]


def _head(body: str) -> list[Operation]:
    convs = "classifier_0_convs"
    rows = _normalized(f"{convs}_0_0", f"{convs}_0_1", 256, kernel=1, inputs=(body,))
    for number, rate in enumerate(_RATES, 1):
        rows += _normalized(f"{convs}_{number}_0", f"{convs}_{number}_1", 256, dilation=rate, inputs=(body,))
    return [
        *rows,
        ops.ImageMean(f"{convs}_4_0", inputs=(body,)),
        *_normalized(f"{convs}_4_1", f"{convs}_4_2", 256, kernel=1),
        ops.Broadcast(f"{convs}_4", inputs=(f"{convs}_4_2", f"{convs}_0_1")),
        ops.Concatenation(convs, inputs=(*(f"{convs}_{number}_1" for number in range(4)), f"{convs}_4")),
        *_normalized("classifier_0_project_0", "classifier_0_project_1", 256, kernel=1),
        ops.Dropout("classifier_0_project_3"),
        *_normalized("classifier_1", "classifier_2", 256),
        Convolution.to_classes("classifier_4"),
    ]


def _network(name: str, body: Sequence[Operation], output_stride: int) -> Architecture:
    return Architecture(
        name, (*body, *_head(body[-1].name)), crf="largefov-v1", start=f"{name}-coco",
        output_stride=output_stride, preprocessing=_PREPROCESSING, fuses="scores", label_stride=1, half_pixel=True,
        unused_layers=r"aux_classifier_\d|backbone_fc",
    )  # fmt: skip


DEEPLABV3_RESNET50 = _network("deeplabv3-resnet50", _resnet(3, 4, 6, 3), 8)
DEEPLABV3_RESNET101 = _network("deeplabv3-resnet101", _resnet(3, 4, 23, 3), 8)
DEEPLABV3_MOBILENETV3 = _network("deeplabv3-mobilenetv3", _mobilenet(), 16)
