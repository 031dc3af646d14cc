import argparse
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from family_files import family
from tiny_weights import read_weights
from torch_bytes import isht_name, kazuto_name, legacy, number, port_tensors, safetensors, tensor, text, zipped

from deeplabctl.caffe import net_weights, read_caffemodel
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.fitting import fit_weights
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.torch_files import TorchFile

WIDTH = 1 / 64


def weights():
    found = ARCHITECTURES["resnet101"].random_weights(4, WIDTH, seed=1)
    rng = np.random.default_rng(0)
    for name in found:
        if name.startswith("bn"):
            found[name] = rng.uniform(0.5, 1, found[name].shape).astype(np.float32)
    return found


def tensors(name_of):
    return port_tensors(weights(), name_of)


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("name_of", [kazuto_name, isht_name])
def test_files_of_both_ports_in_both_containers_come_back_equal(tmp_path, container, name_of):
    path = tmp_path / "net.pth"
    if container == "zip":
        zipped(path, tensors(name_of))
    else:
        path.write_bytes(legacy(tensors(name_of)))
    file = open_weights(path)
    assert isinstance(file, TorchFile)
    expected = weights()
    assert set(file.weights) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(file.weights[name], array, strict=True)
    network = fit_weights(file)
    assert (network.info.architecture, network.info.width, network.new_layers) == ("resnet101", WIDTH, [])
    assert network.assumed == []  # three scales, by the word before all names
    assert open_weights(path).shapes == {name: array.shape for name, array in expected.items()}


@pytest.mark.parametrize("name", ["kazuto_r101_d32.pth", "drsleep_r101_d32.ckpt"])
def test_weights_of_other_programs_are_caffes(name):
    expected = net_weights(read_caffemodel(family("r101_d32_train_init.caffemodel")))
    found = read_weights(family(name))
    assert set(found) == set(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_start_file_without_classifiers_leaves_its_own_out(tmp_path):
    """A file of body and one classifier of 91 classes, as the ports start from."""
    named = {
        name: array for name, array in tensors(lambda *both: kazuto_name(*both, base="")).items() if "aspp" not in name
    }
    rng = np.random.default_rng(0)
    named["fc.weight"] = rng.normal(size=(91, 32, 1, 1)).astype(np.float32)
    named["fc.bias"] = np.zeros(91, np.float32)
    (tmp_path / "coco.pth").write_bytes(legacy(named))
    network = fit_weights(open_weights(tmp_path / "coco.pth"), num_classes=5)
    assert network.new_layers == [f"fc1_voc12_c{number}" for number in range(4)]
    assert network.notes == ["fc, a classifier of 91 classes, is left out"]


def test_tensors_inside_a_training_programs_dictionary_are_found(tmp_path):
    inner = b"ccollections\nOrderedDict\n)R(" + text("conv1.weight") + tensor("0", np.ones((4, 3, 7, 7), "f4")) + b"u"
    tree = b"\x80\x02}(" + text("epoch") + number(3) + text("state_dict") + inner + b"u."
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", tree)
        archive.writestr("a/data/0", np.ones(588, "f4").tobytes())
    assert list(read_weights(tmp_path / "w")) == ["conv1/kernel"]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [("model", "model_ema", 0), ("state_dict", "model", 0), ("model", "ema", 0), ("model", "criterion", 1)],
)
def test_one_of_two_sets_of_tensors_is_not_chosen_but_a_loss_has_fewer(tmp_path, first, second, kept):
    begin = b"ccollections\nOrderedDict\n)R("
    one, two = (text(name) + tensor("0", np.ones((4, 3, 7, 7), "f4")) for name in ("conv1.weight", "bn1.weight"))
    third = text("bn1.bias") + tensor("0", np.ones((4, 3, 7, 7), "f4"))
    state = b"}" + number(0) + b"}" + text("momentum") + one[17:] + b"ss"
    optimizer = text("optimizer") + b"}" + text("state") + state + b"s"
    tree = b"\x80\x02}(" + text(first) + begin + one + two + third + b"u" + optimizer
    tree += text(second) + begin + one + (b"" if kept else two) + b"u" + b"u."
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", tree)
        archive.writestr("a/data/0", np.ones(588, "f4").tobytes())
    if kept:
        assert list(read_weights(tmp_path / "w")) == ["conv1/kernel", "bn_conv1/gamma", "bn_conv1/beta"]
        return
    with pytest.raises(WeightsError, match=rf"tensors of one network, got those of {first} and {second}; save one"):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize("protocol", [2, 4])
