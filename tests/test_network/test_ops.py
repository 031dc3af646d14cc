import numpy as np
import pytest
from caffe_files import DATA
from family_files import family

from deeplabctl.network import ARCHITECTURES

pytestmark = pytest.mark.tf


def channels_last(array):
    return array.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["z8", "z2", "r33", "r3"])
def test_resizing_is_caffes_interp_layer(name, dtype):
    from deeplabctl.network.ops import resize

    blobs = np.load(DATA / "interp.npz")
    expected = channels_last(blobs[name])
    found = resize(channels_last(blobs["a"]).astype(dtype), expected.shape[1:3])
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_resizing_in_float64_takes_float32_shares_of_the_neighbours():
    from deeplabctl.network.ops import resize

    x = np.random.default_rng(0).normal(size=(1, 31, 10, 2))
    for axis, (before, after) in enumerate(((31, 41), (10, 13)), 1):
        position = np.float32(before - 1) / np.float32(after - 1) * np.arange(after, dtype=np.float32)
        left = position.astype(int)
        share = (position - left).astype(np.float64).reshape(-1, *[1] * (3 - axis))
        right = np.minimum(left + 1, before - 1)
        x = (1 - share) * x.take(left, axis) + share * x.take(right, axis)
    original = np.random.default_rng(0).normal(size=(1, 31, 10, 2))
    np.testing.assert_allclose(resize(original, (41, 13)), x, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(resize(original, (31, 10)), original)
    np.testing.assert_array_equal(resize(original, (1, 1)), original[:, :1, :1])


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-6), ("float32", 3e-6)])
@pytest.mark.parametrize("name", ["score_43", "score_43_31", "score_2", "score_43_11"])
def test_resized_scores_and_their_gradient_are_caffes(name, dtype, limit):
    import tensorflow as tf

    from deeplabctl.network.ops import resize

    blobs = np.load(family("interp_ops.npz"))
    x, y, dy, dx = (channels_last(blobs[f"{name}_{part}"]) for part in ("x", "y", "dy", "dx"))
    x = tf.constant(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = resize(x, y.shape[1:3])
        total = tf.reduce_sum(found * dy.astype(dtype))
    np.testing.assert_allclose(found, y, rtol=0, atol=limit * np.abs(y).max())
    np.testing.assert_allclose(tape.gradient(total, x), dx, rtol=0, atol=limit * np.abs(dx).max())


def test_images_at_scales_are_caffes():
    blobs = np.load(family("interp_ops.npz"))
    image = np.load(DATA / "inputs_u8.npz")["321x321"].astype(np.float32)[None]
    image -= np.array([104.008, 116.669, 122.675], np.float32)
    same, three_quarters, half = ARCHITECTURES["resnet101"].at_scales(image)
    assert same is image
    for found, name in ((three_quarters, "photo321_075_s8"), (half, "photo321_05_s8")):
        np.testing.assert_allclose(found[:, ::8, ::8], channels_last(blobs[name]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "size", "dilation"),
    [(9, 11, 3, 2), (30, 41, 3, 12), (5, 40, 3, 12), (1, 1, 3, 12), (12, 13, 3, 12), (10, 9, 1, 1), (20, 21, 5, 4)],
)
def test_atrous_convolution_is_a_correlation_with_zeros_between_the_taps(height, width, size, dilation):
    import scipy.signal
    import tensorflow as tf

    from deeplabctl.network.ops.convolution import atrous_convolution

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 3, 4)).astype(np.float32)
    dilated = np.zeros((dilation * (size - 1) + 1,) * 2 + (3, 4))
    dilated[::dilation, ::dilation] = kernel
    expected = np.zeros((2, height, width, 4))
    reach = dilation * (size // 2)
    padded = np.pad(x.astype(float), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    for image in range(2):
        for incoming in range(3):
            for outgoing in range(4):
                part = padded[image, ..., incoming], dilated[..., incoming, outgoing]
                expected[image, ..., outgoing] += scipy.signal.correlate2d(*part, "valid")
    np.testing.assert_allclose(atrous_convolution(tf.constant(x), tf.constant(kernel), dilation), expected, atol=1e-5)


def test_only_a_large_dilation_on_a_cpu_is_slow_in_tensorflow(monkeypatch):
    import tensorflow as tf

    for devices, slow in (([], ["fc6"]), (["a GPU"], [])):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind, devices=devices: devices)
        convolutions = ARCHITECTURES["largefov"].convolutions
        assert [row.name for row in convolutions if row.is_slow_in_tensorflow()] == slow


def convolved(x, kernel, stride, dilation):
    """Return a convolution (H, W, O) of one image, tap by tap."""
    size = kernel.shape[0]
    pad = dilation * (size - 1) // 2
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    height, width = ((side - 1) // stride + 1 for side in x.shape[:2])
    total = np.zeros((height, width, kernel.shape[-1]))
    for row in range(size):
        for column in range(size):
            seen = padded[row * dilation :, column * dilation :][: x.shape[0] : stride, : x.shape[1] : stride]
            total += seen @ kernel[row, column]
    return total


@pytest.fixture(scope="module")
def resnet():
    """Return the weights of a ResNet, and the values of all its rows, in float64."""
    from deeplabctl.network.keras_model import apply_rows, assign_weights, zero_model

    rng = np.random.default_rng(0)
    weights = {
        name: array.astype(np.float64)
        for name, array in ARCHITECTURES["resnet101"].random_weights(3, 1 / 64, 0).items()
    }
    for name, array in weights.items():
        if name.startswith("bn"):
            array += rng.uniform(0, 0.5, array.shape)  # statistics of a trained net are no identity
    model = zero_model("resnet101", 3, width=1 / 64, dtype="float64")
    assign_weights(model, weights)
    return weights, apply_rows(model, rng.normal(0, 60, (1, 65, 50, 3)), ARCHITECTURES["resnet101"].rows)


@pytest.mark.parametrize(
    ("below", "block", "stride", "dilation"),
    [("pool1", "2a", 1, 1), ("res2c", "3a", 2, 1), ("res4a", "4b1", 1, 2), ("res5b", "5c", 1, 4)],
)
def test_bottleneck_block_follows_its_formula(resnet, below, block, stride, dilation):
    weights, values = resnet

    def normalized(x, branch, relu, stride=1, dilation=1):
        x = convolved(x, weights[f"res{block}_{branch}/kernel"], stride, dilation)
        gamma, beta, mean, variance = (
            weights[f"bn{block}_{branch}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = gamma * (x - mean) / np.sqrt(variance + float(np.float32(1e-5))) + beta
        return np.maximum(x, 0) if relu else x

    x = values[below].numpy()[0]
    shortcut = normalized(x, "branch1", False, stride) if block.endswith("a") else x
    inside = normalized(normalized(x, "branch2a", True, stride), "branch2b", True, dilation=dilation)
    expected = np.maximum(shortcut + normalized(inside, "branch2c", False), 0)
    np.testing.assert_allclose(values[f"res{block}"][0], expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())
