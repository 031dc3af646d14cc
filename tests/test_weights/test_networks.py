import numpy as np
import pytest
from caffe_files import DATA, TINY, fixture, read_blobs
from tiny_weights import tiny_variables

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights import build_model, read_network


def test_caffe_network_reads_whole_with_vocs_names():
    network = read_network(TINY)
    assert network.info.classes == VOC_CLASSES
    assert network.info.width == 1 / 32
    np.testing.assert_array_equal(network.weights["fc6/kernel"], read_blobs(TINY)["fc6/kernel"])


@pytest.mark.parametrize(
    ("missing", "message"),
    [("fc8_voc12", "without a classifier .*deeplabctl train with `init=FILE`"), ("conv4_2", "got one without conv4_2")],
)
def test_network_that_is_not_whole_is_refused(tmp_path, missing, message):
    import pickle

    arrays = {name: array for name, array in tiny_variables().items() if not name.startswith(missing)}
    (tmp_path / "w").write_bytes(pickle.dumps(arrays))
    with pytest.raises(WeightsError, match=message):
        read_network(tmp_path / "w")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "resnet"}, "architecture: expected one of largefov, .*, got 'resnet'"),
        ({"architecture": ["largefov"]}, r"architecture: expected one of largefov, .*, got \['largefov'\]"),
        ({"num_classes": 0}, "num_classes: expected 1 to 255, got 0"),
        ({"num_classes": 256}, "num_classes: expected 1 to 255, got 256"),
        ({"width": 0.0}, r"width: expected a number above 0, got 0\.0"),
    ],
)
def test_model_with_arguments_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(**arguments)
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        build_model(num_classes=7.0)


def test_model_of_another_class_count_or_width_than_its_weights_is_refused():
    with pytest.raises(WeightsError, match="expected a classifier of 5 classes, got 21; give num_classes=21"):
        build_model(num_classes=5, weights=TINY)
    with pytest.raises(WeightsError, match=r"do not fit largefov of width 1: - conv1_1: expected \(3, 3, 3, 64\)"):
        build_model(width=1.0, weights=TINY)


@pytest.mark.tf
def test_model_with_caffes_weights_has_caffes_logits():
    model = build_model(weights=str(fixture("lfov_slim_v1.caffemodel")))
    image = np.load(DATA / "inputs_u8.npz")["33x33"].astype(np.float32) - np.float32([104.008, 116.669, 122.675])
    reference = np.load(DATA / "fwd_slim_33x33.npz")["fc8_voc12"].transpose(0, 2, 3, 1)
    assert np.abs(model(image[None]) - reference).max() <= 2e-5 * np.abs(reference).max()


@pytest.mark.tf
def test_model_without_weights_starts_as_a_training_does():
    model = build_model(num_classes=5, width=0.05, seed=3)
    for name, array in ARCHITECTURES["largefov"].random_weights(5, 0.05, seed=3).items():
        layer, part = name.split("/")
        np.testing.assert_array_equal(getattr(model.get_layer(layer), part), array)


@pytest.mark.tf
def test_model_keeps_the_layers_of_a_file_without_a_classifier(tmp_path):
    import pickle

    arrays = {name: array for name, array in tiny_variables().items() if not name.startswith("fc8")}
    (tmp_path / "w").write_bytes(pickle.dumps(arrays))
    model = build_model(num_classes=7, weights=tmp_path / "w")
    assert model.output_shape == (None, None, None, 7)
    np.testing.assert_array_equal(model.get_layer("fc7").get_weights()[0], arrays["fc7/w"])
    assert model.get_layer("fc8_voc12").get_weights()[0].std() == pytest.approx(0.01, rel=0.1)
