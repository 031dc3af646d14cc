import pickle
import struct

import h5py
import numpy as np
import pytest
from caffe_bytes import legacy, packed, v1
from caffe_files import DATA, read_blobs

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import weight_shapes
from deeplabctl.weights.conversion import inspect, plan_conversion
from deeplabctl.weights.fitting import random_weights
from deeplabctl.weights.formats import Format, identify
from deeplabctl.weights.reading import Origin, decimate_classifier, read_network, read_origin, to_architecture, width_of

TINY = DATA / "lfov_tiny_v1.caffemodel"


def tiny_variables(suffix=""):
    return {
        f"{name}/{kind}{suffix}": array
        for name, arrays in random_weights("largefov", 21, 1 / 32, seed=5).items()
        for kind, array in zip("wb", arrays, strict=True)
    }


def same_as_variables(layers, variables):
    assert len(layers) == 16
    for name, (kernel, bias) in layers.items():
        np.testing.assert_array_equal(kernel, variables[f"{name}/w"])
        np.testing.assert_array_equal(bias, variables[f"{name}/b"])


def python2_pickle(arrays):
    """Pickle arrays as Python 2's cPickle does with protocol 2: names and data as byte strings."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    def array(values):
        data = values.astype("<f4").tobytes()
        shape = b"(" + b"".join(map(number, values.shape)) + b"t"
        dtype = (
            b"cnumpy\ndtype\n"
            + text("f4")
            + b"K\x00K\x01\x87R(K\x03"
            + text("<")
            + b"NNN"
            + number(-1) * 2
            + b"K\x00tb"
        )
        start = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text("b") + b"\x87R"
        return start + b"(K\x01" + shape + dtype + b"\x89" + b"T" + struct.pack("<i", len(data)) + data + b"tb"

    items = b"".join(text(name) + array(values) for name, values in arrays.items())
    return b"\x80\x02}(" + items + b"u."


def test_python_2_pickle_of_arrays_comes_back_equal(tmp_path):
    (tmp_path / "net_weights.ckpt").write_bytes(python2_pickle(tiny_variables()))
    origin = read_origin(tmp_path / "net_weights.ckpt")
    assert origin.format is Format.PICKLE
    same_as_variables(origin.layers, tiny_variables())
    assert read_network(tmp_path / "net_weights.ckpt").info.width == 1 / 32


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_any_protocol_comes_back_equal(tmp_path, protocol):
    (tmp_path / "w").write_bytes(pickle.dumps(tiny_variables(), protocol))
    same_as_variables(read_origin(tmp_path / "w").layers, tiny_variables())


class Caller:
    """Pickle as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["whole", "value", "name"])
def test_pickle_that_calls_a_function_is_refused_and_nothing_is_called(tmp_path, where):
    import os

    victim = tmp_path / "victim"
    bad = Caller(os.mkdir, str(victim))
    content = {"whole": bad, "value": {"conv1_1/w": bad}, "name": {"conv1_1/w": np.zeros(2), bad: 1}}[where]
    (tmp_path / "w").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(WeightsError, match=r"the pickle is refused: it asks to call \S+mkdir"):
        read_origin(tmp_path / "w")
    assert not victim.exists()


def test_pickles_of_other_things_are_refused(tmp_path):
    for content in ([1, 2], {"a": "text"}, {"a": np.array(["x"], object)}, {1: np.zeros(2)}):
        (tmp_path / "w").write_bytes(pickle.dumps(content, 2))
        with pytest.raises(WeightsError, match="pickle"):
            read_origin(tmp_path / "w")
    (tmp_path / "w").write_bytes(pickle.dumps({"other": np.zeros(2)}, 2))
    with pytest.raises(WeightsError, match="expected variables named like conv1_1/w"):
        read_origin(tmp_path / "w")
    whole = pickle.dumps(tiny_variables(), 2)
    (tmp_path / "w").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="the pickle is refused"):
        read_origin(tmp_path / "w")


