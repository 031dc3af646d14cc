"""Sheets of images with their labels, and the chart of statistics."""

import tracemalloc

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.classes import class_colors, voc_palette
from deeplabctl.data.augmentation import Augment
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.stats import SplitCounts, Statistics
from deeplabctl.network.architecture import CAFFE_PREPROCESSING
from deeplabctl.render import contact_sheet, overlay
from deeplabctl.reports.data_sets import choose_samples, draw_augmented, draw_samples, draw_statistics

CLASSES = ("background", "disc", "square")  # of `make_dataset`


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(make_dataset(tmp_path / "set", train=7))


def test_samples_are_chosen_by_the_seed_and_keep_their_order(dataset):
    samples = dataset.samples("train")
    assert choose_samples(samples, 3, 0) == choose_samples(samples, 3, 0) != choose_samples(samples, 3, 1)
    assert choose_samples(samples, 99, 0) == samples
    drawn = [sample.id for sample in choose_samples(samples, 4, 5)]
    assert drawn == sorted(drawn)


def test_sheet_shows_labels_over_images_in_rows_and_columns():
    image = np.full((60, 120, 3), 100, np.uint8)
    label = np.zeros((60, 120), np.uint8)
    label[:, 60:] = 1
    drawn = contact_sheet([("a", image, label)] * 3, 2, ("background", "disc"), width=120)
    expected = overlay(image, label, ("background", "disc"))
    np.testing.assert_array_equal(drawn[6:66, 6:126], expected)
    np.testing.assert_array_equal(drawn[6:66, 132:252], expected)
    row = next(y for y in range(70, drawn.shape[0]) if (drawn[y, 6:126] == expected[0]).all())
    np.testing.assert_array_equal(drawn[row : row + 60, 6:126], expected)
    assert (drawn[row : row + 60, 132:252] == 255).all()  # no fourth
    assert (drawn[row + 60 :].reshape(-1, 3) == class_colors(CLASSES)[1]).all(-1).any()  # the legend


def test_large_images_are_scaled_and_labels_keep_their_values(dataset):
    label = np.zeros((600, 900), np.uint8)
    label[:, 450:] = 2
    drawn = contact_sheet([("a", np.zeros((600, 900, 3), np.uint8), label)], 1, ("background", "x", "y"), width=90)
    colors = {tuple(pixel) for pixel in drawn[6:66, 6:96].reshape(-1, 3).tolist()}
    mixed = tuple(np.rint(0.6 * class_colors(CLASSES)[2]).astype(int).tolist())
    assert colors == {(0, 0, 0), mixed, (255, 255, 255)}  # image, class 2 over it, border: nothing between 0 and 2


def test_augmented_row_begins_with_the_image_itself_and_shows_the_crops(dataset):
    samples = dataset.samples("train")[:2]
    settings = Augment(crop_size=33, scale=(0.5, 1.5), mirror=True)
    drawn = draw_augmented(dataset, samples, settings, CAFFE_PREPROCESSING, 3, 0)
    assert drawn.shape[1] == 4 * 246 + 6
    again = draw_augmented(dataset, samples, settings, CAFFE_PREPROCESSING, 3, 0)
    np.testing.assert_array_equal(drawn, again)
    assert (drawn.shape != draw_augmented(dataset, samples, settings, CAFFE_PREPROCESSING, 3, 1).shape) or (
        drawn != draw_augmented(dataset, samples, settings, CAFFE_PREPROCESSING, 3, 1)
    ).any()


def test_crop_without_change_is_the_image_that_it_was_made_of(dataset):
    """Preprocessing and its undoing in the sheet meet: the same picture twice."""
    (sample,) = dataset.samples("train")[:1]
    settings = Augment(crop_size=81, mirror=False)  # the image is 80x60: it is padded below and beside
    drawn = draw_augmented(dataset, [sample], settings, CAFFE_PREPROCESSING, 1, 0)
    assert drawn.shape[0] > 240
    crop = drawn[6:246, 252:492]
    assert (crop[-40:, 100] == np.rint(0.4 * np.array([123, 117, 104]) + 0.6 * voc_palette()[255])).all()  # void below
    plain = draw_samples(dataset, [sample], 1)
    assert plain.shape[1] >= 320


def test_sheet_holds_one_large_image_at_a_time():
    large = np.zeros((1500, 2000, 3), np.uint8)

    def cells():
        for number in range(12):
            yield str(number), large.copy(), np.zeros((1500, 2000), np.uint8)

    tracemalloc.start()
    contact_sheet(cells(), 4, ("background", "disc"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * large.nbytes


def test_chart_has_a_bar_for_each_split_as_long_as_its_share_of_the_largest():
    train = SplitCounts("train", 2, [20, 10, 0], [2, 2, 0], 5, (4, 5.0, 6), (5, 5.0, 5))
    val = SplitCounts("val", 1, [0, 0, 20], [0, 0, 1], 0, (4, 4.0, 4), (5, 5.0, 5))

    def lengths(*splits):
        drawn = draw_statistics("set", Statistics(("background", "disc", "square"), list(splits), [0.5, 1.0, 0.0]))
        blue = (drawn == (46, 102, 168)).all(-1)[80:]  # the first split's; without the key above
        return sorted({int(row.sum()) for row in blue if row.any()})

    # Background: 2/3 of the pixels and every image; disc: 1/3 and every image. The largest share has 360 pixels.
    assert lengths(train) == [pytest.approx(180 + 360, abs=3), pytest.approx(360 + 360, abs=3)]
    assert lengths(train, val) == [pytest.approx(120 + 360, abs=3), pytest.approx(240 + 360, abs=3)]
