import numpy as np
import pytest
from caffe_files import DATA

from deeplabctl.choices import LOSSES, load
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


def random_case(classes=4, size=(2, 5, 7), seed=0):
    """Return logits, labels with void among them, and softmax probabilities, of a batch."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (*size, classes))
    labels = rng.integers(0, classes - 1, size).astype(np.uint8)  # the last class is never labelled
    labels[rng.random(size) < 0.2] = 255
    shares = np.exp(logits)
    return logits, labels, shares / shares.sum(-1, keepdims=True)


def found(name, logits, labels, weights=None, **solver):
    """Return a loss as a training computes it, and its gradient."""
    import tensorflow as tf

    weights = weights or [1.0] * logits.shape[-1]
    compute = load(LOSSES[name])(Solver(label_stride=1, **solver), weights, tf.float64)
    logits, labels = tf.constant(logits), tf.constant(labels)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, reported = compute(logits, labels, tf.reduce_sum(compute.weights(labels)))
    assert float(loss) == float(reported)
    return float(loss), tape.gradient(loss, logits).numpy()


def mean_over_images(of_class, labels, shares, weights):
    """Return the weighted mean of ``of_class(probabilities, truth)`` over each image's classes, then over the batch."""
    means, sums = [], []
    for label, share in zip(labels, shares, strict=True):
        valid = label != 255
        classes = np.unique(label[valid])
        values = [of_class(share[valid][:, one], label[valid] == one) for one in classes]
        means.append(np.average(values, weights=[weights[one] for one in classes]))
        sums.append(sum(weights[one] for one in label[valid]))
    return np.average(means, weights=sums)


def dice_loss(probabilities, truth):
    return 1 - 2 * probabilities[truth].sum() / (probabilities.sum() + truth.sum())


def lovasz_extension(probabilities, truth):
    """Return the extension of the Jaccard loss by its definition: sums over the sets of the k largest errors."""
    errors = np.abs(truth - probabilities)
    order = np.argsort(-errors)

    def jaccard(wrong):
        pixels = set(np.flatnonzero(truth))
        predicted = pixels ^ wrong  # which turns the labels of these pixels
        return 1 - len(pixels & predicted) / len(pixels | predicted)

    losses = [jaccard(set(order[:count].tolist())) for count in range(len(order) + 1)]
    return sum(errors[pixel] * (losses[rank + 1] - losses[rank]) for rank, pixel in enumerate(order))


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [0.5, 2.0, 1.0, 3.0]])
@pytest.mark.parametrize(("name", "definition"), [("dice", dice_loss), ("lovasz", lovasz_extension)])
def test_losses_of_regions_are_their_definitions(name, definition, weights):
    logits, labels, shares = random_case()
    loss, gradient = found(name, logits, labels, weights)
    assert loss == pytest.approx(mean_over_images(definition, labels, shares, weights), rel=1e-9)
    assert not gradient[labels == 255].any()
    assert found("cross-entropy+" + name, logits, labels, weights)[0] == pytest.approx(
        loss + found("cross-entropy", logits, labels, weights)[0], rel=1e-12
    )


def test_losses_of_regions_are_those_of_the_scores_where_predictions_are_certain():
    from sklearn.metrics import f1_score, jaccard_score

    _, labels, shares = random_case(size=(1, 9, 9))
    predicted, valid = shares.argmax(-1), labels != 255
    certain = np.where(predicted[..., None] == np.arange(4), 50.0, -50.0)
    for name, score in (("dice", f1_score), ("lovasz", jaccard_score)):
        scores = score(labels[valid], predicted[valid], labels=[0, 1, 2], average=None)
        assert found(name, certain, labels)[0] == pytest.approx(1 - scores.mean(), rel=1e-6)


def test_focal_loss_weighs_pixels_by_what_is_missing_to_1():
    logits, labels, shares = random_case()
    valid = labels != 255
    right = np.take_along_axis(shares[valid], labels[valid][:, None].astype(int), 1)[:, 0]
    loss, gradient = found("focal", logits, labels, focal_gamma=2.0)
    assert loss == pytest.approx(np.mean((1 - right) ** 2 * -np.log(right)), rel=1e-9)
    assert not gradient[~valid].any()
    assert found("focal", logits, labels, focal_gamma=0.0)[0] == pytest.approx(
        found("cross-entropy", logits, labels)[0]
    )


@pytest.mark.parametrize("name", ["focal", "dice", "lovasz", "cross-entropy+lovasz"])
def test_gradients_of_losses_are_finite_at_the_extremes_and_add_up_over_parts(name):
    import tensorflow as tf

    logits, labels, _ = random_case()
    certain = np.where(labels[..., None] == np.arange(4), 90.0, -90.0)
    assert np.isfinite(found(name, certain, labels)[1]).all()
    void = np.full_like(labels, 255)
    loss, gradient = found(name, logits, void)
    assert loss == 0
    assert not gradient.any()
    compute = load(LOSSES[name])(Solver(label_stride=1), [1.0] * 4, tf.float64)
    total = tf.reduce_sum(compute.weights(tf.constant(labels)))
    parts = [compute(tf.constant(logits[[i]]), tf.constant(labels[[i]]), total)[0] for i in range(2)]
    assert float(sum(parts)) == pytest.approx(found(name, logits, labels)[0], rel=1e-12)
