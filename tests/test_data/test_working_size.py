"""Large images are worked on at a smaller size, and their scores become as large as they are."""

import numpy as np
import pytest
from PIL import Image

from deeplabctl.data.images import read_image, read_working_image, shrink, working_size
from deeplabctl.data.labels import shrink_label
from deeplabctl.interpolation import enlarge, label_of


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((3000, 4000), 640, (480, 640)),
        ((4000, 3000), 640, (640, 480)),
        ((375, 500), 513, (375, 500)),
        ((513, 400), 513, (513, 400)),
        ((3000, 4000), 0, (3000, 4000)),
        ((3, 4000), 64, (1, 64)),
    ],
)
def test_longer_side_is_that_of_the_setting(size, max_side, expected):
    assert working_size(size, max_side) == expected


def test_pixels_are_means_and_ids_stay_ids():
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2] = 200  # lines, which a few pixels of it would not show
    assert np.abs(shrink(image, 2).astype(int) - 100).max() < 8
    label = np.repeat(np.repeat([[0, 255], [7, 3]], 4, 0), 4, 1).astype(np.uint8)
    assert shrink_label(label, 2).tolist() == [[0, 255], [7, 3]]
    np.testing.assert_array_equal(shrink_label(label, 0), label)


@pytest.mark.parametrize("turn", [1, 6])
def test_jpeg_of_many_pixels_is_read_at_its_working_size(tmp_path, turn):
    rows, columns = np.mgrid[:301, :403]
    photo = Image.fromarray(np.stack([rows // 2, columns // 2, rows // 4 + columns // 4], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turn
    photo.save(tmp_path / "a.jpg", quality=95, exif=exif)
    whole, small = read_image(tmp_path / "a.jpg"), read_working_image(tmp_path / "a.jpg", 64)
    assert small.shape[:2] == working_size(whole.shape[:2], 64) == ((64, 48) if turn == 6 else (48, 64))
    assert np.abs(small.astype(int) - shrink(whole, 64)).max() <= 3
    np.testing.assert_array_equal(read_working_image(tmp_path / "a.jpg", 500), whole)


def test_label_is_that_of_the_enlarged_scores():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(6) * 0.3, (9, 7)).astype(np.float32)
    large = enlarge(scores, (52, 41))
    assert large.shape == (52, 41, 6)
    np.testing.assert_array_equal(label_of(scores, (52, 41)), large.argmax(-1))
    np.testing.assert_array_equal(label_of(scores, (9, 7)), scores.argmax(-1))
    # between the centres of two pixels a class wins that is second in both
    two = np.array([[[0.5, 0.45, 0.05], [0.05, 0.45, 0.5]]], np.float32)
    assert label_of(two, (1, 6)).tolist() == [[0, 0, 1, 1, 2, 2]]


@pytest.mark.parametrize("kind", ["regions", "noise"])
def test_large_label_of_many_classes_is_that_of_pillow_s_scores(kind):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 5, 21)) * 4 if kind == "regions" else rng.normal(size=(60, 80, 21))
    small = [Image.fromarray(logits[..., index].astype(np.float32)).resize((80, 60)) for index in range(21)]
    raised = np.exp(np.stack([np.asarray(channel) for channel in small], -1))
    scores = (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
    size = (331, 417)  # more than one tile, and whole in neither direction
    channels = [Image.fromarray(np.ascontiguousarray(scores[..., index])) for index in range(21)]
    expected = np.stack([channel.resize(size[::-1], Image.Resampling.BILINEAR) for channel in channels], -1)
    np.testing.assert_array_equal(enlarge(scores, size), expected)
    label = label_of(scores, size)
    np.testing.assert_array_equal(label, expected.argmax(-1))
    assert len(np.unique(label)) > 8


def test_scores_are_interpolated_between_the_centres_of_pixels():
    scores = np.array([[[0.0], [1.0]]], np.float32)
    np.testing.assert_allclose(enlarge(scores, (1, 4))[0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)