def test_checkpoint_of_torchvisions_training_program_is_read_with_its_options(tmp_path, protocol):
    options = argparse.Namespace(lr=0.01, model="deeplabv3_resnet101", aux_loss=True, output_dir=".", test_only=False)
    pickled = pickle.dumps(options, protocol)
    pickled = pickled[2:-1] if protocol == 2 else pickled[11:-1]  # without its header and its end
    kernel = np.arange(588, dtype="f4").reshape(4, 3, 7, 7)
    inner = b"ccollections\nOrderedDict\n)R(" + text("backbone.conv1.weight") + tensor("0", kernel) + b"u"
    with zipfile.ZipFile(tmp_path / "model_29.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x04}(" + text("args") + pickled + text("model") + inner + b"u.")
        archive.writestr("a/data/0", kernel.tobytes())
    found = read_weights(tmp_path / "model_29.pth")
    np.testing.assert_array_equal(found["backbone_conv1/kernel"], kernel.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("protocol", [2, 4])
def test_numbers_of_numpy_beside_the_tensors_are_passed_over(tmp_path, protocol):
    best = pickle.dumps(np.float64(0.75), protocol)
    best = best[2:-1] if protocol == 2 else best[11:-1]  # without its header and its end
    kernel = np.ones((4, 3, 7, 7), "f4")
    inner = b"ccollections\nOrderedDict\n)R(" + text("conv1.weight") + tensor("0", kernel) + b"u"
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x04}(" + text("best_miou") + best + text("state_dict") + inner + b"u.")
        archive.writestr("a/data/0", kernel.tobytes())
    assert list(read_weights(tmp_path / "w")) == ["conv1/kernel"]


@pytest.mark.parametrize("dtype", ["f8", "f2"])
def test_tensors_of_other_precisions_become_float32(tmp_path, dtype):
    values = np.linspace(-1, 1, 588).reshape(4, 3, 7, 7).astype(dtype)
    zipped(tmp_path / "w", {"conv1.weight": values})
    kernel = read_weights(tmp_path / "w")["conv1/kernel"]
    np.testing.assert_array_equal(kernel, values.transpose(2, 3, 1, 0).astype(np.float32), strict=True)


class Caller:
    """Pickle as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_file_that_calls_a_function_is_refused_and_nothing_is_called(tmp_path, container, protocol):
    import os

    victim = tmp_path / "victim"
    call = pickle.dumps(Caller(os.mkdir, str(victim)), protocol)
    call = call[2:-1] if protocol == 2 else call[11:-1]  # without its header and its end
    path = tmp_path / "net.pth"
    extra = text("a") + call
    if container == "zip":
        zipped(path, tensors(kazuto_name), extra)
    else:
        path.write_bytes(legacy(tensors(kazuto_name), extra))
    with pytest.raises(WeightsError, match=r"the PyTorch file is refused: it asks to call \S+mkdir") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02cbuiltins\neval\n.", "asks to call builtins.eval"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", "expected a dictionary of names and tensors"),
        (b"\x80\x02ccollections\nOrderedDict\n)R}b.", "expected the tensors of DeepLab-ResNet"),
        (b"\x80\x02]q\x00.", "expected a dictionary of names and tensors, got list"),
        (b"\x80\x02}(" + text("a") + number(1) + b"u.", "expected names and tensors"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "expected the tensors of DeepLab-ResNet"),
        (
            b"\x80\x02ctorchvision\nA\n)\x81.",
            r"torchvision.A, .*torch\.save\(model\.state_dict\(\), FILE\) saves the te",
        ),
        (b"\x80\x02}(" + text("net") + b"ccollections\nOrderedDict\n)Ru.", r"got 'net': OrderedDict; torch\.save"),
        (b"\x80\x02cpathlib\nPath\n)\x81.", "asks to call pathlib.Path"),
        (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "operation NEWOBJ_EX"),
        (b"\x80\x02(ios\nsystem\n.", "operation INST"),
        (b"\x80\x02\x82\x01.", "operation EXT1"),
        (b"\x80\x04\x8e" + (1 << 46).to_bytes(8, "little"), "the pickle is damaged"),  # claims 64 TiB
        (b"\x80\x02}r\xff\xff\xff\xff.", "expected the tensors of DeepLab-ResNet"),  # a memo of four billion entries
        (b"\x80\x02", "the pickle is damaged"),
    ],
)
def test_other_pickles_are_refused(tmp_path, pickled, message):
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", pickled)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(tmp_path / "w")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "count"),
    [((4, 3), (3, 1), 1, 12), ((4, 3), (30, 1), 0, 12), ((10**6, 10**6), (0, 0), 0, 12), ((-1, 3), (3, 1), 0, 12)],
)
def test_tensor_outside_its_storage_is_refused(tmp_path, shape, strides, offset, count):
    from torch_bytes import numbers

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(count) + b"tQ"
    arguments = b"(" + storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89}t"
    tree = b"\x80\x02}(" + text("conv1.weight") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Ru."
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", tree)
        archive.writestr("a/data/0", bytes(4 * count))
    with pytest.raises(WeightsError, match=r"lies outside its storage|expected a storage, an offset"):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_cut_and_changed_files_are_one_line_or_read_in_bounded_memory(tmp_path, container):
    named = dict(list(tensors(kazuto_name).items())[:40])
    path = tmp_path / "net.pth"
    if container == "zip":
        zipped(path, named)
        whole = path.read_bytes()
    else:
        whole = legacy(named)
    random = np.random.default_rng(0)
    tracemalloc.start()
    errors = []
    for trial in range(150):
        broken = bytearray(whole)
        if trial % 3 == 0:
            broken = broken[: random.integers(60, len(whole))]
        else:
            for at in random.integers(25, len(broken) if trial % 3 == 1 else 3000, 3):
                broken[at] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_weights(path)
        except WeightsError as error:
            errors.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(errors) > 75
    assert not [error for error in errors if "\n" in error or len(error) > 1000]
    assert peak < 20 * len(whole) + 5_000_000


def test_compressed_and_big_endian_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 20))
    with pytest.raises(WeightsError, match="its entries are compressed"):
        read_weights(tmp_path / "w")
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/byteorder", "big")
    with pytest.raises(WeightsError, match="big-endian"):
        read_weights(tmp_path / "w")


def test_legacy_file_whose_storage_claims_more_than_there_is_is_refused(tmp_path):
    content = legacy({"conv1.weight": np.zeros((4, 3, 7, 7), "f4")})
    at = content.index(struct.pack("<q", 588))
    for claimed in (589, 1 << 40, -1):
        (tmp_path / "w").write_bytes(content[:at] + struct.pack("<q", claimed) + content[at + 8 :])
        with pytest.raises(WeightsError, match="expected 588 numbers; the file is damaged or truncated"):
            read_weights(tmp_path / "w")


def test_storage_that_many_tensors_share_is_refused(tmp_path):
    array = np.zeros((10_000, 1, 1, 1), "f4")
    shared = [text(f"layer{number}") + tensor("0", array) for number in range(40)]
    zipped(tmp_path / "w", {"conv1.weight": array}, b"".join(shared))
    with pytest.raises(WeightsError, match=r"the file is damaged: it claims \d+ bytes of weights"):
        read_weights(tmp_path / "w")


def test_tensors_of_one_name_are_refused(tmp_path):
    array = np.zeros((4, 3, 7, 7), "f4")
    zipped(tmp_path / "w", {"conv1.weight": array, "module.conv1.weight": array})
    with pytest.raises(WeightsError, match=r"tensor module\.conv1\.weight: expected one conv1/kernel, got several"):
        read_weights(tmp_path / "w")


def test_tensors_of_integers_are_refused(tmp_path):
    kernel = np.ones((4, 3, 7, 7), "i8")
    zipped(tmp_path / "pth", {"conv1.weight": kernel})
    (tmp_path / "safetensors").write_bytes(safetensors({"conv1.weight": kernel}))
    for name in ("pth", "safetensors"):
        with pytest.raises(WeightsError, match=r"tensor conv1\.weight: expected floats, got int64; quantized"):
            read_weights(tmp_path / name)
