"""Norms whose epsilon in the file is not that of our network: the variance makes up for it, as only the sum counts."""

import struct

import numpy as np
import pytest
from caffe_bytes import block, dims, packed, unpacked, v2
from tensorflow_bytes import constant, node

from deeplabctl.network import ARCHITECTURES, norm_epsilons
from deeplabctl.network.ops import Norm
from deeplabctl.weights.locating import open_weights

VARIANCE = np.array([0.25, 3], np.float32)


def sum_of(path, norm):
    """Return variance + epsilon, as our network computes it."""
    return open_weights(path).weights[f"{norm}/moving_variance"] + np.float64(norm_epsilons()[norm])


def test_norms_of_one_name_have_one_epsilon():
    for network in ARCHITECTURES.values():
        norms = {row.name: row.epsilon for row in network.rows if isinstance(row, Norm)}
        assert norms.items() <= norm_epsilons().items()


@pytest.mark.parametrize(
    ("settings", "epsilon"),
    [
        (block(139, unpacked(3, [0.5])), 0.5),
        (block(139, unpacked(3, [0.25])) + block(139, unpacked(3, [0.5])), 0.5),  # merged as protobuf does
        (block(139, unpacked(1, [0.5])), 1e-5),  # another field
        (b"", 1e-5),  # Caffe's default
    ],
)
def test_epsilon_of_a_caffemodel(tmp_path, settings, epsilon):
    blobs = [dims(2) + packed(5, [0, 0]), dims(2) + packed(5, VARIANCE), dims(1) + packed(5, [1])]
    content = block(1, "bn_conv1") + block(2, "BatchNorm") + b"".join(block(7, blob) for blob in blobs) + settings
    kernel = v2("conv1", dims(2, 1, 1, 1) + packed(5, [1, 1]))
    (tmp_path / "a.caffemodel").write_bytes(kernel + block(100, content))
    np.testing.assert_allclose(sum_of(tmp_path / "a.caffemodel", "bn_conv1"), VARIANCE + epsilon, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.5, 1e-3])
def test_epsilon_of_a_frozen_graph(tmp_path, epsilon):
    scope, parts = "MobilenetV2/Conv/BatchNorm", ("gamma", "beta", "moving_mean", "moving_variance")
    graph = constant("MobilenetV2/Conv/weights", np.ones((3, 3, 3, 2), np.float32))
    graph += b"".join(constant(f"{scope}/{part}", VARIANCE) for part in parts)
    inputs = ["MobilenetV2/Conv/Conv2D", *[f"{scope}/{part}/read" for part in parts]]
    value = bytes([4 << 3 | 5]) + struct.pack("<f", epsilon)
    graph += node(f"{scope}/FusedBatchNormV3", "FusedBatchNormV3", inputs, epsilon=value)
    (tmp_path / "a.pb").write_bytes(graph)
    np.testing.assert_allclose(sum_of(tmp_path / "a.pb", "Conv_BatchNorm"), VARIANCE + epsilon, rtol=1e-6)


@pytest.mark.tf
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_epsilon_and_dilation_of_a_model_that_keras_saved(tmp_path, suffix):
    import keras

    image = keras.Input((None, None, 2))
    convolved = keras.layers.DepthwiseConv2D(3, dilation_rate=12, use_bias=False, name="aspp1_depthwise")(image)
    model = keras.Model(image, keras.layers.BatchNormalization(epsilon=0.5, name="aspp1_depthwise_BN")(convolved))
    model.layers[-1].moving_variance.assign(VARIANCE)
    model.save(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(sum_of(tmp_path / f"a{suffix}", "aspp1_depthwise_BatchNorm"), VARIANCE + 0.5, rtol=1e-6)
    assert open_weights(tmp_path / f"a{suffix}").dilations == {"aspp1_depthwise": (12, 12)}
