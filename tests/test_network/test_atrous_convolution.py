import numpy as np
import pytest
import scipy.signal

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(
    ("height", "width", "size", "dilation"),
    [(9, 11, 3, 2), (30, 41, 3, 12), (5, 40, 3, 12), (1, 1, 3, 12), (12, 13, 3, 12), (10, 9, 1, 1), (20, 21, 5, 4)],
)
def test_atrous_convolution_is_a_correlation_with_zeros_between_the_taps(height, width, size, dilation):
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

    from deeplabctl.network.keras_model import build_model
    from deeplabctl.network.ops.convolution import is_slow_in_tensorflow

    model = build_model("largefov", 2, width=1 / 32)
    for devices, slow in (([], ["fc6"]), (["a GPU"], [])):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind, devices=devices: devices)
        assert [layer.name for layer in model.layers if is_slow_in_tensorflow(layer)] == slow
