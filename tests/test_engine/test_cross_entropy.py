import numpy as np
import pytest

from deeplabctl.engine.cross_entropy import UpsampledCrossEntropy

CASES = [  # images, cells, classes, pixels, half pixels
    (2, (5, 7), 11, (33, 49), False),
    (1, (9, 4), 21, (65, 40), False),
    (1, (3, 3), 150, (17, 17), False),
    (2, (6, 5), 3, (48, 37), True),
    (1, (1, 1), 2, (9, 9), False),
]


def shares(pixels, cells, half_pixel):
    """Return how much each pixel of an axis has of each cell, (pixels, cells)."""
    found = np.zeros((pixels, cells))
    for pixel in range(pixels):
        at = (pixel + 0.5) * cells / pixels - 0.5 if half_pixel else pixel * (cells - 1) / max(1, pixels - 1)
        below = int(np.floor(at))
        for cell, share in ((below, 1 - (at - below)), (below + 1, at - below)):
            found[pixel, min(max(cell, 0), cells - 1)] += share
    return found


def problem(case):
    count, cells, classes, pixels, _ = case
    random = np.random.default_rng(classes)
    logits = (3 * random.normal(size=(count, *cells, classes))).astype(np.float32)
    labels = random.integers(0, classes, (count, *pixels)).astype(np.int32)
    weights = (random.random(labels.shape) * (random.random(labels.shape) > 0.2)).astype(np.float32)
    return logits, labels, weights


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_and_gradient_are_the_literal_ones(case):
    logits, labels, weights = problem(case)
    _, cells, classes, pixels, half_pixel = case
    down, right = (shares(*sizes, half_pixel) for sizes in zip(pixels, cells, strict=True))
    large = np.einsum("yi,xj,nijc->nyxc", down, right, logits.astype(float))
    large -= large.max(-1, keepdims=True)
    probabilities = np.exp(large) / np.exp(large).sum(-1, keepdims=True)
    truth = np.eye(classes)[labels]
    loss = -(weights * np.log((probabilities * truth).sum(-1))).sum()
    gradient = np.einsum("yi,xj,nyxc->nijc", down, right, weights[..., None] * (probabilities - truth))
    sums, found = UpsampledCrossEntropy(1, half_pixel=half_pixel)(logits, labels, weights)
    assert sums == pytest.approx([loss, loss], rel=2e-6)
    assert np.abs(found - gradient).max() <= 2e-6 * np.abs(gradient).max()


def test_the_sum_to_report_is_clamped():
    logits = np.array([[[[0, 200]]]], np.float32)
    labels, weights = np.zeros((1, 2, 2), np.int32), np.ones((1, 2, 2), np.float32)
    sums, _ = UpsampledCrossEntropy(1, half_pixel=False)(logits, labels, weights)
    assert sums == pytest.approx([4 * 200, 4 * -np.log(np.finfo(np.float32).tiny)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_stays(value):
    logits, labels, weights = problem(CASES[0])
    logits[0, 2, 2, 10] = value
    sums, _ = UpsampledCrossEntropy(1, half_pixel=False)(logits, labels, weights)
    assert np.isnan(sums).all()


def test_results_do_not_depend_on_the_threads():
    results = [UpsampledCrossEntropy(threads, half_pixel=False)(*problem(CASES[0])) for threads in (1, 3)]
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()
