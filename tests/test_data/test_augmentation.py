"""Crops, scales and changes of colour, against Caffe, OpenCV and Pillow."""

import functools
import json

import numpy as np
import pytest
from caffe_files import DATA
from family_files import family
from PIL import Image, ImageEnhance

from deeplabctl import network
from deeplabctl.data import augmentation
from deeplabctl.data.augmentation import Augment, change_colors, prepare_crop, rescale, rescale_as_opencv
from deeplabctl.network.architecture import CAFFE_PREPROCESSING

augment = functools.partial(augmentation.augment, preprocessing=CAFFE_PREPROCESSING)
preprocess = functools.partial(network.preprocess, architecture="largefov")

CASES = ["test65", "test97", "train65_1", "train65_3", "train65_4", "train97_1", "train97_3"]


@pytest.mark.parametrize("case", CASES)
def test_crop_pads_and_mirrors_as_caffes_data_layer(case):
    layer = np.load(DATA / "data_layer_small.npz")
    params = json.loads(str(layer["params"]))[case]
    image, label = layer["image_bgr_u8"][..., ::-1], layer["label_u8"]
    expected = layer[f"{case}/data"][0].transpose(1, 2, 0)
    size, top, left = expected.shape[0], params["h_off"], params["w_off"]
    window = np.s_[top : top + size, left : left + size]
    pixels, cropped = prepare_crop(
        image[window], label[window], size, CAFFE_PREPROCESSING, mirror=bool(params["mirror"])
    )
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(cropped, layer[f"{case}/label"][0, 0])


def test_preprocess_turns_rgb_into_bgr_and_takes_the_mean():
    pixel = preprocess(np.array([[[255, 0, 128]]], np.uint8))[0, 0]
    np.testing.assert_array_equal(pixel, np.float32([128, 0, 255]) - np.float32([104.008, 116.669, 122.675]))


def test_random_crop_pads_label_with_void_not_background_and_image_with_zero():
    image, label = np.full((20, 30, 3), 200, np.uint8), np.zeros((20, 30), np.uint8)
    pixels, cropped = augment(image, label, Augment(crop_size=33), np.random.default_rng(0))
    padding = cropped == 255
    assert padding.sum() == 33 * 33 - 20 * 30
    assert (pixels[padding] == 0).all()
    assert (pixels[~padding] != 0).all()


