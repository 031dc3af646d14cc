import numpy as np
import pytest
from caffe_files import TINY, read_blobs
from tiny_weights import weight_file

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.reporting import Note
from deeplabctl.weights.fitting import fit_weights, read_network
from deeplabctl.weights.model_info import ModelInfo


def test_whole_network_keeps_its_arrays_and_tells_its_width_and_classes():
    found = ARCHITECTURES["largefov"].random_weights(9, 0.1, seed=1)
    network = fit_weights(weight_file(found))
    assert (network.new_layers, network.notes, network.classes_in_file) == ([], [], 9)
    assert network.info.classes == tuple(f"class {number}" for number in range(9))
    assert network.info.provenance == {"source": "a.weights (weight pickle)"}
    assert ARCHITECTURES["largefov"].weight_shapes(9, network.info.width) == ARCHITECTURES["largefov"].weight_shapes(
        9, 0.1
    )
    assert all(network.weights[name] is array for name, array in found.items())


def test_what_is_assumed_of_files_of_other_programs_is_reported():
    file, notes = weight_file(ARCHITECTURES["largefov"].random_weights(21, 0.1, seed=1)), []
    read_network(file, notes.append)
    assert notes == [
        Note("weights a.weights: the names of the classes are not stated: taken as VOC's, as there are 21")
    ]
    file.info = ModelInfo(VOC_CLASSES, "largefov", 0.1)
    read_network(file, notes.append)
    assert len(notes) == 1


def test_classifier_of_any_name_and_class_count_is_found():
    layers = ARCHITECTURES["largefov"].random_weights(9, 0.1, seed=0)
    for part in ("kernel", "bias"):
        layers[f"fc8_pascal/{part}"] = layers.pop(f"fc8_voc12/{part}")
    network = fit_weights(weight_file(layers))
    assert "fc8_pascal/kernel" not in network.weights
    np.testing.assert_array_equal(network.weights["fc8_voc12/kernel"], layers["fc8_pascal/kernel"])
    assert network.notes == ["fc8_pascal is used as the classifier fc8_voc12"]
    assert network.classes_in_file == 9


def test_layers_of_another_network_are_listed():
    layers = read_blobs(TINY)
    for part in ("kernel", "bias"):
        layers[f"fc6_1/{part}"] = layers.pop(f"fc6/{part}")
    layers |= {f"fc6_2/{part}": layers[f"fc6_1/{part}"] for part in ("kernel", "bias")}
    with pytest.raises(WeightsError, match=r"\+ fc6_1 \(unexpected\); \+ fc6_2 \(unexpected\)"):
        fit_weights(weight_file(layers))


@pytest.mark.parametrize("width", [0.3, 0.07, 0.55, 1.3])
def test_width_is_that_of_the_widest_layer(width):
    shapes = ARCHITECTURES["largefov"].weight_shapes(5, width)
    found = weight_file({name: np.empty(shape, np.int8) for name, shape in shapes.items()}).width("largefov")
    assert ARCHITECTURES["largefov"].weight_shapes(5, found) == shapes


def test_classifier_of_another_class_count_starts_random_and_the_rest_is_kept():
    found = ARCHITECTURES["largefov"].random_weights(21, 0.1, seed=1)
    network = fit_weights(weight_file(found), num_classes=5)
    assert (network.new_layers, network.classes_in_file) == (["fc8_voc12"], 21)
    assert network.weights["fc8_voc12/kernel"].shape[-1] == 5
    np.testing.assert_array_equal(network.weights["fc7/kernel"], found["fc7/kernel"])


def test_layers_that_are_missing_start_gaussian():
    found = {
        name: value
        for name, value in ARCHITECTURES["largefov"].random_weights(21, 1.0, 1).items()
        if name.startswith("conv")
    }
    network = fit_weights(weight_file(found))
    assert (network.new_layers, network.classes_in_file) == (["fc6", "fc7", "fc8_voc12"], None)
    assert network.info.classes == VOC_CLASSES
    assert network.weights["fc6/kernel"].std() == pytest.approx(0.01, rel=0.01)


