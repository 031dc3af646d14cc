"""Training steps whose convolutions numba's kernels compute."""

import numpy as np
import pytest

from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import recipe_from_dict

pytestmark = pytest.mark.tf

WIDTH, CROP = 1 / 8, 65


@pytest.fixture
def computed(monkeypatch):
    """Let the kernels compute every convolution that they can, also of small images; return the calls."""
    from deeplabctl.engine.gradients import BatchConvolutions

    monkeypatch.setattr(
        "deeplabctl.engine.gradients.is_worthwhile",
        lambda batch, size, incoming, outgoing, dilation: incoming % 16 == outgoing % 16 == 0,
    )
    calls = []
    for name in ("convolve", "gradient_of_images", "gradient_of_kernel"):
        original = getattr(BatchConvolutions, name)

        def noted(self, *arguments, name=name, original=original, **options):
            calls.append(name)
            return original(self, *arguments, **options)

        monkeypatch.setattr(BatchConvolutions, name, noted)
    return calls


def start(engine, dtype="float32", architecture="largefov", **solver):
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.training.step import TrainingStep

    tree = {
        "model": {"architecture": architecture, "width": WIDTH, "dropout": 0.5},
        "augment": {"crop_size": CROP},
        "solver": {"batch_size": 2, "learning_rate": 1e-3, "steps": 10, **solver},
        "run": {"engine": engine},
    }
    model = zero_model(architecture, 21, width=WIDTH, dropout=0.5, dtype=dtype)
    assign_weights(model, ARCHITECTURES[architecture].random_weights(21, WIDTH, 0))
    return TrainingStep(model, recipe_from_dict(tree, "test"), [1.0] * 21)


def batch(dtype="float32"):
    random = np.random.default_rng(0)
    images = random.normal(0, 60, (2, CROP, CROP, 3)).astype(dtype)
    return images, random.integers(0, 21, (2, CROP, CROP)).astype(np.uint8), np.arange(2)


@pytest.mark.parametrize("architecture", ["largefov", pytest.param("aspp-l", marks=pytest.mark.slow)])
def test_gradients_are_as_close_to_float64s_as_tensorflows(architecture, computed):
    states, losses = {}, {}
    for engine, dtype in (("tensorflow", "float64"), ("tensorflow", "float32"), ("numba", "float32")):
        step = start(engine, dtype, architecture)
        losses[engine, dtype] = step(*batch(dtype), 0)
        states[engine, dtype] = step.state()
        assert bool(computed) == (engine == "numba")
    exact = states.pop(("tensorflow", "float64"))
    np.testing.assert_allclose(losses["numba", "float32"], losses["tensorflow", "float64"], rtol=1e-6)
    gradients = [name for name in exact if name.startswith("slot0/")]
    worst = {
        engine: max(np.abs(state[name] - exact[name]).max() / np.abs(exact[name]).max() for name in gradients)
        for (engine, _), state in states.items()
    }
    # One unit that a rounding error takes through a ReLU, or to another pixel in a max pooling, is 1e-3 of a gradient.
    assert worst["numba"] < max(3 * worst["tensorflow"], 3e-3)
    typical = [
        np.median(np.abs(states["numba", "float32"][name] - exact[name])) / exact[name].std() for name in gradients
    ]
    assert max(typical) < 1e-4


@pytest.mark.usefixtures("shallow")
def test_bytes_repeat_and_a_step_goes_on_from_its_state(computed):
    first = start("numba", freeze=["conv1_1"], average=0.9)
    for number in range(2):
        first(*batch(), number)
    state = first.state()
    losses = [first(*batch(), number) for number in (2, 3)]
    second = start("numba", freeze=["conv1_1"], average=0.9)
    second.restore(state)
    assert [second(*batch(), number) for number in (2, 3)] == losses
    assert second.checksum() == first.checksum()
    assert computed


def test_gradients_that_nothing_needs_are_not_computed(computed):
    frozen = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"]
    start("numba", freeze=frozen)(*batch(), 0)
    trained = 7  # conv4, conv5 and fc6
    assert computed.count("gradient_of_kernel") == trained
    assert computed.count("gradient_of_images") == trained - 1
    assert computed.count("convolve") == trained + 4  # conv2_2 and conv3; conv2_1 has 8 channels at this width


@pytest.mark.usefixtures("shallow")
def test_only_float32_on_one_device_is_computed_so(computed):
    for engine, dtype in (("tensorflow", "float32"), ("numba", "float64"), ("numba", "mixed_bfloat16")):
        images, labels, positions = batch("float64" if dtype == "float64" else "float32")
        start(engine, dtype)(images, labels, positions, 0)
    assert not computed
