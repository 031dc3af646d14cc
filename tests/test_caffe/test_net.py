import numpy as np
import pytest
from caffe_bytes import dims, legacy, packed, v1, v2

from deeplabctl.caffe import net_shapes, net_weights, read_caffemodel
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


def test_shapes_are_those_of_the_weights(written):
    path = written(
        v2("conv", SHAPE + packed(5, VALUES)),
        v2("fc", dims(2, 3) + packed(5, VALUES.ravel()[:6]), type_="InnerProduct"),
        v2("odd", dims(2) + packed(5, [1, 1]), type_="Embed"),
        v2("relu", type_="ReLU"),
    )
    net = read_caffemodel(path)
    assert net_shapes(net) == {"conv/kernel": (2, 2, 3, 2), "fc/kernel": (2, 3), "odd/0": (2,)}
    assert net_shapes(net) == {name: array.shape for name, array in net_weights(net).items()}
