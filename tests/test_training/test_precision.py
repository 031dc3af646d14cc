import numpy as np
import pytest
from caffe_files import DATA, read_blobs
from dataset_files import make_dataset

from deeplabctl.errors import DeepLabError
from deeplabctl.network.keras_model import POLICIES, can_compute, is_out_of_memory
from deeplabctl.recipe import read_recipe, recipe_from_dict
from deeplabctl.training.cluster import best_precision

INTEL = "vendor_id : GenuineIntel\nflags : fpu avx2 avx512f avx512_bf16"
AMD = "vendor_id : AuthenticAMD\nflags : fpu avx2 avx512f avx512_bf16"


@pytest.mark.parametrize(
    ("gpus", "facts", "expected"),
    [
        (0, INTEL, "float32"),
        (0, INTEL + " amx_bf16 amx_tile", "bfloat16"),
        (0, AMD, "bfloat16"),
        (0, AMD.replace(" avx512_bf16", ""), "float32"),
    ],
)
def test_auto_is_the_format_that_the_machine_is_fastest_in(tmp_path, gpus, facts, expected):
    (tmp_path / "cpuinfo").write_text(facts)
    assert best_precision(gpus, tmp_path / "cpuinfo") == expected


@pytest.mark.tf
@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0), (9, 0)], "bfloat16"), ([(7, 5), (8, 6)], "float16"), ([None], "float16")],
    ids=str,
)
def test_auto_is_bfloat16_on_gpus_that_all_compute_it(monkeypatch, capabilities, expected):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    details = lambda gpu: {"compute_capability": gpu} if gpu else {}  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details)
    assert best_precision(len(capabilities)) == expected


@pytest.mark.tf
def test_missing_cudnn_is_not_a_missing_format(monkeypatch):
    import tensorflow as tf

    def convolve(images, *_):
        if broken in (None, images.dtype):
            raise tf.errors.UnknownError(None, None, "Failed to get convolution algorithm. cuDNN failed to initialize")
        return images

    monkeypatch.setattr(tf.nn, "conv2d", convolve)
    broken = tf.float16
    assert can_compute("float32")
    assert not can_compute("float16")
    broken = None
    with pytest.raises(DeepLabError, match=r"cannot compute a convolution here .*cuDNN failed to initialize"):
        can_compute("float16")


@pytest.mark.tf
def test_full_memory_is_known_by_the_words_of_cudnn():
    import tensorflow as tf

    assert is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, "x"))
    assert is_out_of_memory(tf.errors.NotFoundError(None, None, "No algorithm worked! Error messages: ..."))
    assert is_out_of_memory(tf.errors.InternalError(None, None, "CUDNN_STATUS_ALLOC_FAILED in tensorflow/..."))
    assert not is_out_of_memory(tf.errors.InternalError(None, None, "node 3"))


def test_auto_is_float32_where_the_processor_cannot_be_asked(tmp_path):
    assert best_precision(0, tmp_path / "none") == "float32"


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_auto_is_what_the_environment_says_and_a_named_format_stays(tmp_path, deeplabctl, monkeypatch):
    make_dataset(tmp_path / "set", train=2, val=1)
    small = ["--data", "set", "--recipe", "shapes", "--width", 0.05, "--crop-size", 33, "--steps", 1, "--batch-size", 1]
    monkeypatch.setenv("DEEPLABCTL_AUTO_PRECISION", "float16")
    assert deeplabctl("train", *small, "--run-dir", "auto")[0] == 0
    assert read_recipe("auto/recipe.toml").run.precision == "float16"
    assert deeplabctl("train", *small, "--precision", "float32", "--run-dir", "named")[0] == 0
    assert read_recipe("named/recipe.toml").run.precision == "float32"
    monkeypatch.setenv("DEEPLABCTL_AUTO_PRECISION", "int4")
    code, _, err = deeplabctl("train", *small, "--run-dir", "wrong")
    assert (code, "expected float32, bfloat16, float16, got 'int4'" in err) == (1, True)


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_format_that_cannot_be_computed_is_refused_and_auto_takes_another(tmp_path, deeplabctl, monkeypatch):
    make_dataset(tmp_path / "set", train=2, val=1)
    small = ["--data", "set", "--recipe", "shapes", "--width", 0.05, "--crop-size", 33, "--steps", 1, "--batch-size", 1]
    monkeypatch.delenv("DEEPLABCTL_AUTO_PRECISION", raising=False)
    monkeypatch.setattr("deeplabctl.training.loop.best_precision", lambda gpus: "bfloat16")
    monkeypatch.setattr("deeplabctl.training.loop.can_compute", lambda precision: precision == "float32")
    code, _, err = deeplabctl("train", *small, "--run-dir", "auto")
    assert code == 0, err
    assert read_recipe("auto/recipe.toml").run.precision == "float32"
    code, _, err = deeplabctl("train", *small, "--precision", "bfloat16", "--run-dir", "named")
    assert code == 1
    assert "expected a format that TensorFlow can compute in here, got bfloat16; use --precision float32" in err


