import dataclasses

import h5py
import numpy as np
import pytest
from caffe_bytes import block, dims, number, packed, v2
from caffe_files import fixture
from family_files import DATA, family
from tiny_weights import weight_file

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.conversion import plan_conversion
from deeplabctl.weights.fitting import fit_weights
from deeplabctl.weights.locating import open_weights

ASPP_L = DATA / "aspp_l_d32_train_init.caffemodel"


def arrays_of(architecture):
    return ARCHITECTURES[architecture].random_weights(3, 1 / 64, 0)


@pytest.mark.parametrize("architecture", ["largefov", "resnet101"])
def test_architecture_is_told_by_the_names_of_the_layers(architecture):
    assert weight_file(arrays_of(architecture)).architecture() == architecture


def test_network_with_the_layers_of_largefov_does_not_take_its_files(monkeypatch):
    twin = dataclasses.replace(ARCHITECTURES["largefov"], name="twin")
    monkeypatch.setitem(ARCHITECTURES, "twin", twin)
    assert open_weights(fixture("lfov_tiny_v1.caffemodel")).architecture() == "largefov"


def test_body_of_vgg_alone_becomes_largefov():
    convs = {name: array for name, array in arrays_of("aspp-l").items() if name.startswith("conv")}
    assert weight_file(convs).architecture() == "largefov"


@pytest.mark.parametrize(("architecture", "rates"), [("aspp-s", (2, 4, 8, 12)), ("aspp-l", (6, 12, 18, 24))])
def test_branches_are_told_apart_by_the_dilations_in_the_file(architecture, rates):
    dilations = {f"fc6_{branch}": (rate,) for branch, rate in enumerate(rates, 1)}
    assert weight_file(arrays_of("aspp-s"), dilations=dilations).architecture() == architecture
    with pytest.raises(
        WeightsError, match=r"aspp-s and aspp-l have the same layers, .*not say which it is; name it in"
    ):
        weight_file(arrays_of("aspp-s")).architecture()
    with pytest.raises(WeightsError, match=r"is neither: expected dilation 2 of fc6_1, got 5; name it in"):
        weight_file(arrays_of("aspp-s"), dilations={"fc6_1": (5,)}).architecture()


def test_whole_network_that_states_other_dilations_is_taken_by_its_name_only():
    """As a LargeFOV of Caffe (V2) with dilation 6 in fc6, whose weights have the shapes of that with 12."""
    arrays = arrays_of("largefov")
    assert fit_weights(weight_file(arrays, dilations={"fc6": (12,), "conv5_1": (2, 2)})).new_layers == []
    with pytest.raises(WeightsError, match="expected dilation 12 of fc6, got 6; largefov computes something else"):
        fit_weights(weight_file(arrays, dilations={"fc6": (6,)}))
    assert fit_weights(weight_file(arrays, dilations={"fc6": (6,)}), architecture="largefov").new_layers == []


@pytest.mark.parametrize(
    "write", [lambda values: block(18, bytes(values)), lambda values: b"".join(number(18, v) for v in values)]
)
def test_dilations_of_v2_layers_are_read_packed_or_not(tmp_path, write):
    settings = block(106, write([6, 12]))
    layer = v2("fc6_1", dims(1, 1, 1, 1) + packed(5, [1]))
    content = block(
        100, block(1, "fc6_1") + block(2, "Convolution") + settings + block(7, dims(1, 1, 1, 1) + packed(5, [1]))
    )
    (tmp_path / "a.caffemodel").write_bytes(layer + content)
    assert open_weights(tmp_path / "a.caffemodel").dilations == {"fc6_1": (6, 12)}


def test_caffes_training_net_becomes_aspp_l_with_its_classes():
    network = fit_weights(open_weights(ASPP_L))
    assert (network.info.architecture, network.info.width) == ("aspp-l", 1 / 32)
    assert (network.new_layers, network.classes_in_file) == ([], 21)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("aspp_s_d16", "aspp-s"),
        ("aspp_l_d16", "aspp-l"),
        ("r101_d16", "resnet101"),
        ("r101_d32_train_init", "resnet101"),
    ],
)
def test_files_of_the_family_become_their_architectures_and_only_those_of_three_scales_state_them(name, architecture):
    network = fit_weights(open_weights(family(f"{name}.caffemodel")))
    assert (network.info.architecture, network.new_layers, network.notes) == (architecture, [], [])
    scales = ["the scales are not stated: taken as 1, 0.75, 0.5 (`scales=1` for one)"]
    names = ["the names of the classes are not stated: taken as VOC's, as there are 21"]
    assert network.assumed == (scales if name == "r101_d16" else []) + names


