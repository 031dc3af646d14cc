"""DeepLab v3 and v3+: logits of the authors' TensorFlow program and of torchvision, and what is often done wrong."""

import json
import re
from dataclasses import replace
from functools import cache, lru_cache, partial
from importlib import import_module

import numpy as np
import pytest
from caffe_files import ROOT
from torch_bytes import safetensors
from v3_files import NETS, deviation, our_weights, row_of, transformers_tensors

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import LINEAR, RELU, RELU6, Convolution, DepthwiseConvolution, Norm, resize

pytestmark = pytest.mark.tf

LIMIT = 2e-5  # of the largest logit


@cache
def outputs():
    with np.load(ROOT / "v3" / "outputs.npz") as file:
        return dict(file)


@lru_cache(maxsize=1)
def network(net):
    from deeplabctl.network.keras_model import assign_weights, zero_model

    architecture, names, width = NETS[net]
    model = zero_model(architecture, 21, width=width)
    assign_weights(model, our_weights(names))
    return model


def prepared(net, size):
    return ARCHITECTURES[NETS[net][0]].preprocessing(outputs()[f"image/{size}"])


SLOW = ("xc65_os8/65x97", "tv_r50/65x97", "tv_r101/65x97")  # each has a like that is not
CASES = [
    pytest.param(*key.split("/")[:2], marks=[pytest.mark.slow] if key.startswith(SLOW) else [])
    for key in outputs()
    if key.endswith("logits_1")
]


@pytest.mark.parametrize(("net", "size"), CASES)
def test_logits_labels_and_values_between_are_the_original_programs(net, size):
    import tensorflow as tf

    from deeplabctl.engine.network import NumbaNetwork
    from deeplabctl.network.keras_model import apply_rows

    architecture, names, _ = NETS[net]
    table, expected, image = ARCHITECTURES[architecture], outputs()[f"{net}/{size}/logits_1"], prepared(net, size)
    rows = apply_rows(network(net), tf.constant(image[None]), table.prediction_rows)
    logits = list(rows.values())[-1]
    assert deviation(logits[0], expected) < LIMIT
    assert deviation(network(net)(image[None])[0], expected) < LIMIT  # the stock layers
    assert deviation(NumbaNetwork(architecture, our_weights(names)).logits(image), expected) < LIMIT
    upsampled = resize(logits, image.shape[:2], half_pixel=table.half_pixel)
    assert np.mean(np.argmax(upsampled[0], -1) == outputs()[f"{net}/{size}/label"]) >= 0.9999
    for key, values in outputs().items():
        if match := re.fullmatch(rf"{net}/{size}/tap(\d+)_(\d+)/(.+)", key):
            channel, step = int(match[1]), int(match[2])
            found = rows[row_of(match[3], table.rows)].numpy()[..., ::channel].ravel()[::step]
            assert deviation(found, values) < LIMIT, match[3]


def computed(table, weights, image):
    """Return the logits of a table, which need not be one of ours, by the operations of an export."""
    import tensorflow as tf

    values = {}
    for node in table.graph(weights):
        constants = {name: tf.constant(array) for name, array in node.op.constants(node.arrays).items()}
        inputs = [values[below] for below in node.inputs]
        values[node] = node.op.export_tensorflow(inputs, constants) if inputs else tf.constant(image[None])
    return list(values.values())[-1]


