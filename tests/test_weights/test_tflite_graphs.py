import re
import struct

import numpy as np
import pytest
from tflite_bytes import tflite
from v3_files import our_name, rule_weights

from deeplabctl.errors import WeightsError
from deeplabctl.weights.fitting import open_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.tflite_graphs import TFLiteWeights, _Table

HEAD = ("image_pooling", "aspp", "concat_projection")


def rate_of(layer, stride):
    match = re.fullmatch(r"expanded_conv_(\d+)_depthwise", layer)
    block = int(match[1]) if match else 0
    if stride == 16:
        return 2 if block > 13 else 1
    return 4 if block > 13 else 2 if block > 6 else 1


def convolutions(narrow=1, stride=8, quantized=False):
    """Return the convolutions of a network whose norms are folded: the betas are its biases."""
    variables = rule_weights("mnv2_dm05", narrow)
    found = []
    for name, kernel in variables.items():
        scope, part = name.rsplit("/", 1)
        if not part.endswith("weights"):
            continue
        depthwise = part == "depthwise_weights"
        bias = variables.get(f"{scope}/BatchNorm/beta", variables.get(f"{scope}/biases"))
        kernel = kernel.transpose(3, 0, 1, 2)  # OHWI, and 1HWC of HWC1
        pair, layer = (None, None), our_name(name).split("/")[0]
        if quantized:
            scale = np.float32(np.ptp(kernel) / 255)
            zero = round(float(-kernel.min() / scale))
            kernel = np.clip(np.rint(kernel / scale) + zero, 0, 255).astype(np.uint8)
            bias = np.rint(bias / (scale / 4)).astype(np.int32)
            pair = ((scale, zero), (scale / 4, 0))
            name = f"a;b/BiasAdd;MobilenetV2/{scope}/weights_quant/FakeQuantWithMinMaxVars"
        found.append((name, kernel, bias, depthwise, rate_of(layer, stride), pair))
    return found


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("stride", "architecture"), [(8, "deeplabv3-mnv2-os8"), (16, "deeplabv3-mnv2")])
def test_float_graph_gives_a_network_whose_norms_add_the_biases(tmp_path, stride, architecture):
    variables = rule_weights("mnv2_dm05")
    file = open_weights(write(tmp_path / "a", tflite(convolutions(stride=stride))))
    assert isinstance(file, TFLiteWeights)
    assert set(file.weights) == {our_name(name) for name in variables}
    for name, array in variables.items():
        scope, part = name.rsplit("/", 1)
        found = file.weights[our_name(name)]
        if part in ("weights", "depthwise_weights", "biases", "beta"):
            np.testing.assert_array_equal(found, array, strict=True)
        else:
            epsilon = 1e-5 if scope.startswith(HEAD) else 1e-3
            expected = {"gamma": np.sqrt(1 + epsilon), "moving_mean": 0, "moving_variance": 1}[part]
            np.testing.assert_array_equal(found, np.full(array.shape, expected, np.float32), strict=True)
    network = open_network(file)
    assert (network.info.architecture, network.info.width, network.notes) == (architecture, 0.5, [])
    assert len(network.info.classes) == 21


def test_quantized_graph_gives_scale_times_the_distance_to_the_zero_point(tmp_path):
    quantized = convolutions(quantized=True)
    file = open_weights(write(tmp_path / "a", tflite(quantized)))
    for name, kernel, bias, _, _, ((scale, zero), (bias_scale, _)) in quantized:
        scope = name.removeprefix("a;b/BiasAdd;MobilenetV2/").removesuffix("_quant/FakeQuantWithMinMaxVars")
        layer = our_name(scope).split("/")[0]
        expected = np.float64(scale) * (kernel.transpose(1, 2, 3, 0) - np.float64(zero))
        np.testing.assert_allclose(file.weights[f"{layer}/kernel"], expected, rtol=1e-7)
        found = file.weights["logits_semantic/bias" if layer == "logits_semantic" else f"{layer}_BatchNorm/beta"]
        np.testing.assert_allclose(found, np.float64(bias_scale) * bias, rtol=1e-7)
    assert open_network(file).info.architecture == "deeplabv3-mnv2-os8"