def test_file_without_dilations_takes_the_architecture_that_is_named(tmp_path):
    from deeplabctl.caffe import read_caffemodel

    with h5py.File(tmp_path / "net.h5", "w") as root:
        for layer in read_caffemodel(ASPP_L).layers:
            for index, blob in enumerate(layer.blobs):
                root[f"data/{layer.name}/{index}"] = blob
    with pytest.raises(WeightsError, match="name it in deeplabctl convert-caffe: `architecture=NAME`"):
        plan_conversion(tmp_path / "net.h5", tmp_path / "a.keras")
    planned = plan_conversion(tmp_path / "net.h5", tmp_path / "a.keras", architecture="aspp-s")
    assert planned.network.info.architecture == "aspp-s"
    with pytest.raises(WeightsError, match=r"`architecture`: .* states the dilations of aspp-l; aspp-s computes"):
        plan_conversion(ASPP_L, tmp_path / "a.keras", architecture="aspp-s")
    with pytest.raises(WeightsError, match=f"expected one of {', '.join(ARCHITECTURES)}, got 'aspp'"):
        plan_conversion(tmp_path / "net.h5", tmp_path / "a.keras", architecture="aspp")


def test_classifiers_of_other_names_and_class_counts_are_found():
    found = ARCHITECTURES["aspp-l"].random_weights(4, 1 / 64, 0)
    weights = {name.replace("voc12", "mine"): array for name, array in found.items()}
    renamed = weight_file(weights, dilations=open_weights(ASPP_L).dilations)
    network = fit_weights(renamed)
    assert network.classes_in_file == 4
    assert network.notes == [f"fc8_mine_{n} is used as the classifier fc8_voc12_{n}" for n in range(1, 5)]
    other = fit_weights(renamed, num_classes=7)
    assert other.new_layers == [f"fc8_voc12_{n}" for n in range(1, 5)]
    np.testing.assert_array_equal(other.weights["fc7_2/kernel"], weights["fc7_2/kernel"])
    weights["fc8_mine_3/kernel"] = weights["fc8_mine_3/kernel"][..., :2]
    with pytest.raises(WeightsError, match=r"classifiers of one class count, got fc8_voc12_1 of 4, .*fc8_voc12_3 of 2"):
        fit_weights(renamed)


def test_vgg_16_becomes_four_branches_of_different_filters():
    weights = {
        name: array
        for name, array in ARCHITECTURES["largefov"].random_weights(2, 1.0, 1).items()
        if name.startswith("conv")
    }
    weights["fc6/kernel"] = np.broadcast_to(np.float32(0.5), (25088, 4096))
    weights["fc6/bias"] = np.arange(4096, dtype=np.float32)
    weights["fc7/kernel"] = np.broadcast_to(np.float32(0.25), (4096, 4096))
    weights |= {"fc7/bias": np.zeros(4096, np.float32), "fc8/bias": np.zeros(1000, np.float32)}
    weights["fc8/kernel"] = np.zeros((4096, 1000), np.float32)
    network = fit_weights(weight_file(weights), architecture="aspp-l", seed=3)
    assert network.new_layers == [f"fc8_voc12_{n}" for n in range(1, 5)]
    chosen = [network.weights[f"fc6_{n}/bias"] for n in range(1, 5)]
    assert len({array.tobytes() for array in chosen}) == 4
    assert network.notes[0].startswith(
        "fc6 and fc7: 1024 of 4096 filters chosen by seed 3, for each branch others, fc6"
    )


def test_missing_bias_is_zero_and_a_missing_part_of_a_norm_is_named():
    weights = ARCHITECTURES["resnet101"].random_weights(4, 1 / 64, 0)
    for head in range(4):
        del weights[f"fc1_voc12_c{head}/bias"]
    network = fit_weights(weight_file(weights))
    assert not network.weights["fc1_voc12_c2/bias"].any()
    layers = "fc1_voc12_c0, fc1_voc12_c1, fc1_voc12_c2, ..."
    assert network.assumed[-1] == f"4 layers without a bias in the file, taken as 0: {layers}"
    del weights["bn4b7_branch2a/gamma"]
    with pytest.raises(WeightsError, match=r"resnet101 of width 0\.015625: - bn4b7_branch2a/gamma \(missing\)"):
        fit_weights(weight_file(weights))
