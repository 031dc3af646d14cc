import json

import numpy as np
import pytest
from caffe_files import DATA, read_blobs
from PIL import Image

from deeplabctl.choices import LOSSES
from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import recipe_from_dict

pytestmark = pytest.mark.tf

WIDTH = 1 / 32


def caffe_recipe(policy, exact, **solver):
    """Return the recipe of the fixtures' training; float64 runs use Caffe's float32 hyperparameters exactly."""
    hyper = {"learning_rate": 1e-5, "momentum": 0.9, "weight_decay": 5e-4, "gamma": 0.1, "power": 0.9}
    if exact:
        hyper = {key: float(np.float32(value)) for key, value in hyper.items()}
    solver = hyper | {"policy": policy, "step_size": 4, "steps": 8, "batch_size": 2} | solver
    return recipe_from_dict(
        {"model": {"width": WIDTH, "dropout": 0}, "augment": {"crop_size": 97}, "solver": solver}, "test"
    )


def start(recipe, dtype="float32"):
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.training.step import TrainingStep

    model = zero_model("largefov", 21, width=WIDTH, dropout=recipe.model.dropout, dtype=dtype)
    assign_weights(model, read_blobs(DATA / "lfov_tiny_train_init_v1.caffemodel"))
    return model, TrainingStep(model, recipe, [1.0] * 21)


def caffe_batch(dtype):
    batch = np.load(DATA / "train_batch.npz")
    return batch["data"].transpose(0, 2, 3, 1).astype(dtype), batch["label"], np.arange(2)


@pytest.mark.parametrize(
    ("policy", "dtype", "loss_tolerance", "weight_tolerance"),
    [
        ("step", "float64", 1e-12, 1e-12),
        ("poly", "float32", 1e-6, 5e-7),
        pytest.param("poly", "float64", 1e-12, 1e-12, marks=pytest.mark.slow),
        pytest.param("step", "float32", 1e-6, 5e-7, marks=pytest.mark.slow),
    ],
)
def test_eight_steps_follow_caffes_trajectory(policy, dtype, loss_tolerance, weight_tolerance):
    caffe = np.load(DATA / f"train_tiny_{policy}_f{dtype[-2:]}.npz")
    model, step = start(caffe_recipe(policy, exact=dtype == "float64"), dtype)
    losses = [step(*caffe_batch(dtype), number) for number in range(8)]
    np.testing.assert_allclose(losses, caffe["loss"], rtol=loss_tolerance)
    for conv in ARCHITECTURES["largefov"].convolutions:
        kernel, bias = model.get_layer(conv.name).get_weights()
        for ours, theirs in ((kernel.transpose(3, 2, 0, 1), "w"), (bias, "b")):
            reference = caffe[f"final/{conv.name}_{theirs}"]
            assert np.abs(ours - reference).max() <= weight_tolerance * np.abs(reference).max(), conv.name


@pytest.mark.parametrize("policy", ["poly", pytest.param("step", marks=pytest.mark.slow)])
def test_command_line_gives_caffes_weights_after_eight_steps(tmp_path, deeplabctl, policy):
    batch = np.load(DATA / "train_batch.npz")
    root = tmp_path / "set"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, image, label in zip("ab", batch["image_bgr_u8"], batch["label"], strict=True):
        Image.fromarray(image[..., ::-1]).save(root / "JPEGImages" / f"{name}.png")
        Image.fromarray(label).save(root / "SegmentationClass" / f"{name}.png")
    for split in ("train", "val"):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("a\nb\n")
    hyper = {"solver.policy": policy, "solver.gamma": 0.1, "solver.step_size": 4, "solver.power": 0.9}
    off = {"model.dropout": 0, "augment.mirror": "false", "augment.shuffle": "false", "run.precision": "float32"}
    settings = [part for key, value in (hyper | off).items() for part in ("--set", f"{key}={value}")]
    code, _, err = deeplabctl(
        "train", "--data", root, "--recipe", "paper-v1", "--init", DATA / "lfov_tiny_train_init_v1.caffemodel",
        "--crop-size", 97, "--batch-size", 2, "--steps", 8, "--learning-rate", "1e-5", "--run-dir", "run", *settings,
    )  # fmt: skip
    assert code == 0, err
    import keras

    model = keras.saving.load_model("run/last.keras", compile=False)
    caffe = np.load(DATA / f"train_tiny_{policy}_f32.npz")
    for conv in ARCHITECTURES["largefov"].convolutions:
        kernel, bias = model.get_layer(conv.name).get_weights()
        for ours, part in ((kernel.transpose(3, 2, 0, 1), "w"), (bias, "b")):
            reference = caffe[f"final/{conv.name}_{part}"]
            assert np.abs(ours - reference).max() <= 1e-6 * np.abs(reference).max(), conv.name


