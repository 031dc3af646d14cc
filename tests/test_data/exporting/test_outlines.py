"""Outlines of regions: exact without simplification, and without gaps with it."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from deeplabctl.data.exporting.outlines import outlines
from deeplabctl.data.images import read_label
from deeplabctl.data.importing.outlines import fill_polygon
from deeplabctl.data.shapes import write_shapes

NOTHING = 250


def drawn(label, tolerance):
    """Draw the outlines of a label again, as labelme does: later ones over those before."""
    picture = np.full(label.shape, NOTHING, np.uint8)
    for outline in outlines(label, tolerance):
        picture[fill_polygon(label.shape, [tuple(point) for point in outline.points])] = outline.class_id
    return picture


def as_rows(*rows):
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def test_pixel_has_the_outline_of_a_diamond():
    (square,) = outlines(np.full((1, 1), 7, np.uint8), 0)
    assert square.class_id == 7
    assert square.touches_frame
    assert sorted(map(tuple, square.points.tolist())) == [(0, 0), (0, 1), (1, 0), (1, 1)]  # the picture's corners
    _, inner = outlines(as_rows("000", "010", "000"), 0)
    assert not inner.touches_frame
    assert sorted(map(tuple, inner.points.tolist())) == [(1, 1.5), (1.5, 1), (1.5, 2), (2, 1.5)]


def test_region_in_a_hole_comes_after_what_surrounds_it():
    label = as_rows("11111", "10001", "10201", "10001", "11111")
    assert [outline.class_id for outline in outlines(label, 0)] == [1, 0, 2]
    assert [outline.touches_frame for outline in outlines(label, 0)] == [True, False, False]
    np.testing.assert_array_equal(drawn(label, 0), label)


def test_pixels_that_touch_at_a_corner_are_two_regions():
    label = as_rows("10", "01")
    assert [outline.class_id for outline in outlines(label, 0)].count(1) == 2
    np.testing.assert_array_equal(drawn(label, 0), label)


@pytest.mark.parametrize("seed", range(12))
def test_any_label_is_drawn_again_exactly_without_simplification(seed):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, 255], rng.integers(1, 24, 2)).astype(np.uint8)
    again = np.full(label.shape, NOTHING, np.uint8)
    rows, columns = np.indices(label.shape)
    centers = np.column_stack([columns.ravel() + 0.5, rows.ravel() + 0.5])
    for outline in outlines(label, 0):
        again[Polygon(outline.points).contains_points(centers).reshape(label.shape)] = outline.class_id
    np.testing.assert_array_equal(again, label)  # as matplotlib sees it
    np.testing.assert_array_equal(drawn(label, 0), label)


def test_straight_lines_have_their_ends_only():
    label = np.zeros((40, 60), np.uint8)
    label[:, 25:] = 1
    left, right = sorted(outlines(label), key=lambda outline: outline.class_id)
    assert sorted(map(tuple, left.points.tolist())) == [(0, 0), (0, 40), (25, 0), (25, 40)]
    assert sorted(map(tuple, right.points.tolist())) == [(25, 0), (25, 40), (60, 0), (60, 40)]


def test_slanted_line_is_one_line_between_its_regions():
    rows, columns = np.indices((60, 60))
    label = (columns > 0.6 * rows + 4).astype(np.uint8)
    counts = [len(outline.points) for outline in outlines(label)]
    assert max(counts) <= 5
    assert (drawn(label, 0.75) == label).mean() > 0.985


def test_circle_keeps_its_shape_with_few_points():
    rows, columns = np.indices((200, 200)) + 0.5
    label = (np.hypot(rows - 100, columns - 100) < 80).astype(np.uint8)
    _, circle = outlines(label)
    assert len(circle.points) < 60
    radii = np.hypot(*(circle.points - 100).T)
    assert np.abs(radii - 80).max() < 1


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "set", train=4, val=1, seed=11)
    labels = [read_label(path) for path in sorted((folder / "set" / "SegmentationClass").glob("*.png"))]
    return [np.where(label == 255, 0, label).astype(np.uint8) for label in labels]


def test_simplified_outlines_agree_and_leave_no_gaps(shapes):
    for label in shapes:
        again = drawn(label, 0.75)
        assert (again == label).mean() > 0.99  # of 160x160 pixels: more in larger pictures
        assert not (again == NOTHING).any()
        points = sum(len(outline.points) for outline in outlines(label))
        assert points < sum(len(outline.points) for outline in outlines(label, 0)) / 3
        larger = label.repeat(4, 0).repeat(4, 1)
        assert (drawn(larger, 0.75) == larger).mean() > 0.995


def test_regions_of_noise_fit_together_when_simplified():
    noise = np.random.default_rng(1).integers(0, 3, (30, 40)).astype(np.uint8)
    label = noise.repeat(4, 0).repeat(4, 1)
    again = drawn(label, 0.75)
    assert not (again == NOTHING).any()
    assert (again == label).mean() > 0.9


def test_single_pixels_vanish_when_simplified_and_lines_stay():
    label = np.zeros((20, 20), np.uint8)
    label[4, 4] = 1
    label[12, 4:15] = 2
    assert [outline.class_id for outline in outlines(label)] == [0, 2]
    np.testing.assert_array_equal(drawn(label, 0), label)
