import numpy as np
import pytest
from family_files import family

from deeplabctl.data.augmentation import Augment, augment
from deeplabctl.data.opencv_resizing import rescale_as_opencv


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.5])
def test_resized_images_and_labels_are_opencvs(scale):
    blobs = np.load(family("scale_aug.npz"))
    image, label = rescale_as_opencv(blobs["image_bgr_u8"], blobs["label_u8"], scale)
    np.testing.assert_array_equal(label, blobs[f"lab_{scale}"], strict=True)
    difference = np.abs(image.astype(int) - blobs[f"img_{scale}"])
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01
    assert scale > 1 or not difference.any()


def test_half_size_is_the_mean_of_four_and_the_label_takes_the_first():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    half, label = rescale_as_opencv(image, image[..., 0], 0.5)
    np.testing.assert_array_equal(half, np.floor(image.reshape(2, 2, 2, 2, 3).mean((1, 3)) + 0.5))
    np.testing.assert_array_equal(label, image[::2, ::2, 0])
    assert rescale_as_opencv(image, image[..., 0], 1.0)[0] is image


def test_each_of_the_scales_is_drawn_alike_and_a_range_is_drawn_as_before():
    image, label = np.full((200, 200, 3), 120, np.uint8), np.zeros((200, 200), np.uint8)
    settings = Augment(crop_size=321, scales=(0.5, 0.75, 1.0, 1.25, 1.5), mirror=False)
    widths = []
    for seed in range(500):
        _, crop = augment(image, label, settings, np.random.default_rng(seed))
        widths.append(int((crop[0] == 0).sum()))
    counts = {width: widths.count(width) for width in set(widths)}
    assert set(counts) == {100, 150, 200, 250, 300}
    assert min(counts.values()) > 70
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    assert 0.5 + (1.5 - 0.5) * rng.random() == same.uniform(0.5, 1.5)