def test_hyperparameters_of_the_fixtures_are_those_of_the_test():
    hyper = json.loads(str(np.load(DATA / "train_tiny_step_f64.npz")["hyper"]))
    assert hyper["base_lr"] == pytest.approx(1e-5)
    assert hyper["weight_decay"] == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), pytest.param("float32", 1e-6, marks=pytest.mark.slow)]
)
def test_accumulating_four_parts_is_the_batch_of_four_with_unequal_void_and_dropout(dtype, tolerance):
    rng = np.random.default_rng(0)
    images = rng.normal(0, 60, (4, 97, 97, 3)).astype(dtype)  # noise: flat parts of photos make ties in max pooling
    labels = rng.integers(0, 21, (4, 97, 97)).astype(np.uint8)
    for index, share in enumerate((0.0, 0.3, 0.9, 1.0)):  # the last image is all void
        labels[index][rng.random((97, 97)) < share] = 255
    ends = []
    for batch_size, accumulate in ((4, 1), (1, 4)):
        recipe = caffe_recipe("fixed", False, batch_size=batch_size, accumulate=accumulate, learning_rate=1e-6)
        tree = {"model": {"width": WIDTH, "dropout": 0.5}, "solver": vars(recipe.solver)}
        model, step = start(recipe_from_dict(tree, "test"), dtype)
        losses = [step(images, labels, np.arange(4) + 4 * number, number) for number in range(3)]
        ends.append((losses, model.get_weights()))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=tolerance)
    for whole, parts in zip(ends[0][1], ends[1][1], strict=True):
        assert np.abs(whole - parts).max() <= tolerance * np.abs(whole).max() + 1e-12


def test_batch_without_a_valid_pixel_gives_loss_zero_and_decays_the_kernels_alone():
    recipe = caffe_recipe("fixed", False, momentum=0.0, learning_rate=0.5)
    model, step = start(recipe)
    before = model.get_layer("fc7").get_weights()
    images, labels, positions = caffe_batch("float32")
    assert step(images, np.full_like(labels, 255), positions, 0) == 0
    kernel, bias = model.get_layer("fc7").get_weights()
    np.testing.assert_allclose(kernel, before[0] * (1 - 0.5 * 5e-4), rtol=1e-6)
    np.testing.assert_array_equal(bias, before[1])


def test_adam_is_kerass():
    import keras
    import tensorflow as tf

    from deeplabctl.training.optimizers import Optimizer, TrainedVariable

    rng = np.random.default_rng(0)
    value = rng.normal(size=(3, 4)).astype(np.float32)
    ours, theirs = tf.Variable(value), keras.Variable(value)
    recipe = caffe_recipe("fixed", False, optimizer="adam", weight_decay=0)
    optimizer = Optimizer([TrainedVariable(ours, 2.0, 0.0)], recipe.solver)
    reference = keras.optimizers.Adam(2e-3, epsilon=1e-8)
    for number in range(20):
        gradient = tf.constant(rng.normal(size=(3, 4)).astype(np.float32))
        optimizer.apply([gradient], tf.constant(1e-3), tf.constant(number, tf.int64))
        reference.apply([gradient], [theirs])
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_frozen_layers_keep_their_weights_and_new_layers_get_their_own_rate():
    from deeplabctl.network.keras_model import zero_model
    from deeplabctl.training.optimizers import trained_variables

    recipe = caffe_recipe("fixed", False, freeze=["conv1_1"], new_layer_multiplier=7.0)
    model = zero_model("largefov", 21, width=WIDTH)
    parameters = trained_variables(model, recipe, ["fc6", "fc8_voc12"])
    rates = [(parameter.lr_multiplier, parameter.weight_decay > 0) for parameter in parameters]
    assert len(parameters) == 2 * 15
    assert rates[:2] == [(1.0, True), (2.0, False)]  # conv1_2
    assert rates[-6:] == [(7.0, True), (14.0, False), (1.0, True), (2.0, False), (7.0, True), (14.0, False)]
    classifier = trained_variables(model, caffe_recipe("fixed", False), [])[-2:]
    assert [parameter.lr_multiplier for parameter in classifier] == [10.0, 20.0]


