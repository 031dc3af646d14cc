import numpy as np
import pytest
from plain_resizing import linear

from deeplabctl.arrays import aligned
from deeplabctl.engine.layers import BY_PIXELS, LAYERS, ConvolutionLayer, PoolingLayer, SumLayer
from deeplabctl.engine.workspace import Buffers, Workers, padded
from deeplabctl.network.ops import (
    HARD_SIGMOID,
    HARD_SWISH,
    LINEAR,
    RELU,
    RELU6,
    Broadcast,
    Concatenation,
    Convolution,
    DepthwiseConvolution,
    ImageMean,
    Input,
    Node,
    Pooling,
    Product,
    Rectifier,
    Resize,
    Sum,
)


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


@pytest.mark.parametrize(
    ("kind", "stride", "rounds_up"), [("max", 1, True), ("max", 2, True), ("average", 1, True), ("max", 2, False)]
)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (8, 9), (33, 40)])
def test_pooling_is_the_clipped_window_of_caffe(height, width, kind, stride, rounds_up):
    image = np.random.default_rng(0).normal(size=(height, width, 20)).astype(np.float32)
    op = Pooling("pool", kind, stride, rounds_up)
    layer = PoolingLayer(Node(op, (image_node(20),), 20), Workers(2))
    tall, broad = op.size([(height, width)])
    more = 2 if rounds_up else 1
    assert (tall, broad) == ((height, width) if stride == 1 else ((height + more) // 2, (width + more) // 2))
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


def computed(op, *images, arrays=None, channels=None):
    """Return the result (h, w, channels) of a layer of images (h, w, C); what is in its padding must be finite."""
    below = tuple(image_node(image.shape[2], is_first=False) for image in images)
    node = Node(op, below, channels or images[0].shape[2], arrays or {})
    sizes = [image.shape[:2] for image in images]
    height, width = op.size(sizes)
    result = aligned(height * width * padded(node.channels))
    result[:] = np.nan
    inputs = [wide(image, padded(image.shape[2])) for image in images]
    LAYERS[type(op)](node, Workers(2)).compute(inputs, sizes, result)
    assert np.isfinite(result).all()
    return result.reshape(height, width, -1)[..., : node.channels]


ACTIVATIONS = {
    LINEAR: lambda x: x,
    RELU: lambda x: np.maximum(x, 0),
    RELU6: lambda x: np.clip(x, 0, 6),
    HARD_SIGMOID: lambda x: np.clip(x + 3, 0, 6) / 6,
    HARD_SWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def same_convolution(image, kernel, stride, dilation, same):
    """Convolve step by step in float64; with ``same`` the zeros are TensorFlow's, half of those needed before."""
    side = kernel.shape[0]
    reach = dilation * (side - 1)
    zeros = []
    for length in image.shape[:2]:
        needed = max(0, (-(-length // stride) - 1) * stride + reach + 1 - length)
        before = needed // 2 if same else reach // 2
        zeros.append((before, reach + stride))  # more than enough after it
    framed = np.pad(image.astype(float), (*zeros, (0, 0)))
    height, width = (-(-length // stride) for length in image.shape[:2])
    total = 0.0
    for i in range(side):
        for j in range(side):
            seen = framed[i * dilation :, j * dilation :][: stride * height : stride, : stride * width : stride]
            total += seen @ kernel[i, j] if kernel.shape[3] > 1 else seen * kernel[i, j, :, 0]
    return total


WINDOWS = [  # side, stride, dilation, height, width
    (3, 1, 1, 17, 23), (3, 1, 1, 1, 1), (3, 1, 2, 9, 40), (3, 1, 18, 33, 30), (5, 1, 1, 12, 9), (5, 1, 2, 14, 31),
    (3, 2, 1, 33, 20), (3, 2, 1, 8, 9), (5, 2, 1, 21, 30), (3, 2, 1, 1, 2),
]  # fmt: skip


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_depthwise_convolution_is_the_literal_one(case, same):
    side, stride, dilation, height, width = case
    random = np.random.default_rng(height)
    for channels, (activation, apply) in zip((7, 16, 40, 96, 24), ACTIVATIONS.items(), strict=True):
        image = random.normal(size=(height, width, channels)).astype(np.float32)
        kernel = random.normal(size=(side, side, channels, 1)).astype(np.float32)
        scale, bias = random.uniform(1, 3, (2, channels)).astype(np.float32)
        op = DepthwiseConvolution(
            "conv", kernel=side, stride=stride, dilation=dilation, activation=activation, same=same
        )
        found = computed(op, image, arrays={"kernel": kernel, "scale": scale, "bias": bias})
        sums = same_convolution(image, kernel, stride, dilation, same) * scale + bias
        np.testing.assert_allclose(found, apply(sums), rtol=0, atol=3e-6 * np.abs(sums).max())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize(("side", "stride", "size"), [(3, 2, (8, 13)), (1, 1, (5, 6)), (3, 1, (17, 31))])
def test_convolution_has_the_zeros_and_the_activation_of_its_operation(side, stride, size, activation):
    random = np.random.default_rng(0)
    image = random.normal(size=(*size, 20)).astype(np.float32)
    kernel, bias = random.normal(size=(side, side, 20, 24)).astype(np.float32), np.ones(24, np.float32)
    op = Convolution("conv", 24, kernel=side, stride=stride, activation=activation, same=True)
    found = computed(op, image, arrays={"kernel": kernel, "scale": bias / 2, "bias": bias}, channels=24)
    sums = same_convolution(image, kernel, stride, 1, True) / 2 + 1
    np.testing.assert_allclose(found, ACTIVATIONS[activation](sums), rtol=0, atol=5e-6 * np.abs(sums).max())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_on_their_own_are_their_formulas_and_keep_nan(activation):
    image = np.linspace(-8, 8, 4 * 5 * 19, dtype=np.float32).reshape(4, 5, 19)
    found = computed(Rectifier("relu", activation), image)
    np.testing.assert_allclose(found, ACTIVATIONS[activation](image.astype(float)), rtol=1e-6, atol=1e-6)
    from deeplabctl.engine.row_kernels import clip

    result = np.zeros(16, np.float32)
    clip(np.full(16, np.nan, np.float32), (np.float32(0), np.float32(6)), result, 0, 1)
    assert np.isnan(result).all()


def test_mean_product_and_broadcast_are_those_of_each_channel():
    random = np.random.default_rng(0)
    image = random.normal(1, 1, (33, 41, 40)).astype(np.float32)
    gate = computed(ImageMean("mean"), image)
    np.testing.assert_allclose(gate[0, 0], image.mean((0, 1), dtype=float), rtol=1e-6)
    np.testing.assert_array_equal(computed(Product("product"), image, gate), image * gate)
    np.testing.assert_array_equal(computed(Broadcast("map"), gate, image), np.broadcast_to(gate, image.shape))


@pytest.mark.parametrize("channels", [(256, 48), (5,), (16, 3, 20, 1), (7, 9)])
def test_concatenation_puts_channels_one_after_another_and_zeros_after_them(channels):
    random = np.random.default_rng(0)
    images = [random.normal(size=(3, 5, count)).astype(np.float32) for count in channels]
    total = sum(channels)
    below = tuple(image_node(count, is_first=False) for count in channels)
    result = np.full(15 * padded(total), np.nan, np.float32)
    layer = LAYERS[Concatenation](Node(Concatenation("concat"), below, total), Workers(2))
    layer.compute([wide(image, padded(image.shape[2])) for image in images], [(3, 5)] * len(images), result)
    result = result.reshape(3, 5, -1)
    np.testing.assert_array_equal(result[..., :total], np.concatenate(images, -1))
    assert not result[..., total:].any()


def test_resizing_to_the_size_of_another_row_aligns_the_corners():
    image = np.random.default_rng(0).normal(size=(5, 4, 24)).astype(np.float32)
    found = computed(Resize("resize", 4), image, np.zeros((18, 13, 3), np.float32))
    np.testing.assert_allclose(found, linear(image, 18, 13), atol=1e-5)


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
