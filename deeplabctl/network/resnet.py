"""DeepLab v2's network on ResNet-101 (arXiv 1606.00915, section 4.1.3), in the authors' names.

Source: the authors' train and test prototxt. Stages 4 and 5 have dilations 2 and 4 in place of strides; the stride of
stage 3 is on its 1x1 convolutions; no convolution of the body has a bias.
"""

from __future__ import annotations

from deeplabctl.network.architecture import Architecture, Rows
from deeplabctl.network.ops import LINEAR, RELU, Activation, Convolution, Norm, Operation, Pooling, Sum
from deeplabctl.network.ops.convolution import PIXELS_SCALE

_RATES = (6, 12, 18, 24)

# Stage: blocks, channels of the 1x1 and 3x3 convolutions (a quarter of the block's), stride, dilation.
_STAGES: dict[int, tuple[tuple[str, ...], int, int, int]] = {
    2: (("a", "b", "c"), 64, 1, 1),
    3: (("a", *(f"b{number}" for number in range(1, 4))), 128, 2, 1),
    4: (("a", *(f"b{number}" for number in range(1, 23))), 256, 1, 2),
    5: (("a", "b", "c"), 512, 1, 4),
}

# 33 blocks add up: in a network that starts random, with norms that stay as they are, each adds little to the variance.
# The first norm brings what the blocks add up to, and with it the first logits, to about 1.
_FIRST_GAMMA, _FIRST_GAMMA_OF_ALL = 0.25, 0.1


def _normalized(
    name: str, channels: int, below: str = "", *, activation: Activation = RELU, gamma: float = 1.0, **settings: float
) -> list[Operation]:
    """Return a convolution without bias and its norm: ``res4b7_branch2a`` and ``bn4b7_branch2a``."""
    norm = name.replace("res", "bn") if name.startswith("res") else f"bn_{name}"
    inputs = (below,) if below else ()
    convolution = Convolution(name, channels, bias=False, activation=LINEAR, inputs=inputs, **settings)  # type: ignore[arg-type]
    return [convolution, Norm(norm, activation, gamma)]


def _block(name: str, below: str, channels: int, stride: int, dilation: int) -> list[Operation]:
    """Return a bottleneck block on the row ``below``; the first of a stage has a convolution in its shortcut."""
    rows: list[Operation] = []
    shortcut = below
    if name.endswith("a"):
        rows = _normalized(f"res{name}_branch1", 4 * channels, below, activation=LINEAR, kernel=1, stride=stride)
        shortcut = rows[-1].name
    rows += _normalized(f"res{name}_branch2a", channels, below, kernel=1, stride=stride)
    rows += _normalized(f"res{name}_branch2b", channels, dilation=dilation)
    rows += _normalized(f"res{name}_branch2c", 4 * channels, activation=LINEAR, gamma=_FIRST_GAMMA, kernel=1)
    return [*rows, Sum(f"res{name}", inputs=(shortcut, rows[-1].name), activation=RELU)]


def _rows() -> Rows:
    rows: list[Operation] = [
        *_normalized("conv1", 64, gamma=_FIRST_GAMMA_OF_ALL, kernel=7, stride=2, first_scale=PIXELS_SCALE),
        Pooling("pool1", "max", 2),
    ]
    for stage, (blocks, channels, stride, dilation) in _STAGES.items():
        for block in blocks:
            rows += _block(f"{stage}{block}", rows[-1].name, channels, stride if block == "a" else 1, dilation)
    body = rows[-1].name
    heads = [
        Convolution.to_classes(f"fc1_voc12_c{number}", 3, rate, inputs=(body,)) for number, rate in enumerate(_RATES)
    ]
    return (*rows, *heads, Sum("fc1_voc12", inputs=tuple(head.name for head in heads)))


RESNET101 = Architecture(
    "resnet101", _rows(), "v2-resnet", imagenet="ResNet101", start="imagenet", scales=(1.0, 0.75, 0.5), tile_reach=320
)
