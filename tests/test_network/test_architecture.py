import copy
import dataclasses
import math

import numpy as np
import pytest

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Convolution, Norm, Sum
from deeplabctl.network.ops.operation import fold

LARGEFOV = ARCHITECTURES["largefov"]

# msc-largefov: largefov, and five paths of 3x3x128, 1x1x128 and 21 classes on 3 + 64 + 128 + 256 + 512 channels. v3 and
# v3+: the sum of the variables that the authors' programs list, torchvision's without the auxiliary classifier.
PUBLISHED = {
    "largefov": 20_505_429, "aspp-s": 37_877_652, "aspp-l": 37_877_652, "resnet101": 44_153_876,
    "msc-largefov": 21_711_550, "deeplabv3-mnv2": 2_146_645, "deeplabv3-mnv2-os8": 2_146_645,
    "deeplabv3plus-mnv2": 2_764_357, "deeplabv3plus-mnv2-os8": 2_764_357, "deeplabv3plus-xception65": 41_258_213,
    "deeplabv3plus-xception65-os8": 41_258_213, "deeplabv3-resnet50": 39_695_573,
    "deeplabv3-resnet101": 58_739_925, "deeplabv3-mobilenetv3": 11_053_461,
}  # fmt: skip


def test_rows_without_inputs_take_the_row_above_and_others_those_that_they_name():
    rows = (
        Convolution("a", 4),
        Norm("b"),
        Convolution("c", 4, inputs=("data",)),
        Convolution.to_classes("d"),
        Sum("e", inputs=("b", "d")),
    )
    found = fold(rows, "image", lambda row, inputs: f"{row.name}({', '.join(inputs)})")
    assert list(found) == ["data", "a", "b", "c", "d", "e"]
    assert found["e"] == "e(b(a(image)), d(c(image)))"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_at_full_width_are_the_published_ones(architecture):
    count = sum(map(math.prod, ARCHITECTURES[architecture].weight_shapes(21).values()))
    assert count == PUBLISHED[architecture]


@pytest.mark.parametrize(("width", "count"), [(1 / 16, 276_280), (1 / 32, 96_842)])
def test_narrow_resnet_has_the_parameters_of_caffes(width, count):  # which has one more in each of 104 norms
    assert sum(map(math.prod, ARCHITECTURES["resnet101"].weight_shapes(21, width).values())) + 104 == count


def test_resnet_has_the_layers_that_the_authors_list():
    rows = ARCHITECTURES["resnet101"].rows
    convs = [row for row in rows if isinstance(row, Convolution)]
    assert len(convs) == 108
    assert sum(not conv.bias for conv in convs) == sum(isinstance(row, Norm) for row in rows) == 104
    assert {conv.name for conv in convs if conv.stride == 2} == {"conv1", "res3a_branch1", "res3a_branch2a"}
    dilated = {conv.name: conv.dilation for conv in convs if conv.kernel == 3}
    assert [dilated[f"res{block}_branch2b"] for block in ("2c", "3b3", "4a", "4b22", "5a", "5c")] == [1, 1, 2, 2, 4, 4]
    assert [dilated[name] for name in ARCHITECTURES["resnet101"].classifiers] == [6, 12, 18, 24]
    assert ARCHITECTURES["resnet101"].channels(21)["res4b7"] == 1024


def test_factors_are_caffes():
    facts = ARCHITECTURES["resnet101"].parameters(21)
    assert {facts[name].lr_multiplier for name in facts if name.startswith("bn")} == {0}
    assert (facts["res5c_branch2c/kernel"].lr_multiplier, facts["res5c_branch2c/kernel"].decay_multiplier) == (1, 1)
    bias = ARCHITECTURES["aspp-l"].parameters(21)["fc8_voc12_3/bias"]
    assert (bias.lr_multiplier, bias.decay_multiplier, bias.op.is_classifier) == (2, 0, True)


def test_most_values_are_those_of_the_largest_layer():
    assert ARCHITECTURES["largefov"].most_values(1) == 64 + 64  # conv1_2 reads and writes 64 channels at full size
    assert ARCHITECTURES["resnet101"].most_values(1) == 3 * 2048 / 64  # res5b adds 2048 channels to 2048 at stride 8


def test_width_multiplies_all_channels_but_the_classes():
    shapes = ARCHITECTURES["largefov"].weight_shapes(11, 0.25)
    assert shapes["conv1_1/kernel"] == (3, 3, 3, 16)
    assert shapes["fc6/kernel"] == (3, 3, 128, 256)
    assert shapes["fc8_voc12/kernel"] == (1, 1, 256, 11)


def test_fc6_sees_224_pixels_as_the_paper_says():
    # arXiv 1412.7062, Table 2: as much as VGG's 7x7 kernel at stride 32; fc6's cells see 32 pixels and lie 8 apart.
    fc6 = next(layer for layer in ARCHITECTURES["largefov"].rows if layer.name == "fc6")
    assert (fc6.kernel - 1) * fc6.dilation * 8 + 32 == 224