# Mistakes that other programs make, and one that is none: in the rows whose names a pattern fits, other facts.
DEPTHWISE_OF_BODY = r"((entry|middle)_flow|exit_flow_block1).*_depthwise_BatchNorm"
STRIDED = r"backbone_(0_0|[247]_block_1_0)"
MISTAKES = {
    "none": ("mnv2_dm05_os16", {}),
    "none in a decoder": ("mnv2_dm10_os16_plus", {}),
    "relu in the body": ("mnv2_dm05_os16", {r"(Conv|.*_(expand|depthwise))_BatchNorm": {"activation": RELU}}),
    "relu6 in the head": (
        "mnv2_dm05_os16", {"(image_pooling|aspp0|concat_projection)_BatchNorm": {"activation": RELU6}},
    ),
    "epsilon 1e-5 everywhere": ("mnv2_dm05_os16", {".*_BatchNorm": {"epsilon": 1e-5}}),
    "epsilon 1e-3 everywhere": ("mnv2_dm05_os16", {".*_BatchNorm": {"epsilon": 1e-3}}),
    "no dilations": ("mnv2_dm05_os16", {r"expanded_conv_1[456]_depthwise": {"dilation": 1}}),
    "a dilation where the stride was": ("mnv2_dm05_os16", {"expanded_conv_13_depthwise": {"dilation": 2}}),
    "image pooling is not the first": (
        "mnv2_dm05_os16", {"concat": {"inputs": ("aspp0_BatchNorm", "image_pooling_map")}},
    ),
    "low level is the first": (
        "mnv2_dm10_os16_plus",
        {"decoder_concat": {"inputs": ("decoder_feature_projection0_BatchNorm", "decoder_resize")}},
    ),
    "no relu between the halves": (
        "mnv2_dm10_os16_plus", {r"(aspp\d|decoder_decoder_conv\d)_depthwise_BatchNorm": {"activation": LINEAR}},
    ),
    "rates of output stride 8": (
        "mnv2_dm10_os16_plus", {f"aspp{number}_depthwise": {"dilation": 12 * number} for number in (1, 2, 3)},
    ),
    "low level after a relu": (
        "xc65_os16",
        {"decoder_feature_projection0": {"inputs": ("entry_flow_block2_unit_1_separable_conv3_relu",)}},
    ),
    "relu after the body's depthwise": ("xc65_os16", {DEPTHWISE_OF_BODY: {"activation": RELU}}),
    "no relu in the last block": ("xc65_os16", {r"exit_flow_block2.*_depthwise_BatchNorm": {"activation": LINEAR}}),
    "a dilation where Xception's stride was": ("xc65_os16", {r"exit_flow_block1.*_depthwise": {"dilation": 2}}),
    "Xception's epsilon 1e-5": ("xc65_os16", {".*_BatchNorm": {"epsilon": 1e-5}}),
    "Xception's epsilon 1e-3": ("xc65_os16", {".*_BatchNorm": {"epsilon": 1e-3}}),
    "torchvision's pooling is the first": (
        "tv_mnv3",
        {"classifier_0_convs": {"inputs": ("classifier_0_convs_4", *(f"classifier_0_convs_{k}_1" for k in range(4)))}},
    ),
    "torchvision's rates of output stride 16": (
        "tv_mnv3", {f"classifier_0_convs_{number}_0": {"dilation": 6 * number} for number in (1, 2, 3)},
    ),
    "no dilation where torchvision's stride was": ("tv_mnv3", {"backbone_13_block_1_0": {"dilation": 1}}),
    "torchvision's epsilon 1e-5": ("tv_mnv3", {"backbone_.*_1": {"epsilon": 1e-5}}),
    "torchvision's padding as TensorFlow's": ("tv_mnv3/134x100", {STRIDED: {"same": True}}),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_common_mistakes_would_be_seen(mistake):
    net, _, size = MISTAKES[mistake][0].partition("/")
    size = size or "65x97"
    architecture, names, _ = NETS[net]
    table, used = ARCHITECTURES[architecture], set()

    def changed(row):
        for pattern, facts in MISTAKES[mistake][1].items():
            if re.fullmatch(pattern, row.name) and all(hasattr(row, name) for name in facts):
                used.add(pattern)
                row = replace(row, **facts)
        return row

    table = replace(table, rows=tuple(map(changed, table.rows)))
    assert used == MISTAKES[mistake][1].keys()
    logits = computed(table, our_weights(names), prepared(net, size))
    found = deviation(logits[0], outputs()[f"{net}/{size}/logits_1"])
    assert found < LIMIT if mistake.startswith("none") else found > 5 * LIMIT


def test_pixels_prepared_in_another_way_would_be_seen():
    architecture, names, _ = NETS["mnv2_dm05_os16"]
    image = outputs()["image/65x97"].astype(np.float32)
    for pixels in (image / 128 - 1, image - np.float32([123.15, 115.9, 103.06]), image[..., ::-1] / 127.5 - 1):
        logits = computed(ARCHITECTURES[architecture], our_weights(names), pixels)
        assert deviation(logits[0], outputs()["mnv2_dm05_os16/65x97/logits_1"]) > 5 * LIMIT


@pytest.mark.parametrize("net", ["mnv2_dm05_os16", "tv_mnv3"])
def test_labels_upsampled_in_the_other_way_would_be_seen(net):
    logits, label = (outputs()[f"{net}/65x97/{part}"] for part in ("logits_1", "label"))
    half_pixel = ARCHITECTURES[NETS[net][0]].half_pixel
    right, wrong = (np.argmax(resize(logits[None], label.shape, half_pixel=how)[0], -1) == label
                    for how in (half_pixel, not half_pixel))  # fmt: skip
    assert right.mean() >= 0.9999
    assert wrong.mean() < 0.95


def test_half_pixels_inside_the_decoder_would_be_seen(monkeypatch):
    architecture, names, _ = NETS["mnv2_dm10_os16_plus"]
    monkeypatch.setattr(import_module("deeplabctl.network.ops.resize"), "resize", partial(resize, half_pixel=True))
    logits = computed(ARCHITECTURES[architecture], our_weights(names), prepared("mnv2_dm10_os16_plus", "65x97"))
    assert deviation(logits[0], outputs()["mnv2_dm10_os16_plus/65x97/logits_1"]) > 5 * LIMIT


def test_file_of_transformers_gives_its_outputs(tmp_path):
    from deeplabctl.engine.network import NumbaNetwork
    from deeplabctl.weights.fitting import open_network

    (tmp_path / "model.safetensors").write_bytes(safetensors(transformers_tensors("mnv2_dm10")))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilenet_v2", "output_stride": 8}))
    network = open_network(tmp_path / "model.safetensors")
    table = ARCHITECTURES[network.info.architecture]
    image = table.preprocessing(outputs()["image/65x97"])
    logits = NumbaNetwork(network.info.architecture, network.weights).logits(image)
    assert deviation(logits, outputs()["transformers/65x97/logits"]) < LIMIT
    upsampled = resize(logits[None], image.shape[:2], half_pixel=True)  # as it does, unlike the authors' program
    assert np.mean(np.argmax(upsampled[0], -1) == outputs()["transformers/65x97/label"]) >= 0.9999


def test_preprocessing_is_the_authors_and_padding_is_grey_of_127_5():
    image = np.array([[[0, 128, 255]]], np.uint8)
    prepare = ARCHITECTURES["deeplabv3-mnv2"].preprocessing
    np.testing.assert_allclose(prepare(image), [[[-1, 128 / 127.5 - 1, 1]]], atol=1e-7)
    assert 127.5 * prepare.scale - prepare.mean[0] == 0
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


def test_strides_pad_as_each_authors_program_does():
    """Odd sizes, as those of the outputs here, do not tell one from the other."""
    for architecture, table in ARCHITECTURES.items():
        strided = [row for row in table.convolutions if row.stride == 2 and row.kernel > 1]
        assert {row.same for row in strided} <= {architecture.endswith(("mnv2", "mnv2-os8"))}
    assert len([row for row in ARCHITECTURES["deeplabv3-mnv2"].convolutions if row.stride == 2]) == 4


def test_norms_of_the_head_and_the_body_differ_as_the_authors_do():
    norms = {row.name: row for row in ARCHITECTURES["deeplabv3plus-mnv2"].rows if isinstance(row, Norm)}
    assert norms["expanded_conv_3_expand_BatchNorm"].epsilon == 1e-3
    assert norms["aspp1_depthwise_BatchNorm"].epsilon == 1e-5
    assert norms["expanded_conv_3_expand_BatchNorm"].activation.keras == "relu6"
    assert norms["aspp1_depthwise_BatchNorm"].activation.keras == "relu"
    assert norms["expanded_conv_3_project_BatchNorm"].activation.keras is None


def test_step_of_a_training_is_the_authors_with_frozen_statistics():
    """Losses and the gradients of kernels; the authors' own float32 gradients differ by 1e-2 in the body."""
    from deeplabctl.network.keras_model import apply_model, assign_weights, zero_model
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
    model, start = zero_model("deeplabv3-mnv2", 21, width=0.5, dropout=0.0), our_weights("mnv2_dm05")
    assign_weights(model, start)
    step = TrainingStep(model, recipe, [1.0] * 21)
    images = ARCHITECTURES["deeplabv3-mnv2"].preprocessing(given["image_u8"])
    assert deviation(apply_model(model, images), given["frozen/logits"]) < LIMIT
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
    bias = "logits_semantic/bias"
    assign_weights(model, after | {bias: (start[bias] + after[bias]) / 2})
    data, regularised = given["frozen/loss_data_reg"][1]
    assert step(images, given["label"], np.arange(4), 0) == pytest.approx(data, rel=1e-3)
    assert decay / 2 * sum(np.sum(np.float64(after[name]) ** 2) for name in kernels) == pytest.approx(
        regularised, rel=1e-6
    )


@pytest.mark.parametrize(
    ("engine", "flip"),
    [
        ("numba", True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("numba", False), ("tensorflow", True))),
    ],
)
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