def small_model():
    from deeplabctl.network import ARCHITECTURES
    from deeplabctl.network.keras_model import assign_weights, zero_model

    model = zero_model("largefov", 21, width=WIDTH, dropout=0.0)
    assign_weights(model, ARCHITECTURES["largefov"].random_weights(21, WIDTH, 0))
    return model


def small_batch():
    rng = np.random.default_rng(0)
    images = rng.normal(0, 60, (2, 33, 33, 3)).astype(np.float32)
    return images, rng.integers(0, 21, (2, 33, 33)).astype(np.uint8), np.arange(2)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 1.0), ("adam", 1e-3)])
@pytest.mark.usefixtures("shallow")
def test_average_of_the_weights_follows_its_formula(optimizer, rate):
    from deeplabctl.training.step import TrainingStep

    model = small_model()
    recipe = caffe_recipe("fixed", False, optimizer=optimizer, average=0.4, learning_rate=rate)
    step = TrainingStep(model, recipe, [1.0] * 21)
    expected = model.get_layer("fc7").get_weights()[0].astype(np.float64)
    for number, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4)):  # (1 + t) / (10 + t)
        step(*small_batch(), number if number < 5 else 5 + number)  # 10 and 11: 11/20 and 12/21 are above 0.4
        expected += (1 - decay) * (model.get_layer("fc7").get_weights()[0] - expected)
    np.testing.assert_allclose(step.weights()["fc7/kernel"], expected, rtol=1e-5, atol=1e-7)
    assert np.abs(model.get_layer("fc7").get_weights()[0] - expected).max() > 1e-4


@pytest.mark.usefixtures("shallow")
def test_weights_without_an_average_are_the_models():
    from deeplabctl.training.step import TrainingStep

    model = small_model()
    step = TrainingStep(model, caffe_recipe("fixed", False, learning_rate=1e-3), [1.0] * 21)
    step(*small_batch(), 0)
    for name, array in step.weights().items():
        layer, part = name.split("/")
        np.testing.assert_array_equal(array, getattr(model.get_layer(layer), part))


@pytest.mark.usefixtures("shallow")
def test_layers_are_frozen_until_their_step_and_then_trained_as_from_their_first_one():
    from deeplabctl.training.step import TrainingStep

    def run(**solver):
        model = small_model()
        recipe = caffe_recipe("fixed", False, optimizer="adam", learning_rate=1e-3, weight_decay=0, **solver)
        step = TrainingStep(model, recipe, [1.0] * 21)
        start = model.get_layer("conv1_1").get_weights()[0]
        changes = []
        for number in range(4):
            step(*small_batch(), number)
            changes.append(np.abs(model.get_layer("conv1_1").get_weights()[0] - start).max())
        return changes

    changes = run(freeze=["conv1_1", "conv2_1"], freeze_steps=2)
    assert changes[:2] == [0, 0]
    # Adam's first update of a weight is the learning rate itself, whenever it comes (arXiv 1412.6980, section 2.1).
    assert changes[2] == pytest.approx(1e-3, rel=1e-2)
    assert run(freeze=["conv1_1"]) == [0, 0, 0, 0]


def test_gradients_of_frozen_front_layers_are_not_computed():
    import tensorflow as tf

    from deeplabctl.training.step import TrainingStep

    def gradients(freeze):
        model = small_model()
        step = TrainingStep(model, caffe_recipe("fixed", False, freeze=freeze), [1.0] * 21)
        batch = map(tf.constant, small_batch())
        graph = step._graph.get_concrete_function(*batch, tf.constant(0.0), tf.constant(0, tf.int64), True).graph
        return sum(operation.type == "Conv2DBackpropFilter" for operation in graph.get_operations())

    assert gradients([]) - gradients(["conv1_1", "conv1_2", "conv2_1"]) == 3


