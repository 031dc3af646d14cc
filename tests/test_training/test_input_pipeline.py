import dataclasses

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.data.augmentation import Augment
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_image, shrink
from deeplabctl.data.labels import read_label, shrink_label
from deeplabctl.errors import DataError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.architecture import CAFFE_PREPROCESSING, Preprocessing
from deeplabctl.training import input_pipeline
from deeplabctl.training.input_pipeline import TrainingPipeline
from deeplabctl.training.plan import plan_training

pytestmark = pytest.mark.tf


@pytest.fixture
def samples(tmp_path):
    return open_dataset(make_dataset(tmp_path / "set", train=5)).samples("train")


def batches(samples, start=0, stop=4, seed=0, **settings):
    augment = Augment(**({"crop_size": 33, "scale": (0.75, 1.25), "jitter": 0.1} | settings))
    pipeline = TrainingPipeline(samples, augment, batch_size=3, seed=seed, preprocessing=CAFFE_PREPROCESSING)
    return [tuple(part.numpy() for part in batch) for batch in pipeline.batches(start, stop)]


def same(ours, theirs):
    return all(
        np.array_equal(a, b) for one, two in zip(ours, theirs, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_batches_are_images_labels_and_positions(samples):
    images, labels, positions = batches(samples)[1]
    assert (images.shape, images.dtype) == ((3, 33, 33, 3), np.float32)
    assert (labels.shape, labels.dtype) == ((3, 33, 33), np.uint8)
    assert positions.tolist() == [3, 4, 5]


def test_batches_are_made_without_autograph(samples, monkeypatch):
    import tensorflow as tf

    states, real = [], tf.numpy_function

    def noting(*arguments, **options):
        states.append(tf.__internal__.autograph.control_status_ctx().status.name)
        return real(*arguments, **options)

    monkeypatch.setattr(tf, "numpy_function", noting)
    batches(samples)
    assert states == ["DISABLED"]


def test_same_seed_gives_the_same_batches_and_another_seed_others(samples):
    assert same(batches(samples), batches(samples))
    assert not same(batches(samples), batches(samples, seed=1))


def test_starting_later_gives_what_would_have_come(samples):
    assert same(batches(samples)[2:], batches(samples, start=2))


def test_every_epoch_has_each_sample_once_in_an_order_of_its_own(samples):
    pipeline = TrainingPipeline(samples, Augment(crop_size=33), batch_size=3, seed=0, preprocessing=CAFFE_PREPROCESSING)
    orders = [[pipeline.sample_at(5 * epoch + index).id for index in range(5)] for epoch in range(6)]
    assert all(sorted(order) == ["t0", "t1", "t2", "t3", "t4"] for order in orders)
    assert len({tuple(order) for order in orders}) > 3
    straight = TrainingPipeline(
        samples, Augment(crop_size=33, shuffle=False), batch_size=3, seed=0, preprocessing=CAFFE_PREPROCESSING
    )
    assert [straight.sample_at(index).id for index in range(7)] == ["t0", "t1", "t2", "t3", "t4", "t0", "t1"]


def test_same_sample_is_augmented_anew_in_each_epoch(samples):
    pipeline = TrainingPipeline(
        samples[:1], Augment(crop_size=33), batch_size=1, seed=0, preprocessing=CAFFE_PREPROCESSING
    )
    assert len({pipeline.load(position)[0].tobytes() for position in range(6)}) > 3


def test_sample_that_cannot_be_read_any_more_is_named(samples):
    import tensorflow as tf

    samples[2].image.write_bytes(b"gone bad")
    pipeline = TrainingPipeline(samples, Augment(crop_size=33), batch_size=5, seed=0, preprocessing=CAFFE_PREPROCESSING)
    with pytest.raises(DataError, match=r"cannot read .*t2\.png"):
        next(pipeline.distributed(tf.distribute.get_strategy(), 0, 1))


def test_large_images_and_labels_are_made_smaller_alike(samples):
    crops = Augment(crop_size=17, mirror=False, shuffle=False)
    whole, small = (
        TrainingPipeline(samples, crops, 1, 0, Preprocessing("RGB", (0, 0, 0)), max_side=side) for side in (0, 16)
    )
    height, width = read_label(samples[0].label).shape
    assert max(height, width) > 16
    pixels, label = small.load(0)
    expected = shrink_label(read_label(samples[0].label), 16)
    np.testing.assert_array_equal(label[: expected.shape[0], : expected.shape[1]], expected)
    np.testing.assert_array_equal(
        pixels[: expected.shape[0], : expected.shape[1]], shrink(read_image(samples[0].image), 16)
    )
    assert (whole.load(0)[1] != label).any()


@pytest.mark.parametrize("room", [0, 2, 5])
def test_samples_that_were_made_smaller_are_read_once_while_there_is_room(samples, monkeypatch, room):
    read = []

    def counting(path):
        read.append(path)
        return read_label(path)

    monkeypatch.setattr(input_pipeline, "read_label", counting)
    width, height = 16, max(1, round(16 * min(size := read_label(samples[0].label).shape) / max(size)))
    monkeypatch.setattr(input_pipeline, "_KEPT_BYTES", room * 4 * width * height)

    def loaded(pipeline):
        return [[part.tobytes() for part in pipeline.load(position)] for position in range(10)]

    rgb, crops = Preprocessing("RGB", (0, 0, 0)), Augment(crop_size=17, scale=(0.75, 1.25), jitter=0.1)
    pipeline = TrainingPipeline(samples, crops, 1, 0, rgb, max_side=16)
    found = loaded(pipeline)
    assert (len(read), pipeline.kept_share) == (10 - room, room / 5)
    monkeypatch.setattr(input_pipeline, "_KEPT_BYTES", 0)
    assert found == loaded(TrainingPipeline(samples, crops, 1, 0, rgb, max_side=16))


def test_samples_of_their_own_size_are_read_each_time(samples):
    pipeline = TrainingPipeline(samples, Augment(crop_size=17), 1, 0, Preprocessing("RGB", (0, 0, 0)))
    pipeline.load(0)
    assert pipeline.kept_share == 0


def test_pixels_are_as_the_architecture_of_the_recipe_takes_them(tmp_path, monkeypatch):
    rgb = Preprocessing("RGB", (0, 0, 0))
    fake = dataclasses.replace(ARCHITECTURES["largefov"], name="fake", preprocessing=rgb)
    settings = ["model.width=0.05", "model.init=random", "augment.crop_size=57", "augment.mirror=false"]
    plan = plan_training("paper-v2", settings, {"data.root": str(make_dataset(tmp_path / "set", train=1))})
    monkeypatch.setitem(ARCHITECTURES, "largefov", fake)
    pipeline = TrainingPipeline.of(plan)
    pixels, _ = pipeline.load(0)
    image = read_image(pipeline.sample_at(0).image)
    windows = np.lib.stride_tricks.sliding_window_view(image, (57, 57, 3)).reshape(-1, 57, 57, 3)
    assert any(np.array_equal(window, pixels) for window in windows)
