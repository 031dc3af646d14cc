import numpy as np
import pytest
from caffe_files import DATA

from deeplabctl.recipe import Solver

pytestmark = pytest.mark.tf

# Probabilities of the right class, by hand; the last pixel is void.
RIGHT = np.array([0.9, 0.5, 0.25, 0.1, 0.01])


def losses_of(share, weights=(1.0, 1.0), labels=(0, 1, 0, 1, 255)):
    import tensorflow as tf

    from deeplabctl.training.losses import CrossEntropy

    labels = np.array(labels, np.uint8).reshape(1, 1, 5)
    probabilities = np.where(
        labels[..., None] == np.arange(2), RIGHT[None, None, :, None], 1 - RIGHT[None, None, :, None]
    )
    logits = tf.constant(np.log(probabilities))
    labels = tf.constant(labels)
    compute = CrossEntropy(Solver(label_stride=1, hard_pixels=share), weights, tf.float64)
    total = tf.reduce_sum(compute.weights(labels))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, reported = compute(logits, labels, total)
    return float(loss), float(reported), np.abs(tape.gradient(loss, logits).numpy()).sum(-1).ravel() > 0


def compared(labels):
    """Return the pixels that a loss compares at stride 8: the weight of class c is c + 1, that of void 0."""
    import tensorflow as tf

    from deeplabctl.training.losses import CrossEntropy

    weights = CrossEntropy(Solver(label_stride=8), range(1, 256), tf.float32).weights(tf.constant(labels))
    return (weights.numpy().astype(int) - 1).astype(np.uint8)


def test_compared_pixels_are_those_that_caffes_interp_layer_leaves():
    batch = np.load(DATA / "train_batch.npz")
    np.testing.assert_array_equal(compared(batch["label"]), batch["label_shrink"])


@pytest.mark.parametrize("case", ["test65", "test97", "train65_1", "train65_3", "train65_4", "train97_1", "train97_3"])
def test_compared_pixels_of_a_crop_are_caffes(case):
    layer = np.load(DATA / "data_layer_small.npz")
    np.testing.assert_array_equal(compared(layer[f"{case}/label"][0])[0], layer[f"{case}/label_shrink"][0, 0])


def test_half_of_the_valid_pixels_with_the_largest_losses_count():
    loss, reported, learns = losses_of(0.5)
    assert loss == pytest.approx(-(np.log(0.25) + np.log(0.1)) / 2)
    assert reported == pytest.approx(loss)
    assert learns.tolist() == [False, False, True, True, False]


def test_share_is_rounded_up_and_all_of_them_is_the_plain_loss():
    assert losses_of(0.1)[0] == pytest.approx(-np.log(0.1) / 0.4)  # one pixel; the divisor is a tenth of four
    assert losses_of(1.0)[0] == pytest.approx(-np.log(RIGHT[:4]).mean())
    assert losses_of(0.999999)[0] == pytest.approx(losses_of(1.0)[0], rel=1e-5)


def test_pixels_are_chosen_without_and_averaged_with_their_classes_weights():
    loss, _, learns = losses_of(0.5, weights=(3.0, 1.0))
    assert learns.tolist() == [False, False, True, True, False]
    assert loss == pytest.approx(-(3 * np.log(0.25) + np.log(0.1)) / (0.5 * 8))


def test_pixels_of_a_class_without_weight_are_not_chosen():
    loss, _, learns = losses_of(0.5, weights=(0.0, 1.0))  # of the two pixels of class 1 the one with 0.1
    assert learns.tolist() == [False, False, False, True, False]
    assert loss == pytest.approx(-np.log(0.1))


def test_batch_without_a_valid_pixel_gives_zero():
    loss, reported, learns = losses_of(0.5, labels=(255,) * 5)
    assert loss == reported == 0
    assert not learns.any()
