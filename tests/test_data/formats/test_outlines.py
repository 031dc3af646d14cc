"""Outlines and run lengths: filled as by hand, and made of a label exactly or without gaps."""

import tracemalloc

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from deeplabctl.data.formats.coco import decode_runs
from deeplabctl.data.formats.outlines import (
    box_corners,
    fill_ellipse,
    fill_polygon,
    fill_runs,
    outlines,
    paste_mask,
)
from deeplabctl.data.labels import read_label
from deeplabctl.data.shapes import write_shapes
from deeplabctl.errors import DataError

# Written by pycocotools.mask.encode: a ring of radii 50 and 20 about (70, 90) in 200x150 pixels, and a corner.
RING = (
    r"iU4c0a58H8J4L4L4L4L4M2N2M4M2N2N2N2N2N2N2N2O0O2N2N2O0O2O0O2O0O2O0O]NQM0n2NVM0i2O[M0d2O^M0b2NbM0^2OdM0[20gM0X20hM0X2"
    r"OjM0V2OlM0S21mM0R2OPN0P20PN0P2ORN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n10RN0n11PN0P20"
    r"PN0P21nM0S2OmM0T21jM0V21hM0X20hM0Y20eM0\21bM0^22^M0b21\M0e21WM0j22RM0o2c1101N101N101N101N2N2N101N2N2N2N2N2N2N2N3L3N"
    r"2N3L4L4L4L4L6H8HWP41loK00000000000000000"
)


def test_rectangle_takes_the_pixels_whose_centres_it_covers():
    mask = fill_polygon((5, 6), [(1, 1), (4, 1), (4, 3), (1, 3)])
    expected = np.zeros((5, 6), bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(fill_polygon((5, 6), [(0.6, 0.6), (3.6, 0.6), (3.6, 2.6), (0.6, 2.6)]), expected)


def test_neighbours_share_no_pixel_and_leave_none_out():
    left = fill_polygon((4, 8), [(0.5, 0.5), (3.5, 0.5), (5.5, 3.5), (0.5, 3.5)])
    right = fill_polygon((4, 8), [(3.5, 0.5), (7.5, 0.5), (7.5, 3.5), (5.5, 3.5)])
    both = fill_polygon((4, 8), [(0.5, 0.5), (7.5, 0.5), (7.5, 3.5), (0.5, 3.5)])
    assert not (left & right).any()
    np.testing.assert_array_equal(left | right, both)
    assert both[:3, :7].all()  # borders through centres: those above and at the left are in, the others out
    assert both.sum() == 21


def test_outline_without_points_has_no_pixels():
    assert not fill_polygon((5, 6), []).any()


def test_triangle_by_hand():
    # The right side passes just to the right of the centres of the diagonal.
    mask = fill_polygon((4, 4), [(0, 0), (4.2, 4), (0, 4)])
    np.testing.assert_array_equal(mask, np.tri(4, dtype=bool))


def test_any_polygon_has_the_pixels_whose_centres_lie_inside():
    rng = np.random.default_rng(0)
    for number in range(200):
        points = rng.uniform(-4, 24, (int(rng.integers(3, 9)), 2))
        points[0] = rng.uniform(1, 17, 2)  # one is in the image
        mask = fill_polygon((18, 20), [(float(x), float(y)) for x, y in points])
        x, y = np.meshgrid(np.arange(20) + 0.5, np.arange(18) + 0.5)
        inside = np.zeros((18, 20), bool)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):  # rays to the left
            inside ^= ((y0 > y) != (y1 > y)) & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        np.testing.assert_array_equal(mask, inside, str(number))


def test_hole_of_a_polygon_that_crosses_itself_is_left_out():
    outer, inner = [(0, 0), (8, 0), (8, 8), (0, 8), (0, 0)], [(2, 2), (6, 2), (6, 6), (2, 6), (2, 2)]
    mask = fill_polygon((8, 8), [*outer, *inner])
    assert mask.sum() == 64 - 16
    assert not mask[2:6, 2:6].any()


def test_parts_outside_of_the_image_are_cut_off():
    assert fill_polygon((4, 5), [(-4, -4), (10, -4), (10, 8), (-4, 8)]).all()
    assert not fill_polygon((4, 5), [(6, 1), (9, 1), (9, 3)]).any()
    assert not fill_polygon((4, 5), [(-4, 1), (-1, 1), (-1, 3)]).any()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(16, 1), (19, 1), (19, 3)], r"an outline in the image of 12x8 pixels, got x from 16 to 19, y from 1 to 3"),
        ([(-6, 1), (-2, 1), (-2, 3)], r"an outline in the image"),
        ([(1, 20), (5, 20), (5, 30)], r"an outline in the image"),
        (
            [(0.1, 0), (1, 0.25), (0.5, 1)],
            r"coordinates in pixels, got x from 0.1 to 1, y from 0 to 1; if these are shares",
        ),
    ],
)
def test_outlines_for_another_size_are_refused(points, message):
    with pytest.raises(DataError, match=message):
        fill_polygon((8, 12), points)