def test_layers_that_start_random_are_never_frozen():
    from deeplabctl.training.optimizers import trained_variables

    model, recipe = small_model(), caffe_recipe("fixed", False, freeze=["conv1_1", "fc6"])
    assert len(trained_variables(model, recipe, ["fc6"])) == 2 * 15
    assert len(trained_variables(model, recipe, [])) == 2 * 14


@pytest.mark.usefixtures("shallow")
def test_hard_pixels_are_chosen_in_each_part_of_a_batch():
    from deeplabctl.training.step import TrainingStep

    images, labels, positions = small_batch()
    model = small_model()
    losses = []
    for batch_size, accumulate in ((1, 2), (2, 1)):
        recipe = caffe_recipe("fixed", False, batch_size=batch_size, accumulate=accumulate, hard_pixels=0.5)
        step = TrainingStep(model, recipe, [1.0] * 21)
        before = model.get_weights()
        losses.append(step(images, labels, positions, 0))
        model.set_weights(before)
    one_by_one = []
    step = TrainingStep(model, caffe_recipe("fixed", False, batch_size=1, hard_pixels=0.5), [1.0] * 21)
    for index in range(2):
        before = model.get_weights()
        one_by_one.append(step(images[index : index + 1], labels[index : index + 1], positions[index : index + 1], 0))
        model.set_weights(before)
    # 13 of 25 pixels of each image, over half of the 50 of both; together 25 of 50.
    assert losses[0] == pytest.approx(np.mean(one_by_one), rel=1e-5)
    assert losses[1] < losses[0]


@pytest.mark.parametrize("stride", [1, 4])
def test_logits_are_upsampled_to_larger_labels_as_in_prediction(stride):
    """The loss is that of logits which are interpolated by hand between their cells, with aligned corners."""
    from scipy.interpolate import RegularGridInterpolator

    from deeplabctl.training.step import TrainingStep

    model = small_model()
    images, _, positions = small_batch()
    labels = np.random.default_rng(1).integers(0, 21, (2, 33, 33)).astype(np.uint8)
    cells = np.arange(0, 33, 8)
    wanted = np.stack(np.meshgrid(*[np.arange(0, 33, stride)] * 2, indexing="ij"), -1)
    logits = [RegularGridInterpolator((cells, cells), one)(wanted) for one in model.predict(images, verbose=0)]
    logits = np.array(logits, np.float64)
    compared = labels[:, ::stride, ::stride, None].astype(int)
    right = np.take_along_axis(logits, compared, -1)[..., 0]
    expected = (np.log(np.exp(logits).sum(-1)) - right).mean()
    step = TrainingStep(model, caffe_recipe("fixed", False, label_stride=stride), [1.0] * 21)
    assert step(images, labels, positions, 0) == pytest.approx(expected, rel=1e-5)


SETTINGS = [*({"loss": name} for name in LOSSES), {"hard_pixels": 0.25}, {"freeze": ["conv1_1"], "freeze_steps": 1}]
BY_BATCH = [{"loss": "cross-entropy"}, {"loss": "dice"}]  # the others differ in nothing here


@pytest.mark.parametrize(
    ("solver", "normalization"),
    [*((solver, "step") for solver in SETTINGS), *((solver, "batch") for solver in BY_BATCH)],
    ids=str,
)
@pytest.mark.usefixtures("shallow")
def test_graph_of_every_loss_computes_what_eager_steps_do(solver, normalization):
    import tensorflow as tf

    from deeplabctl.training.step import TrainingStep

    settings = solver | {"accumulate": 2, "batch_size": 1, "normalization": normalization, "label_stride": 1}
    recipe = caffe_recipe("poly", exact=False, **settings)
    losses = []
    for eager in (False, True):
        step = TrainingStep(small_model(), recipe, [1.0] * 21)
        tf.config.run_functions_eagerly(eager)
        try:
            losses.append([step(*small_batch(), number) for number in range(2)])
        finally:
            tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(*losses, rtol=1e-5)
