"""What a training starts from where nothing is named."""

import pytest

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.imagenet import ImageNet
from deeplabctl.weights.published import published


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_starts_from_imagenet_or_from_weights_that_are_published_for_its_body(architecture):
    table = ARCHITECTURES[architecture]
    if table.start == "imagenet":
        assert table.imagenet
        return
    entry = published()[table.start]
    body = {name for name in table.weight_shapes(21) if name.startswith(("expanded", "backbone", "middle"))}
    assert body
    assert body <= set(ARCHITECTURES[entry.network].weight_shapes(21))


def test_imagenet_is_refused_where_there_are_no_such_weights():
    with pytest.raises(
        WeightsError, match=r"no ImageNet weights for deeplabv3plus-xception65 to be had; .*init=deeplabv3plus"
    ):
        ImageNet("deeplabv3plus-xception65")
