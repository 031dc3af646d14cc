import numpy as np
import pytest
from caffe_bytes import blobs_of, block, dims, legacy, number, packed, same_blobs, unpacked, v1, v2
from caffe_files import DATA, TINY, fixture

from deeplabctl.caffe import net_weights, read_caffemodel
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES


@pytest.fixture
def only_blob(written):
    def read(*parts):
        net = read_caffemodel(written(v2("conv", b"".join(parts))))
        return net.layers[0].blobs[0]

    return read


def test_v1_file_of_the_fork_reads():
    net = read_caffemodel(TINY)
    assert (net.name, net.version, len(net.layers)) == ("DeepLab-LargeFOV-tiny", "V1", 40)
    blobs = blobs_of(net)
    assert [f"{name}/{part}" for name in blobs for part in ("kernel", "bias")] == list(
        ARCHITECTURES["largefov"].weight_shapes(21)
    )
    assert blobs["fc6"][0].shape == (32, 16, 3, 3)
    assert blobs["fc6"][1].shape == (1, 1, 1, 32)
    assert blobs["fc6"][0].dtype == np.float32
    types = {layer.name: layer.type for layer in net.layers}
    assert {types[name] for name in blobs} == {"Convolution"}
    assert (types["pool5a"], types["relu6"], types["fc8_interp"]) == ("V1 type 17", "V1 type 18", "V1 type 41")


def test_v2_file_of_bvlc_has_the_same_blobs():
    one, other = read_caffemodel(TINY), read_caffemodel(DATA / "lfov_tiny_v2.caffemodel")
    assert other.version == "V2"
    assert blobs_of(other)["fc6"][1].shape == (32,)
    assert {layer.type for layer in other.layers} == {"Input", "Convolution", "ReLU", "Pooling", "Dropout"}
    same_blobs(blobs_of(one), blobs_of(other), reshaped=True)


def test_slim_v1_and_v2_files_have_the_same_blobs():
    one = read_caffemodel(fixture("lfov_slim_v1.caffemodel"))
    other = read_caffemodel(fixture("lfov_slim_v2.caffemodel"))
    same_blobs(blobs_of(one), blobs_of(other), reshaped=True)


def test_tiny_net_has_the_shapes_of_the_table():
    found = net_weights(read_caffemodel(TINY))
    assert {name: array.shape for name, array in found.items()} == ARCHITECTURES["largefov"].weight_shapes(21, 1 / 32)


def test_diff_fields_are_not_read():
    with_diff = read_caffemodel(fixture("lfov_tiny_v1_withdiff.caffemodel"))
    same_blobs(blobs_of(with_diff), blobs_of(read_caffemodel(TINY)))


def test_training_nets_file_reads_with_its_split_loss_and_accuracy_layers():
    net = read_caffemodel(DATA / "lfov_tiny_train_init_v1.caffemodel")
    assert {"V1 type 22", "V1 type 21", "V1 type 40"} <= {layer.type for layer in net.layers}  # Split, a loss, accuracy
    start = np.load(DATA / "train_tiny_step_f64.npz")
    for name, (kernel, bias) in blobs_of(net).items():
        np.testing.assert_array_equal(kernel, start[f"init/{name}_w"].astype(np.float32))
        np.testing.assert_array_equal(bias.ravel(), start[f"init/{name}_b"].ravel().astype(np.float32))


def test_caffes_own_snapshot_reads():
    net = read_caffemodel(fixture("train_tiny_step_f32_iter_8.caffemodel"))
    end = np.load(DATA / "train_tiny_step_f32.npz")
    for name, (kernel, bias) in blobs_of(net).items():
        np.testing.assert_array_equal(kernel, end[f"final/{name}_w"])
        np.testing.assert_array_equal(bias.ravel(), end[f"final/{name}_b"].ravel())


def test_reading_changes_nothing_and_blobs_outlive_the_file(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(TINY.read_bytes())
    before = path.stat()
    blob = blobs_of(read_caffemodel(str(path)))["fc7"][0]
    assert not blob.flags.writeable
    assert path.read_bytes() == TINY.read_bytes()
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.unlink()
    np.testing.assert_array_equal(blob, blobs_of(read_caffemodel(TINY))["fc7"][0])


VALUES = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2)
SHAPE = dims(2, 3, 2, 2)


@pytest.mark.parametrize(
    "parts",
    [
        [SHAPE, packed(5, VALUES)],
        [packed(5, VALUES), SHAPE],
        [SHAPE, unpacked(5, VALUES)],
        [dims(2, 3, 2, 2, packed_=False), packed(5, VALUES)],
        [legacy(2, 3, 2, 2), packed(5, VALUES)],
        [packed(5, VALUES.ravel()[:7]), SHAPE, unpacked(5, VALUES.ravel()[7:9]), packed(5, VALUES.ravel()[9:])],
        [dims(2), packed(5, VALUES), dims(3, 2, 2)],
        [SHAPE, packed(5, VALUES), packed(6, VALUES * 9), unpacked(9, VALUES * 9, "<f8")],
        [SHAPE, packed(5, VALUES), block(77, "new"), number(78, 5), unpacked(79, [1]), number(5, 3), block(1, "odd")],
        [number(1, 7), legacy(2, 3, 2, 2), packed(5, VALUES)],
        [legacy(2, 3, 2, 2), dims(99), packed(5, VALUES)],
    ],
    ids=[
        "packed", "data first", "unpacked", "dims unpacked", "legacy dims", "mixed", "shape in two parts", "with diff",
        "unknown fields", "last number wins", "legacy dims before shape",
    ],
)  # fmt: skip
def test_blob_reads_in_every_form(only_blob, parts):
    np.testing.assert_array_equal(only_blob(*parts), VALUES, strict=True)


