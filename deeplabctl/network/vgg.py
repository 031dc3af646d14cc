"""DeepLab's networks on VGG-16.

Sources: the deploy and train prototxt of DeepLab-LargeFOV (arXiv 1412.7062, section 3.1 and Table 2) and of DeepLab v2
ASPP (arXiv 1606.00915, section 4.1.2 and Figure 7).
"""

from __future__ import annotations

from deeplabctl.network.architecture import Architecture, Rows
from deeplabctl.network.ops import INPUT, Convolution, Operation, Pooling, Resize, Sum
from deeplabctl.network.ops.convolution import PIXELS_SCALE

_BODY: Rows = (
    Convolution("conv1_1", 64, first_scale=PIXELS_SCALE),
    Convolution("conv1_2", 64),
    Pooling("pool1", "max", 2),
    Convolution("conv2_1", 128),
    Convolution("conv2_2", 128),
    Pooling("pool2", "max", 2),
    Convolution("conv3_1", 256),
    Convolution("conv3_2", 256),
    Convolution("conv3_3", 256),
    Pooling("pool3", "max", 2),
    Convolution("conv4_1", 512),
    Convolution("conv4_2", 512),
    Convolution("conv4_3", 512),
    Pooling("pool4", "max", 1),
    Convolution("conv5_1", 512, dilation=2),
    Convolution("conv5_2", 512, dilation=2),
    Convolution("conv5_3", 512, dilation=2),
    Pooling("pool5", "max", 1),
)

_LARGEFOV: Rows = (
    *_BODY,
    Pooling("pool5a", "average", 1),
    Convolution("fc6", 1024, dilation=12, dropout=True),
    Convolution("fc7", 1024, kernel=1, dropout=True),
    Convolution.to_classes("fc8_voc12"),
)


def _pyramid(*rates: int) -> Rows:
    """Return atrous spatial pyramid pooling: a branch for each rate, without shared weights, and the sum of scores."""
    branches: list[Operation] = []
    for number, rate in enumerate(rates, 1):
        branches += [
            Convolution(f"fc6_{number}", 1024, dilation=rate, dropout=True, inputs=("pool5",)),
            Convolution(f"fc7_{number}", 1024, kernel=1, dropout=True),
            Convolution.to_classes(f"fc8_voc12_{number}"),
        ]
    return (*branches, Sum("fc8_voc12", inputs=tuple(f"fc8_voc12_{number}" for number in range(1, len(rates) + 1))))


def _with_direct_paths(*, testing: bool) -> Rows:
    """Return LargeFOV with direct paths from the image and the first four poolings to the sum of scores.

    In training the paths bring themselves to stride 8; in testing they keep the size of what they read, and all scores
    are enlarged to the image's. At pixels (8i, 8j) both are equal.
    """
    rows, summed = list(_LARGEFOV), []
    for source, stride in ((INPUT, 1), ("pool1", 2), ("pool2", 4), ("pool3", 8), ("pool4", 8)):
        step, std = 1 if testing else 8 // stride, 0.005 if source == "pool4" else 0.001
        rows += [
            Convolution(f"{source}_conv", 128, stride=step, dropout=True, first_std=0.001, inputs=(source,)),
            Convolution(f"{source}_fc", 128, kernel=1, dropout=True, first_std=std),
            Convolution.to_classes(f"{source}_ms"),
        ]
        summed.append((f"{source}_ms", f"{source}_interp", stride))
    summed.append(("fc8_voc12", "fc8_interp", 8))
    if testing:
        rows += [Resize(zoomed, stride, inputs=(name,)) for name, zoomed, stride in summed if stride > 1]
    names = [zoomed if testing and stride > 1 else name for name, zoomed, stride in summed]
    return (*rows, Sum("fc_fusion", inputs=tuple(names)))


def _network(name: str, rows: Rows, crf: str, test_rows: Rows = ()) -> Architecture:
    return Architecture(name, rows, crf, imagenet="VGG16", start="imagenet", test_rows=test_rows)


LARGEFOV = _network("largefov", _LARGEFOV, "largefov-v1")
ASPP_S = _network("aspp-s", (*_BODY, *_pyramid(2, 4, 8, 12)), "v2-vgg")
ASPP_L = _network("aspp-l", (*_BODY, *_pyramid(6, 12, 18, 24)), "v2-vgg")
# Source: a third-party copy of version 1's prototxt (arXiv 1412.7062, section 4.3).
MSC_LARGEFOV = _network(
    "msc-largefov", _with_direct_paths(testing=False), "largefov-v1", test_rows=_with_direct_paths(testing=True)
)
