"""List the rows of DeepLab's networks on VGG-16.

Sources: the deploy and train prototxt of DeepLab-LargeFOV (arXiv 1412.7062, section 3.1 and Table 2) and of DeepLab v2
ASPP (arXiv 1606.00915, section 4.1.2 and Figure 7).
"""

from __future__ import annotations

from deeplabctl.network.rows import Conv, Pool, Row, Rows, Sum, Zoom, classifier

_BODY: Rows = (
    Conv("conv1_1", 64),
    Conv("conv1_2", 64),
    Pool("pool1", "max", 2),
    Conv("conv2_1", 128),
    Conv("conv2_2", 128),
    Pool("pool2", "max", 2),
    Conv("conv3_1", 256),
    Conv("conv3_2", 256),
    Conv("conv3_3", 256),
    Pool("pool3", "max", 2),
    Conv("conv4_1", 512),
    Conv("conv4_2", 512),
    Conv("conv4_3", 512),
    Pool("pool4", "max", 1),
    Conv("conv5_1", 512, dilation=2),
    Conv("conv5_2", 512, dilation=2),
    Conv("conv5_3", 512, dilation=2),
    Pool("pool5", "max", 1),
)

LARGEFOV: Rows = (
    *_BODY,
    Pool("pool5a", "average", 1),
    Conv("fc6", 1024, dilation=12, dropout=True),
    Conv("fc7", 1024, kernel=1, dropout=True),
    classifier("fc8_voc12"),
)


def _pyramid(*rates: int) -> Rows:
    """Return atrous spatial pyramid pooling: a branch for each rate, without shared weights, and the sum of scores."""
    branches: list[Row] = []
    for number, rate in enumerate(rates, 1):
        branches += [
            Conv(f"fc6_{number}", 1024, dilation=rate, dropout=True, inputs=("pool5",)),
            Conv(f"fc7_{number}", 1024, kernel=1, dropout=True),
            classifier(f"fc8_voc12_{number}"),
        ]
    return (*branches, Sum("fc8_voc12", tuple(f"fc8_voc12_{number}" for number in range(1, len(rates) + 1))))


def _with_direct_paths(*, testing: bool) -> Rows:
    """Return LargeFOV with direct paths from the image and the first four poolings to the sum of scores.

    In training the paths bring themselves to stride 8; in testing they keep the size of what they read, and all scores
    are enlarged to the image's. At pixels (8i, 8j) both are equal.
    """
    rows, summed = list(LARGEFOV), []
    for source, stride in (("data", 1), ("pool1", 2), ("pool2", 4), ("pool3", 8), ("pool4", 8)):
        step, std = 1 if testing else 8 // stride, 0.005 if source == "pool4" else 0.001
        rows += [
            Conv(f"{source}_conv", 128, stride=step, dropout=True, first_std=0.001, inputs=(source,)),
            Conv(f"{source}_fc", 128, kernel=1, dropout=True, first_std=std),
            classifier(f"{source}_ms"),
        ]
        summed.append((f"{source}_ms", f"{source}_interp", stride))
    summed.append(("fc8_voc12", "fc8_interp", 8))
    if testing:
        rows += [Zoom(zoomed, stride, (name,)) for name, zoomed, stride in summed if stride > 1]
    names = [zoomed if testing and stride > 1 else name for name, zoomed, stride in summed]
    return (*rows, Sum("fc_fusion", tuple(names)))


# Source: a third-party copy of version 1's prototxt (arXiv 1412.7062, section 4.3).
MSC_LARGEFOV = _with_direct_paths(testing=False)
MSC_LARGEFOV_TEST = _with_direct_paths(testing=True)

ASPP_S: Rows = (*_BODY, *_pyramid(2, 4, 8, 12))
ASPP_L: Rows = (*_BODY, *_pyramid(6, 12, 18, 24))
