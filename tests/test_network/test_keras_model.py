import numpy as np
import pytest
from caffe_files import DATA, fixture, read_blobs

from deeplabctl.network import ARCHITECTURES

pytestmark = pytest.mark.tf

NETS = {"slim": ("lfov_slim_v1.caffemodel", 1 / 8), "tiny": ("lfov_tiny_v2.caffemodel", 1 / 32)}
MEAN = np.array([104.008, 116.669, 122.675], np.float32)


def caffe_net(name, dtype="float32"):
    from deeplabctl.network.keras_model import assign_weights, zero_model

    file, width = NETS[name]
    model = zero_model("largefov", 21, width=width, dtype=dtype)
    assign_weights(model, read_blobs(fixture(file)))
    return model


@pytest.mark.parametrize("size", ["33x33", "97x130", "321x321"])
@pytest.mark.parametrize("net", NETS)
def test_logits_are_caffes(net, size):
    from deeplabctl.network.keras_model import apply_model

    model = caffe_net(net)
    image = np.load(DATA / "inputs_u8.npz")[size].astype(np.float32)[None] - MEAN
    reference = np.load(DATA / f"fwd_{net}_{size}.npz")["fc8_voc12"].transpose(0, 2, 3, 1)
    for logits in (model(image), apply_model(model, image)):
        assert np.abs(logits - reference).max() < 2e-5 * np.abs(reference).max()


def test_every_blob_between_is_caffes():
    import keras

    model = caffe_net("slim")
    stages = np.load(DATA / "fwd_slim_33x33.npz")
    names = [layer.name for layer in model.layers if layer.name in stages.files]
    assert {"pool1", "pool5a", "fc7"} <= set(names)
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])
    for name, blob in zip(names, outputs(stages["input"].transpose(0, 2, 3, 1)), strict=True):
        reference = stages[name].transpose(0, 2, 3, 1)
        assert np.abs(blob - reference).max() <= 2e-5 * np.abs(reference).max(), name


@pytest.mark.parametrize(("height", "width"), [(8, 9), (40, 33), (57, 90), (96, 97)])
def test_pooling_is_the_clipped_window_of_caffe_for_even_and_odd_sizes(height, width):
    import keras

    model = caffe_net("tiny")
    pool = keras.Model(model.get_layer("pool1_pad").input, model.get_layer("pool1").output)
    blob = np.random.default_rng(0).random((1, height, width, 2), np.float32)
    literal = np.stack(
        [
            [
                blob[0, max(0, 2 * y - 1) : 2 * y + 2, max(0, 2 * x - 1) : 2 * x + 2].max((0, 1))
                for x in range(width // 2 + 1)
            ]
            for y in range(height // 2 + 1)
        ]
    )
    np.testing.assert_array_equal(pool(blob)[0], np.where(np.isneginf(literal), 0, literal))


def test_average_pooling_divides_by_nine_at_borders_too():
    import keras

    model = caffe_net("tiny")
    pool = keras.Model(model.get_layer("pool5a_pad").input, model.get_layer("pool5a").output)
    averaged = pool(np.ones((1, 3, 3, 16), np.float32))[0, :, :, 0]
    np.testing.assert_allclose(averaged * 9, [[4, 6, 4], [6, 9, 6], [4, 6, 4]], rtol=1e-6)


def test_dropout_depends_on_each_images_seed_only_and_keeps_the_mean():
    import tensorflow as tf

    from deeplabctl.network.keras_model import apply_model

    model = caffe_net("tiny")
    images = tf.random.stateless_normal((3, 97, 97, 3), seed=(1, 2)) * 50
    seeds = tf.constant([[7, 10], [7, 11], [7, 12]])
    together = apply_model(model, images, seeds)
    alone = apply_model(model, images[1:2], seeds[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-5, atol=1e-4)
    other = apply_model(model, images[1:2], tf.constant([[7, 13]]))
    assert np.abs(alone - other).max() > 0.1
    same, seeds = tf.repeat(images[:1], 400, 0), tf.constant([[0, n] for n in range(400)])
    many = apply_model(model, same[:100], seeds[:100])
    # fc8 is linear in fc7's units, whose own dropout keeps their mean; fc6's goes through a ReLU first.
    model.get_layer("fc6_dropout").rate = 0.0
    linear = apply_model(model, same, seeds)
    plain = model(images[:1])[0]
    assert np.abs(np.mean(linear, 0) - plain).mean() < 0.1 * np.std(linear)
    assert np.std(many) > np.std(plain)


def test_full_size_network_has_the_papers_parameters():
    from deeplabctl.network.keras_model import zero_model

    assert zero_model("largefov", 21).count_params() == 20_505_429


def test_model_file_opens_in_plain_keras_with_the_same_logits(tmp_path):
    import subprocess
    import sys

    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.weights.fitting import read_network
    from deeplabctl.weights.model_info import ModelInfo
    from deeplabctl.weights.sources.keras_files import save_model

    model = caffe_net("tiny")
    info = ModelInfo(tuple(f"class {index}" for index in range(21)), width=1 / 32, provenance={"source": "a test"})
    save_model(tmp_path / "tiny.keras", model, info)
    image = np.load(DATA / "inputs_u8.npz")["33x33"].astype(np.float32)[None] - MEAN
    np.save(tmp_path / "image.npy", image)
    script = (
        "import keras, numpy, sys; model = keras.saving.load_model('tiny.keras');"
        "numpy.save('logits.npy', model(numpy.load('image.npy')));"
        "sys.exit(any(name.startswith('deeplabctl') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), model(image))
    network = read_network(tmp_path / "tiny.keras")
    assert network.info == info
    np.testing.assert_array_equal(Segmenter.from_network(network).model(image), model(image))


def test_weights_go_in_and_come_out_as_hwio():
    from deeplabctl.network.keras_model import assign_weights, zero_model

    model = zero_model("largefov", 5, width=0.05)
    weights = ARCHITECTURES["largefov"].random_weights(5, 0.05, seed=3)
    assign_weights(model, weights)
    for name, shape in ARCHITECTURES["largefov"].weight_shapes(5, 0.05).items():
        layer, part = name.split("/")
        array = getattr(model.get_layer(layer), part).numpy()
        assert array.shape == shape
        np.testing.assert_array_equal(array, weights[name])
