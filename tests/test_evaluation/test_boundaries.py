"""The trimap and the boundary F1 against slow, literal transcriptions of their definitions."""

import math
import time

import numpy as np
import pytest

from deeplabctl.evaluation import boundaries
from deeplabctl.evaluation.boundaries import BANDS, BoundaryF1, Trimap, band_of, boundary_f1
from deeplabctl.evaluation.metrics import ConfusionMatrix

VOID = 255


def blobs(seed, size=(37, 45), classes=5, void=True):
    """Draw a label of rectangles, with void rims where asked for, and a prediction that is somewhat off."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    for _ in range(4):
        top, left = rng.integers(0, size[0] - 5), rng.integers(0, size[1] - 5)
        height, width = rng.integers(4, 20, 2)
        if void:
            label[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2] = VOID
        label[top : top + height, left : left + width] = rng.integers(1, classes)
    prediction = np.roll(np.where(label == VOID, 0, label), rng.integers(-4, 5, 2), (0, 1))
    prediction[rng.random(size) < 0.03] = rng.integers(0, classes)
    return label, prediction.astype(np.uint8)


def literal_trimap(label, width):
    """Dilate void by a square of 2 * width + 1 pixels, as MyVOCevalsegBoundary.m does, and leave void itself out."""
    inside = np.zeros(label.shape, bool)
    for row, column in np.argwhere(label == VOID):
        inside[max(row - width, 0) : row + width + 1, max(column - width, 0) : column + width + 1] = True
    return inside & (label != VOID)


@pytest.mark.parametrize("seed", range(3))
def test_trimap_around_void_is_the_dilation_of_the_papers_script(seed):
    label, prediction = blobs(seed)
    trimap = Trimap(5)
    trimap.update(label, prediction)
    scores, pixels = trimap.mean_iou(), trimap.pixels()
    for width in range(1, BANDS + 1):
        inside = literal_trimap(label, width)
        matrix = ConfusionMatrix(5)
        matrix.update(np.where(inside, label, VOID), prediction)
        assert pixels[width - 1] == inside.sum()
        assert scores[width - 1] == pytest.approx(matrix.mean_iou(), abs=1e-12)


def test_trimap_around_boundaries_begins_with_the_pixels_on_both_sides():
    label, _ = blobs(0, void=False)
    height, width = label.shape
    expected = np.zeros(label.shape, bool)
    for row in range(height):
        for column in range(width):
            for other_row, other_column in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if 0 <= other_row < height and 0 <= other_column < width:
                    expected[row, column] |= label[other_row, other_column] != label[row, column]
    bands = band_of(label, has_void=False)
    np.testing.assert_array_equal(bands == 1, expected)
    for reach in (2, 5, 12):
        dilated = np.zeros(label.shape, bool)
        for row, column in np.argwhere(expected):
            dilated[max(row - reach + 1, 0) : row + reach, max(column - reach + 1, 0) : column + reach] = True
        np.testing.assert_array_equal(bands <= reach, dilated)


def test_image_without_void_or_without_boundary_adds_nothing_to_the_trimap():
    for has_void in (True, False):
        trimap = Trimap(3, has_void=has_void)
        trimap.update(np.ones((50, 60), np.uint8), np.ones((50, 60), np.uint8))
        assert trimap.pixels()[-1] == 0
        assert np.isnan(trimap.mean_iou()).all()


def test_trimaps_of_several_images_are_one_matrix_not_a_mean_of_scores():
    whole, parts = Trimap(5), Trimap(5)
    counted = np.zeros((5, 5), np.int64)
    for seed in range(4):
        label, prediction = blobs(seed)
        whole.update(label, prediction)
        part = Trimap(5)
        part.update(label, prediction)
        parts.merge(part)
        inside = literal_trimap(label, 7)
        np.add.at(counted, (label[inside], prediction[inside]), 1)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.counts[:7].sum(0), counted)


def literal_contour(mask):
    """Return the pixels of a binary map with one of the four neighbours outside of it, the image's outside included."""
    height, width = mask.shape
    points = []
    for row, column in np.argwhere(mask):
        neighbours = ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1))
        if not all(0 <= r < height and 0 <= c < width and mask[r, c] for r, c in neighbours):
            points.append((row, column))
    return points


