import ml_dtypes
import numpy as np
import pytest

from deeplabctl.engine.depthwise_gradients import DepthwiseGradients, is_possible
from deeplabctl.engine.layers import limits_of, window_of
from deeplabctl.network.ops import LINEAR, RELU, RELU6, DepthwiseConvolution

CASES = [  # images, height, width, channels, stride, dilation
    (2, 13, 9, 16, 1, 1),
    (1, 40, 33, 48, 1, 2),
    (2, 9, 11, 32, 1, 12),
    (1, 1, 1, 16, 1, 1),
    (2, 33, 17, 16, 2, 1),
    (1, 32, 18, 32, 2, 1),
    (1, 2, 7, 16, 2, 1),
    (1, 90, 70, 80, 2, 1),
]
LIMITS = {"linear": limits_of(LINEAR), "relu": limits_of(RELU), "relu6": limits_of(RELU6)}


def problem(case, dtype, activation="linear"):
    """Return images, kernel, result, gradient and window; the result is computed literally, in float64."""
    count, height, width, channels, stride, dilation = case
    random = np.random.default_rng(height * channels)
    images = random.normal(size=(count, height, width, channels)).astype(dtype)
    kernel = random.normal(size=(3, 3, channels, 1)).astype(dtype).astype(np.float32)
    row = DepthwiseConvolution("", 0, stride=stride, dilation=dilation, same=True)
    window = window_of(row, (height, width))
    result = sum(seen * kernel[i, j, :, 0] for i, j, seen, _ in windows(images, window))
    result = np.clip(result, *LIMITS[activation]).astype(dtype)
    return images, kernel, result, random.normal(size=result.shape).astype(dtype), window


def windows(images, window):
    """Yield (row, column, images as the kernel's place sees them, where these are in a framed image)."""
    _, stride, dilation, above, before = window
    height, width = images.shape[1:3]
    framed = np.pad(images.astype(float), ((0, 0), (above, 2 * dilation), (before, 2 * dilation), (0, 0)))
    for i in range(3):
        for j in range(3):
            starts = i * dilation, j * dilation
            ends = (
                start + -(-length // stride) * stride for start, length in zip(starts, (height, width), strict=True)
            )
            seen = (slice(None), *(slice(*pair, stride) for pair in zip(starts, ends, strict=True)))
            yield i, j, framed[seen], seen


def literal(images, kernel, gradient, window):
    _, _, dilation, above, before = window
    framed = np.pad(np.zeros(images.shape), ((0, 0), *([2 * dilation + 2] * 2,) * 2, (0, 0)))
    of_kernel = np.zeros(kernel.shape)
    for i, j, seen, place in windows(images, window):
        of_kernel[i, j, :, 0] = (seen * gradient).sum((0, 1, 2))
        framed[place] += gradient * kernel[i, j, :, 0]
    height, width = images.shape[1:3]
    of_images = framed[:, above:, before:][:, :height, :width]
    return of_images, of_kernel, gradient.sum((0, 1, 2))


@pytest.mark.parametrize("activation", list(LIMITS))
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_the_literal_ones(case, dtype, activation):
    images, kernel, result, above, window = problem(case, dtype, activation)
    least, most = LIMITS[activation]
    passed = ~((result.astype(float) <= least) | (result.astype(float) >= most))
    expected = literal(images, kernel, above.astype(float) * passed, window)
    found = DepthwiseGradients(1)(images, kernel, result, above, window, (least, most))
    assert found[0].dtype == dtype
    for one, other, limit in zip(found, expected, (2e-7 if dtype is np.float32 else 4e-3, 3e-6, 3e-6), strict=True):
        assert np.abs(one.astype(float) - other).max() <= limit * max(1, np.abs(other).max())


def test_results_do_not_depend_on_the_threads():
    images, kernel, result, above, window = problem(CASES[-1], np.float32)
    several = [DepthwiseGradients(n)(images, kernel, result, above, window, LIMITS["linear"]) for n in (1, 3)]
    for one, other in zip(*several, strict=True):
        assert one.tobytes() == other.tobytes()


def test_what_is_not_a_number_stays():
    images, kernel, result, above, window = problem(CASES[0], np.float32)
    above[0, 3, 3, 5] = np.nan
    of_images, of_kernel, of_bias = DepthwiseGradients(1)(images, kernel, result, above, window, LIMITS["linear"])
    assert np.isnan(of_images[0, 3, 3, 5])
    assert np.isnan(of_kernel[:, :, 5]).all()
    assert np.flatnonzero(np.isnan(of_bias)).tolist() == [5]


def test_lines_of_channels_and_small_strides_are_possible():
    assert is_possible(32, 2, 1)
    assert is_possible(32, 1, 4)
    assert not is_possible(24, 1, 1)
    assert not is_possible(32, 3, 1)
    assert not is_possible(32, 2, 2)
