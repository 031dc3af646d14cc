"""The public names: what ``import deeplabctl as dl`` shows, and that they do what the commands do."""

import ast
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from caffe_files import DATA, TINY
from dataset_files import draw_few_shapes, make_dataset
from small_training import without_curves

import deeplabctl as dl
from deeplabctl import downloads
from deeplabctl.reporting import Trained
from deeplabctl.weights import locating
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.sources.keras_files import save_model

SOURCE = ast.parse(Path(dl.__file__).read_text())
QUIET_NOT_ASKED = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
SMALL = {
    "recipe": "shapes", "width": 0.05, "crop_size": 33, "batch_size": 2, "steps": 3, "precision": "float32", "seed": 3,
}  # fmt: skip


def test_import_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys, time; begin = time.process_time(); import deeplabctl; print(time.process_time() - begin);"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(3)]
    seconds, modules = zip(*(run.stdout.splitlines() for run in runs), strict=True)
    assert min(map(float, seconds)) < 0.1
    assert not {"numpy", "tensorflow", "keras", "rich", "numba", "PIL", "scipy"} & set(modules[0].split())


def test_names_for_type_checkers_are_those_that_load():
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If))
    typed = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert typed == dl._HOMES
    assert set(dl.__all__) == {"__version__", *(name for names in typed.values() for name in names)}
    for name in dl.__all__:
        assert getattr(dl, name) is not None
        assert name in dir(dl)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        dl.lod  # noqa: B018


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train in a few steps, from Python."""
    folder = tmp_path_factory.mktemp("trained")
    make_dataset(folder / "set", train=4, val=3)
    with without_curves():
        return folder, dl.train(folder / "set", **SMALL, run_dir=folder / "run", report=dl.silent)


@pytest.mark.tf
@pytest.mark.usefixtures("no_curves")
def test_train_returns_the_run_and_the_scores_and_gives_the_bytes_of_the_command(trained, deeplabctl, tmp_path):
    folder, run = trained
    assert run.path == folder / "run"
    assert (run.steps, run.best_step, run.stopped) == (3, 3, False)
    assert 0 <= run.scores["miou"] <= 1
    options = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
    code, out, err = deeplabctl("train", "--data", folder / "set", *options, "--run-dir", "run", "--json")
    assert code == 0, err
    assert json.loads(out)["miou"] == run.scores["miou"]
    ours, theirs = (np.load(path / "checkpoints" / "step-000003.npz") for path in (run.path, tmp_path / "run"))
    for name in ours.files:
        if name.startswith("weights"):
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert dl.train(resume=run.path, report=dl.silent).finished_before


@pytest.mark.tf
def test_training_whose_first_weights_cannot_be_had_leaves_no_directory(trained, monkeypatch, tmp_path):
    def offline(_):
        raise OSError("no network")

    monkeypatch.setattr(downloads, "_open", offline)
    options = SMALL | {"init": "imagenet", "width": 1.0}
    for _ in range(2):
        with pytest.raises(dl.DeepLabError, match=r"cannot download vgg16_weights.* by other means"):
            dl.train(trained[0] / "set", **options, run_dir=tmp_path / "own1", report=dl.silent)
        assert not (tmp_path / "own1").exists()


@pytest.mark.tf
def test_evaluate_gives_the_scores_of_the_command(trained, deeplabctl):
    folder, run = trained
    net = dl.load(run.path)
    settings = {"crf": "iterations=2", "scales": (0.5, 1.0)}
    with pytest.warns(UserWarning, match="not a fair score"):
        scores = dl.evaluate(net, split="train", **settings)
    code, out, err = deeplabctl(
        "eval", "--weights", run.path, "--split", "train", "--crf-params", "iterations=2", "--scales", "0.5,1", "--json"
    )
    assert code == 0, err
    expected = json.loads(out)
    assert expected["settings"].pop("weights") == str(run.path / "best.keras")
    assert json.loads(json.dumps(scores)) == expected
    assert dl.evaluate(net, folder / "set", limit=1)["images"] == 1


@pytest.mark.tf
def test_load_without_a_name_takes_the_newest_run_or_published_weights(trained, monkeypatch, tmp_path, capfd):
    _, run = trained
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(locating, "fetch_published", lambda name, *_: asked.append(name) or run.path / "best.keras")
    assert dl.load().info == dl.load(run.path).info
    assert asked == ["deeplabv3-mnv2-voc"]
    assert (
        "no weights are named, and there are no runs: using the published deeplabv3-mnv2-voc" in capfd.readouterr().err
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").symlink_to(run.path)
    assert dl.load().info == dl.load(run.path).info


@pytest.mark.tf
def test_build_model_is_a_plain_keras_model_with_the_weights_of_any_file():
    model = dl.build_model("largefov", num_classes=21, weights=TINY)
    image = dl.preprocess(np.ascontiguousarray(np.load(DATA / "inputs_u8.npz")["33x33"][..., ::-1]), "largefov")
    expected = np.load(DATA / "fwd_tiny_33x33.npz")["fc8_voc12"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(model(image[None])[0], expected, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(dl.DeepLabError, match="classes"):
        dl.build_model("largefov", num_classes=5, weights=TINY)
    other = dl.build_model("largefov", num_classes=5, weights=TINY, new_classifier=True)
    np.testing.assert_array_equal(other.get_layer("fc7").kernel, model.get_layer("fc7").kernel)
    assert other.output_shape[-1] == 5


@pytest.mark.parametrize(
    ("image", "architecture", "expected"),
    [
        (np.zeros((4, 5, 3), np.float32), "largefov", r"expected \(H, W, 3\) uint8, RGB, got \(4, 5, 3\) float32"),
        (np.zeros((4, 5), np.uint8), "largefov", r"got \(4, 5\) uint8"),
        (np.zeros((4, 5, 3), np.uint8), "nope", "expected one of largefov"),
        (np.zeros((4, 5, 3), np.uint8), ModelInfo(("a", "b")), "expected one of largefov"),
    ],
)
def test_preprocess_refuses_what_is_not_an_image(image, architecture, expected):
    with pytest.raises(ValueError, match=expected):
        dl.preprocess(image, architecture)


@pytest.mark.tf
def test_a_model_and_its_facts_must_agree(tmp_path):
    import keras

    model = dl.build_model("largefov", num_classes=3, width=0.1)
    assert dl.Segmenter(model, ModelInfo(("a", "b", "c"), width=0.1)).info.classes == ("a", "b", "c")
    for wrong, expected in [
        (ModelInfo(("a", "b"), width=0.1), r"2 classes, whose fc8_voc12/kernel has the shape \(1, 1, 102, 2\), got"),
        (ModelInfo(("a", "b", "c")), "width 1 "),
        (ModelInfo(("a", "b", "c"), "deeplabv3-mnv2", 0.1), "name of its architecture, deeplabv3-mnv2, got 'largefov'"),
        (ModelInfo(("a", "b", "c"), "nope"), "expected one of"),
    ]:
        with pytest.raises(ValueError, match=expected):
            dl.Segmenter(model, wrong)
        with pytest.raises(ValueError, match=expected):
            save_model(tmp_path / "wrong.keras", model, wrong)
    assert not list(tmp_path.iterdir())
    rebuilt = keras.Model(model.input, model.output)
    with pytest.raises(ValueError, match="largefov, got 'functional"):
        dl.Segmenter(rebuilt, ModelInfo(("a", "b", "c"), width=0.1))
    with pytest.raises(ValueError, match=r"largefov, got 'mine\.keras'"):
        dl.Segmenter("mine.keras", ModelInfo(("a", "b", "c"), width=0.1))


@pytest.mark.tf
def test_convert_writes_a_model_file_that_load_takes(tmp_path):
    dl.convert(TINY, tmp_path / "net.keras", seed=np.int64(7))
    image = np.zeros((9, 9, 3), np.uint8)
    np.testing.assert_array_equal(dl.load(tmp_path / "net.keras")(image).scores, dl.load(TINY)(image).scores)
    with pytest.raises(dl.DeepLabError, match="exists"):
        dl.convert(TINY, tmp_path / "net.keras")


@pytest.mark.tf
@pytest.mark.usefixtures("no_curves")
def test_interrupted_training_keeps_its_steps_and_resumes(trained, tmp_path):
    folder, _ = trained

    def interrupt(event):
        if isinstance(event, Trained) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    run = dl.train(folder / "set", **SMALL | {"steps": 9}, run_dir=tmp_path / "run", report=interrupt)
    assert (run.steps, run.stopped) == (2, True)
    assert dl.train(resume=run.path, report=dl.silent).steps == 9
    with pytest.raises(dl.DeepLabError, match="did you mean steps"):
        dl.train(folder / "set", settings={"solver.stps": 3}, report=dl.silent)
    with pytest.raises(dl.DeepLabError, match=r"expected SECTION\.KEY=VALUE"):
        dl.train(folder / "set", settings="x", report=dl.silent)


@pytest.mark.tf
def test_evaluate_warns_of_images_that_were_trained_on(trained):
    folder, run = trained
    with pytest.warns(UserWarning, match="this is not a fair score"):
        dl.evaluate(run.path, folder / "set", split="train")
    with pytest.raises(dl.DeepLabError, match="at least 1 image"):
        dl.evaluate(run.path, folder / "set", limit=0)


def test_open_dataset_takes_a_text_and_the_built_in_set(tmp_path, monkeypatch):
    draw_few_shapes(monkeypatch)
    root = make_dataset(tmp_path / "set")
    assert dl.open_dataset(str(root)).classes == dl.open_dataset(root).classes
    assert "star" in dl.open_dataset("shapes").classes


@pytest.mark.tf
def test_results_show_themselves_in_a_notebook(trained):
    folder, run = trained
    best = f"best val mIoU {100 * run.scores['miou']:.2f} at step 3"
    assert repr(run) == f"<TrainedRun {folder / 'run'}: 3 steps, {best}>"
    result = dl.load(TINY)(np.zeros((40, 50, 3), np.uint8))
    with PIL.Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert shown.format == "PNG"
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(result.overlay()))


@pytest.mark.tf
def test_tensorflow_writes_nothing_to_stderr_when_python_loads_it():
    script = f"import deeplabctl as dl; dl.load({str(TINY)!r}).model; dl.build_model('largefov', num_classes=3)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=QUIET_NOT_ASKED)
    (line,) = run.stderr.splitlines()  # what is assumed of the file
    assert (run.returncode, run.stdout, line.partition(": the names")[0]) == (0, "", f"weights {TINY}")