def coordinates(height, width):
    """Return an image whose pixels tell where they were."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8), (rows % 200).astype(np.uint8)


def test_random_crops_reach_every_offset_and_mirror_half_of_the_time():
    image, label = coordinates(37, 36)
    offsets, mirrored = set(), 0
    for seed in range(400):
        pixels, cropped = augment(image, label, Augment(crop_size=33), np.random.default_rng(seed))
        corner = np.rint(pixels[0, 0] + np.float32([104.008, 116.669, 122.675]))[::-1]
        flipped = pixels[0, 0, 1] > pixels[0, -1, 1]
        mirrored += flipped
        left = corner[1] - 32 if flipped else corner[1]
        offsets.add((int(corner[0]), int(left)))
        assert cropped[0, 0] == corner[0]
    assert offsets == {(top, left) for top in range(5) for left in range(4)}
    assert 160 < mirrored < 240


def test_turns_are_quarters_each_alike_and_change_nothing_else():
    image, label = coordinates(33, 33)
    counts = [0, 0, 0, 0]
    for seed in range(200):
        settings = {"crop_size": 17, "jitter": 0.1}
        straight = augment(image, label, Augment(**settings), np.random.default_rng(seed))
        turned = augment(image, label, Augment(**settings, turns=True), np.random.default_rng(seed))
        found = [all(map(np.array_equal, (np.rot90(part, k) for part in straight), turned)) for k in range(4)]
        assert sum(found) == 1
        counts[found.index(True)] += 1
    assert min(counts) > 30


def test_mirror_off_never_mirrors_and_scale_one_resizes_nothing():
    image, label = coordinates(33, 33)
    for seed in range(20):
        pixels, cropped = augment(image, label, Augment(crop_size=33, mirror=False), np.random.default_rng(seed))
        np.testing.assert_array_equal(pixels, preprocess(image))
        np.testing.assert_array_equal(cropped, label)


def test_scaled_label_keeps_its_values_and_lies_on_its_image():
    label = np.zeros((40, 60), np.uint8)
    label[10:30, 20:50], label[10:30, 20] = 7, 255
    image = np.repeat((label == 7)[..., None] * np.uint8(200), 3, axis=2)
    for scale in (0.5, 0.8, 1.25, 2.0):
        bigger, shrunk = rescale(image, label, scale)
        assert shrunk.shape == (round(40 * scale), round(60 * scale)) == bigger.shape[:2]
        assert set(np.unique(shrunk)) <= {0, 7, 255}
        agreement = (bigger[..., 0] > 100) == (shrunk == 7)
        assert agreement.mean() > 0.97


def test_jitter_changes_brightness_within_its_bounds():
    image, label = np.full((33, 33, 3), 100, np.uint8), np.zeros((33, 33), np.uint8)
    seen = [
        augment(image, label, Augment(crop_size=33, jitter=0.2), np.random.default_rng(seed))[0][0, 0, 0] + 104.008
        for seed in range(50)
    ]
    assert 79 < min(seen) < 90
    assert 110 < max(seen) < 121


def photo_with_a_rare_class():
    """Return an image and its label: class 0, half void, and one pixel of class 3 at (50, 70)."""
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    label = np.zeros((80, 100), np.uint8)
    label[:, :50] = 255
    label[50, 70] = 3
    return image, label


def test_crops_around_classes_choose_each_class_alike_however_rare_it_is():
    image, label = photo_with_a_rare_class()
    settings = Augment(crop_size=33, mirror=False, class_crops=1.0)
    centred, centres = 0, set()
    for seed in range(400):
        _, cropped = augment(image, label, settings, np.random.default_rng(seed))
        centred += cropped[16, 16] == 3
        centres.add(cropped[16, 16])
    assert 160 < centred < 240
    assert centres == {0, 3}  # never about a void pixel


def test_crops_around_classes_stay_in_the_image_where_it_is_large_enough():
    image, label = np.full((40, 60, 3), 9, np.uint8), np.full((40, 60), 255, np.uint8)
    label[0, 59] = 1
    pixels, cropped = augment(
        image, label, Augment(crop_size=33, mirror=False, class_crops=1.0), np.random.default_rng(0)
    )
    assert cropped[0, 32] == 1
    assert (pixels == preprocess(image[:1, :1])).all()  # no padding


def test_a_share_of_the_crops_is_around_classes_and_the_others_are_the_same_as_without():
    image, label = photo_with_a_rare_class()
    same = 0
    for seed in range(200):
        plain, half = (
            augment(image, label, Augment(crop_size=33, class_crops=share), np.random.default_rng(seed))[0]
            for share in (0.0, 0.5)
        )
        same += np.array_equal(plain, half)
    assert 80 < same < 120


def test_label_that_is_all_void_is_cropped_anywhere():
    image, label = np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 255, np.uint8)
    assert (augment(image, label, Augment(crop_size=33, class_crops=1.0), np.random.default_rng(0))[1] == 255).all()


@pytest.mark.parametrize("setting", ["jitter", "gamma", "contrast", "saturation", "channel_gain"])
def test_changes_of_colour_leave_the_label_and_the_place_of_the_crop(setting):
    image, label = coordinates(80, 100)
    image = image // 2 + 60
    differences = []
    for seed in range(10):
        plain, place = augment(image, label, Augment(crop_size=33), np.random.default_rng(seed))
        changed, same_place = augment(
            image, label, Augment(crop_size=33, **{setting: 0.4}), np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(place, same_place)
        differences.append(np.abs(changed - plain).max())
        assert np.corrcoef(changed[..., 1].ravel(), plain[..., 1].ravel())[0, 1] > 0.9
    assert 2 < np.median(differences) < 100


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
    image, label = np.full((40, 40, 3), 120, np.uint8), np.zeros((40, 40), np.uint8)
    settings = Augment(crop_size=65, scales=(0.5, 0.75, 1.0, 1.25, 1.5), mirror=False)
    widths = []
    for seed in range(500):
        _, crop = augment(image, label, settings, np.random.default_rng(seed))
        widths.append(int((crop[0] == 0).sum()))
    counts = {width: widths.count(width) for width in set(widths)}
    assert set(counts) == {20, 30, 40, 50, 60}
    assert min(counts.values()) > 70
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    assert 0.5 + (1.5 - 0.5) * rng.random() == same.uniform(0.5, 1.5)


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
    ours = change_colors(photo, **{setting: factor})
    theirs = np.asarray(enhancer(Image.fromarray(photo)).enhance(factor))
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # Pillow rounds the grey, too, and truncates
    assert np.abs(ours.astype(int) - photo).max() > 5


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gamma_is_an_exponent_of_the_share_of_white(gamma):
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    expected = np.rint(255 * (np.arange(256) / 255) ** gamma)
    assert np.abs(change_colors(levels, gamma=gamma)[:, 0, 0] - expected).max() <= 1e-3


def test_gains_change_each_channel_by_itself():
    image = np.full((2, 2, 3), 100, np.uint8)
    np.testing.assert_array_equal(change_colors(image, gains=(1.5, 1.0, 0.5))[0, 0], [150, 100, 50])


def test_saturation_of_zero_leaves_greys_and_no_change_leaves_the_image(photo):
    grey = change_colors(photo, saturation=0)
    assert (grey == grey[..., :1]).all()
    assert change_colors(photo) is photo


def test_values_are_clipped_not_wrapped():
    image = np.array([[[0, 128, 255]]], np.uint8)
    np.testing.assert_array_equal(change_colors(image, brightness=3.0)[0, 0], [0, 255, 255])
    np.testing.assert_array_equal(change_colors(image, brightness=4.0, contrast=9.0)[0, 0], [0, 255, 255])
