import numpy as np
import pytest
from caffe_files import DATA, fixture, read_blobs
from family_files import NETS as FAMILY
from family_files import blobs, deviation, family, photo

from deeplabctl.caffe import net_weights, read_caffemodel
from deeplabctl.engine.network import NumbaNetwork
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Convolution

NETS = {"slim": "lfov_slim_v1.caffemodel", "tiny": "lfov_tiny_v2.caffemodel"}
MEAN = np.array([104.008, 116.669, 122.675], np.float32)
LARGEFOV, VGG, RESNET = 2e-5, 1e-5, 5e-5  # of the largest logit
SIZES = ["33x33", "97x130", "321x321"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("net", NETS)
def test_logits_are_caffes(net, size):
    image = np.load(DATA / "inputs_u8.npz")[size].astype(np.float32) - MEAN
    expected = np.load(DATA / f"fwd_{net}_{size}.npz")["fc8_voc12"][0].transpose(1, 2, 0)
    logits = NumbaNetwork("largefov", read_blobs(fixture(NETS[net]))).logits(image)
    assert np.abs(logits - expected).max() <= LARGEFOV * np.abs(expected).max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("net", FAMILY)
def test_logits_of_the_family_are_caffes(net, size):
    architecture, _, file = FAMILY[net]
    network = NumbaNetwork(architecture, net_weights(read_caffemodel(family(file))))
    expected = blobs(f"fwd_{net}_{size}.npz")[ARCHITECTURES[architecture].rows[-1].name][0]
    limit = RESNET if architecture == "resnet101" else VGG
    assert deviation(network.logits(photo(size)[0]), expected) < limit


@pytest.mark.parametrize("size", ["33x33", "321x321"])
def test_logits_with_direct_paths_are_caffes(size):
    expected = blobs(f"fwd_msc_d16_{size}.npz")
    weights = net_weights(read_caffemodel(family("msc_d16.caffemodel")))
    logits = NumbaNetwork("msc-largefov", weights).logits(photo(size)[0])
    assert deviation(logits[::8, ::8], expected["fc_fusion_s8"][0]) < VGG
    np.testing.assert_array_equal(logits.argmax(-1), np.squeeze(expected["argmax"]))


def test_images_that_direct_paths_do_not_take_are_refused():
    network = NumbaNetwork("msc-largefov", ARCHITECTURES["msc-largefov"].random_weights(2, 0.02, 0))
    with pytest.raises(ValueError, match="fc_fusion: expected inputs of one size"):
        network.logits(np.zeros((32, 33, 3), np.float32))


@pytest.mark.parametrize("m", [4, 6])
def test_logits_are_caffes_with_either_tile_in_all_layers(m, monkeypatch):
    monkeypatch.setattr("deeplabctl.engine.layers.TILES", (m,))
    monkeypatch.setattr("deeplabctl.engine.layers.TRANSFORMS", {m: 0})
    image = np.load(DATA / "inputs_u8.npz")["97x130"].astype(np.float32) - MEAN
    expected = np.load(DATA / "fwd_slim_97x130.npz")["fc8_voc12"][0].transpose(1, 2, 0)
    logits = NumbaNetwork("largefov", read_blobs(fixture(NETS["slim"]))).logits(image)
    assert np.abs(logits - expected).max() <= LARGEFOV * np.abs(expected).max()


def test_logits_do_not_depend_on_the_images_before_nor_on_the_threads():
    weights = ARCHITECTURES["aspp-s"].random_weights(5, 0.05, seed=1)
    random = np.random.default_rng(0)
    images = [random.normal(0, 60, (*size, 3)).astype(np.float32) for size in ((33, 80), (65, 17), (1, 1), (33, 80))]
    network = NumbaNetwork("aspp-s", weights, threads=3)
    for image in images:
        np.testing.assert_array_equal(network.logits(image), NumbaNetwork("aspp-s", weights, threads=1).logits(image))


def test_norms_become_part_of_their_convolutions():
    weights = ARCHITECTURES["resnet101"].random_weights(2, 1 / 64, seed=0)
    random = np.random.default_rng(0)
    for name, values in weights.items():
        if "/kernel" not in name:
            weights[name] = random.uniform(0.5, 2, values.shape).astype(np.float32)
    found = {node.name: node for node in ARCHITECTURES["resnet101"].graph(weights)}
    assert "conv1" not in found
    arrays = found["bn_conv1"].arrays
    gamma, beta, mean, variance = (
        weights[f"bn_conv1/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    x = random.normal(size=(7, 7, 3))
    plain = (x[..., None] * weights["conv1/kernel"]).sum((0, 1, 2))
    normed = gamma * (plain - mean) / np.sqrt(variance + 1e-5) + beta
    whole = (x[..., None] * arrays["kernel"]).sum((0, 1, 2)) * arrays["scale"] + arrays["bias"]
    np.testing.assert_allclose(whole, normed, rtol=1e-5)
    assert sum(isinstance(node.op, Convolution) for node in found.values()) == 108


def fuzzed(count, seed, largest):
    """Yield (architecture, classes, width, height, width of the image)."""
    random = np.random.default_rng(seed)
    for number in range(count):
        architecture = list(ARCHITECTURES)[number % len(ARCHITECTURES)]
        height, wide = (1 if random.random() < 0.1 else int(random.integers(1, largest)) for _ in range(2))
        if ARCHITECTURES[architecture].test_rows:
            height, wide = (ARCHITECTURES[architecture].padded_size(side) for side in (height, wide))
        yield architecture, int(random.integers(2, 256)), float(random.uniform(0.05, 0.3)), height, wide


def check(architecture, classes, width, height, wide, seed):
    from deeplabctl.network.keras_model import assign_weights, predict_logits, zero_model

    weights = ARCHITECTURES[architecture].random_weights(classes, width, seed)
    model = zero_model(architecture, classes, width=width)
    assign_weights(model, weights)
    image = np.random.default_rng(seed).normal(0, 60, (height, wide, 3)).astype(np.float32)
    expected = predict_logits(model, image[None])[0].numpy()
    logits = NumbaNetwork(architecture, weights).logits(image)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= 3e-5 * np.abs(expected).max()


@pytest.mark.tf
@pytest.mark.parametrize("case", list(fuzzed(len(ARCHITECTURES), 1, 120)), ids=str)
def test_logits_are_tensorflows_for_any_size_width_and_number_of_classes(case):
    check(*case, seed=len(str(case)))


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.parametrize("case", list(fuzzed(150, 2, 260)), ids=str)
def test_logits_are_tensorflows_for_many_sizes(case):
    check(*case, seed=len(str(case)))


@pytest.mark.parametrize(
    ("architecture", "floats"),
    [
        ("largefov", 2 * 64 * 65**2),  # conv1_1 and conv1_2
        ("aspp-l", 2 * 64 * 65**2),
        # data_conv and data_fc, beside what the direct paths wait for: pool1 to pool4, and fc8
        ("msc-largefov", 2 * 128 * 65**2 + 64 * 33**2 + 128 * 17**2 + (256 + 512 + 16) * 9**2),
        ("resnet101", 3 * 2048 * 9**2),  # the two branches of a block of res5, and their sum
        ("deeplabv3-mnv2", 96 * (33**2 + 17**2)),  # expanded_conv_1's expansion, and its depthwise convolution
    ],
)
def test_results_between_the_layers_take_the_memory_of_those_that_are_needed_at_one_moment(architecture, floats):
    network = NumbaNetwork(architecture, ARCHITECTURES[architecture].random_weights(11, 1.0, 0), threads=1)
    assert network.least_memory(65, 65) == 4 * floats
