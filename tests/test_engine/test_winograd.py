import numpy as np
import pytest

from deeplabctl.engine.winograd import TILES, matrices, multiplications, tile_starts


@pytest.mark.parametrize("m", TILES)
def test_a_winograd_tile_is_the_convolution(m):
    random = np.random.default_rng(m)
    a, b, g = matrices(m)
    pixels, kernel = random.normal(size=(m + 2, m + 2)), random.normal(size=(3, 3))
    expected = [[(pixels[i : i + 3, j : j + 3] * kernel).sum() for j in range(m)] for i in range(m)]
    np.testing.assert_allclose(a @ ((g @ kernel @ g.T) * (b @ pixels @ b.T)) @ a.T, expected, atol=1e-12)


@pytest.mark.parametrize("m", TILES)
@pytest.mark.parametrize("dilation", [1, 2, 5, 12])
@pytest.mark.parametrize("length", [1, 2, 7, 12, 41])
def test_every_pixel_is_in_one_tile(length, dilation, m):
    results = [start + dilation * (1 + i) for start in tile_starts(length, dilation, m) for i in range(m)]
    assert sorted(pixel for pixel in results if pixel < length) == list(range(length))


def test_multiplications_of_a_tile_that_fits_are_those_of_the_paper():
    assert multiplications(4, 4, 1, 4) == 36
    assert multiplications(12, 6, 1, 6) == 128
    assert multiplications(2, 2, 2, 4) == 4 * 36  # four images of one pixel
