"""Class names and palettes from files."""

import numpy as np
import pytest
from PIL import Image

from deeplabctl.classes import VOC_CLASSES, read_classes, read_palette, voc_grey_ids
from deeplabctl.data.mask_colors import ids_of_colours, voc_colour_ids
from deeplabctl.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "ground 0 0 0\nroad 128 64 128\nstreet lamp 9 8 7\n",
        "ground,0,0,0\r\nroad, 128, 64, 128\r\nstreet lamp,9,8,7",
        "# CVAT: label:color_rgb:parts:actions\nground:0,0,0::\nroad:128,64,128::\nstreet lamp:9,8,7::\n",
        "0 0 0\tground\n128 64 128\t\troad\n9 8 7\tstreet lamp\n",
        "ground #000000\nroad = #804080\nstreet lamp: #090807\n",
    ],
)
def test_palettes_of_every_fashion_read_the_same(tmp_path, text):
    (tmp_path / "p.txt").write_bytes(text.encode())
    palette = read_palette(tmp_path / "p.txt")
    assert palette.names == ("ground", "road", "street lamp")
    assert palette.colors == ((0, 0, 0), (128, 64, 128), (9, 8, 7))
    assert read_classes(tmp_path / "p.txt") == palette.names


def test_a_single_number_is_a_grey_level_in_a_palette_and_part_of_the_name_in_a_list_of_names(tmp_path):
    (tmp_path / "p.txt").write_text("zone 1\nzone 2\n")
    assert read_classes(tmp_path / "p.txt") == ("zone 1", "zone 2")
    (tmp_path / "p.txt").write_text("a 1\nb 2\n")
    assert read_palette(tmp_path / "p.txt").colors == ((1, 1, 1), (2, 2, 2))


def test_void_is_no_class(tmp_path):
    (tmp_path / "p.txt").write_text("a 1 1 1\nVoid 0 0 0\nb 2 2 2\nunlabeled 3 3 3\n")
    palette = read_palette(tmp_path / "p.txt")
    assert palette.ids() == {(1, 1, 1): 0, (2, 2, 2): 1, (0, 0, 0): 255, (3, 3, 3): 255}
    assert read_classes(tmp_path / "p.txt") == ("a", "b")
    (tmp_path / "p.txt").write_text("a\nvoid\n")  # named without a colour it is one, if an odd one
    assert read_classes(tmp_path / "p.txt") == ("a", "void")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 1 2 3\nroad\n", r"p\.txt:2: expected a name and a colour .*got 'road'"),
        ("a 1 2 3\nb 1 2 300\n", r"p\.txt:2: expected a name and a colour"),
        ("# x\na 1 2 3\nb 1 2 3\n", r"p\.txt:3: expected another colour for 'b' than for 'a', got \(1, 2, 3\) again"),
        ("a 1 2 3\na 1 2 4\n", "'a' stands there more than once"),
        ("a 1 2 3\n", "expected 2 to 255 class names"),
    ],
)
def test_broken_palettes_are_named_with_their_line(tmp_path, text, said):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        read_palette(tmp_path / "p.txt")
    with pytest.raises(DataError, match="cannot read the palette"):
        read_palette(tmp_path / "gone.txt")


def test_vocs_colours_are_those_that_its_own_masks_have():
    # From VOC's development kit: VOClabelcolormap.
    ids = voc_colour_ids(len(VOC_CLASSES))
    expected = {(0, 0, 0): 0, (128, 0, 0): 1, (192, 128, 128): 15, (0, 64, 128): 20, (224, 224, 192): 255}
    assert {color: ids[color] for color in expected} == expected
    assert len(ids) == 22


def test_colours_become_ids_and_unknown_ones_are_counted():
    rgb = np.array([[[1, 2, 3], [9, 9, 9], [1, 2, 4]], [[9, 9, 9], [255, 255, 255], [1, 2, 4]]], np.uint8)
    found = ids_of_colours(rgb, {(9, 9, 9): 5, (1, 2, 3): 0})
    np.testing.assert_array_equal(found.label, [[0, 5, 255], [5, 255, 255]])
    assert found.unknown == {(1, 2, 4): 2, (255, 255, 255): 1}


def test_grey_levels_are_those_that_pillow_makes_of_vocs_colours():
    ids = voc_grey_ids(11)
    for color, index in voc_colour_ids(11).items():
        assert ids[Image.new("RGB", (1, 1), color).convert("L").getpixel((0, 0))] == index
