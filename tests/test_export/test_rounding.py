import numpy as np
from exports import noise, small_network

from deeplabctl.export.rounding import STEPS, rounded, rounded_network
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Convolution
from deeplabctl.reporting import silent


def products_of(inputs):
    with_one = np.concatenate([inputs, np.ones((len(inputs), 1))], 1)
    return with_one.T @ with_one / len(inputs)


def test_what_one_weight_loses_an_equal_input_makes_up_for():
    # Steps of 1; both inputs are always equal, so only the sum of the last two weights counts: 0.4 + 0.4 is nearly 1.
    kernel = np.array([[127.0], [0.4], [0.4]], np.float32)
    first, shared = np.random.default_rng(0).normal(size=(2, 1000))
    result, shift = rounded(kernel, products_of(np.stack([first, shared, shared], 1)))
    assert result[:, 0].tolist() == [127, 0, 1]
    assert abs(shift[0]) < 0.1


def test_bias_makes_up_for_an_input_that_is_always_the_same():
    kernel = np.array([[127.0], [0.4]], np.float32)
    inputs = np.stack([np.random.default_rng(0).normal(size=1000), np.full(1000, 3.0)], 1)
    result, shift = rounded(kernel, products_of(inputs))
    np.testing.assert_allclose(result[:, 0], [127, 0])
    np.testing.assert_allclose(shift, [0.4 * 3], rtol=0.1)


def test_sums_change_less_than_by_rounding_each_weight_and_kernels_are_on_the_grid():
    random = np.random.default_rng(1)
    inputs = np.maximum(random.normal(size=(4000, 12)) @ random.normal(size=(12, 150)), 0)
    kernel = random.normal(size=(150, 20)).astype(np.float32)
    kernel[:, 3] = 0
    result, shift = rounded(kernel, products_of(inputs))
    step = np.abs(kernel).max(0) / STEPS
    step[3] = 1
    np.testing.assert_allclose(result / step, np.round(result / step), atol=1e-3)
    np.testing.assert_allclose(np.abs(result).max(0), np.abs(kernel).max(0), rtol=1e-6)  # as a runtime looks for it
    nearest = np.round(kernel / step) * step
    errors = [np.square(inputs @ (other - kernel) + bias).mean() for other, bias in ((result, shift), (nearest, 0))]
    assert errors[0] < errors[1] / 4


def test_network_keeps_its_operations_and_the_named_ones_stay_as_they_are():
    network = small_network()
    net = ARCHITECTURES["largefov"].graph(network.weights)
    images = [noise(33, 41, seed) for seed in range(2)]
    result = rounded_network(net, "largefov", network.weights, {"fc8_voc12"}, images, silent)
    assert [one.name for one in result] == [one.name for one in net]
    for before, after in zip(net, result, strict=True):
        assert [one.name for one in after.inputs] == [one.name for one in before.inputs]
        assert all(one in result for one in after.inputs)
        if isinstance(before.op, Convolution):
            changed = not np.array_equal(before.arrays["kernel"], after.arrays["kernel"])
            assert changed == (before.name != "fc8_voc12")
            kernel = before.arrays["kernel"]
            np.testing.assert_allclose(after.arrays["kernel"], kernel, atol=2.5 * np.abs(kernel).max() / STEPS)