def literal_f1(label, prediction, index, theta):
    """Compute Csurka et al.'s F1 of a class as the paper writes it, void removed from both maps."""
    wanted = literal_contour((label == index) & (label != VOID))
    found = literal_contour((prediction == index) & (label != VOID))
    if not wanted:
        return math.nan
    if not found:
        return 0.0

    def near(point, others):
        return any((point[0] - row) ** 2 + (point[1] - column) ** 2 < theta**2 for row, column in others)

    precision = sum(near(point, wanted) for point in found) / len(found)
    recall = sum(near(point, found) for point in wanted) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(
    ("seed", "tolerance"),
    [(0, 0.0075), (1, 0.0075), (2, 0.03), (3, 0.06), (4, 0.1), (5, 0.33), (6, 0.36), (7, 0.5)],  # MARGIN is 0.31
)
@pytest.mark.parametrize("void", [True, False])
def test_boundary_f1_is_the_papers_formula(seed, tolerance, void):
    label, prediction = blobs(seed, void=void)
    scores = boundary_f1(label, prediction, 6, tolerance)
    theta = tolerance * math.hypot(*label.shape)
    expected = [literal_f1(label, prediction, index, theta) for index in range(6)]
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=0)
    assert np.isnan(scores[5])


def test_contour_at_exactly_the_tolerance_is_no_match():
    label, prediction = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    label[10, 10:20], prediction[13, 10:20] = 1, 1
    assert boundary_f1(label, prediction, 2, 3 / 50)[1] == 0  # the diagonal is 50 pixels, and 3 < 3 does not hold
    assert boundary_f1(label, prediction, 2, 3.01 / 50)[1] == 1


def test_contour_at_exactly_a_long_tolerance_is_no_match():
    label, prediction = np.zeros((300, 400), np.uint8), np.zeros((300, 400), np.uint8)
    label[100, 100:200], prediction[160, 100:200] = 1, 1
    assert boundary_f1(label, prediction, 2, 60 / 500)[1] == 0
    assert boundary_f1(label, prediction, 2, 60.01 / 500)[1] == 1


def test_long_distances_do_not_take_time_with_their_square():
    label = np.zeros((900, 900), np.uint8)
    prediction = label.copy()
    label[:300], prediction[-300:] = np.arange(900) // 20 % 2, np.arange(900) // 20 % 2
    begin = time.process_time()
    boundary_f1(label, prediction, 2, 0.2)  # 255 pixels, of which 200,000 offsets are shorter: 15 s
    assert time.process_time() - begin < 5


def test_class_that_is_not_predicted_has_boundary_f1_zero_and_one_not_labelled_has_none():
    label, prediction = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    label[5:9, 5:9] = 1
    prediction[12:15, 12:15] = 2
    scores = boundary_f1(label, prediction, 3)
    assert scores[1] == 0
    assert np.isnan(scores[2])
    assert scores[0] < 1


def test_what_is_predicted_on_void_does_not_change_the_boundary_f1():
    label, prediction = blobs(1)
    other = np.where(label == VOID, 4, prediction).astype(np.uint8)
    np.testing.assert_array_equal(boundary_f1(label, prediction, 5), boundary_f1(label, other, 5))


def test_boundary_f1_is_averaged_over_the_classes_of_an_image_and_then_over_the_images(monkeypatch):
    of_images = iter([[1.0, 0.5, np.nan], [0.2, np.nan, np.nan], [np.nan] * 3])  # the last is all void
    monkeypatch.setattr(boundaries, "boundary_f1", lambda *_: np.array(next(of_images)))
    total = BoundaryF1(3)
    for _ in range(3):
        image = BoundaryF1(3)
        image.update(None, None)
        total.merge(image)
    assert total.to_dict()["boundary_f1"] == pytest.approx((0.75 + 0.2) / 2)
    np.testing.assert_allclose(total.of_classes()["boundary_f1"], [0.6, 0.5, np.nan])
    assert BoundaryF1(3).to_dict() == {"boundary_f1": None}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (200, 3)])
def test_any_size_can_be_scored(shape):
    label = np.zeros(shape, np.uint8)
    label[0, 0] = 1
    np.testing.assert_array_equal(boundary_f1(label, label, 2)[1], 1)
    for has_void in (True, False):
        Trimap(2, has_void=has_void).update(label, label)


def test_trimap_ends_at_forty_pixels():
    label = np.zeros((5, 60), np.uint8)
    label[:, 0] = VOID
    trimap = Trimap(2)
    trimap.update(label, label)
    assert trimap.pixels().tolist() == [5 * width for width in range(1, 41)]


def test_void_is_in_no_trimap_around_boundaries():
    label, _ = blobs(2)
    bands = band_of(label, has_void=False)
    assert (bands[label == VOID] == 0).all()
    assert (bands[label != VOID] > 0).all()


def test_line_of_the_trimap_says_what_it_is():
    expected = "mIoU of pixels near {} only (trimap): within 1 px -, 5 px -, 10 px -, 20 px -, 40 px -"
    assert Trimap(2).line() == expected.format("void")
    assert Trimap(2, has_void=False).line() == expected.format("label boundaries")
