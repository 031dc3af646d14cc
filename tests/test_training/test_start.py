"""What a training starts from where nothing is named."""

import numpy as np
import pytest

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Architecture
from deeplabctl.weights.published import published
from deeplabctl.weights.starting import ImageNet


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_starts_from_imagenet_or_from_weights_that_are_published_for_its_body(architecture):
    table = ARCHITECTURES[architecture]
    if table.start in ("imagenet", "random"):
        assert table.imagenet or table.start == "random"
        return
    entry = published()[table.start]
    body = {name for name in table.weight_shapes(21) if name.startswith(("expanded", "backbone", "middle"))}
    assert body
    assert body <= set(ARCHITECTURES[entry.network].weight_shapes(21))


def test_network_that_names_no_weights_starts_random():
    assert Architecture("own", ARCHITECTURES["largefov"].rows, "largefov-v1").start == "random"


def test_imagenet_is_refused_where_there_are_no_such_weights():
    with pytest.raises(WeightsError, match=r"no ImageNet weights for deeplabv3plus-xception65; .*init=deeplabv3plus"):
        ImageNet("deeplabv3plus-xception65")


@pytest.mark.tf
@pytest.mark.parametrize("architecture", ["deeplabv3-resnet101", "deeplabv3plus-mnv2", "deeplabv3plus-xception65"])
def test_first_logits_of_a_random_network_are_of_ordinary_size(architecture):
    from deeplabctl.engine.network import NumbaNetwork

    table = ARCHITECTURES[architecture]
    noise = np.random.default_rng(0).integers(0, 256, (65, 65, 3)).astype(np.uint8)
    logits = NumbaNetwork(architecture, table.random_weights(5, 0.25, 0)).logits(table.preprocessing(noise))
    assert 1e-4 < logits.std() < 5


@pytest.mark.tf
def test_frozen_convolutions_freeze_the_norms_on_them():
    from deeplabctl.network.keras_model import zero_model
    from deeplabctl.recipe import Recipe
    from deeplabctl.training.optimizers import trained_variables

    recipe = Recipe().with_settings(
        model={"architecture": "deeplabv3-mnv2"}, solver={"freeze": ("Conv", "expanded_conv_depthwise")}
    )
    trained = {one.name for one in trained_variables(zero_model("deeplabv3-mnv2", 3, width=0.1), recipe, ())}
    assert "expanded_conv_project_BatchNorm/gamma" in trained
    assert not [name for name in trained if name.startswith(("Conv", "expanded_conv_depthwise"))]


@pytest.mark.tf
def test_loss_upsamples_as_prediction_does():
    import tensorflow as tf

    from deeplabctl.recipe import Solver
    from deeplabctl.training.losses import CrossEntropy

    logits = tf.random.stateless_normal((1, 3, 3, 4), (1, 2))
    labels = tf.constant(np.random.default_rng(0).integers(0, 4, (1, 24, 24)))
    compute = CrossEntropy(Solver(label_stride=1), [1.0] * 4, tf.float32, half_pixel=True)
    whole = tf.image.resize(logits, (24, 24))  # half pixels, as TensorFlow's documentation says
    expected = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=whole))
    np.testing.assert_allclose(compute(logits, labels, tf.constant(24.0 * 24))[1], expected, rtol=1e-6)