def test_sizes_to_predict_at():
    assert LARGEFOV.padded_size(375, "paper") == 513
    assert LARGEFOV.padded_size(514, "paper") == 521
    assert [LARGEFOV.padded_size(size) for size in (1, 2, 9, 10, 321, 375)] == [1, 9, 9, 17, 321, 377]


def test_crop_sizes_put_label_pixels_on_cells():
    assert [size for size in range(1, 35) if LARGEFOV.is_crop_size(size)] == [9, 17, 25, 33]


def test_crops_fit_all_scales_of_a_network():
    steps = {(1.0,): 8, (1.0, 0.5): 16, (1.0, 0.75, 0.5): 32}
    for scales, step in steps.items():
        assert dataclasses.replace(LARGEFOV, scales=scales).crop_step == step
    assert [size for size in range(330) if ARCHITECTURES["resnet101"].is_crop_size(size)] == list(range(33, 330, 32))


def test_sizes_follow_another_output_stride():
    coarse = ARCHITECTURES["deeplabv3-mnv2"]
    assert [coarse.padded_size(size) for size in (1, 2, 17, 18, 513)] == [1, 17, 17, 33, 513]
    assert [size for size in range(40) if coarse.is_crop_size(size)] == [17, 33]
    assert coarse.cells(33) == 3


def test_random_start_follows_he_with_a_dirac_kernel_and_the_papers_classifier():
    weights = ARCHITECTURES["largefov"].random_weights(21, 0.5, seed=1)
    assert weights["conv1_1/kernel"].std() == pytest.approx(np.sqrt(2 / 27) / 7, rel=0.05)
    kernel, bias = weights["conv4_2/kernel"], weights["conv4_2/bias"]
    through = kernel[1, 1, np.arange(256), np.arange(256)]
    assert through.mean() == pytest.approx(0.8 * np.sqrt(0.5), rel=0.01)
    kernel[1, 1, np.arange(256), np.arange(256)] -= through.mean()
    assert kernel.std() == pytest.approx(0.8 * np.sqrt(0.5) * np.sqrt(2 / (9 * 256)), rel=0.01)
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-4)
    assert weights["fc8_voc12/kernel"].std() == pytest.approx(0.01, rel=0.05)
    assert not any(array.any() for name, array in weights.items() if name.endswith("/bias"))
    assert bias.shape == (256,)


def test_random_start_is_a_function_of_the_seed():
    one, same, other = (ARCHITECTURES["largefov"].random_weights(3, 0.1, seed) for seed in (1, 1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert name.endswith("/bias") or (one[name] != other[name]).any()


def test_random_start_of_a_copy_is_the_same():
    network = ARCHITECTURES["resnet101"]
    copied = copy.deepcopy(network).random_weights(3, 1 / 32, 1)
    for name, array in network.random_weights(3, 1 / 32, 1).items():
        np.testing.assert_array_equal(copied[name], array)


@pytest.mark.parametrize("architecture", ["aspp-l", "resnet101"])
def test_random_start_draws_each_kernel_by_its_number_and_norms_change_nothing(architecture):
    weights = ARCHITECTURES[architecture].random_weights(5, 1 / 32, seed=2)
    kernels = [array for name, array in weights.items() if name.endswith("/kernel")]
    assert len({array.tobytes() for array in kernels}) == len(kernels)
    for name in ARCHITECTURES[architecture].classifiers:
        assert weights[f"{name}/kernel"].std() == pytest.approx(0.01, rel=0.2)
    if architecture == "resnet101":
        assert (weights["bn4b7_branch2a/gamma"] == 1).all()
        assert (weights["bn_conv1/gamma"] == np.float32(0.1)).all()
        assert (weights["bn4b7_branch2c/gamma"] == 0.25).all()
        assert (weights["bn4b7_branch2a/moving_variance"] == 1).all()
        assert not weights["bn4b7_branch2a/moving_mean"].any()


@pytest.mark.parametrize("width", [0.06, 0.011, 0.037, 0.3333, 0.77, 1.3, 1])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_width_is_one_that_has_the_channels_of_every_layer(name, width):
    network = ARCHITECTURES[name]
    channels = network.channels(5, width)
    found = network.width_of({row.name: channels[row.name] for row in network.convolutions if not row.classifier})
    assert network.weight_shapes(5, found) == network.weight_shapes(5, width)


def test_width_of_another_networks_layers_is_that_of_the_widest():
    assert ARCHITECTURES["largefov"].width_of({"conv1_1": 64, "conv1_2": 3, "fc6": 512}) == 0.5


def test_early_layers_of_mobilenet_are_those_above_a_sixteenth_of_the_images_size():
    for name in ("deeplabv3-mnv2", "deeplabv3plus-mnv2"):
        architecture = ARCHITECTURES[name]
        strides = {row.name: architecture.fields[row.name].stride for row in architecture.convolutions}
        assert {strides[layer] for layer in architecture.early_layers} == {2, 4, 8}
        layers = list(strides)
        following = layers[len(architecture.early_layers) :]
        assert layers[: len(architecture.early_layers)] == list(architecture.early_layers)
        assert [strides[layer] for layer in following[:3]] == [8, 16, 16]  # expanded, then made smaller