def test_masks_and_circles_outside_of_the_image_are_refused():
    for left, top in ((14, 0), (0, 10), (-5, 0)):
        with pytest.raises(DataError, match="an outline in the image"):
            paste_mask(np.ones((2, 3), bool), (8, 12), left, top)
    assert paste_mask(np.ones((2, 3), bool), (8, 12), -2, 7).sum() == 1
    with pytest.raises(DataError, match="an outline in the image"):
        fill_ellipse((8, 12), (40, 4), (5, 5))


def test_random_polygons_agree_with_a_test_of_every_pixel_centre():
    rng = np.random.default_rng(0)
    for _ in range(5):
        points = [(float(x), float(y)) for x, y in rng.uniform(-5, 35, (7, 2))]
        expected = [[point_in_polygon(column + 0.5, row + 0.5, points) for column in range(30)] for row in range(25)]
        np.testing.assert_array_equal(fill_polygon((25, 30), points), expected)


def point_in_polygon(x, y, points):
    """Count the edges that a ray to the right crosses."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def test_an_ellipse_in_a_large_photo_takes_the_memory_of_its_mask():
    tracemalloc.start()
    mask = fill_ellipse((3000, 4000), (2000, 1500), (60, 40), 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * mask.nbytes
    assert np.count_nonzero(mask) == pytest.approx(60 * 40 * np.pi, rel=0.01)


def test_circle_ellipse_and_turned_box():
    circle = fill_ellipse((9, 9), (4.5, 4.5), (4.0, 4.0))
    assert circle[4].tolist() == [True] * 9  # centres 4 away lie on it
    assert circle[0].sum() == circle[:, 0].sum() == 1
    wide = fill_ellipse((9, 9), (4.5, 4.5), (4.0, 1.1))
    np.testing.assert_array_equal(fill_ellipse((9, 9), (4.5, 4.5), (4.0, 1.1), 90), wide.T)
    np.testing.assert_allclose(box_corners(0, 0, 4, 2, 90), [(3, -1), (3, 3), (1, 3), (1, -1)], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "runs"),
    [  # from the tests of another COCO library
        ("061M", [0, 6, 1, 3]), ("061", [0, 6, 1]), ("061K", [0, 6, 1, 1]), ("061O", [0, 6, 1, 5]),
        ("0610", [0, 6, 1, 6]), ("011101010", [0, 1, 1, 2, 1, 3, 1, 4, 1]), ("0PP1", [0, 1024]),
    ],
)  # fmt: skip
def test_cocos_text_becomes_run_lengths(text, runs):
    assert decode_runs(text) == runs


def test_pycocotools_masks_come_out_exactly():
    y, x = np.mgrid[:200, :150]
    distance = (y - 90) ** 2 + (x - 70) ** 2
    ring = (distance < 50**2) & (distance >= 20**2)
    ring[180:, 140:] = True
    np.testing.assert_array_equal(fill_runs(decode_runs(RING), (200, 150), by_columns=True), ring)
    small = np.zeros((6, 7), bool)
    small[1:4, 2:5] = small[4, 6] = small[0, 0] = True
    np.testing.assert_array_equal(fill_runs(decode_runs("01<2G0009NE"), (6, 7), by_columns=True), small)


def test_run_lengths_go_down_the_columns_in_coco_and_along_the_rows_in_cvat():
    np.testing.assert_array_equal(fill_runs([2, 3, 1], (2, 3), by_columns=False), [[0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(fill_runs([2, 3, 1], (2, 3), by_columns=True), [[0, 1, 1], [0, 1, 0]])


@pytest.mark.parametrize("runs", [[2, 3], [2, 3, 2], [-1, 7], []])
def test_run_lengths_that_do_not_fill_the_mask_are_refused(runs):
    with pytest.raises(DataError, match="expected run lengths that add up to 2x3 pixels"):
        fill_runs(runs, (2, 3), by_columns=True)


def test_text_without_run_lengths_is_refused():
    for text in ("06 1", "06é", "0P"):
        with pytest.raises(DataError, match="run lengths"):
            decode_runs(text)


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
    larger = shapes[0].repeat(4, 0).repeat(4, 1)
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
