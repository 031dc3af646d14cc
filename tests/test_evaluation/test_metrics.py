import numpy as np
import pytest

from deeplabctl.evaluation.metrics import ConfusionMatrix


def test_scores_of_a_case_worked_by_hand():
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([[0, 0, 1], [1, 255, 0]]), np.array([[0, 1, 1], [1, 3, 2]]))
    # class 0: 1 hit, 3 labelled, 1 predicted; class 1: 2, 2, 3; class 2: predicted, never labelled; 3: only on void
    np.testing.assert_array_equal(matrix.iou(), [1 / 3, 2 / 3, 0, np.nan])
    np.testing.assert_array_equal(matrix.accuracy(), [1 / 3, 1, np.nan, np.nan])
    assert matrix.mean_iou() == pytest.approx(1 / 3)
    assert matrix.mean_accuracy() == pytest.approx(2 / 3)
    assert matrix.pixel_accuracy() == pytest.approx(3 / 5)
    assert matrix.fw_iou() == pytest.approx((3 * 1 / 3 + 2 * 2 / 3) / 5)
    assert matrix.pixels().tolist() == [3, 2, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 9, (40, 50)).astype(np.uint8)
    prediction = np.where(rng.random((40, 50)) < 0.6, label, rng.integers(0, 8, (40, 50))).astype(np.uint8)
    label[rng.random((40, 50)) < 0.1] = 255
    prediction[label == 255] = rng.integers(0, 256, (40, 50))[label == 255]  # out of range, where it does not count
    matrix = ConfusionMatrix(12)
    for half in (slice(0, 13), slice(13, 40)):
        part = ConfusionMatrix(12)
        part.update(label[half], prediction[half])
        matrix.merge(part)
    y, p = label[label != 255], prediction[label != 255]
    present = np.union1d(y, p)
    jaccard = sklearn.jaccard_score(y, p, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(matrix.iou()[present], jaccard, rtol=1e-12)
    assert np.isnan(np.delete(matrix.iou(), present)).all()
    np.testing.assert_array_equal(matrix.counts[:9, :9], sklearn.confusion_matrix(y, p, labels=range(9)))
    assert matrix.mean_iou() == pytest.approx(jaccard.mean(), rel=1e-12)
    assert matrix.pixel_accuracy() == pytest.approx(sklearn.accuracy_score(y, p), rel=1e-12)
    assert matrix.mean_accuracy() == pytest.approx(sklearn.balanced_accuracy_score(y, p), rel=1e-12)
    weights = sklearn.jaccard_score(y, p, average="weighted")
    assert matrix.fw_iou() == pytest.approx(weights, rel=1e-12)


@pytest.mark.parametrize(
    ("label", "prediction"),
    [
        ([0, 0, 1, 1, 2], [0, 0, 1, 1, 2]),  # all right
        ([0, 0, 0, 0], [1, 1, 2, 2]),  # all wrong; 1 and 2 are in predictions alone
        ([1, 255, 255, 1], [1, 0, 200, 0]),  # 200 is out of range, but on void
        ([3, 3, 3, 3], [3, 3, 3, 3]),  # one class
        ([0, 5, 5, 5], [5, 5, 0, 5]),
    ],
)
def test_scores_of_odd_cases_are_scikit_learns(label, prediction):
    sklearn = pytest.importorskip("sklearn.metrics")
    label, prediction = np.array([label], np.uint8), np.array([prediction], np.uint8)
    matrix = ConfusionMatrix(7)
    matrix.update(label, prediction)
    y, p = label[label != 255], prediction[label != 255]
    present = np.union1d(y, p)
    jaccard = sklearn.jaccard_score(y, p, labels=present, average=None, zero_division=0)
    assert matrix.mean_iou() == pytest.approx(jaccard.mean(), abs=1e-12)
    assert matrix.pixel_accuracy() == pytest.approx(sklearn.accuracy_score(y, p), abs=1e-12)
    recall = sklearn.recall_score(y, p, labels=np.unique(y), average=None, zero_division=0)
    assert matrix.mean_accuracy() == pytest.approx(recall.mean(), abs=1e-12)
    assert matrix.fw_iou() == pytest.approx(sklearn.jaccard_score(y, p, average="weighted", zero_division=0), abs=1e-12)
    np.testing.assert_array_equal(matrix.predicted(), np.bincount(p, minlength=7))


def test_nothing_counted_gives_nan_without_a_warning():
    matrix = ConfusionMatrix(3)
    matrix.update(np.full((2, 2), 255), np.zeros((2, 2), int))
    assert np.isnan(matrix.mean_iou())
    assert np.isnan(matrix.pixel_accuracy())


def test_counts_do_not_overflow_where_float32_would_stop_counting():
    matrix = ConfusionMatrix(2)
    matrix.counts[0, 0] = 2**40
    matrix.update(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    assert matrix.counts[0, 0] == 2**40 + 1


def test_probabilities_are_refused_and_not_rounded_down_to_class_0():
    matrix, label = ConfusionMatrix(2), np.array([[0, 1]])
    with pytest.raises(ValueError, match="prediction: expected integers, the class ids, got float64"):
        matrix.update(label, np.array([[0.1, 0.9]]))
    with pytest.raises(ValueError, match="label: expected integers, the class ids, got float32"):
        matrix.update(label.astype(np.float32), label)
    assert not matrix.counts.any()


def test_ids_out_of_range_and_other_shapes_are_refused_but_not_on_void():
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match="label: expected class ids 0 to 1, got 7"):
        matrix.update(np.array([7]), np.array([0]))
    with pytest.raises(ValueError, match="prediction: expected class ids 0 to 1, got 9"):
        matrix.update(np.array([0]), np.array([9]))
    with pytest.raises(ValueError, match="differ in shape"):
        matrix.update(np.zeros((2, 3)), np.zeros((3, 2)))
    matrix.update(np.array([255]), np.array([9]))
    assert matrix.counts.sum() == 0


def test_lists_and_tensors_are_counted_as_arrays():
    matrix = ConfusionMatrix(2)
    matrix.update([[0, 1], [1, 255]], [[0, 1], [0, 0]])
    assert matrix.counts.tolist() == [[1, 0], [1, 1]]


def test_class_counts_out_of_range_and_of_another_matrix_are_refused():
    for wrong in (0, -1, 256, "2"):
        with pytest.raises(ValueError, match=f"num_classes: expected 1 to 255, got {wrong!r}"):
            ConfusionMatrix(wrong)
    matrix = ConfusionMatrix(3)
    for other in (1, 2):  # one of a single class would be added to all counts
        with pytest.raises(ValueError, match=f"expected counts of 3 classes, got those of {other}"):
            matrix.merge(ConfusionMatrix(other))
