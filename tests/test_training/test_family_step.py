"""Trainings of the other networks of the family, against Caffe's trajectories."""

import numpy as np
import pytest
from family_files import DATA, MEAN, NETS, family

from deeplabctl.caffe import net_weights, read_caffemodel
from deeplabctl.errors import RecipeError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import read_recipe, recipe_from_dict

WIDTH = 1 / 32


def started(architecture, file, dtype, rate, **solver):
    """Return a model with Caffe's start and its training; float64 runs use Caffe's float32 hyperparameters exactly."""
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.training.step import TrainingStep

    hyper = {"learning_rate": rate, "momentum": 0.9, "weight_decay": 5e-4, "power": 0.9}
    if dtype == "float64":
        hyper = {key: float(np.float32(value)) for key, value in hyper.items()}
    recipe = recipe_from_dict(
        {
            "model": {"architecture": architecture, "width": WIDTH, "dropout": 0},
            "augment": {"crop_size": 97},
            "solver": hyper | {"policy": "poly", "steps": 8, "batch_size": 2} | solver,
        },
        "test",
    )
    model = zero_model(architecture, 21, width=WIDTH, dropout=0, dtype=dtype)
    assign_weights(model, net_weights(read_caffemodel(family(file)), np.dtype(dtype)))
    return model, TrainingStep(model, recipe, [1.0] * 21)


def weights_of(model):
    """Return the trained weights by the fixtures' names, OIHW."""
    from deeplabctl.network.keras_model import model_variables

    facts = ARCHITECTURES[model.name].parameters(21, WIDTH)
    for name, variable in model_variables(model).items():
        layer, part = name.split("/")
        if facts[name].lr_multiplier:
            array = variable.numpy()
            yield f"{layer}_{part[0].replace('k', 'w')}", array.transpose(3, 2, 0, 1) if part == "kernel" else array


def full(shrunk):
    """Return labels (N, 8h - 7, 8w - 7) whose every eighth pixel is that of a label (N, h, w), the others void."""
    size = [8 * side - 7 for side in shrunk.shape[1:]]
    label = np.full((len(shrunk), *size), 255, np.uint8)
    label[:, ::8, ::8] = shrunk
    return label


@pytest.mark.tf
def test_first_step_of_aspp_has_caffes_loss_and_gradients():
    caffe = np.load(DATA / "aspp_l_d32_step.npz")
    model, step = started("aspp-l", "aspp_l_d32_train_init.caffemodel", "float64", 2e-5)
    before = {name: array.copy() for name, array in weights_of(model)}
    images = (caffe["image_bgr_u8"].astype(np.float32) - MEAN).astype(np.float64)
    loss = step(images, full(caffe["label_shrink"]), np.arange(2), 0)
    assert loss == pytest.approx(caffe["loss"][0], rel=1e-12)
    compared = 0
    for name, after in weights_of(model):
        if f"grad_iter0/{name}" not in caffe:
            continue
        compared += 1
        factor = (10 if name.startswith("fc8") else 1) * (2 if name.endswith("_b") else 1)
        decay = 0 if name.endswith("_b") else float(np.float32(5e-4))
        gradient = (before[name] - after) / (float(np.float32(2e-5)) * factor) - decay * before[name]
        expected = caffe[f"grad_iter0/{name}"].reshape(gradient.shape)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8 * np.abs(expected).max(), err_msg=name)
    assert compared > 30


@pytest.mark.tf
@pytest.mark.parametrize(
    ("net", "rate", "updates", "parts", "dtype", "limit"),
    [
        ("aspp_l_d32", 2e-5, 8, 1, "float64", 1e-12),
        ("aspp_l_d32", 2e-5, 8, 1, "float32", 2e-6),
        pytest.param("r101_d32", 2.5e-5, 6, 2, "float64", 1e-12, marks=pytest.mark.slow),
        pytest.param("r101_d32", 2.5e-5, 2, 2, "float64", 1e-12, marks=pytest.mark.slow),
        # Beyond two updates even two builds of Caffe part.
        pytest.param("r101_d32", 2.5e-5, 2, 2, "float32", 1e-5, marks=pytest.mark.slow),
    ],
)
def test_training_follows_caffes_trajectory(net, rate, updates, parts, dtype, limit):
    caffe, batch = np.load(family(f"train_{net}_poly_f{dtype[-2:]}.npz")), np.load(family("train_batch.npz"))
    architecture = NETS[net][0] if net in NETS else "aspp-l"
    start = f"{net}_train_init.caffemodel"
    model, step = started(architecture, start, dtype, rate, accumulate=parts, normalization="batch")
    images = batch["data"].transpose(0, 2, 3, 1).astype(dtype)
    for update in range(updates):
        chosen = [(2 * (update * parts + part) + image) % 4 for part in range(parts) for image in range(2)]
        loss = step(images[chosen], batch["label"][chosen], np.arange(2 * parts), update)
        assert loss == pytest.approx(caffe["loss"][update], rel=limit), update
    if updates == len(caffe["loss"]):
        for name, array in weights_of(model):
            expected = caffe[f"final/{name}"].reshape(array.shape)
            assert np.abs(array - expected).max() <= limit * np.abs(expected).max(), name


