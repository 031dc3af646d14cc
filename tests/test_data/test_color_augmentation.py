import numpy as np
import pytest
from PIL import Image, ImageEnhance

from deeplabctl.data.color_augmentation import ColorChange


@pytest.fixture
def photo():
    """Return colours that no change below clips."""
    rng = np.random.default_rng(0)
    return rng.integers(60, 140, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("factor", [0.6, 1.3])
@pytest.mark.parametrize(
    ("setting", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
def test_changes_are_pillows(photo, setting, enhancer, factor):
    ours = ColorChange(**{setting: factor}).apply(photo)
    theirs = np.asarray(enhancer(Image.fromarray(photo)).enhance(factor))
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # Pillow rounds the grey, too, and truncates
    assert np.abs(ours.astype(int) - photo).max() > 5


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gamma_is_an_exponent_of_the_share_of_white(gamma):
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    expected = np.rint(255 * (np.arange(256) / 255) ** gamma)
    assert np.abs(ColorChange(gamma=gamma).apply(levels)[:, 0, 0] - expected).max() <= 1e-3


def test_gains_change_each_channel_by_itself():
    image = np.full((2, 2, 3), 100, np.uint8)
    np.testing.assert_array_equal(ColorChange(gains=(1.5, 1.0, 0.5)).apply(image)[0, 0], [150, 100, 50])


def test_saturation_of_zero_leaves_greys_and_no_change_leaves_the_image(photo):
    grey = ColorChange(saturation=0).apply(photo)
    assert (grey == grey[..., :1]).all()
    assert ColorChange().apply(photo) is photo


def test_values_are_clipped_not_wrapped():
    image = np.array([[[0, 128, 255]]], np.uint8)
    np.testing.assert_array_equal(ColorChange(brightness=3.0).apply(image)[0, 0], [0, 255, 255])
    np.testing.assert_array_equal(ColorChange(brightness=4.0, contrast=9.0).apply(image)[0, 0], [0, 255, 255])
