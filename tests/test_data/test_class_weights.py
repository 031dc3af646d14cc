import numpy as np

from deeplabctl.data.class_weights import median_frequency_weights, sqrt_median_frequency_weights
from deeplabctl.data.file_facts import LabelFacts


def test_median_frequency_weights_by_hand():
    # Class 0: 30 of 40 + 10 of 20 valid pixels -> 40/60; class 1: 10 of 40 -> 1/4; class 2: 10 of 20 -> 1/2; 3: absent.
    facts = [LabelFacts(10, 5, {0: 30, 1: 10, 255: 10}), LabelFacts(5, 4, {0: 10, 2: 10})]
    np.testing.assert_allclose(median_frequency_weights(facts, 4), [0.5 / (2 / 3), 2.0, 1.0, 0.0])


def test_square_roots_of_the_weights():
    facts = [LabelFacts(2, 5, {0: 8, 1: 2})]
    np.testing.assert_allclose(sqrt_median_frequency_weights(facts, 3), [(0.5 / 0.8) ** 0.5, (0.5 / 0.2) ** 0.5, 0.0])


def test_labels_without_a_valid_pixel_give_no_weights():
    assert median_frequency_weights([LabelFacts(2, 5, {255: 10})], 3) == [0.0, 0.0, 0.0]