def small_step(precision, **solver):
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.training.step import TrainingStep

    tree = {"model": {"width": 1 / 32, "dropout": 0}, "solver": {"policy": "fixed", "batch_size": 2} | solver}
    model = zero_model("largefov", 21, width=1 / 32, dropout=0, dtype=POLICIES[precision])
    assign_weights(model, read_blobs(DATA / "lfov_tiny_train_init_v1.caffemodel"))
    return model, TrainingStep(model, recipe_from_dict(tree, "test"), [1.0] * 21)


def caffe_batch():
    batch = np.load(DATA / "train_batch.npz")
    return batch["data"].transpose(0, 2, 3, 1), batch["label"], np.arange(2)


@pytest.mark.tf
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_formats_keep_float32_weights_and_start_at_caffes_loss(precision, request):
    if precision == "bfloat16":
        request.getfixturevalue("needs_bfloat16")
    model, step = small_step(precision, learning_rate=1e-5)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {precision}
    caffe = np.load(DATA / "train_tiny_step_f32.npz")
    losses = np.array([step(*caffe_batch(), number) for number in range(4)])  # Caffe's rate falls after four
    errors = np.abs(losses / caffe["loss"][:4] - 1)
    assert errors[0] < 1e-3
    assert errors.max() < 0.05  # of the updated weights: AMX sums in another order than AVX-512
    assert errors.max() > 1e-6  # else the format was not used


@pytest.mark.tf
def test_float16_step_that_overflows_is_left_out_and_halves_the_scale():
    _, step = small_step("float16", learning_rate=1e-5, average=0.9)
    assert step.state()["loss_scale"] == 2**15
    step.restore(step.state() | {"loss_scale": np.float32(2.0**8)})
    step(*caffe_batch(), 0)
    before = step.state()
    assert before["good_steps"] == 1
    step.restore(before | {"loss_scale": np.float32(2.0**60)})
    assert np.isfinite(step(*caffe_batch(), 1))
    after = step.state()
    assert after["loss_scale"] == 2.0**59
    for name in before.keys() - {"loss_scale", "good_steps"}:
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.tf
def test_float16_scale_doubles_after_two_thousand_good_steps():
    _, step = small_step("float16", learning_rate=1e-9)
    step.restore(step.state() | {"loss_scale": np.float32(4), "good_steps": np.float32(1998)})
    step(*caffe_batch(), 0)
    assert (step.state()["loss_scale"], step.state()["good_steps"]) == (4, 1999)
    step(*caffe_batch(), 1)
    assert (step.state()["loss_scale"], step.state()["good_steps"]) == (8, 0)


@pytest.mark.tf
def test_float16_gradients_are_those_of_the_unscaled_loss():
    ends = []
    for scale in (2.0**6, 2.0**10):
        model, step = small_step("float16", learning_rate=1e-5, momentum=0.0)
        step.restore(step.state() | {"loss_scale": np.float32(scale)})
        step(*caffe_batch(), 0)
        ends.append(model.get_layer("fc8_voc12").get_weights()[0])
    start = read_blobs(DATA / "lfov_tiny_train_init_v1.caffemodel")["fc8_voc12/kernel"]
    assert np.linalg.norm(ends[0] - ends[1]) < 0.02 * np.linalg.norm(ends[1] - start)


@pytest.mark.tf
@pytest.mark.usefixtures("shallow")
def test_saved_model_of_a_half_format_training_is_plain_float32(tmp_path, deeplabctl, needs_bfloat16):
    import keras
    from dataset_files import make_dataset

    make_dataset(tmp_path / "set")
    code, _, err = deeplabctl(
        "train", "--data", "set", "--recipe", "shapes", "--width", "0.05", "--crop-size", "33", "--batch-size", "2",
        "--steps", "2", "--precision", "bfloat16", "--run-dir", "run",
    )  # fmt: skip
    assert code == 0, err
    assert "computing in bfloat16" in err
    model = keras.saving.load_model("run/best.keras", compile=False)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert 'precision = "bfloat16"' in (tmp_path / "run" / "recipe.toml").read_text()
