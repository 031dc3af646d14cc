"""Tiles: what a value sees, and that tiles cover an image with as many pixels around as their results need."""

import itertools

import numpy as np
import pytest

from deeplabctl.engine import network as engine
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Field
from deeplabctl.network.tiling import pieces, tiles


def test_fields_are_those_worked_out_by_hand():
    found = ARCHITECTURES["largefov"].fields
    # conv1: 1 + 1; pool1: 1; conv2: 2 * 2; pool2: 2; conv3: 3 * 4; pool3: 4
    assert [found[name] for name in ("conv1_2", "pool1", "pool3")] == [Field(1, 2, 1), Field(2, 3, 2), Field(8, 25, 8)]
    # conv4: 3 * 8; pool4: 8; conv5: 3 * 2 * 8; pool5 and pool5a: 8 each; fc6: 12 * 8
    assert found["fc8_voc12"] == Field(8, 25 + 24 + 8 + 48 + 16 + 96, 8)
    assert ARCHITECTURES["aspp-l"].fields["fc8_voc12"] == Field(8, 25 + 24 + 8 + 48 + 8 + 24 * 8, 8)
    # the main path, enlarged between two of its values
    assert ARCHITECTURES["msc-largefov"].fields["fc_fusion"] == Field(1, 25 + 24 + 8 + 48 + 16 + 96 + 8, 8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_change_within_their_reach_only_where_means_of_the_image_are_known(architecture):
    facts = ARCHITECTURES[architecture]
    field = list(facts.fields.values())[-1]
    weights = facts.random_weights(2, 0.02, 0)
    for name, array in weights.items():
        if name.endswith("kernel"):  # means, so that no value reaches the upper bound of a ReLU6
            weights[name] = np.full_like(array, 1 / np.prod(array.shape[: 2 if "depthwise" in name else 3]))
    network = engine.NumbaNetwork(architecture, weights)
    means = {name: np.ones((1, 1, facts.channels(2, 0.02)[name]), np.float32) for name in facts.image_means}
    size = 2 * 16 * (field.reach // 16 + 2) + 1  # the middle lies on a value of the logits
    image = np.ones((17, size, 3), np.float32)
    before = network.logits(image, means=means)
    image[:, size // 2] += 1
    changed = np.flatnonzero((network.logits(image, means=means) != before).any((0, 2)))
    assert len(changed) > 0
    assert (np.abs(changed * field.stride - size // 2) <= field.reach).all()


@pytest.mark.parametrize("length", [1, 8, 9, 63, 64, 65, 129, 130, 136, 137, 401])
@pytest.mark.parametrize("reach", [0, 7, 25, 40])
@pytest.mark.parametrize("stride", [8, 2, 1])
def test_pieces_have_all_that_their_results_see(length, reach, stride):
    field = Field(stride, reach, 8)
    results = (length - 1) // stride + 1 if stride < 8 else ((length // 2 + 1) // 2 + 1) // 2 + 1
    found = pieces(length, results, field, 64)
    assert [piece.begin for piece in found] == [0, *(piece.end for piece in found[:-1])]
    assert found[-1].end == results
    for piece in found:
        assert piece.first % 8 == 0
        assert piece.first <= max(0, stride * piece.begin - reach)
        assert piece.last == length or (piece.last % 8 == 1 and piece.last > stride * (piece.end - 1) + reach)
        assert piece.own(stride) == slice(piece.begin - piece.first // stride, piece.end - piece.first // stride)
        assert piece.last - piece.first <= 64 + 2 * (reach + 8)


def test_tiles_are_the_pieces_of_both_sides():
    found = list(tiles((300, 60), (39, 9), Field(8, 25, 8), 64))
    assert len(found) == len(pieces(300, 39, Field(8, 25, 8), 64)) == 5
    assert {column for _, column in found} == set(pieces(60, 9, Field(8, 25, 8), 64))


SIZES = [(401, 305), (394, 129), (130, 700)]
EACH_ONCE = zip([name for name in ARCHITECTURES if name != "msc-largefov"], itertools.cycle(SIZES))


@pytest.mark.parametrize(("architecture", "size"), [*EACH_ONCE, *(("deeplabv3plus-mnv2", size) for size in SIZES)])
def test_first_layers_in_tiles_give_the_logits_of_the_whole_image(architecture, size, monkeypatch):
    network = engine.NumbaNetwork(architecture, ARCHITECTURES[architecture].random_weights(3, 0.05, 0))
    image = np.random.default_rng(0).normal(0, 50, (*size, 3)).astype(np.float32)
    whole = network.logits(image)
    monkeypatch.setattr(engine, "FRONT_SIDE", 64)
    calls = []
    compute = network._compute
    monkeypatch.setattr(network, "_compute", lambda *arguments: calls.append(1) or compute(*arguments))
    np.testing.assert_allclose(network.logits(image), whole, rtol=0, atol=1e-5 * np.abs(whole).max())
    zeros_depend_on_size = "mnv2" in architecture and size[0] % 2 == 0
    assert (len(calls) > 4) == (not zeros_depend_on_size)