@pytest.mark.parametrize("write", [packed, unpacked])
def test_double_data_stays_double_until_it_is_converted(written, write):
    double = np.random.default_rng(0).normal(size=VALUES.shape)
    bias = [0.1, 0.2]
    path = written(
        v2("conv", SHAPE + write(8, double, "<f8") + packed(9, double, "<f8"), dims(2) + write(8, bias, "<f8"))
    )
    net = read_caffemodel(path)
    np.testing.assert_array_equal(net.layers[0].blobs[0], double, strict=True)
    kernel, bias = net_weights(net).values()
    np.testing.assert_array_equal(kernel, double.transpose(2, 3, 1, 0).astype(np.float32), strict=True)
    np.testing.assert_array_equal(bias, np.float32([0.1, 0.2]), strict=True)


def test_double_data_goes_before_float_data(only_blob):
    np.testing.assert_array_equal(only_blob(SHAPE, packed(5, VALUES), packed(8, VALUES * 2, "<f8")), VALUES * 2.0)
    np.testing.assert_array_equal(only_blob(SHAPE, packed(5, VALUES), block(8)), VALUES)


def test_net_in_two_pieces_is_one_net(written):
    bias = dims(2) + packed(5, [1, 2])
    path = written(
        v2("a", SHAPE + packed(5, VALUES), bias), block(1, "later"), v2("b"), v2("c", SHAPE + packed(5, VALUES))
    )
    net = read_caffemodel(path)
    assert net.name == "later"
    assert [(layer.name, len(layer.blobs)) for layer in net.layers] == [("a", 2), ("b", 0), ("c", 1)]


def test_fields_of_a_layer_come_in_any_order_and_unknown_ones_are_skipped(written):
    layer = block(2, number(900, 1), block(6, legacy(1, 1, 1, 2) + packed(5, [3, 4])), block(4, "late"))
    (read,) = read_caffemodel(written(block(901, "?"), layer, unpacked(902, [1, 2, 3]))).layers
    assert (read.name, read.type) == ("late", "")
    np.testing.assert_array_equal(read.blobs[0], [[[[3, 4]]]])


@pytest.mark.parametrize(
    ("enum", "name"), [(4, "Convolution"), (14, "InnerProduct"), (45, "V1 type 45"), (999, "V1 type 999")]
)
def test_types_of_v1_with_weights_are_named(written, enum, name):
    assert read_caffemodel(written(v1("a", packed(5, [1]), type_=enum))).layers[0].type == name


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([SHAPE, packed(5, VALUES.ravel()[:23])], r"layer conv, blob 0: expected 24 values .*\(2, 3, 2, 2\), got 23"),
        ([SHAPE], "expected 24 values .* got 0"),
        ([packed(5, VALUES)], r"expected 1 values for the shape \(\), got 24"),
        ([legacy(2, 3), packed(5, VALUES)], r"expected 0 values for the shape \(2, 3, 0, 0\), got 24"),
        ([dims(-2, -12), packed(5, VALUES)], r"expected dimensions of a blob, got \(-2, -12\)"),
        ([legacy(1, 1, -1, 24), packed(5, VALUES)], "expected dimensions of a blob"),
        ([dims(2**32, 2**32), packed(5, VALUES)], "expected dimensions of a blob"),
        ([dims(0, 2**62)], "expected dimensions of a blob"),
        ([dims(*[1] * 33), packed(5, [1])], "32 axes at most"),
        ([SHAPE, block(5, VALUES.tobytes()[:-1])], "multiple of 4 bytes"),
        ([SHAPE, block(8, VALUES.tobytes()[:-4])], "multiple of 8 bytes"),
    ],
)
def test_blob_that_contradicts_itself_is_refused(only_blob, parts, message):
    with pytest.raises(WeightsError, match=message) as caught:
        only_blob(*parts)
    assert "\n" not in str(caught.value)


def test_empty_blob_and_scalar_blob_read(only_blob):
    assert only_blob(dims(0, 3)).shape == (0, 3)
    assert only_blob(packed(5, [2.5])).shape == ()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no weights in it, only 0 layers without any"),
        ([v1("a"), v1("b")], "no weights in it, only 2 layers without any"),
        ([v1("a", packed(5, [1])), v2("b")], "got V1 and V2 ones together"),
    ],
)
def test_net_that_cannot_be_used_is_refused(written, parts, message):
    with pytest.raises(WeightsError, match=message):
        read_caffemodel(written(*parts))
