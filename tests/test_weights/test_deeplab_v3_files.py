"""The files of DeepLab v3 and v3+ in TensorFlow: names and arrays of the authors' program, whole, cut and damaged."""

import numpy as np
import pytest
from tensorflow_bytes import constant, frozen_graph, node, write_checkpoint
from tiny_weights import weight_file
from v3_files import names, our_name, rule_weights

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.fitting import fit_weights, open_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.frozen_graphs import FrozenGraph
from deeplabctl.weights.sources.tensorflow_checkpoints import TensorFlowCheckpoint, weights_of_variables

OS8 = {
    f"MobilenetV2/expanded_conv_{block}/depthwise/depthwise_weights": 4 if block > 13 else 2 for block in range(7, 17)
}


def same_arrays(weights, variables):
    assert set(weights) == {our_name(name) for name in variables}
    for name, array in variables.items():
        np.testing.assert_array_equal(weights[our_name(name)], array, strict=True)


def zeros(shapes):
    """Return arrays of zeros that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("net", "architecture", "width"),
    [
        ("mnv2_dm05", "deeplabv3-mnv2", 0.5),
        ("mnv2_dm10", "deeplabv3-mnv2", 1),
        ("mnv2_dm10_plus", "deeplabv3plus-mnv2", 1),
        ("xc65", "deeplabv3plus-xception65", 1),
    ],
)
def test_variables_of_the_authors_program_are_the_weights_of_our_tables(tmp_path, net, architecture, width):
    weights = weights_of_variables(zeros(names()[net]["variables"]), tmp_path)
    shapes = ARCHITECTURES[architecture].weight_shapes(21, width)
    assert {name: array.shape for name, array in weights.items()} == shapes
    assert set(weights) == {our_name(name) for name in names()[net]["variables"]}
    file = weight_file(weights)
    assert (file.architecture(), file.width(architecture)) == (architecture, width)


def test_names_of_layers_are_scopes():
    assert (
        our_name("MobilenetV2/expanded_conv_1/depthwise/BatchNorm/beta") == "expanded_conv_1_depthwise_BatchNorm/beta"
    )
    shortcut = "xception_65/entry_flow/block1/unit_1/xception_module/shortcut/weights"
    assert our_name(shortcut) == "entry_flow_block1_unit_1_shortcut/kernel"


def test_checkpoint_of_the_zoo_gives_a_whole_network_without_slots(tmp_path):
    variables = rule_weights("mnv2_dm05")
    slots = {f"{name}/Momentum": array for name, array in variables.items() if "moving" not in name}
    write_checkpoint(tmp_path / "model.ckpt-30000", variables | slots | {"global_step": np.array(30000, np.int64)})
    file = open_weights(tmp_path / "model.ckpt-30000.index")
    assert isinstance(file, TensorFlowCheckpoint)
    same_arrays(file.weights, variables)
    network = open_network(file)
    assert (network.info.architecture, network.info.width, network.info.classes[15]) == (
        "deeplabv3-mnv2",
        0.5,
        "person",
    )
    assert network.assumed[0].startswith(
        "the output stride is not stated: deeplabv3-mnv2 computes at 16, and deeplabv3-mnv2-os8 at 8 with the same"
    )
    named = fit_weights(file, architecture="deeplabv3-mnv2-os8")
    assert (named.info.architecture, named.assumed[:-1]) == ("deeplabv3-mnv2-os8", [])


def test_weights_of_a_classifier_of_imagenet_start_a_network(tmp_path):
    variables = {name: array for name, array in rule_weights("mnv2_dm05").items() if name.startswith("MobilenetV2/")}
    rest = {"Conv_1/weights": (1, 1, 160, 1280), "Logits/Conv2d_1c_1x1/weights": (1, 1, 1280, 9)}
    rest |= {"Conv_1/BatchNorm/gamma": (1280,), "Conv_1/BatchNorm/moving_mean": (1280,)}
    rest = {f"MobilenetV2/{name}": np.ones(shape, np.float32) for name, shape in rest.items()}
    write_checkpoint(tmp_path / "a.ckpt", variables | rest)
    network = fit_weights(open_weights(tmp_path / "a.ckpt"), architecture="deeplabv3plus-mnv2", num_classes=2)
    assert network.notes == ["left out: Conv_1_BatchNorm, Conv_1, Logits_Conv2d_1c_1x1"]
    assert network.new_layers[0] == "image_pooling"
    np.testing.assert_array_equal(network.weights["Conv/kernel"], variables["MobilenetV2/Conv/weights"])


def test_network_of_the_program_that_has_no_table_is_refused(tmp_path):
    variables = rule_weights("mnv2_dm05") | {"resnet_v1_101/conv1_1/weights": np.ones((3, 3, 3, 4), np.float32)}
    write_checkpoint(tmp_path / "a.ckpt", variables)
    with pytest.raises(WeightsError, match=r"do not fit deeplabv3-mnv2 .*: \+ resnet_v1_101_conv1_1 \(unexpected\)"):
        open_network(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("dilations", "architecture"),
    [(OS8, "deeplabv3-mnv2-os8"), (dict.fromkeys(list(OS8)[-3:], 2), "deeplabv3-mnv2")],
)
def test_frozen_graph_tells_its_output_stride(tmp_path, dilations, architecture):
    variables = rule_weights("mnv2_dm05")
    (tmp_path / "a.pb").write_bytes(frozen_graph(variables, dilations))
    file = open_weights(tmp_path / "a.pb")
    assert isinstance(file, FrozenGraph)
    same_arrays(file.weights, variables)
    assert file.dilations["expanded_conv_16_depthwise"] == (dilations[list(OS8)[-1]],) * 2
    assert file.dilations["expanded_conv_6_depthwise"] == (1, 1)
    network = open_network(file)
    assert (network.info.architecture, network.notes) == (architecture, [])


def test_graph_that_is_not_frozen_asks_for_its_checkpoint(tmp_path):
    (tmp_path / "a.pb").write_bytes(node("MobilenetV2/Conv/weights", "VariableV2") + node("b", "NoOp"))
    with pytest.raises(WeightsError, match=r"expected a frozen graph, got one without constants: .* give that"):
        open_network(tmp_path / "a.pb")


def test_constant_of_one_number_stands_for_equal_ones_but_not_for_more_than_the_file_has(tmp_path):
    kernel, mean = np.ones((1, 1, 2, 3), np.float32), np.full(1, 0.5, np.float32)
    (tmp_path / "a.pb").write_bytes(constant("a/weights", kernel) + constant("a/moving_mean", mean, [3]))
    np.testing.assert_array_equal(open_weights(tmp_path / "a.pb").weights["a/moving_mean"], [0.5] * 3)
    for array, claimed in ((mean, [1 << 20, 1 << 20]), (kernel, [1, 1, 2, 127])):
        (tmp_path / "a.pb").write_bytes(constant("a/w", array, claimed))
        with pytest.raises(
            WeightsError, match=rf"damaged or truncated at byte .* a/w of shape .* has {array.size} num"
        ):
            open_network(tmp_path / "a.pb")


@pytest.mark.parametrize(("numbers", "values"), [([1, 2, 3], [1, 2, 3, 3, 3, 3]), ([], [0] * 6), ([5], [5] * 6)])
def test_last_number_of_a_list_stands_for_those_left_out_and_none_for_zeros(tmp_path, numbers, values):
    listed = np.array(numbers, np.float32)
    content = constant("b/weights", np.ones((1, 1, 2, 6), np.float32)) + constant("b/moving_mean", listed, [6], field=5)
    (tmp_path / "a.pb").write_bytes(content)
    np.testing.assert_array_equal(open_weights(tmp_path / "a.pb").weights["b/moving_mean"], values)
    (tmp_path / "a.pb").write_bytes(content + constant("b/moving_variance", np.ones(7, np.float32), [6], field=5))
    with pytest.raises(WeightsError, match=r"constant b/moving_variance of shape \[6\] has 7 numbers"):
        _ = open_weights(tmp_path / "a.pb").weights


def test_cut_and_changed_graphs_are_one_line(tmp_path):
    whole = frozen_graph(rule_weights("mnv2_dm05", narrow=16), OS8)
    rng = np.random.default_rng(0)
    errors = []
    for trial in range(60):
        broken = bytearray(whole[: rng.integers(100, len(whole))] if trial % 2 else whole)
        for at in rng.integers(0, len(broken), trial):
            broken[at] = rng.integers(256)
        (tmp_path / "w").write_bytes(broken)
        try:
            open_network(tmp_path / "w")
        except WeightsError as error:
            errors.append(str(error))
    assert len(errors) == 60  # a narrow network has no architecture
    assert not [error for error in errors if "\n" in error]


def test_constants_that_claim_far_more_than_the_file_are_refused(tmp_path):
    one = [constant(f"c{number}/weights", np.zeros(1, np.float32), (1, 1, 1, 1000)) for number in range(99)]
    (tmp_path / "a.pb").write_bytes(node("ImageTensor", "Placeholder") + b"".join(one))
    with pytest.raises(WeightsError, match=r"the file is damaged: it claims \d+ bytes of weights"):
        _ = open_weights(tmp_path / "a.pb").weights


def test_variables_of_one_name_are_refused(tmp_path):
    array = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(WeightsError, match="variable Conv/weights: expected one Conv/kernel, got several"):
        weights_of_variables({"MobilenetV2/Conv/weights": array, "Conv/weights": array}, tmp_path)
