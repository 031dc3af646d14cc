"""The adaptive CRF: labels that are weak in the whole image send no messages."""

import numpy as np
import pytest
from crf_problems import problem, refine_energy, with_weak_labels

from deeplabctl.crf import CrfParams, refine


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_adaptive_changes_marginals_by_less_than_5e_3(normalization):
    image, scores = with_weak_labels()
    params = CrfParams(normalization=normalization)
    exact, adaptive = refine(image, scores, params), refine(image, scores, params, adaptive=True)
    assert 1e-5 < abs(adaptive - exact).max() < 5e-3  # the weak ones were dropped, and it did not matter
    np.testing.assert_array_equal(adaptive.argmax(-1), exact.argmax(-1))
    np.testing.assert_allclose(adaptive.sum(-1), 1, atol=1e-5)
    for refined in (adaptive, exact):  # the weak ones divide what they have nearly by their scores
        shares, expected = (weak / weak.sum(-1, keepdims=True) for weak in (refined[..., 3:], scores[..., 3:]))
        np.testing.assert_allclose(shares, expected, atol=2e-3)


@pytest.mark.parametrize("labels", [2, 7, 8, 9, 21, 60])
def test_adaptive_drops_nothing_where_every_label_is_strong_somewhere(labels):
    image, energy = problem(30, 41, labels)
    for label in range(labels):
        energy[label // 20 * 4 : label // 20 * 4 + 4, label % 20 * 2 : label % 20 * 2 + 2, label] = -50
    exact, adaptive = (refine_energy(image, energy, adaptive=adaptive) for adaptive in (False, True))
    np.testing.assert_array_equal(adaptive, exact)


def test_adaptive_keeps_weak_labels_that_sum_up():
    image, energy = problem(20, 30, 9)
    energy[..., 2:] += 20
    for label in range(2, 9):  # a pixel for each where it has 0.03: two may not be dropped, and one saves nothing
        energy[label, label, :2] = 0
        energy[label, label, label] = -np.log(0.03 / 0.485)
    params = CrfParams(pos_w=0.01, bi_w=0.01)
    exact, adaptive = (refine_energy(image, energy, params, adaptive=adaptive) for adaptive in (False, True))
    np.testing.assert_array_equal(adaptive, exact)


def test_adaptive_counts_the_labels_that_were_dropped_before():
    image, rng = np.full((5, 4, 3), 128, np.uint8), np.random.default_rng(15)
    energy = 3 * rng.standard_normal(255) + 0.3 * rng.standard_normal((5, 4, 255))
    params = CrfParams(pos_w=0.5, bi_w=0.5)
    exact, adaptive = (refine_energy(image, energy, params, adaptive=adaptive) for adaptive in (False, True))
    assert 1e-5 < abs(adaptive - exact).max() < 5e-3  # 1e-2 where each iteration may drop as much again


def test_adaptive_survives_labels_that_are_all_alike():
    image, _ = problem(8, 9, 60)
    refined = refine_energy(image, np.zeros((8, 9, 60), np.float32), adaptive=True)
    np.testing.assert_allclose(refined, 1 / 60, rtol=1e-4)
