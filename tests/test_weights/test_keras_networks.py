"""MobileNet v2 of keras.applications, and bonlime's DeepLab v3+, in Keras' files."""

import h5py
import numpy as np
import pytest
from v3_files import deviation, names, our_name, rule_weights

from deeplabctl.errors import DownloadError, WeightsError
from deeplabctl.reporting import silent
from deeplabctl.weights.fitting import fit_weights, open_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.published import imagenet
from deeplabctl.weights.starting import open_start

PARTS = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}


def write_legacy(path, layers):
    """Write {layer: {dataset: array}} as Keras 2 does."""
    with h5py.File(path, "w") as root:
        root.attrs["layer_names"] = np.array(list(layers), "S")
        for name, datasets in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{dataset}:0" for dataset in datasets], "S")
            for dataset, array in datasets.items():
                group[f"{name}/{dataset}:0"] = array
    return path


def bonlime_layers(body, variables):
    layers = {}
    for variable, place in names()["bonlime"][body].items():
        layer, dataset = place.split("/")
        layers.setdefault(layer, {})[dataset] = variables[variable]
    for layer, datasets in layers.items():
        if "gamma" in datasets:
            layers[layer] = {part: datasets[part] for part in PARTS[4]}
        elif "bias" in datasets:
            layers[layer] = {part: datasets[part] for part in PARTS[2]}
    return layers


@pytest.mark.parametrize(("body", "net", "narrow"), [("mobilenetv2", "mnv2_dm10", 1), ("xception", "xc65", 16)])
def test_file_of_bonlime_comes_back_equal(tmp_path, body, net, narrow):
    variables = rule_weights(net, narrow)
    path = write_legacy(tmp_path / "deeplabv3.h5", bonlime_layers(body, variables))
    file = open_weights(path)
    assert set(file.weights) == {our_name(name) for name in variables}
    for name, array in variables.items():
        np.testing.assert_array_equal(file.weights[our_name(name)], array, strict=True)
    expected = "deeplabv3-mnv2" if narrow == 1 else "deeplabv3plus-xception65"
    assert file.architecture() == expected
    if narrow == 1:
        assert open_network(file).info.width == 1


def test_classifier_of_other_classes_of_bonlime_is_the_classifier(tmp_path):
    layers = bonlime_layers("mobilenetv2", rule_weights("mnv2_dm10"))
    old = layers.pop("logits_semantic")
    layers["custom_logits_semantic"] = {"kernel": old["kernel"][..., :5], "bias": old["bias"][:5]}
    network = open_network(write_legacy(tmp_path / "a.h5", layers))
    assert (len(network.info.classes), network.classes_in_file) == (5, 5)


def test_file_of_another_network_says_what_is_read(tmp_path):
    path = write_legacy(tmp_path / "a.h5", {"stem": {"kernel": np.ones((3, 3, 3, 8), np.float32)}})
    with pytest.raises(
        WeightsError, match=r"MobileNet v2 or DeepLab v3\+ with their names, got 1 convolutions, 0 norms"
    ):
        open_network(path)


def our_layer(name):
    """Return our name of a layer of keras.applications' MobileNet v2."""
    fixed = {"Conv1": "Conv", "bn_Conv1": "Conv_BatchNorm", "Conv_1_bn": "Conv_1_BatchNorm"}
    return fixed.get(name) or name.replace("block_", "expanded_conv_").replace("_BN", "_BatchNorm")


@pytest.mark.tf
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("alpha", [0.35, 1.0])
def test_mobilenet_v2_of_keras_gives_its_body(tmp_path, suffix, alpha):
    import keras

    theirs = keras.applications.MobileNetV2((96, 96, 3), alpha=alpha, weights=None, include_top=suffix != ".keras")
    path = tmp_path / f"net{suffix}"
    theirs.save_weights(path) if suffix == ".weights.h5" else theirs.save(path)
    file = open_weights(path)
    expected = {
        f"{our_layer(layer.name)}/{part}": array
        for layer in theirs.layers
        for part, array in zip(PARTS.get(len(layer.get_weights()), ()), layer.get_weights(), strict=True)
    }
    assert set(file.weights) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(file.weights[name], array, strict=True)
    if alpha == 1:
        network = fit_weights(file, num_classes=3)
        assert (network.info.architecture, network.info.width) == ("deeplabv3-mnv2", 1)
        left = ["Conv_1", "Conv_1_BatchNorm"] if suffix == ".keras" else ["Conv_1", "Conv_1_BatchNorm", "predictions"]
        assert sorted(network.notes[0].removeprefix("left out: ").split(", ")) == left
        heads = {"image_pooling", "aspp0", "concat_projection", "logits_semantic"}
        assert {layer.removesuffix("_BatchNorm") for layer in network.new_layers} == heads
    else:  # channels of Keras are multiples of 8 at every width
        with pytest.raises(WeightsError, match=r"do not fit deeplabv3-mnv2 of width 0\.35: - Conv: expected"):
            fit_weights(file)


@pytest.mark.tf
@pytest.mark.parametrize("size", [64, 65])
def test_mobilenet_v2_of_keras_computes_the_same_up_to_where_deeplab_dilates(size):
    import keras

    from deeplabctl.network import ARCHITECTURES
    from deeplabctl.network.keras_model import apply_rows, assign_weights, zero_model
    from deeplabctl.weights.sources.keras_files import weights_of_model

    theirs = keras.applications.MobileNetV2((size, size, 3), weights=None, include_top=False)
    rng = np.random.default_rng(0)
    for variable in theirs.variables:
        if variable.name != "kernel":
            variable.assign(rng.uniform(0.5, 1.0, variable.shape))
    weights = ARCHITECTURES["deeplabv3-mnv2"].random_weights(2, 1, 0)
    weights |= {name: array for name, array in weights_of_model(theirs).items() if not name.startswith("Conv_1")}
    ours = zero_model("deeplabv3-mnv2", 2)
    assign_weights(ours, weights)
    image = rng.uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    compared = {f"block_{block}_depthwise_relu": f"expanded_conv_{block}_depthwise_BatchNorm" for block in (1, 3, 6)}
    compared = {
        "Conv1_relu": "Conv_BatchNorm",
        "block_12_add": "expanded_conv_12",
    } | compared  # each stride, and the last
    expected = keras.Model(theirs.input, [theirs.get_layer(name).output for name in compared])(image)
    found = apply_rows(ours, image, ARCHITECTURES["deeplabv3-mnv2"].rows)
    for name, values in zip(compared.values(), expected, strict=True):
        assert deviation(found[name], values) < 1e-5, name


def test_weights_of_imagenet_are_downloaded_where_the_user_has_no_home(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user whom the system does not know
    with pytest.raises(DownloadError, match=r"cannot download mobilenet.*127\.0\.0\.1: Connection refused"):
        open_start("imagenet", "deeplabv3-mnv2").fetch(silent)


@pytest.mark.tf
@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "Keras'"])
def test_weights_of_imagenet_are_those_of_the_file_in_the_cache(is_ours, tmp_path, monkeypatch):
    import keras

    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))

    theirs = keras.applications.MobileNetV2(weights=None, include_top=False)
    own = imagenet()["MobileNetV2"]
    path = own.path if is_ours else tmp_path / ".keras" / "models" / own.file
    path.parent.mkdir(parents=True)
    theirs.save(path)
    found = open_start("imagenet", "deeplabv3-mnv2").weights
    np.testing.assert_array_equal(found["Conv/kernel"], theirs.get_layer("Conv1").get_weights()[0], strict=True)
    assert set(found) == set(open_weights(path).weights)
