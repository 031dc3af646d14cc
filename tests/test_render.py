import tracemalloc

import numpy as np

from deeplabctl.classes import VOC_CLASSES, class_colors
from deeplabctl.render import overlay, panels, with_legend

CLASSES = ("background", "disc", "square")


def halves():
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 2
    return np.full((40, 60, 3), 100, np.uint8), label


def test_overlay_leaves_background_clear_and_mixes_the_classes_colour():
    image, label = halves()
    drawn = overlay(image, label, CLASSES)
    np.testing.assert_array_equal(drawn[:, :29], image[:, :29])
    np.testing.assert_allclose(drawn[20, 45], 0.4 * 100 + 0.6 * class_colors(CLASSES)[2], atol=0.5)
    assert (drawn[:, 29] == 255).all()  # the border


def test_overlay_mixes_every_value_and_class_as_floats_do():
    rng = np.random.default_rng(0)
    image, label = (
        rng.integers(0, 256, (60, 90, 3), np.uint8),
        rng.integers(0, 40, (4, 6), np.uint8).repeat(15, 0).repeat(15, 1),
    )
    classes = tuple(f"class {index}" for index in range(40))
    mixed = np.rint(0.4 * image + 0.6 * class_colors(classes)[label].astype(float))
    inside = (np.mgrid[:60, :90] % 15 < 14).all(0)  # not at the borders
    np.testing.assert_array_equal(overlay(image, label, classes)[inside], mixed[inside])


def test_overlay_colours_class_zero_if_it_is_not_background():
    image, label = halves()
    classes = ("sky", "road", "tree")
    expected = np.rint(0.4 * 100 + 0.6 * class_colors(classes)[0])
    assert (overlay(image, label, classes)[:, :29] == expected).all()
    assert (overlay(image, label, (*VOC_CLASSES[1:3], "x"))[:, :29] != 100).any()


def test_legend_stands_below_and_shows_the_colours_of_present_classes_only():
    image, label = halves()
    drawn = with_legend(image, [label], CLASSES)
    np.testing.assert_array_equal(drawn[:40, (drawn.shape[1] - 60) // 2 :][:, :60], image)
    strip = drawn[40:].reshape(-1, 3).tolist()
    assert class_colors(CLASSES)[2].tolist() in strip
    assert class_colors(CLASSES)[1].tolist() not in strip


def test_legend_of_many_classes_wraps_and_stays_readable_on_a_tiny_picture():
    label = np.arange(200, dtype=np.uint8).reshape(10, 20)
    drawn = with_legend(np.zeros((10, 20, 3), np.uint8), [label], [f"class number {n}" for n in range(200)])
    assert drawn.shape[0] > 200 * 11


def test_legend_of_a_camera_s_photo_can_be_read_where_the_photo_is_shown_smaller():
    label = np.zeros((30, 4000), np.uint8)
    label[:, 2000:] = 2
    drawn = with_legend(np.zeros((30, 4000, 3), np.uint8), [label], CLASSES)
    assert drawn.shape[0] - 30 >= 4000 / 80  # the height of letters is an eightieth of the width, or more
    small = with_legend(np.zeros((30, 1000, 3), np.uint8), [label], CLASSES)
    assert 27 <= small.shape[0] - 30 <= 60


def test_names_in_a_legend_stand_farther_from_the_next_color_than_from_their_own():
    label = np.zeros((30, 1000), np.uint8)
    label[:, 500:] = 2
    strip = with_legend(np.zeros((30, 1000, 3), np.uint8), [label], CLASSES)[30:]
    gaps = np.diff(np.flatnonzero((strip != 255).any((0, 2))))
    own, other = np.sort(gaps)[[-2, -1]]
    assert other >= 2 * own - 2
    assert own > 10  # of letters of 27 pixels


def test_panels_put_image_label_and_prediction_side_by_side():
    image, label = halves()
    drawn = panels([(image, label, np.zeros_like(label)), (image[:20], label[:20], label[:20])], CLASSES)
    assert drawn.shape[1] >= 3 * 60
    assert drawn.dtype == np.uint8


def test_overlay_takes_few_times_the_memory_of_the_image():
    label = np.zeros((1500, 2000), np.uint8)
    label[:, 1000:] = 2
    image = np.full((1500, 2000, 3), 100, np.uint8)
    tracemalloc.start()
    drawn = with_legend(overlay(image, label, CLASSES), [label], CLASSES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (drawn[:1500, :999] == 100).all()
    assert (drawn[:1500, 1000:] == np.rint(40 + 0.6 * class_colors(CLASSES)[2])).all()
    assert peak < 4 * image.nbytes


def test_panels_of_large_pictures_are_scaled_down_and_held_one_row_at_a_time():
    label = np.zeros((1500, 2000), np.uint8)
    label[:, 1000:] = 2
    image = np.zeros((1500, 2000, 3), np.uint8)

    def rows():
        for _ in range(4):
            yield image.copy(), label, label

    tracemalloc.start()
    drawn = panels(rows(), CLASSES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn.shape[1] == 3 * 640 + 4 * 6
    assert drawn.shape[0] < 4 * (480 + 6) + 150
    assert (drawn == np.rint(0.6 * class_colors(CLASSES)[2].astype(float))).all(-1).any()  # labels keep their values
    assert peak < 6 * image.nbytes