def test_scale_of_each_filter_is_its_own(tmp_path):
    kernel = np.array([[[[1, 2]]], [[[3, 4]]]], np.uint8)  # 2 filters of 2 channels
    pair = (([0.5, 2.0], [1, 2]), None)
    row = ("MobilenetV2/Conv/weights", kernel, np.ones(2, np.float32), False, 1, pair)
    file = open_weights(write(tmp_path / "a", tflite([row])))
    np.testing.assert_array_equal(file.weights["Conv/kernel"][0, 0], [[0, 2], [0.5, 4]])


def test_other_graphs_are_one_line(tmp_path):
    kernel = np.ones((2, 1, 1, 2), np.float32)
    row = ("MobilenetV2/Conv/weights", kernel, np.ones(2, np.float32), False, 1, (None, None))
    mobile = [row, ("MobilenetV2/other/weights", *row[1:])]
    half = [(row[0], kernel.astype(np.float16), *row[2:])]
    for convolution, message in (
        (mobile, r"do not fit deeplabv3-mnv2.*\+ other \(unexpected\)|does not say which it is"),
        (half, "tensor MobilenetV2/Conv/weights: expected float32 or quantized integers .* without float16"),
        ([row, row], "layer Conv has several kernels"),
        (
            [("VGG/conv/weights", *row[1:])],
            r"got one without its deeplabctl\.json: it is cut off, or another program's",
        ),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            open_network(write(tmp_path / "a", tflite(convolution)))
        assert "\n" not in str(caught.value)


def test_cut_and_changed_graphs_are_one_line(tmp_path):
    whole = tflite(convolutions(narrow=16))
    rng = np.random.default_rng(0)
    offsets = [at for at in range(0, len(whole) - 4, 4) if 0 < struct.unpack_from("<I", whole, at)[0] < len(whole)]
    wild = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    errors = []
    for trial in range(150):
        broken = bytearray(whole[: rng.integers(100, len(whole))] if trial % 3 == 0 else whole)
        for at in rng.choice(offsets, 1 + trial % 20):
            if at + 4 <= len(broken):
                struct.pack_into("<I", broken, at, wild[rng.integers(5)])
        try:
            open_network(write(tmp_path / "a", bytes(broken)))
        except WeightsError as error:
            errors.append(str(error))
    assert len(errors) == 150  # a narrow network has no architecture
    assert not [error for error in errors if "\n" in error]
    assert len([error for error in errors if "damaged or truncated at byte" in error]) > 50


def test_buffer_that_many_kernels_share_is_refused(tmp_path):
    kernel = np.ones((1, 1, 1, 20_000), np.float32)
    numbers = [f"{number:02}" for number in range(60)]
    rows = [
        (f"MobilenetV2/{number}/weights", kernel, kernel[0, 0, 0, :1], False, 1, (None, None)) for number in numbers
    ]
    content = tflite(rows, shared=True)
    assert len(content) < 60 * kernel.nbytes / 16
    with pytest.raises(WeightsError, match=r"the file is damaged: it claims \d+ bytes of weights"):
        _ = open_weights(write(tmp_path / "a", content)).weights


def test_inputs_of_other_operators_are_not_read(tmp_path, monkeypatch):
    row = (
        "MobilenetV2/Conv/weights",
        np.ones((2, 1, 1, 2), np.float32),
        np.ones(2, np.float32),
        False,
        1,
        (None, None),
    )
    content = tflite([row], codes=(3, 22))  # a convolution and a reshape
    arrays = _Table.array
    read = []
    monkeypatch.setattr(_Table, "array", lambda self, *what: read.append(what) or arrays(self, *what))
    content_of_reshape = tflite([(*row[:3], True, *row[4:])], codes=(3, 22))
    with pytest.raises(WeightsError, match="got a graph without any"):
        _ = open_weights(write(tmp_path / "b", content_of_reshape)).weights
    assert (1, "<i4") not in read
    assert open_weights(write(tmp_path / "a", content)).weights
    assert (1, "<i4") in read
