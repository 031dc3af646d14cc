"""Many images, together or one by one: the results are those of each image alone, in order."""

import numpy as np
import pytest
from tiny_segmenter import segmenter

from deeplabctl.crf import CrfParams
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.prediction.results import Result

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((1.0,), True), ((0.5, 1.0), False)])
def test_images_of_equal_padded_size_are_computed_together_with_the_same_result(tiny, monkeypatch, scales, flip):
    rng = np.random.default_rng(5)
    sizes = [(33, 41), (40, 57), (30, 39), (33, 41), (39, 50), (26, 41), (33, 41), (25, 33)]  # padded: three
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    net = segmenter(tiny, scales=scales, flip=flip)
    batches = []
    predict = net.runner.predict
    monkeypatch.setattr(
        net.runner, "predict", lambda images, **options: batches.append(len(images)) or predict(images, **options)
    )
    found = list(net.segment(map(Result, range(8), images), scores=True, batch_size=3))
    assert max(batches) == 3
    assert [result.item for result in found] == list(range(8))
    for image, result in zip(images, found, strict=True):
        alone = net.predict(image)
        assert result.label.shape == image.shape[:2]
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)
        assert (result.label != alone.label).mean() < 0.001
    labels = dict(net.labels(enumerate(images), batch_size=3))
    assert all((labels[result.item] == result.label).all() for result in found)


def test_on_cpus_images_are_computed_alone_unless_asked(tiny):
    net = segmenter(tiny)
    assert net.largest_batch() == 1
    assert net.largest_batch(4) == 4
    with pytest.raises(RecipeError, match="numba computes one image at a time"):
        segmenter(tiny, engine="numba").largest_batch(2)
    for wrong in (0, -1):
        with pytest.raises(RecipeError, match=f"`batch_size`: expected at least 1, got {wrong}"):
            net.labels([], batch_size=wrong).__next__()


def test_batch_that_does_not_fit_is_computed_in_parts(tiny, monkeypatch):
    images = [np.full((33, 33, 3), number * 40, np.uint8) for number in range(5)]
    net = segmenter(tiny)
    expected = [net.label(image) for image in images]
    engine, sizes = net.runner.engine, []
    together = engine.predict

    def predict(inputs, **options):
        sizes.append(len(inputs.images))
        if len(inputs.images) > 2:
            raise MemoryError
        return together(inputs, **options)

    monkeypatch.setattr(engine, "predict", predict)
    found = [result.found() for result in net.segment(map(Result, range(5), images), batch_size=5)]
    assert sizes == [5, 2, 3, 1, 2]
    np.testing.assert_array_equal(found, expected)


def test_error_in_the_place_of_an_image_comes_back_in_order(tiny):
    image, error = np.zeros((20, 20, 3), np.uint8), DataError("unreadable")
    for settings in ({}, {"crf": CrfParams()}):
        net = segmenter(tiny, **settings)
        results = [Result(0, image), Result(1, error=error), Result(2, image)]
        found = list(net.segment(results, batch_size=2))
        assert [result.item for result in found] == [0, 1, 2]
        assert found[1].error is error
        assert found[0].scores is None
        np.testing.assert_array_equal(found[0].found(), found[2].found())


def test_on_a_device_batches_of_eight_run_two_at_a_time_with_the_same_labels(tiny, monkeypatch):
    from deeplabctl.prediction.engines.tensorflow import TensorFlowEngine

    rng = np.random.default_rng(6)
    images = [rng.integers(0, 256, (30 + number % 2 * 10, 41, 3)).astype(np.uint8) for number in range(40)]
    net = segmenter(tiny)
    expected = [net.label(image) for image in images]
    monkeypatch.setattr(TensorFlowEngine, "on_device", True)  # the CPU computes all the same
    assert net.largest_batch() == 8
    found = list(net.labels(enumerate(images)))
    assert [number for number, _ in found] == list(range(40))
    assert np.mean([(label != expected[number]).mean() for number, label in found]) < 0.001
