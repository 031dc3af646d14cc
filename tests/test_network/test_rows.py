import math

import numpy as np
import pytest

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Convolution, Norm, Sum
from deeplabctl.network.ops.operation import fold

# The last: largefov, and five paths of 3x3x128, 1x1x128 and 21 classes on 3 + 64 + 128 + 256 + 512 channels.
PUBLISHED = {
    "largefov": 20_505_429, "aspp-s": 37_877_652, "aspp-l": 37_877_652, "resnet101": 44_153_876,
    "msc-largefov": 21_711_550,
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


@pytest.mark.tf
@pytest.mark.parametrize(
    ("below", "block", "stride", "dilation"),
    [("pool1", "2a", 1, 1), ("res2c", "3a", 2, 1), ("res4a", "4b1", 1, 2), ("res5b", "5c", 1, 4)],
)
def test_bottleneck_block_follows_its_formula(below, block, stride, dilation):
    from deeplabctl.network.keras_model import apply_rows, assign_weights, build_model

    rng = np.random.default_rng(0)
    weights = {
        name: array.astype(np.float64)
        for name, array in ARCHITECTURES["resnet101"].random_weights(3, 1 / 64, 0).items()
    }
    for name, array in weights.items():
        if name.startswith("bn"):
            array += rng.uniform(0, 0.5, array.shape)  # statistics of a trained net are no identity
    model = build_model("resnet101", 3, width=1 / 64, dtype="float64")
    assign_weights(model, weights)
    values = apply_rows(model, rng.normal(0, 60, (1, 65, 50, 3)), ARCHITECTURES["resnet101"].rows)

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