def test_weights_that_do_not_fit_are_listed_with_both_shapes():
    found = ARCHITECTURES["largefov"].random_weights(21, 0.1, seed=1)
    found["fc6/kernel"] = found["fc6/kernel"][:1]
    found["fc9/kernel"] = found["fc7/kernel"]
    with pytest.raises(WeightsError, match=r"\+ fc9 \(unexpected\); - fc6: expected \(3, 3, 51, 102\), got \(1, 3"):
        fit_weights(weight_file(found))


def test_network_of_many_other_layers_is_refused_in_a_line_that_can_be_read():
    found = ARCHITECTURES["largefov"].random_weights(21, 0.1, seed=1)
    found |= {f"fc{number}/bias": found["fc7/bias"] for number in range(20, 60)}
    with pytest.raises(WeightsError, match=r"\+ fc31 \(unexpected\); and 28 more$"):
        fit_weights(weight_file(found))


def test_variances_below_0_are_refused():
    given = ARCHITECTURES["resnet101"].random_weights(3, 1 / 64, seed=0)
    given["bn3a_branch1/moving_variance"][1] = -0.5
    with pytest.raises(WeightsError, match=r"- bn3a_branch1: expected variances of 0 or more, got -0\.5"):
        fit_weights(weight_file(given))


def test_weights_that_are_not_finite_or_of_too_many_classes_are_refused():
    found = ARCHITECTURES["largefov"].random_weights(21, 0.1, seed=1)
    found["fc7/kernel"][0, 0, 3, 3] = np.nan
    with pytest.raises(WeightsError, match="- fc7: expected finite numbers"):
        fit_weights(weight_file(found))
    with pytest.raises(WeightsError, match="at most 255 classes, got 300"):
        fit_weights(weight_file(ARCHITECTURES["largefov"].random_weights(300, 0.05, 0)))


def test_classifier_of_one_class_is_a_sigmoids_and_is_refused_but_starts_another():
    found = ARCHITECTURES["largefov"].random_weights(1, 0.1, seed=1)
    for asked in (None, 1):
        with pytest.raises(WeightsError, match="2 classes or more, got one of 1: a sigmoid's"):
            fit_weights(weight_file(found), num_classes=asked)
    assert fit_weights(weight_file(found), num_classes=2).new_layers == ["fc8_voc12"]


def test_kernels_without_their_norms_are_refused():
    found = ARCHITECTURES["deeplabv3-mnv2"].random_weights(21, 0.25, seed=1)
    kernels = {name: array for name, array in found.items() if "BatchNorm" not in name}
    with pytest.raises(WeightsError, match=r"- Conv_BatchNorm and all other norms \(missing\).*take a file with them"):
        fit_weights(weight_file(kernels), architecture="deeplabv3-mnv2")


def test_kernel_of_a_layer_that_has_none_is_unexpected():
    network = ARCHITECTURES["deeplabv3-mnv2"]
    row = next(name for name, inputs in network.inputs.items() if len(network.inputs.get(inputs[0], ())) > 1
               and f"{name}/kernel" not in network.parameters(21))  # fmt: skip
    found = network.random_weights(21, 0.25, seed=1)
    with pytest.raises(WeightsError, match=rf"\+ {row} \(unexpected\)"):
        fit_weights(weight_file(found | {f"{row}/kernel": found["Conv/kernel"]}), architecture="deeplabv3-mnv2")


def test_network_without_image_pooling_keeps_the_weights_of_its_branches_where_these_are():
    """The authors' program concatenates image pooling, which --add_image_level_feature=False leaves out, first."""
    found = ARCHITECTURES["deeplabv3plus-mnv2"].random_weights(21, 0.25, seed=1)
    kernel = found["concat_projection/kernel"]
    without = {name: array for name, array in found.items() if not name.startswith("image_pooling")}
    without["concat_projection/kernel"] = kernel[:, :, 256:]
    network = fit_weights(weight_file(without))
    assert network.new_layers == ["image_pooling", "image_pooling_BatchNorm"]
    np.testing.assert_array_equal(network.weights["concat_projection/kernel"][:, :, 256:], kernel[:, :, 256:])
    assert not network.weights["concat_projection/kernel"][:, :, :256].any()
    assert "concat_projection: weights of 0 for the 256 channels of layers that the file does not have" in network.notes
