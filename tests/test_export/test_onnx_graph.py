import numpy as np
import onnxruntime
import pytest
from caffe_files import DATA, fixture, read_blobs
from exports import noise, small_network

from deeplabctl.export.onnx_graph import build_onnx, nodes_of
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction import PredictionSettings, Segmenter


def session(network, scales=(1.0,), flip=False, half=False):
    net = ARCHITECTURES[network.info.architecture].graph(network.weights)
    model = build_onnx(net, ARCHITECTURES[network.info.architecture], scales, flip=flip, half=half)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", ["33x33", "321x321"])
@pytest.mark.parametrize("net", ["lfov_slim_v1", "lfov_tiny_v2"])
def test_labels_are_caffes(net, size):
    largefov = ARCHITECTURES["largefov"]
    model = build_onnx(largefov.graph(read_blobs(fixture(f"{net}.caffemodel"))), largefov, (1.0,), flip=False)
    run = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rgb = np.ascontiguousarray(np.load(DATA / "inputs_u8.npz")[size][..., ::-1])
    (label,) = run.run(["label"], {"image": rgb[None]})
    name = net.split("_")[1]
    expected = np.load(DATA / f"fwd_{name}_{size}.npz")["interp_argmax"]
    assert np.count_nonzero(label != expected) <= 1  # a tie


CASES = [
    pytest.param("largefov", (1.0,), False),
    pytest.param("largefov", (1.0, 0.5, 1.25), True),
    pytest.param("largefov", (1.4999999, 1.5), False),  # a step of the grid becomes one, and two
    pytest.param("aspp-s", (1.0,), True, marks=pytest.mark.slow),
    pytest.param("aspp-l", (0.75,), False, marks=pytest.mark.slow),
    pytest.param("resnet101", ARCHITECTURES["resnet101"].scales, True, marks=pytest.mark.slow),
    pytest.param("resnet101", (1.0,), False, marks=pytest.mark.slow),
    pytest.param("msc-largefov", (1.0, 0.5), True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("architecture", "scales", "flip"), CASES)
def test_images_of_any_size_and_several_at_once_have_the_networks_labels_and_scores(architecture, scales, flip):
    network = small_network(architecture)
    run = session(network, scales, flip)
    segmenter = Segmenter.from_network(network, PredictionSettings(scales=scales, flip=flip, engine="numba"))
    for shape in ((1, 1), (9, 5), (16, 33), (70, 101)):
        images = np.stack([noise(*shape, seed) for seed in range(2)])
        labels, scores = run.run(["label", "scores"], {"image": images})
        assert (labels.dtype, scores.dtype) == (np.uint8, np.float32)
        for image, label, score in zip(images, labels, scores, strict=True):
            expected = segmenter.predict(image)
            np.testing.assert_allclose(score, expected.scores, atol=2e-5)
            assert np.mean(label == expected.label) > 0.999


def test_half_stores_kernels_in_two_bytes_and_rounds_them():
    network = small_network()
    net = ARCHITECTURES["largefov"].graph(network.weights)
    whole, half = (build_onnx(net, ARCHITECTURES["largefov"], (1.0,), flip=False, half=half) for half in (False, True))
    assert half.ByteSize() < 0.6 * whole.ByteSize()
    rounded = {name: array.astype(np.float16).astype(np.float32) if array.ndim == 4 else array
               for name, array in network.weights.items()}  # fmt: skip
    model = build_onnx(ARCHITECTURES["largefov"].graph(rounded), ARCHITECTURES["largefov"], (1.0,), flip=False)
    images = {"image": noise(40, 50)[None]}
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["scores"], images)
    np.testing.assert_array_equal(session(network, half=True).run(["scores"], images)[0], expected)


def test_scales_share_their_weights_and_nodes_of_a_layer_are_found_at_all_scales():
    net = ARCHITECTURES["largefov"].graph(small_network().weights)
    one, two = (build_onnx(net, ARCHITECTURES["largefov"], scales, flip=False) for scales in ((1.0,), (1.0, 0.5)))
    assert two.ByteSize() < 1.1 * one.ByteSize()
    assert nodes_of(two, {"conv1_1", "pool5a"}) == [
        "conv1_1/sum", "conv1_1", "pool5a", "conv1_1/2/sum", "conv1_1/2", "pool5a/2",
    ]  # fmt: skip