@pytest.mark.tf
def test_tensorflow_1_checkpoint_comes_back_equal_by_any_of_its_names(tmp_path):
    import tensorflow.compat.v1 as tf1

    variables = tiny_variables()
    with tf1.Graph().as_default(), tf1.Session() as session:
        made = [tf1.get_variable(name, initializer=value) for name, value in variables.items()]
        made.append(tf1.get_variable("conv1_1/w/Adam", initializer=variables["conv1_1/w"]))
        made.append(tf1.get_variable("global_step", initializer=np.int64(3)))
        session.run(tf1.global_variables_initializer())
        prefix = tf1.train.Saver(made).save(session, str(tmp_path / "model.ckpt"), global_step=3)
    assert prefix.endswith("model.ckpt-3")
    for suffix in ("", ".index", ".data-00000-of-00001"):
        origin = read_origin(tmp_path / f"model.ckpt-3{suffix}")
        assert origin.format is Format.TENSORFLOW
        same_as_variables(origin.layers, variables)
        assert read_network(tmp_path / f"model.ckpt-3{suffix}").info.width == 1 / 32
    (tmp_path / "model.ckpt-3.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"expected model\.ckpt-3\.data-00000-of-00001 beside"):
        read_origin(tmp_path / "model.ckpt-3.index")


@pytest.mark.tf
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_keras_vgg16_files_give_its_convolutions(tmp_path, suffix):
    import keras

    vgg = keras.applications.VGG16(include_top=False, weights=None)
    path = tmp_path / f"vgg{suffix}"
    vgg.save_weights(path) if suffix == ".weights.h5" else vgg.save(path)
    layers = read_origin(path).layers
    assert list(layers) == [f"conv{b}_{n}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, count + 1)]
    for name, arrays in layers.items():
        theirs = vgg.get_layer(name.replace("conv", "block").replace("_", "_conv")).get_weights()
        np.testing.assert_array_equal(arrays[0], theirs[0])
    conversion = plan_conversion(path, ["a", "b"])
    assert conversion.new == ["fc6", "fc7", "fc8_voc12"]
    assert conversion.info.classes == ("a", "b")
    with pytest.raises(WeightsError, match=r"without a classifier.*deeplabctl train --init"):
        read_network(path)


def test_legacy_weight_file_of_keras_reads_with_its_top(tmp_path):
    with h5py.File(tmp_path / "vgg.h5", "w") as root:
        names = [f"block{b}_conv{n}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, count + 1)]
        names += ["fc1", "fc2", "predictions"]
        root.attrs["layer_names"] = np.array(["input_1", *names], "S")
        root.create_group("input_1").attrs["weight_names"] = np.array([], "S")
        for number, name in enumerate(names):
            group = root.create_group(name)
            weight_names = [f"{name}/kernel:0", f"{name}/bias:0"]
            group.attrs["weight_names"] = np.array(weight_names, "S")
            shape = (3, 3, 2, 2) if name.startswith("block") else (2, 2)
            group[weight_names[0]] = np.full(shape, number, np.float32)
            group[weight_names[1]] = np.zeros(2, np.float32)
    layers = read_origin(tmp_path / "vgg.h5").layers
    assert list(layers)[-4:] == ["conv5_3", "fc6", "fc7", "fc8"]
    assert [int(kernel.flat[0]) for kernel, _ in layers.values()] == list(range(16))


def test_surgery_keeps_every_third_row_and_column_of_chosen_filters():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(7, 7, 512, 8)).astype(np.float32)  # height, width, in, out
    fc7 = rng.normal(size=(8, 8)).astype(np.float32)
    (new6, bias6), (new7, bias7) = decimate_classifier(
        [kernel.reshape(-1, 8), np.arange(8.0)], [fc7, np.arange(8.0)], seed=1, filters=3
    )
    first, second = bias6.astype(int), bias7.astype(int)
    assert len(set(first)) == len(set(second)) == 3
    assert new6.shape == (3, 3, 512, 3)
    np.testing.assert_array_equal(new6[1, 2, 5], kernel[3, 6, 5, first])
    np.testing.assert_array_equal(new7[0, 0], fc7[first][:, second])
    other = decimate_classifier([kernel.reshape(-1, 8), np.arange(8.0)], [fc7, np.arange(8.0)], seed=2, filters=3)
    assert (other[0][1] != bias6).any()


def test_caffes_inner_product_is_flattened_by_channel_first(tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2, 512, 7, 7)).astype(np.float32)  # out, channel, height, width
    fc6 = v1(
        "fc6", legacy(1, 1, 2, 25088) + packed(5, matrix.ravel()), legacy(1, 1, 1, 2) + packed(5, [0, 0]), type_=14
    )
    (tmp_path / "vgg.caffemodel").write_bytes(fc6)
    kernel, _ = read_origin(tmp_path / "vgg.caffemodel").layers["fc6"]
    np.testing.assert_array_equal(kernel.reshape(7, 7, 512, 2), matrix.transpose(2, 3, 1, 0))


def test_classifier_of_any_name_and_count_is_found():
    layers = random_weights("largefov", 9, 0.1, seed=0)
    layers["fc8_pascal"] = layers.pop("fc8_voc12")
    mapped, said = to_architecture(Origin(TINY, Format.CAFFE, layers), "largefov", seed=0)
    assert "fc8_pascal" not in mapped
    np.testing.assert_array_equal(mapped["fc8_voc12"][0], layers["fc8_pascal"][0])
    assert said == ["fc8_pascal is taken for the classifier fc8_voc12"]


def test_layers_of_another_network_are_listed():
    layers = read_blobs(TINY)
    layers["fc6_1"] = layers.pop("fc6")
    layers["fc6_2"] = layers["fc6_1"]
    from deeplabctl.weights.fitting import fit_weights

    with pytest.raises(WeightsError, match=r"\+ fc6_1 \(unexpected\); \+ fc6_2 \(unexpected\)"):
        fit_weights(
            to_architecture(Origin(TINY, Format.CAFFE, layers), "largefov", 0)[0], "largefov", 21, 1 / 32, 0, "x"
        )


def test_caffe_network_reads_whole_with_vocs_names():
    network = read_network(TINY)
    assert network.info.classes == VOC_CLASSES
    assert network.info.width == 1 / 32
    np.testing.assert_array_equal(network.weights["fc6"][0], read_blobs(TINY)["fc6"][0])


def test_inspect_tells_format_layers_ranges_and_what_it_would_become():
    found = inspect(TINY)
    assert found["format"] == "caffemodel"
    assert found["parameters"] == 20_939
    assert len(found["sha256"]) == 64
    assert found["becomes"] == "largefov of width 0.03125 with 21 classes"
    kernel, bias = read_blobs(TINY)["conv1_1"]
    ranges = [[blob.min(), blob.max()] for blob in (kernel, bias)]
    np.testing.assert_array_equal(found["layers"][0]["ranges"], ranges)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG picture"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"name: 'LargeFOV'\nlayers { name: 'conv1_1' }\n", "a prototxt"),
        (b"# comment\n\nlayer {\n", "a prototxt"),
        (b"PK\x05\x06" + b"\x00" * 18, "no format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"", "an empty file"),
        (b"2007_000032\n2007_000039\n", "a text file"),
        (b"\x00\x01\x02" * 100, "no format that is known"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b'{"weights": []}', "a JSON text"),
    ],
)
def test_file_that_is_no_weights_is_named_for_what_it_is(tmp_path, content, said):
    path = tmp_path / "model.caffemodel"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        identify(path)
    assert "\n" not in str(caught.value)


