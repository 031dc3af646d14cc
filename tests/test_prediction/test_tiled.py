"""Images in tiles: the labels and scores of the whole image, in less memory."""

import numpy as np
import pytest

from deeplabctl.errors import DataError, RecipeError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.prediction import forward as module
from deeplabctl.prediction.settings import parse_tile, resolve
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ModelInfo


def segmenter(architecture="largefov", **settings):
    info = ModelInfo(("a", "b", "c"), architecture, 0.05)
    network = Network(info, ARCHITECTURES[architecture].random_weights(3, 0.05, 0), [], [], 3)
    return Segmenter.from_network(network, PredictionSettings(**settings))


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


CASES = [
    ("numba", "largefov", {}),
    ("numba", "aspp-l", {"scales": (0.5, 1.0), "flip": True}),
    ("numba", "msc-largefov", {"scales": (1.0, 0.75), "flip": True}),
    ("numba", "deeplabv3-mnv2", {"scales": (0.5, 1.0), "flip": True}),
    pytest.param("tensorflow", "msc-largefov", {}, marks=pytest.mark.tf),
    pytest.param("tensorflow", "largefov", {"scales": (1.0, 0.75), "flip": True}, marks=pytest.mark.tf),
    pytest.param("tensorflow", "aspp-s", {"pad": "paper"}, marks=pytest.mark.tf),
    pytest.param(
        "tensorflow", "deeplabv3-mnv2", {"scales": (0.5, 1.0), "flip": True}, marks=[pytest.mark.tf, pytest.mark.slow]
    ),
    pytest.param("tensorflow", "deeplabv3plus-mnv2", {}, marks=pytest.mark.tf),
]


@pytest.mark.parametrize(("engine", "architecture", "settings"), CASES, ids=str)
def test_tiles_give_what_the_whole_image_does(engine, architecture, settings, monkeypatch):
    whole = segmenter(architecture, engine=engine, tile="off", **settings)
    in_tiles = whole.with_settings(PredictionSettings(engine=engine, tile=128, **settings))
    far = ARCHITECTURES[architecture].image_means != {}
    image, calls = noise(1200 if far else 400, 150), []
    inner = module.in_tiles
    monkeypatch.setattr(
        module, "in_tiles", lambda *arguments, **options: calls.append(1) or inner(*arguments, **options)
    )
    expected, found = whole.predict(image), in_tiles.predict(image)
    assert len(calls) == len(settings.get("scales", (1.0,)))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    second, first = np.sort(expected.scores, -1)[..., -2:].transpose(2, 0, 1)
    clear = first - second > 2e-5
    assert clear.any()
    np.testing.assert_array_equal(found.label[clear], expected.label[clear])
    np.testing.assert_array_equal(in_tiles.label(image), found.label)
    for coarse, other in zip(in_tiles.runner.coarse_logits(image), whole.runner.coarse_logits(image), strict=True):
        np.testing.assert_allclose(coarse, other, atol=1e-5 * np.abs(other).max())


def test_gates_of_tiles_are_made_of_means_of_the_whole_image():
    whole, in_tiles = (segmenter("deeplabv3-mobilenetv3", engine="numba", tile=tile) for tile in ("off", 128))
    image = noise(600, 310)
    expected, found = (net.runner.coarse_logits(image)[0] for net in (whole, in_tiles))
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_tiles_of_a_network_that_sees_further_than_their_margin_are_nearly_the_whole_images(monkeypatch):
    whole, in_tiles = (segmenter("resnet101", engine="numba", tile=tile) for tile in ("off", 256))
    image = noise(300, 900)
    assert np.mean(whole.label(image) == in_tiles.label(image)) > 0.999


def tile_side(net, shape):
    return net.runner._tile(net.runner._inputs([np.zeros((*shape, 3), np.uint8)]))


def test_auto_takes_tiles_that_the_memory_has_room_for(monkeypatch):
    net, shape = segmenter(engine="numba", tile="auto"), (801, 1601)
    engine = net.runner.engine
    needed = engine.least_memory(1, *shape)

    def chosen(memory, net=net):
        monkeypatch.setattr(module, "memory_limit", lambda: memory)
        return tile_side(net, shape)

    assert chosen(4 * needed) is None
    side = chosen(4 * needed - 4)
    assert 256 <= side < 1601
    assert chosen(2 * engine.least_memory(1, 705, 705)) == 256
    assert chosen(needed, net.with_settings(PredictionSettings(engine="numba", tile="off"))) is None
    assert chosen(1 << 50, net.with_settings(PredictionSettings(engine="numba", tile=300))) == 300
    monkeypatch.setattr(module, "TILES_MEMORY", needed - 1)
    assert chosen(1 << 50) is not None
    with pytest.raises(MemoryError):
        chosen(1000)


@pytest.mark.parametrize("side", [100, 256, 301, 1000])
def test_memory_of_tiles_is_known_for_any_side_of_networks_that_take_some_sizes_only(side, monkeypatch):
    net = segmenter("msc-largefov", engine="numba", tile=side)
    for size in (1601, 201):
        whole = net.runner.engine.least_memory(1, size, size)
        monkeypatch.setattr(module, "memory_limit", lambda whole=whole: whole)
        assert tile_side(net, (size, size)) == side


def test_values_of_tile():
    assert [parse_tile(text) for text in ("auto", "off", "512")] == ["auto", "off", 512]
    for text in ("", "0", "-4", "1.5", "all"):
        with pytest.raises(RecipeError, match="expected auto, off or a number of pixels, at least 1, got"):
            parse_tile(text)
    with pytest.raises(RecipeError, match="`tile`: expected auto"):
        resolve({"tile": 0}, ModelInfo(("a",)))


def test_full_gpu_computes_an_image_in_smaller_and_smaller_tiles(monkeypatch):
    net = segmenter(engine="numba")
    image, expected = noise(1100, 620), net.predict(noise(1100, 620))
    engine, sides = net.runner.engine, []
    logits = engine.logits

    def limited(pixels, **known):
        sides.append(pixels.shape[1])
        if max(pixels.shape[1:3]) > 900:
            raise MemoryError
        return logits(pixels, **known)

    monkeypatch.setattr(engine, "logits", limited)
    monkeypatch.setattr(
        engine, "predict", lambda inputs, scores: engine.fuse(engine.coarse_logits(inputs), inputs, scores=scores)
    )
    with pytest.raises(DataError, match="not enough memory"):
        net.predict(image)  # of the machine
    monkeypatch.setattr(type(engine), "on_device", True)
    sides.clear()
    found = net.predict(image)
    assert sides[0] == 1105
    assert max(sides[1:]) <= 900
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    with pytest.raises(DataError, match="not enough memory"):
        net.with_settings(PredictionSettings(engine="numba", tile="off")).predict(image)
