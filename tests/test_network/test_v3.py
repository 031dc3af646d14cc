"""DeepLab v3 and v3+: logits of the authors' TensorFlow program and of torchvision, and what is often done wrong."""

from functools import cache

import numpy as np
import pytest
from caffe_files import ROOT
from v3_files import our_weights

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Convolution, DepthwiseConvolution, Norm

pytestmark = pytest.mark.tf

# What the original programs computed: their network, ours, the names of its weights, and the depth multiplier.
NETS = {
    "mnv2_dm05_os16": ("deeplabv3-mnv2", "mnv2_dm05", 0.5),
    "mnv2_dm05_os8": ("deeplabv3-mnv2-os8", "mnv2_dm05", 0.5),
    "mnv2_dm10_os16_plus": ("deeplabv3plus-mnv2", "mnv2_dm10_plus", 1.0),
    "tv_mnv3": ("deeplabv3-mobilenetv3", "tv_mnv3", 1.0),
    "tv_r50": ("deeplabv3-resnet50", "tv_r50", 1.0),
    "xc65_os16": ("deeplabv3plus-xception65", "xc65", 1.0),
    "xc65_os8": ("deeplabv3plus-xception65-os8", "xc65", 1.0),
}
LIMIT = 2e-5  # of the largest logit


@cache
def outputs():
    with np.load(ROOT / "v3" / "outputs.npz") as file:
        return dict(file)


@cache
def network(net):
    from deeplabctl.network.keras_model import assign_weights, build_model

    architecture, names, width = NETS[net]
    model = build_model(architecture, 21, width=width)
    assign_weights(model, our_weights(names))
    return model