def test_zip_archives_are_told_apart(tmp_path):
    import zipfile

    for names, said in ((["a.txt"], "a zip archive; unpack"), (["net/data.pkl"], "a PyTorch file")):
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        with pytest.raises(WeightsError, match=said):
            identify(tmp_path / "a.keras")
    whole = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "a.keras").write_bytes(whole[:20])
    with pytest.raises(WeightsError, match="damaged or cut off"):
        identify(tmp_path / "a.keras")


def test_big_endian_pickle_reads_its_numbers(tmp_path):
    swapped = {name: value.astype(">f4") for name, value in tiny_variables().items()}
    (tmp_path / "w").write_bytes(pickle.dumps(swapped, 2))
    same_as_variables(read_origin(tmp_path / "w").layers, tiny_variables())


@pytest.mark.parametrize("width", [0.3, 0.07, 0.55, 1.3])
def test_odd_width_is_told_by_the_widest_layer(width):
    layers = random_weights("largefov", 5, width, seed=0)
    told = width_of(layers, "largefov", TINY)
    assert weight_shapes("largefov", 5, told) == weight_shapes("largefov", 5, width)


def test_network_with_other_kinds_of_layers_is_listed_not_a_crash(tmp_path):
    batch_norm = v1("bn1", *[legacy(1, 1, 1, 2) + packed(5, [1, 2])] * 3, type_=5)
    prelu = v1("slope", legacy(1, 1, 1, 2) + packed(5, [1, 2]), type_=6)
    (tmp_path / "net.caffemodel").write_bytes(TINY.read_bytes() + batch_norm + prelu)
    with pytest.raises(WeightsError, match=r"\+ bn1 \(unexpected\); \+ slope \(unexpected\)"):
        plan_conversion(tmp_path / "net.caffemodel")
    assert inspect(tmp_path / "net.caffemodel")["becomes"].startswith("nothing: ")


def test_surgery_on_another_size_is_refused():
    layers = {"fc6": [np.zeros((25088, 5)), np.zeros(5)], "fc7": [np.zeros((5, 5)), np.zeros(5)]}
    with pytest.raises(WeightsError, match=r"expected VGG-16's \(25088, 4096\)"):
        to_architecture(Origin(TINY, Format.CAFFE, layers), "largefov", seed=0)
