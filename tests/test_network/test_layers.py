import math

from deeplabctl.network import ARCHITECTURES


def test_largefov_has_the_papers_parameters():
    assert sum(map(math.prod, ARCHITECTURES["largefov"].weight_shapes(21).values())) == 20_505_429


def test_width_multiplies_all_channels_but_the_classes():
    shapes = ARCHITECTURES["largefov"].weight_shapes(11, 0.25)
    assert shapes["conv1_1/kernel"] == (3, 3, 3, 16)
    assert shapes["fc6/kernel"] == (3, 3, 128, 256)
    assert shapes["fc8_voc12/kernel"] == (1, 1, 256, 11)


def test_fc6_sees_224_pixels_as_the_paper_says():
    # arXiv 1412.7062, Table 2: as much as VGG's 7x7 kernel at stride 32; fc6's cells see 32 pixels and lie 8 apart.
    fc6 = next(layer for layer in ARCHITECTURES["largefov"].rows if layer.name == "fc6")
    assert (fc6.kernel - 1) * fc6.dilation * 8 + 32 == 224
