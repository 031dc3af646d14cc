"""Networks of torchvision and of transformers, in PyTorch's files and in safetensors."""

import json
import struct

import numpy as np
import pytest
from tiny_weights import read_weights, weight_file
from torch_bytes import legacy, safetensors, zipped
from v3_files import names, our_name, rule_weights, transformers_tensors

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.fitting import fit_weights, open_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.torch_files import SafetensorsFile, TorchFile
from deeplabctl.weights.sources.torch_names import weights_of_tensors

NORM_PARTS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def torchvision_weights(tensors):
    """Return the tensors of torchvision by our names."""
    found = {}
    for name, tensor in tensors.items():
        module, part = name.rsplit(".", 1)
        is_norm = f"{module}.running_mean" in tensors
        if part != "num_batches_tracked":
            array = tensor
            if tensor.ndim == 4:  # OIHW; of depthwise convolutions C1HW
                array = tensor.transpose((2, 3, 0, 1) if tensor.shape[1] == 1 < tensor.shape[0] else (2, 3, 1, 0))
            ours = NORM_PARTS[part] if is_norm else {"weight": "kernel"}.get(part, part)
            found[f"{module.replace('.', '_')}/{ours}"] = array
    return found


@pytest.mark.parametrize(
    ("net", "architecture"),
    [("tv_r50", "deeplabv3-resnet50"), ("tv_r101", "deeplabv3-resnet101"), ("tv_mnv3", "deeplabv3-mobilenetv3")],
)
def test_tensors_of_torchvision_are_the_weights_of_our_tables(tmp_path, net, architecture):
    shapes = names()[net]["variables"]
    narrow = {name: np.empty([1 if size > 21 and axis < 2 else size for axis, size in enumerate(shape)], np.float32)
              for name, shape in shapes.items()}  # fmt: skip
    named = weights_of_tensors(narrow, tmp_path)
    full = torchvision_weights({name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()})
    assert set(named) == set(full)
    file = weight_file(full)
    network = fit_weights(file)
    assert {name: array.shape for name, array in network.weights.items()} == ARCHITECTURES[architecture].weight_shapes(
        21
    )
    assert (network.info.architecture, network.info.width, network.new_layers) == (architecture, 1, [])
    aux = "aux_classifier_0, aux_classifier_1, aux_classifier_4"
    assert [sorted(note.removeprefix("left out: ").split(", ")) for note in network.notes] == [aux.split(", ")]