def deviation(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


SLOW = ("xc65_os8/65x97", "tv_r50/65x97")  # each has a like that is not
CASES = [
    pytest.param(*key.split("/")[:2], marks=[pytest.mark.slow] if key.startswith(SLOW) else [])
    for key in outputs()
    if key.endswith("logits_1")
]


@pytest.mark.parametrize(("net", "size"), CASES)
def test_logits_and_labels_are_the_original_programs(net, size):
    import tensorflow as tf

    from deeplabctl.network.keras_model import predict_logits
    from deeplabctl.network.ops import resize

    table, expected = ARCHITECTURES[NETS[net][0]], outputs()[f"{net}/{size}/logits_1"]
    image = table.preprocessing(outputs()[f"image/{size}"])[None]
    logits = predict_logits(network(net), tf.constant(image))
    assert deviation(logits[0], expected) < LIMIT
    assert deviation(network(net)(image)[0], expected) < LIMIT  # the stock layers
    upsampled = resize(logits, image.shape[1:3], half_pixel=table.half_pixel)
    assert np.mean(np.argmax(upsampled[0], -1) == outputs()[f"{net}/{size}/label"]) >= 0.9999


def changed(table, **changes):
    """Return a table whose rows are changed, by the function of their kind."""
    import dataclasses

    rows = tuple(changes[type(row).__name__](row) if type(row).__name__ in changes else row for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def replaced(**facts):
    import dataclasses

    return lambda row: dataclasses.replace(row, **{name: value(row) for name, value in facts.items()})


# Mistakes: each is a table that differs from ours in one rule of the original program, or another preprocessing.
MISTAKES = {
    "relu in the body": ("mnv2_dm05_os16", {"Norm": replaced(activation=lambda row: _plain(row.activation))}),
    "epsilon 1e-5 everywhere": ("mnv2_dm05_os16", {"Norm": replaced(epsilon=lambda row: 1e-5)}),
    "epsilon 1e-3 everywhere": ("mnv2_dm05_os16", {"Norm": replaced(epsilon=lambda row: 1e-3)}),
    "no dilations": ("mnv2_dm05_os16", {"DepthwiseConvolution": replaced(dilation=lambda row: 1)}),
    "image pooling is not the first": (
        "mnv2_dm05_os16", {"Concatenation": replaced(inputs=lambda row: row.inputs[::-1])}
    ),
}  # fmt: skip


def _plain(activation):
    from deeplabctl.network.ops import RELU, RELU6

    return RELU if activation is RELU6 else activation


@pytest.mark.parametrize("mistake", MISTAKES)
def test_common_mistakes_would_be_seen(mistake, monkeypatch):
    from deeplabctl.network.keras_model import apply_rows, assign_weights, build_model

    net, changes = MISTAKES[mistake]
    architecture, names, width = NETS[net]
    monkeypatch.setitem(ARCHITECTURES, architecture, changed(ARCHITECTURES[architecture], **changes))
    model = build_model(architecture, 21, width=width)
    assign_weights(model, our_weights(names))
    image = ARCHITECTURES[architecture].preprocessing(outputs()["image/65x97"])[None]
    logits = list(apply_rows(model, image, ARCHITECTURES[architecture].rows).values())[-1]
    assert deviation(logits[0], outputs()[f"{net}/65x97/logits_1"]) > 5 * LIMIT


def test_preprocessing_is_the_authors_and_padding_is_grey_of_127_5():
    image = np.array([[[0, 128, 255]]], np.uint8)
    prepare = ARCHITECTURES["deeplabv3-mnv2"].preprocessing
    np.testing.assert_allclose(prepare(image), [[[-1, 128 / 127.5 - 1, 1]]], atol=1e-7)
    assert prepare.padding == 127.5 * 2 / 255 - 1
    np.testing.assert_array_equal(prepare.undo(prepare(image)), image)
    prepare = ARCHITECTURES["deeplabv3-resnet50"].preprocessing
    expected = (np.array([0, 128, 255]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepare(image)[0, 0], expected, atol=1e-6)


def test_strides_and_dilations_are_the_authors():
    def facts(architecture, name):
        row = next(row for row in ARCHITECTURES[architecture].rows if row.name == name)
        return row.stride, row.dilation

    block = "expanded_conv_{}_depthwise".format
    assert [facts("deeplabv3-mnv2", block(k)) for k in (1, 3, 6, 7, 12, 13, 14, 16)] == [
        (2, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 1), (1, 2), (1, 2)
    ]  # fmt: skip
    assert [facts("deeplabv3-mnv2-os8", block(k)) for k in (3, 6, 7, 12, 13, 14, 16)] == [
        (2, 1), (1, 1), (1, 2), (1, 2), (1, 2), (1, 4), (1, 4)
    ]  # fmt: skip
    names = (
        "entry_flow_block3_unit_1_separable_conv3_depthwise", "middle_flow_block1_unit_5_separable_conv1_depthwise",
        "exit_flow_block1_unit_1_separable_conv3_depthwise", "exit_flow_block2_unit_1_separable_conv1_depthwise",
    )  # fmt: skip
    assert [facts("deeplabv3plus-xception65", name) for name in names] == [(2, 1), (1, 1), (1, 1), (1, 2)]
    assert [facts("deeplabv3plus-xception65-os8", name) for name in names] == [(1, 1), (1, 2), (1, 2), (1, 4)]
    names = ("backbone_layer3_0_conv2", "backbone_layer3_1_conv2", "backbone_layer4_0_conv2", "backbone_layer4_2_conv2")
    assert [facts("deeplabv3-resnet50", name) for name in names] == [(1, 1), (1, 2), (1, 2), (1, 4)]


@pytest.mark.parametrize("multiplier", [0.35, 0.5, 0.75, 1.0, 1.4])
def test_channels_of_depth_multipliers_are_the_authors(multiplier):
    channels = ARCHITECTURES["deeplabv3-mnv2"].channels(21, multiplier)

    def divisible(value, divisor):
        nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
        return nearest + divisor if nearest < 0.9 * value else nearest

    for name, count in (("Conv", 32), ("expanded_conv_project", 16), ("expanded_conv_5_project", 32),
                        ("expanded_conv_16_project", 320)):  # fmt: skip
        assert channels[name] == divisible(count * multiplier, 8 if multiplier == 1 else 1)
    assert channels["expanded_conv_6_expand"] == divisible(6 * channels["expanded_conv_5_project"], 8)
    assert channels["aspp0"] == channels["concat_projection"] == 256


def test_padding_of_even_sizes_is_tensorflows_for_mobilenet_and_equal_on_both_sides_for_xception():
    import tensorflow as tf

    x, kernel = tf.random.stateless_normal((1, 6, 8, 3), (1, 2)), tf.random.stateless_normal((3, 3, 3, 1), (3, 4))
    weights = {"a/kernel": kernel.numpy()}
    zeros = {True: [[0, 0], [0, 1], [0, 1], [0, 0]], False: [[0, 0], [1, 1], [1, 1], [0, 0]]}
    for same, pads in zeros.items():
        row = DepthwiseConvolution("a", stride=2, bias=False, same=same)
        node = row.node(
            (Convolution("data", 3).node((), {"data/kernel": np.ones((1, 1, 3, 3)), "data/bias": np.zeros(3)}),),
            weights,
        )
        found = row.export_tensorflow(
            [x], {name: tf.constant(array) for name, array in row.constants(node.arrays).items()}
        )
        expected = tf.nn.depthwise_conv2d(tf.pad(x, pads), kernel, [1, 2, 2, 1], "VALID")
        np.testing.assert_allclose(found, tf.nn.relu(expected), atol=1e-6)
        assert row.size([(6, 8)]) == (3, 4)


def test_norms_of_the_head_and_the_body_differ_as_the_authors_do():
    norms = {row.name: row for row in ARCHITECTURES["deeplabv3plus-mnv2"].rows if isinstance(row, Norm)}
    assert norms["expanded_conv_3_expand_BatchNorm"].epsilon == 1e-3
    assert norms["aspp1_depthwise_BatchNorm"].epsilon == 1e-5
    assert norms["expanded_conv_3_expand_BatchNorm"].activation.keras == "relu6"
    assert norms["aspp1_depthwise_BatchNorm"].activation.keras == "relu"
    assert norms["expanded_conv_3_project_BatchNorm"].activation.keras is None


def test_step_of_a_training_is_the_authors_with_frozen_statistics():
    """Losses and the gradients of kernels; the authors' own float32 gradients differ by 1e-2 in the body."""
    from deeplabctl.network.keras_model import assign_weights, build_model
    from deeplabctl.recipe import Recipe
    from deeplabctl.training.step import TrainingStep

    with np.load(ROOT / "v3" / "training.npz") as file:
        given = dict(file)
    decay, rate = 4e-5, 0.007
    recipe = Recipe().with_settings(
        model={"architecture": "deeplabv3-mnv2", "width": 0.5, "dropout": 0.0}, augment={"crop_size": 97},
        solver={
            "learning_rate": rate, "policy": "fixed", "weight_decay": decay, "head_multiplier": 1.0, "batch_size": 4,
            "label_stride": 1, "momentum": 0.0,
        },
        run={"precision": "float32", "engine": "tensorflow"},
    )  # fmt: skip
    model, start = build_model("deeplabv3-mnv2", 21, width=0.5, dropout=0.0), our_weights("mnv2_dm05")
    assign_weights(model, start)
    step = TrainingStep(model, recipe, [1.0] * 21)
    images = ARCHITECTURES["deeplabv3-mnv2"].preprocessing(given["image_u8"])
    loss = step(images, given["label"], np.arange(4), 0)
    data, regularised = given["frozen/loss_data_reg"][0]
    assert loss == pytest.approx(data, rel=2e-6)
    kernels = [
        name for name, facts in ARCHITECTURES["deeplabv3-mnv2"].parameters(21, 0.5).items() if facts.decay_multiplier
    ]
    assert decay / 2 * sum(np.sum(np.float64(start[name]) ** 2) for name in kernels) == pytest.approx(
        regularised, rel=1e-6
    )
    after = step.weights()
    checked = 0
    for key, gradient in given.items():
        if key.startswith("frozen/gradient_f64/"):
            from v3_files import our_name

            name = our_name(key.removeprefix("frozen/gradient_f64/"))
            factor = 2 if name == "logits_semantic/bias" else 1  # the program's multiplier, which its run here left out
            found = (np.float64(start[name]) - after[name]) / (rate * factor)
            limit = 1e-4 if name.startswith("logits") else 3e-2
            assert np.linalg.norm(found - gradient) < limit * np.linalg.norm(gradient), name
            checked += 1
    assert checked == 10


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("engine", ["tensorflow", "numba"])
def test_mean_of_scores_of_scales_and_mirrored_images_is_the_authors(flip, engine):
    from deeplabctl.prediction import PredictionSettings, Segmenter
    from deeplabctl.weights.fitting import Network
    from deeplabctl.weights.model_info import ModelInfo

    with np.load(ROOT / "v3" / "scales.npz") as file:
        given = dict(file)
    info = ModelInfo(tuple(map(str, range(21))), "deeplabv3-mnv2-os8", 0.5)
    scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    settings = PredictionSettings(scales=scales, flip=flip, engine=engine)
    result = Segmenter.from_network(Network(info, our_weights("mnv2_dm05"), [], [], 21), settings).predict(
        given["image"]
    )
    kind = "flip" if flip else "plain"
    assert np.mean(result.label == given[f"label_{kind}"]) >= 0.9999
    np.testing.assert_allclose(result.scores[::11, ::11], given[f"prob_{kind}_s11"], atol=1e-4)
