import numpy as np

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.mask_colors import decode_colors, voc_color_ids


def test_vocs_colours_are_those_that_its_own_masks_have():
    # From VOC's development kit: VOClabelcolormap.
    ids = voc_color_ids(len(VOC_CLASSES))
    expected = {(0, 0, 0): 0, (128, 0, 0): 1, (192, 128, 128): 15, (0, 64, 128): 20, (224, 224, 192): 255}
    assert {color: ids[color] for color in expected} == expected
    assert len(ids) == 22


def test_colours_become_ids_and_unknown_ones_are_counted():
    rgb = np.array([[[1, 2, 3], [9, 9, 9], [1, 2, 4]], [[9, 9, 9], [255, 255, 255], [1, 2, 4]]], np.uint8)
    found = decode_colors(rgb, {(9, 9, 9): 5, (1, 2, 3): 0})
    np.testing.assert_array_equal(found.label, [[0, 5, 255], [5, 255, 255]])
    assert found.unknown == {(1, 2, 4): 2, (255, 255, 255): 1}
