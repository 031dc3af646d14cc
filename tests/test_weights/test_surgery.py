from dataclasses import replace

import numpy as np
import pytest
from tiny_weights import weight_file

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.fitting import decimate, fit_weights


def test_surgery_keeps_every_third_row_and_column_of_chosen_filters():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(7, 7, 512, 8)).astype(np.float32)  # height, width, in, out
    fc7 = rng.normal(size=(8, 8)).astype(np.float32)
    (new6, bias6), (new7, bias7) = decimate(
        [kernel.reshape(-1, 8), np.arange(8.0)], [fc7, np.arange(8.0)], seed=1, filters=3
    )
    first, second = bias6.astype(int), bias7.astype(int)
    assert len(set(first)) == len(set(second)) == 3
    assert new6.shape == (3, 3, 512, 3)
    np.testing.assert_array_equal(new6[1, 2, 5], kernel[3, 6, 5, first])
    np.testing.assert_array_equal(new7[0, 0], fc7[first][:, second])
    other = decimate([kernel.reshape(-1, 8), np.arange(8.0)], [fc7, np.arange(8.0)], seed=2, filters=3)
    assert (other[0][1] != bias6).any()


@pytest.mark.parametrize("filters", [1024, 512])
def test_vgg16_becomes_largefov_with_a_new_classifier_and_a_note(filters, monkeypatch):
    whole = ARCHITECTURES["largefov"]
    rows = tuple(replace(row, channels=filters) if row.name in ("fc6", "fc7") else row for row in whole.rows)
    monkeypatch.setitem(ARCHITECTURES, "largefov", replace(whole, rows=rows))
    layers = {
        name: value
        for name, value in ARCHITECTURES["largefov"].random_weights(2, 1.0, 1).items()
        if name.startswith("conv")
    }
    layers["fc6/kernel"] = np.broadcast_to(np.float32(0.5), (25088, 4096))
    layers["fc6/bias"] = np.arange(4096, dtype=np.float32)
    layers["fc7/kernel"] = np.broadcast_to(np.float32(0.25), (4096, 4096))
    layers |= {"fc7/bias": np.zeros(4096, np.float32), "fc8/bias": np.zeros(1000, np.float32)}
    layers["fc8/kernel"] = np.zeros((4096, 1000), np.float32)
    network = fit_weights(weight_file(layers), seed=3)
    assert network.weights["fc6/kernel"].shape == (3, 3, 512, filters)
    assert len(set(network.weights["fc6/bias"])) == filters
    assert (network.new_layers, network.classes_in_file) == (["fc8_voc12"], None)
    (note,) = network.notes
    assert note.startswith(
        f"fc6 and fc7: {filters} of 4096 filters chosen by seed 3, fc6's 7x7 kernel decimated to 3x3"
    )


@pytest.mark.parametrize(
    ("fc6", "fc7", "message"),
    [
        ((25088, 5), (5, 5), r"layer fc6: expected VGG-16's \(25088, 4096\), got \(25088, 5\)"),
        ((25088, 4096), (4096, 5), r"layer fc7: expected VGG-16's \(4096, 4096\), got \(4096, 5\)"),
        ((25088, 4096), None, "layer fc7: expected .* got no such layer"),
    ],
)
def test_surgery_on_another_network_is_refused(fc6, fc7, message):
    layers = {
        f"{name}/{part}": array
        for name, shape in (("fc6", fc6), ("fc7", fc7))
        if shape
        for part, array in (("kernel", np.broadcast_to(np.float32(0), shape)), ("bias", np.zeros(shape[-1])))
    }
    with pytest.raises(WeightsError, match=message):
        fit_weights(weight_file(layers))
