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
