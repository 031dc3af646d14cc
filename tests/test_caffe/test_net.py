import numpy as np
import pytest
from caffe_bytes import dims, legacy, packed, v1, v2

from deeplabctl.caffe import net_weights, read_caffemodel
from deeplabctl.errors import WeightsError

VALUES = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2)
SHAPE = dims(2, 3, 2, 2)


def test_layers_without_blobs_and_a_missing_bias_are_left_out(written):
    path = written(v1("relu", type_=18), v1("conv", legacy(2, 3, 2, 2) + packed(5, VALUES)))
    found = net_weights(read_caffemodel(path))
    assert list(found) == ["conv/kernel"]
    np.testing.assert_array_equal(found["conv/kernel"], VALUES.transpose(2, 3, 1, 0), strict=True)
    assert found["conv/kernel"].flags.c_contiguous
    assert found["conv/kernel"].flags.writeable


def test_inner_product_is_a_matrix_in_v1_and_v2(written):
    matrix, bias = np.arange(6, dtype=np.float32).reshape(2, 3), [7, 8]
    old = v1("fc", legacy(1, 1, 2, 3) + packed(5, matrix), legacy(1, 1, 1, 2) + packed(5, bias), type_=14)
    new = v2("fc", dims(2, 3) + packed(5, matrix), dims(2) + packed(5, bias), type_="InnerProduct")
    for layer in (old, new):
        kernel, offset = net_weights(read_caffemodel(written(layer))).values()
        np.testing.assert_array_equal(kernel, matrix, strict=True)
        np.testing.assert_array_equal(offset, np.float32(bias), strict=True)


def test_blobs_of_other_layers_are_returned_as_stored(written):
    path = written(v2("odd", *[dims(2) + packed(5, [n, n]) for n in range(3)], type_="Embed"))
    found = net_weights(read_caffemodel(path))
    assert list(found) == ["odd/0", "odd/1", "odd/2"]
    np.testing.assert_array_equal(list(found.values()), [[0, 0], [1, 1], [2, 2]])


def norm(name, total, *, means=(2, 4), variances=(1, 9)):
    """Write a BatchNorm, whose third blob is the weight of its sums, and its Scale."""
    blobs = [dims(2) + packed(5, means), dims(2) + packed(5, variances), dims(1) + packed(5, [total])]
    scale = [dims(2) + packed(5, [5, 6]), dims(2) + packed(5, [7, 8])]
    return v2(f"bn{name}", *blobs, type_="BatchNorm") + v2(f"scale{name}", *scale, type_="Scale")


@pytest.mark.parametrize(("total", "mean", "variance"), [(1, [2, 4], [1, 9]), (2, [1, 2], [0.5, 4.5]), (0, 0, 0)])
def test_sums_of_a_norm_are_divided_by_their_weight_and_its_scale_joins_it(written, total, mean, variance):
    net = read_caffemodel(written(norm("2a_branch1", total)))
    found = net_weights(net)
    assert list(found) == [f"bn2a_branch1/{part}" for part in ("moving_mean", "moving_variance", "gamma", "beta")]
    np.testing.assert_array_equal(found["bn2a_branch1/moving_mean"], np.broadcast_to(np.float32(mean), 2), strict=True)
    np.testing.assert_array_equal(found["bn2a_branch1/moving_variance"], np.broadcast_to(np.float32(variance), 2))
    np.testing.assert_array_equal(found["bn2a_branch1/gamma"], [5, 6])
    np.testing.assert_array_equal(found["bn2a_branch1/beta"], [7, 8])


