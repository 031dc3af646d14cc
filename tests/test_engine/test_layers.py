import numpy as np
import pytest

from deeplabctl.arrays import aligned
from deeplabctl.engine.layers import BY_PIXELS, ConvolutionLayer, PoolingLayer, SumLayer
from deeplabctl.engine.workspace import Buffers, Workers, padded
from deeplabctl.network.ops import LINEAR, RELU, Convolution, Input, Node, Pooling, Sum


def wide(image, depth):
    """Return an image (h, w, C) with its channels padded by zeros, flat, as the layers take it."""
    array = np.zeros((*image.shape[:2], depth), np.float32)
    array[..., : image.shape[2]] = image
    flat = aligned(array.size)
    flat[:] = array.ravel()
    return flat


def literal_convolution(image, kernel, bias, stride, dilation, relu):
    """Convolve step by step in float64, with Caffe's padding."""
    side, pad = kernel.shape[0], dilation * (kernel.shape[0] - 1) // 2
    framed = np.pad(image.astype(float), ((pad, pad), (pad, pad), (0, 0)))
    reach = dilation * (side - 1)
    height, width = ((length - reach - 1) // stride + 1 for length in framed.shape[:2])
    result = np.zeros((height, width, kernel.shape[3])) + bias
    for i in range(side):
        for j in range(side):
            seen = framed[i * dilation :, j * dilation :][: stride * height : stride, : stride * width : stride]
            result += seen @ kernel[i, j].astype(float)
    return np.maximum(result, 0) if relu else result


def image_node(channels, *, is_first=True):
    image = Node(Input(), (), channels)
    return image if is_first else Node(Pooling("before", "max", 1), (image,), channels)


def convolution(kernel, bias, stride=1, dilation=1, relu=True, scale=1, is_first=False):
    side, _, channels, outputs = kernel.shape
    op = Convolution("conv", outputs, side, stride, dilation, activation=RELU if relu else LINEAR)
    arrays = {"kernel": kernel, "scale": np.full(outputs, scale, np.float32), "bias": bias}
    return Node(op, (image_node(channels, is_first=is_first),), outputs, arrays)


CASES = [  # side, channels, outputs, stride, dilation, height, width, as the first layer
    (3, 3, 64, 1, 1, 21, 34, True),
    (7, 3, 10, 2, 1, 33, 20, True),
    (3, 64, 40, 1, 1, 17, 31, False),
    (3, 16, 33, 1, 2, 14, 9, False),
    (3, 5, 7, 1, 12, 15, 3, False),
    (3, 20, 48, 1, 1, 1, 1, False),
    (3, 20, 48, 2, 1, 12, 7, False),
    (1, 48, 2, 1, 1, 9, 23, False),
    (1, 17, 255, 2, 1, 8, 11, False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_convolution_is_the_literal_one_in_each_way(case, threads, monkeypatch):
    side, channels, outputs, stride, dilation, height, width, is_first = case
    random = np.random.default_rng(side * outputs)
    image = random.normal(size=(height, width, channels)).astype(np.float32)
    kernel = random.normal(size=(side, side, channels, outputs)).astype(np.float32)
    bias = random.normal(size=outputs).astype(np.float32)
    depth = channels if is_first else padded(channels)
    workers = Workers(threads)
    for relu in (True, False):
        node = convolution(kernel, bias, stride, dilation, relu, scale=0.5, is_first=is_first)
        expected = literal_convolution(image, kernel / 2, bias, stride, dilation, relu)
        for way in (BY_PIXELS, 4, 6) if (side, stride) == (3, 1) and not is_first else (BY_PIXELS,):
            layer = ConvolutionLayer(node, workers)
            monkeypatch.setattr(layer, "tile", lambda before, way=way: way)
            size = node.op.size([(height, width)])
            assert size == expected.shape[:2]
            result = aligned(size[0] * size[1] * padded(outputs))
            result[:] = np.nan
            layer.compute([wide(image, depth)], [(height, width)], result)
            pixels = result.reshape(*size, padded(outputs))
            error = np.abs(pixels[..., :outputs] - expected).max() / np.abs(expected).max()
            assert error < {BY_PIXELS: 1e-6, 4: 3e-6, 6: 1e-5}[way], way
            assert not pixels[..., outputs:].any()  # the next layer reads them


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "rows"), [(4, 6), (4, 12), (8, 6), (16, 14)])
def test_convolution_is_the_same_with_the_vectors_of_every_processor(lanes, rows, monkeypatch):
    from deeplabctl.engine.microkernel import simd_of

    random = np.random.default_rng(0)
    image = random.normal(size=(13, 18, 24)).astype(np.float32)
    kernel, bias = random.normal(size=(3, 3, 24, 40)).astype(np.float32), np.ones(40, np.float32)
    expected = literal_convolution(image, kernel, bias, 1, 1, relu=True)
    for way in (BY_PIXELS, 4, 6):
        monkeypatch.setattr("deeplabctl.engine.microkernel.best_simd", lambda: simd_of(lanes, rows))
        layer = ConvolutionLayer(convolution(kernel, bias), Workers(1))
        monkeypatch.setattr(layer, "tile", lambda before, way=way: way)
        result = aligned(13 * 18 * 48)
        layer.compute([wide(image, 32)], [(13, 18)], result)
        error = np.abs(result.reshape(13, 18, 48)[..., :40] - expected).max() / np.abs(expected).max()
        assert error < 1e-5


def test_every_group_of_pixels_has_a_product_whatever_its_size():
    from deeplabctl.engine.microkernel import simd_of

    for lanes, rows in ((16, 14), (8, 6), (4, 12), (4, 6)):
        counts = [len(member) for member in simd_of(lanes, rows)]
        assert counts[0] == lanes
        assert counts[1] == rows
        assert counts[-1] == 1
        assert counts[1:] == sorted(counts[1:], reverse=True)


def test_a_wide_layer_is_computed_by_tiles_and_the_image_and_single_pixels_are_not():
    def chosen(side, channels, outputs, size, stride=1, dilation=1, is_first=False):
        kernel, bias = np.zeros((side, side, channels, outputs), np.float32), np.zeros(outputs, np.float32)
        node = convolution(kernel, bias, stride, dilation, is_first=is_first)
        return ConvolutionLayer(node, Workers(1)).tile((size, size))

    assert chosen(3, 256, 256, 81) == 4
    assert chosen(3, 512, 512, 65) == 6  # 11 tiles of 6 a side, or 17 of 4
    assert chosen(3, 512, 1024, 65, dilation=12) == 6
    assert chosen(3, 512, 1024, 41, dilation=12) == 4
    assert chosen(3, 512, 512, 1) == BY_PIXELS
    assert chosen(3, 3, 64, 321, is_first=True) == BY_PIXELS
    assert chosen(3, 256, 256, 81, stride=2) == BY_PIXELS
    assert chosen(1, 1024, 1024, 41) == BY_PIXELS


@pytest.mark.parametrize(("kind", "stride"), [("max", 1), ("max", 2), ("average", 1)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (8, 9), (33, 40)])
def test_pooling_is_the_clipped_window_of_caffe(height, width, kind, stride):
    image = np.random.default_rng(0).normal(size=(height, width, 20)).astype(np.float32)
    op = Pooling("pool", kind, stride)
    layer = PoolingLayer(Node(op, (image_node(20),), 20), Workers(2))
    tall, broad = op.size([(height, width)])
    assert (tall, broad) == ((height, width) if stride == 1 else (height // 2 + 1, width // 2 + 1))
    result = aligned(tall * broad * 32)
    layer.compute([wide(image, 32)], [(height, width)], result)
    for y in range(tall):
        for x in range(broad):
            top, left = max(0, y * stride - 1), max(0, x * stride - 1)
            seen = image[top : y * stride + 2, left : x * stride + 2].astype(float)
            expected = seen.max((0, 1)) if kind == "max" else seen.sum((0, 1)) / 9
            np.testing.assert_allclose(result.reshape(tall, broad, 32)[y, x, :20], expected, rtol=1e-5, atol=1e-6)


def test_sums_of_several_images_take_the_relu_last():
    images = [np.full((2, 3, 16), value, np.float32) for value in (-5, 3, 4)]
    result = aligned(2 * 3 * 16)
    for relu, values, expected in ((True, images, 2), (True, images[:2], 0), (False, images[:2], -2)):
        op = Sum("sum", activation=RELU if relu else LINEAR)
        layer = SumLayer(Node(op, (image_node(16),) * len(values), 16), Workers(2))
        layer.compute([wide(image, 16) for image in values], [(2, 3)] * len(values), result)
        np.testing.assert_array_equal(result, expected)


def test_buffers_lend_what_fits_best_and_replace_what_is_too_small():
    buffers = Buffers()
    small, large = buffers.take(10), buffers.take(100)
    assert all(array.ctypes.data % 64 == 0 for array in (small, large))
    buffers.give(large)
    buffers.give(small)
    assert buffers.take(8) is small
    assert buffers.take(20) is large
    buffers.give(small)
    larger = buffers.take(200)
    assert larger.size == 200
    buffers.give(larger)
    assert buffers.take(1) is larger  # the small one is gone


def test_an_error_in_a_thread_reaches_the_caller_and_leaves_the_workers_usable():
    workers = Workers(2)

    def fail(part, work):
        assert work.size >= 5
        raise ValueError(part)

    with pytest.raises(ValueError, match="0"):
        workers.run(fail, range(3), 5)
    seen = []
    workers.run(lambda part, work: seen.append(part), range(20))
    assert sorted(seen) == list(range(20))