@pytest.mark.parametrize("net", ["tv_r50", "tv_r101"])
def test_classifier_of_imagenet_is_the_body_of_torchvisions_networks_and_not_of_caffes(tmp_path, net):
    """Its strides and its images in RGB are those of torchvision's DeepLab, whose backbone it is."""
    architecture = net.replace("tv_r", "deeplabv3-resnet")
    body = {name.removeprefix("backbone."): array for name, array in rule_weights(net, narrow=16).items()
            if name.startswith("backbone.")}  # fmt: skip
    top = {"fc.weight": np.zeros((1000, 128), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    (tmp_path / "resnet.safetensors").write_bytes(safetensors(body | top))
    file = open_weights(tmp_path / "resnet.safetensors")
    network = fit_weights(file)
    assert (network.info.architecture, network.classes_in_file) == (architecture, None)
    assert ARCHITECTURES[architecture].preprocessing.channels == "RGB"
    assert all(layer.startswith("classifier") for layer in network.new_layers)
    assert network.notes == ["left out: backbone_fc"]
    kernel = body["layer3.5.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(network.weights["backbone_layer3_5_conv2/kernel"], kernel, strict=True)
    with pytest.raises(WeightsError, match="these are weights of another architecture"):
        fit_weights(file, architecture="resnet101")


@pytest.mark.parametrize("prefix", ["model.", "net.", "_orig_mod.", "module.", "module.model."])
def test_names_that_training_programs_put_before_all_others_are_left_out(tmp_path, prefix):
    kernel = np.ones((4, 3, 7, 7), np.float32)
    (tmp_path / "a").write_bytes(safetensors({f"{prefix}backbone.conv1.weight": kernel}))
    assert list(read_weights(tmp_path / "a")) == ["backbone_conv1/kernel"]


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_state_dict_of_torchvision_comes_back_equal(tmp_path, container):
    tensors = rule_weights("tv_mnv3")
    path = tmp_path / "deeplabv3_mobilenet_v3_large.pth"
    if container == "zip":
        zipped(path, tensors)
    else:
        path.write_bytes(legacy(tensors))
    file = open_weights(path)
    assert isinstance(file, TorchFile)
    expected = torchvision_weights(tensors)
    assert set(file.weights) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(file.weights[name], array, strict=True)
    assert file.weights["backbone_4_block_1_0/kernel"].shape == (5, 5, 72, 1)
    assert open_network(file).info.architecture == "deeplabv3-mobilenetv3"


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_network_of_transformers_comes_back_equal(tmp_path, kind):
    tensors, variables = transformers_tensors("mnv2_dm10"), rule_weights("mnv2_dm10")
    path = tmp_path / f"model.{kind}"
    path.write_bytes(safetensors(tensors)) if kind == "safetensors" else zipped(path, tensors)
    file = open_weights(path)
    assert isinstance(file, SafetensorsFile if kind == "safetensors" else TorchFile)
    assert {name for name in file.weights if not name.startswith("Conv_1")} == set(map(our_name, variables))
    for name, array in variables.items():
        np.testing.assert_array_equal(file.weights[our_name(name)], array, strict=True)
    network = open_network(file)
    assert (network.info.architecture, network.info.width, len(network.info.classes)) == ("deeplabv3-mnv2", 1, 21)
    assert network.notes == ["left out: Conv_1, Conv_1_BatchNorm"]
    assert ["output stride" in text or "taken as VOC's" in text for text in network.assumed] == [True, True]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_output_stride_beside_the_file_is_the_networks(tmp_path, kind):
    tensors = transformers_tensors("mnv2_dm10")
    path = tmp_path / f"model.{kind}"
    path.write_bytes(safetensors(tensors)) if kind == "safetensors" else zipped(path, tensors)
    facts = {"architectures": ["MobileNetV2ForSemanticSegmentation"], "model_type": "mobilenet_v2"}
    for stride, architecture in ((8, "deeplabv3-mnv2-os8"), (16, "deeplabv3-mnv2")):
        (tmp_path / "config.json").write_text(json.dumps(facts | {"output_stride": stride}))
        network = open_network(path)
        assert network.info.architecture == architecture
        assert network.assumed == ["the names of the classes are not stated: taken as VOC's, as there are 21"]
    named = fit_weights(open_weights(path), architecture="deeplabv3-mnv2-os8")
    assert named.info.architecture == "deeplabv3-mnv2-os8"


def test_output_stride_beside_the_file_that_no_network_has_is_refused_and_other_texts_are_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(transformers_tensors("mnv2_dm10")))
    for stride in (32, 64, 4):
        (tmp_path / "config.json").write_text(f'{{"model_type": "mobilenet_v2", "output_stride": {stride}}}')
        with pytest.raises(WeightsError, match=r"16_depthwise, got .*convert-caffe: `architecture=NAME`"):
            open_network(path)
    for text in (
        "", "[]", "{", "[" * 100_000, '{"model_type": "bert", "output_stride": 8}', '{"model_type": "mobilenet_v2"}',
        *(f'{{"model_type": "mobilenet_v2", "output_stride": {stride}}}' for stride in ("Infinity", "0", '"8 or 16"')),
        " " * (2 << 20),
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(text)
        assert "output stride" in open_network(path).assumed[0]


def test_names_beside_the_file_are_the_classes_and_of_another_count_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(transformers_tensors("mnv2_dm10")))
    for count in (21, 20):
        labels = {str(number): f"thing {number}" for number in range(count)}
        config = {"model_type": "mobilenet_v2", "output_stride": 16, "id2label": labels}
        (tmp_path / "config.json").write_text(json.dumps(config))
        if count == 21:
            assert (open_network(path).info.classes[20], open_network(path).assumed) == ("thing 20", [])
    for others in (dict.fromkeys(labels, "same"), {number: f"LABEL_{number}" for number in labels}):
        (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": others}))
        assert open_network(path).info.classes == VOC_CLASSES  # as without names, which is said
        assert "taken as VOC's" in open_network(path).assumed[-1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"names of 21 classes, .*got 20 in the config\.json beside it; correct"):
        open_network(path)
    assert fit_weights(open_weights(path), num_classes=5).new_layers == ["logits_semantic"]


def test_numbers_of_half_precision_become_float32(tmp_path):
    values = np.array([[[[1.5]], [[-0.25]], [[3.0]]]], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    for array in (values.astype(np.float16), upper):
        (tmp_path / "a").write_bytes(safetensors({"backbone.conv1.weight": array}))
        kernel = read_weights(tmp_path / "a")["backbone_conv1/kernel"]
        np.testing.assert_array_equal(kernel, values.transpose(2, 3, 1, 0), strict=True)


def header_of(text, data=bytes(12)):
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(**changes):
    facts = {"dtype": "F32", "shape": [1, 3, 1, 1], "data_offsets": [0, 12]} | changes
    return json.dumps({"backbone.conv1.weight": facts})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header_of(entry(data_offsets=[0, 16])), "has the bytes 99 to 115 of the file"),
        (header_of(entry(data_offsets=[-4, 8])), "has the bytes"),
        (header_of(entry(shape=[1, 3, 1, 2**40])), "has the bytes"),
        (header_of(entry(shape=[1, -3, 1, -1])), "is of F32 and shape"),
        (header_of(entry(dtype="F4")), "is of F4"),
        (header_of(entry(shape=None)), "TypeError"),
        (header_of('{"a": 3}'), "TypeError"),
        (header_of('{"__metadata__": {}} x'), "Extra data"),
        (header_of('{"a":' + "[" * 100_000), "RecursionError"),
        (header_of("{}"), "got others: none"),
        (struct.pack("<Q", 1 << 31) + b"{", "a header of 2147483648 bytes in a file of 9"),
        (struct.pack("<Q", 90) + b"{}", "a header of 90 bytes"),
        (safetensors({"lm_head.weight": np.ones((2, 2), np.float32)}), r"got others: lm_head\.weight$"),
    ],
)
def test_damaged_safetensors_are_one_line(tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        open_network(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


def test_tensors_that_share_bytes_are_refused(tmp_path):
    both = json.loads(entry())
    both["backbone.conv2.weight"] = both["backbone.conv1.weight"] | {"data_offsets": [4, 16]}
    (tmp_path / "a").write_bytes(header_of(json.dumps(both), bytes(16)))
    with pytest.raises(WeightsError, match=r"tensor backbone\.conv2\.weight of shape \[1, 3, 1, 1\] has the bytes"):
        read_weights(tmp_path / "a")


def test_cut_files_are_one_line(tmp_path):
    whole = safetensors(transformers_tensors("mnv2_dm10", narrow=16))
    for size in (9, 100, 5000, 40_000, len(whole) - 1):
        (tmp_path / "a").write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"is damaged") as caught:
            open_network(tmp_path / "a")
        assert "\n" not in str(caught.value)