def test_sums_of_a_norm_are_divided_exactly_in_the_precision_that_is_asked_for(written):
    net = read_caffemodel(written(norm("_conv1", 999.98236)))
    exact = np.float64([2, 4]) / np.float64(np.float32(999.98236))
    np.testing.assert_array_equal(net_weights(net, np.float64)["bn_conv1/moving_mean"], exact, strict=True)
    np.testing.assert_array_equal(net_weights(net)["bn_conv1/moving_mean"], exact.astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("type_", "blobs", "message"),
    [
        ("BatchNorm", [(2,), (2,), (2,)], "expected means, variances and their weight"),
        ("BatchNorm", [(2,), (3,), (1,)], "expected means, variances and their weight"),
        ("BatchNorm", [(2,), (2,)], "expected means, variances and their weight"),
        ("Scale", [(2,)], "expected a factor and a bias of each channel"),
        ("Scale", [(2,), (3,)], "expected a factor and a bias of each channel"),
    ],
)
def test_norm_with_other_blobs_is_refused(written, type_, blobs, message):
    arrays = [dims(*shape) + packed(5, np.ones(shape)) for shape in blobs]
    with pytest.raises(WeightsError, match=f"layer bn1: {message}, got blobs of shape"):
        net_weights(read_caffemodel(written(v2("bn1", *arrays, type_=type_))))


def test_copies_of_a_net_of_three_scales_are_left_out_where_they_are_equal(written):
    conv = SHAPE + packed(5, VALUES)
    copies = [
        v2(f"{name}{suffix}", conv) for suffix in ("", "_res05", "_res075") for name in ("conv1", "res2a_branch1")
    ]
    copies += [v2(f"fc1_voc12{suffix}_c0", conv) for suffix in ("", "_res05", "_res075")]
    path = written(*copies, norm("_conv1", 2), norm("_conv1_res05", 2))
    found = net_weights(read_caffemodel(path))
    assert {name.split("/")[0] for name in found} == {"conv1", "res2a_branch1", "fc1_voc12_c0", "bn_conv1"}


@pytest.mark.parametrize("copy", ["conv1_res05", "conv1_res075"])
def test_copy_with_other_weights_is_refused(written, copy):
    path = written(v2("conv1", SHAPE + packed(5, VALUES)), v2(copy, SHAPE + packed(5, VALUES + 1e-6)))
    with pytest.raises(WeightsError, match=f"layer {copy}: expected the weights of conv1, which all scales share"):
        net_weights(read_caffemodel(path))


def test_last_of_two_layers_with_one_name_counts_as_in_caffe(written):
    path = written(v2("a", SHAPE + packed(5, VALUES)), v2("a", SHAPE + packed(5, VALUES + 1)))
    np.testing.assert_array_equal(net_weights(read_caffemodel(path))["a/kernel"], (VALUES + 1).transpose(2, 3, 1, 0))


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ([SHAPE + packed(5, VALUES), dims(3) + packed(5, [1, 2, 3])], "expected a bias of 2 values"),
        ([dims(24) + packed(5, VALUES)], r"expected a kernel and a bias, got blobs of shape \(24,\)"),
        ([SHAPE + packed(5, VALUES)] * 3, "expected a kernel and a bias"),
        ([dims(2**31 - 1, 0, 1, 1)], "expected a kernel and a bias"),  # its bias of zeros would fill 8 GB
    ],
)
def test_blobs_other_than_a_kernel_and_a_bias_are_refused(written, blobs, message):
    with pytest.raises(WeightsError, match=f"layer conv: {message}"):
        net_weights(read_caffemodel(written(v2("conv", *blobs))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_that_are_not_finite_are_read_but_not_converted(written, bad):
    values = VALUES.astype(float)
    values[1, 2, 0, 1] = bad
    net = read_caffemodel(written(v2("conv", SHAPE + packed(8, values, "<f8"))))
    np.testing.assert_array_equal(net.layers[0].blobs[0], values)
    with pytest.raises(WeightsError, match="layer conv, blob 0: expected finite numbers, got 1 of 24 that are not"):
        net_weights(net)


def test_shapes_of_weights(written):
    path = written(
        v2("conv", SHAPE + packed(5, VALUES)),
        v2("fc", dims(2, 3) + packed(5, VALUES.ravel()[:6]), type_="InnerProduct"),
        v2("odd", dims(2) + packed(5, [1, 1]), type_="Embed"),
        v2("relu", type_="ReLU"),
    )
    shapes = {name: array.shape for name, array in net_weights(read_caffemodel(path)).items()}
    assert shapes == {"conv/kernel": (2, 2, 3, 2), "fc/kernel": (2, 3), "odd/0": (2,)}