@pytest.mark.tf
def test_norms_are_not_among_what_is_trained():
    _, step = started("resnet101", "r101_d32_train_init.caffemodel", "float32", 1e-3)
    state = step.state()
    assert len([name for name in state if name.startswith("weights/bn")]) == 4 * 104
    assert not [name for name in state if name.startswith("slot0/bn")]
    assert len([name for name in state if name.startswith("slot0/")]) == 104 + 8


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_loss_is_divided_by_the_valid_pixels_of_the_step_or_of_each_batch():
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.training.step import TrainingStep

    rng = np.random.default_rng(0)
    images = rng.normal(0, 60, (2, 33, 33, 3))
    labels = rng.integers(0, 21, (2, 33, 33)).astype(np.uint8)
    labels[0, 1:] = 255  # 5 compared pixels and 25
    model = zero_model("largefov", 21, width=WIDTH, dropout=0, dtype="float64")
    start = ARCHITECTURES["largefov"].random_weights(21, WIDTH, 0)

    def losses_of(*batches, **solver):
        tree = {"model": {"width": WIDTH, "dropout": 0}, "solver": {"batch_size": 1, "learning_rate": 1e-9, **solver}}
        step, losses = TrainingStep(model, recipe_from_dict(tree, "test"), [1.0] * 21), []
        for batch in batches:
            assign_weights(model, start)
            losses.append(step(images[batch], labels[batch], np.arange(len(batch)), 0))
        return losses

    first, second = losses_of([0], [1])
    assert first != pytest.approx(second, rel=0.01)
    for normalization, expected in (("step", (5 * first + 25 * second) / 30), ("batch", (first + second) / 2)):
        (found,) = losses_of([0, 1], accumulate=2, normalization=normalization)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.tf
def test_gradient_of_the_maximum_goes_where_caffes_goes_on_ties():
    """Three maps of which pairs are equal, as the losses' maximum takes them."""
    import functools

    import tensorflow as tf

    blobs = np.load(family("interp_ops.npz"))
    maps = [tf.constant(blobs[f"max_{name}"]) for name in "abc"]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        first, second, *others = maps
        largest = functools.reduce(tf.maximum, others, tf.maximum(second, first))
    np.testing.assert_array_equal(largest, blobs["max_y"])
    for name, gradient in zip("abc", tape.gradient(largest, maps, blobs["max_dy"]), strict=True):
        np.testing.assert_array_equal(gradient, blobs[f"max_d{name}"])


@pytest.mark.parametrize(("crop", "fits"), [(321, True), (33, True), (161, True), (241, False), (329, False)])
def test_crops_of_a_network_of_three_scales_are_32k_plus_1(crop, fits):
    settings = ["model.architecture=resnet101", f"augment.crop_size={crop}"]
    if fits:
        assert read_recipe("paper-v2", settings).augment.crop_size == crop
    else:
        with pytest.raises(RecipeError, match=r"32k \+ 1 pixels .* all scales of resnet101 \(1, 0\.75, 0\.5\), got"):
            read_recipe("paper-v2", settings)


@pytest.mark.parametrize("name", ["aspp-s", "aspp-l", "resnet101", "msc-largefov"])
def test_recipe_of_an_architecture_has_its_scales_and_its_crf(name):
    from deeplabctl.crf.params import PRESETS

    recipe = read_recipe(name)
    assert recipe.model.architecture == name
    assert (recipe.eval.scales or (1.0,)) == ARCHITECTURES[name].scales
    assert recipe.crf == PRESETS[ARCHITECTURES[name].crf]
    assert recipe.expect.images == 1449
