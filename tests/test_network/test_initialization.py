import numpy as np
import pytest

from deeplabctl.network import ARCHITECTURES


def test_random_start_follows_he_with_a_dirac_kernel_and_the_papers_classifier():
    weights = ARCHITECTURES["largefov"].random_weights(21, 0.5, seed=1)
    assert weights["conv1_1/kernel"].std() == pytest.approx(np.sqrt(2 / 27) / 7, rel=0.05)
    kernel, bias = weights["conv4_2/kernel"], weights["conv4_2/bias"]
    through = kernel[1, 1, np.arange(256), np.arange(256)]
    assert through.mean() == pytest.approx(0.8 * np.sqrt(0.5), rel=0.01)
    kernel[1, 1, np.arange(256), np.arange(256)] -= through.mean()
    assert kernel.std() == pytest.approx(0.8 * np.sqrt(0.5) * np.sqrt(2 / (9 * 256)), rel=0.01)
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-4)
    assert weights["fc8_voc12/kernel"].std() == pytest.approx(0.01, rel=0.05)
    assert not any(array.any() for name, array in weights.items() if name.endswith("/bias"))
    assert bias.shape == (256,)


def test_random_start_is_a_function_of_the_seed():
    one, same, other = (ARCHITECTURES["largefov"].random_weights(3, 0.1, seed) for seed in (1, 1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert name.endswith("/bias") or (one[name] != other[name]).any()
