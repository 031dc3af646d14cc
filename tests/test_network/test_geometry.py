import numpy as np
import pytest

from deeplabctl.classes import voc_grey_levels, voc_palette
from deeplabctl.network import geometry
from deeplabctl.network.layers import ARCHITECTURES, OUTPUT_STRIDE, parameter_count, weight_shapes


@pytest.mark.parametrize(
    ("size", "cells"), [(321, 41), (320, 41), (322, 42), (375, 48), (500, 64), (97, 13), (130, 18), (513, 65)]
)
def test_logits_sizes_are_caffes(size, cells):  # the table of the original program's outputs
    assert geometry.logits_size(size) == cells
    assert geometry.upsampled_size(cells) >= size


def test_sizes_to_predict_at():
    assert geometry.padded_size(375, "paper") == 513
    assert geometry.padded_size(514, "paper") == 521
    assert [geometry.padded_size(size, "tight") for size in (1, 2, 9, 10, 321, 375)] == [1, 9, 9, 17, 321, 377]


def test_crop_sizes_put_label_pixels_on_cells():
    assert [size for size in range(1, 35) if geometry.is_crop_size(size)] == [9, 17, 25, 33]


def test_largefov_has_the_papers_parameters():
    assert parameter_count("largefov", 21) == 20_505_429


def test_width_multiplies_all_channels_but_the_classes():
    shapes = weight_shapes("largefov", 11, 0.25)
    assert shapes["conv1_1"] == (3, 3, 3, 16)
    assert shapes["fc6"] == (3, 3, 128, 256)
    assert shapes["fc8_voc12"] == (1, 1, 256, 11)


def test_fc6_sees_224_pixels_as_the_paper_says():
    # arXiv 1412.7062, Table 2: as much as VGG's 7x7 kernel at stride 32; fc6's cells see 32 pixels and lie 8 apart.
    fc6 = next(layer for layer in ARCHITECTURES["largefov"] if layer.name == "fc6")
    assert (fc6.kernel - 1) * fc6.dilation * OUTPUT_STRIDE + 32 == 224


def test_palette_is_vocs():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, color in known.items():
        assert tuple(voc_palette()[index]) == color
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_grey_levels_are_what_programs_turn_palette_labels_into():
    assert {0, 38, 75, 113, 52, 147, 220} <= voc_grey_levels(21)
    assert not {1, 10, 255} & voc_grey_levels(21)
