"""labelme's files become data sets."""

import numpy as np
import pytest
from annotation_files import SIZE, convert, png_base64, write_labelme, written_label

from deeplabctl.data.images import read_image
from deeplabctl.errors import DataError


def test_labelmes_shapes_are_drawn_in_their_order(tmp_path):
    part = np.array([[True, False], [True, True]])
    source = write_labelme(
        tmp_path / "x",
        [
            {"label": "wood", "shape_type": "polygon", "points": [[0, 0], [8, 0], [8, 6], [0, 6]]},
            {"label": "lake", "shape_type": "rectangle", "points": [[6, 4], [2, 2]]},
            {"label": "moon", "shape_type": "circle", "points": [[12.5, 5.5], [14.5, 5.5]]},
            {"label": "lake", "shape_type": "mask", "points": [[10, 10], [11, 11]], "mask": png_base64(part)},
            {"label": "__ignore__", "shape_type": "polygon", "points": [[0, 10], [3, 10], [3, 12], [0, 12]]},
            {"label": "_background_", "shape_type": "polygon", "points": [[0, 0], [2, 0], [2, 1], [0, 1]]},
            {"label": "path", "shape_type": "linestrip", "points": [[0, 0], [9, 9]]},
        ],
    )
    written, notes = convert(source, tmp_path / "out")
    assert written.classes == ("background", "lake", "moon", "wood")  # in the order of the alphabet
    expected = np.zeros(SIZE, int)
    expected[:6, :8] = 3
    expected[2:4, 2:6] = 1
    y, x = np.mgrid[:12, :16]
    expected[(x - 12) ** 2 + (y - 5) ** 2 <= 4] = 2
    expected[10, 10] = expected[11, 10] = expected[11, 11] = 1
    expected[10:, :3] = 255
    expected[0, :2] = 0
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["1 lines and points have no area: skipped"]


def test_image_inside_of_labelmes_file_is_used_if_its_own_file_is_missing(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
    source = write_labelme(tmp_path / "x", [shape], imageData=png_base64(values), imagePath="..\\gone\\a.jpg")
    convert(source, tmp_path / "out")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "JPEGImages" / "a.png"), values)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"label": "x", "shape_type": "polygon", "points": [[1, 2], [3, 4]]},
            r"a\.json: shape 1 \(x\): expected a polygon",
        ),
        ({"label": "x", "shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "!!"}, r"a\.json: shape 1 \(x\)"),
        ({"label": "x", "shape_type": "polygon", "points": [[1, None]] * 3}, r"a\.json: shape 1 \(x\)"),
        ({"shape_type": "polygon"}, r"a\.json: expected labelme's shapes with labels, got one without 'label'"),
    ],
)
def test_damaged_labelme_shapes_are_named(tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        convert(write_labelme(tmp_path / "x", [shape]), tmp_path / "out", classes=("background", "x"))
