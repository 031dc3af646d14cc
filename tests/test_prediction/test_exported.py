"""Networks that were exported: what computes them, what cannot be changed, and that TensorFlow is not loaded."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from command_process import run_without_tensorflow
from exports import CLASSES, export_plan, noise, small_network, write_lookalike, write_onnx

import deeplabctl as dl
from deeplabctl.crf import CrfParams, refine
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError, RecipeError, WeightsError
from deeplabctl.export.exporter import write_export
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.prediction.engines.exported import SavedModelRuntime, clips_int8
from deeplabctl.weights.fitting import open_network
from deeplabctl.weights.model_info import ExportFacts
from deeplabctl.weights.sources import READERS


@pytest.fixture
def onnx(tmp_path):
    write_onnx(tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_onnx_file_is_run_by_onnxruntime_and_gives_the_networks_prediction(onnx):
    net = dl.load(onnx)
    assert (net.applied.engine, net.applied.precision, net.applied.pad) == ("onnxruntime", "float32", "tight")
    image = noise(37, 50)
    expected = Segmenter.from_network(small_network(), PredictionSettings(engine="numba")).predict(image)
    result = net(image)
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    assert np.mean(result.label == expected.label) > 0.999
    np.testing.assert_array_equal(net.label(image[:, ::-1]), net(image[:, ::-1]).label)  # of another memory layout
    assert [label.shape for _, label in net.labels([(1, image), (2, image[:9])])] == [(37, 50), (9, 50)]


def test_crf_refines_the_scores_of_an_export(onnx):
    net, image, crf = dl.load(onnx), noise(20, 30), CrfParams(iterations=2)
    np.testing.assert_array_equal(net(image, crf=crf).scores, refine(image, net(image).scores, crf))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"scales": (0.5, 1)}, "`scales`: this ONNX file was exported with scales 1, .* got 0.5, 1"),
        ({"flip": True}, "`flip`: this ONNX file was exported with flip off"),
        ({"pad": "paper"}, "`pad`: this ONNX file was exported with pad tight, .* got paper"),
        ({"engine": "numba"}, "`engine`: .* engine onnxruntime, .* got numba"),
        ({"precision": "bfloat16"}, "`precision`: .* precision float32"),
    ],
    ids=str,
)
def test_what_the_graph_fixes_cannot_be_changed(onnx, settings, text):
    with pytest.raises(RecipeError, match=text):
        dl.load(onnx, **settings)
    with pytest.raises(RecipeError, match=text):
        dl.load(onnx)(noise(9, 9), **settings)
    same = {"scales": (1,), "flip": False, "pad": "tight", "engine": "auto", "precision": "float32"}
    assert dl.load(onnx, **same).settings == dl.load(onnx).settings


def test_exports_own_scales_and_mirrored_image_are_its_settings(tmp_path):
    write_onnx(tmp_path / "net.onnx", scales=(1.0, 0.5), flip=True)
    net = dl.load(tmp_path / "net.onnx")
    assert (net.settings.scales, net.settings.flip) == ((1.0, 0.5), True)
    assert Segmenter.from_network(open_network(tmp_path / "net.onnx")).settings == net.settings
    with pytest.raises(RecipeError, match=r"scales 1, 0\.5"):
        Segmenter.from_network(open_network(tmp_path / "net.onnx"), PredictionSettings())


def test_export_has_no_keras_model_and_no_logits(onnx):
    net = dl.load(onnx)
    with pytest.raises(WeightsError, match=r"net\.onnx: expected weights for a Keras model, got an export"):
        net.model  # noqa: B018
    with pytest.raises(WeightsError, match=r"net\.onnx: expected a network that gives its logits, got an ONNX file"):
        net.runner.coarse_logits(noise(9, 9))


@pytest.mark.parametrize(
    ("module", "package", "kind"),
    [("onnxruntime", "onnxruntime", "onnx"), ("ai_edge_litert.interpreter", "ai-edge-litert", "tflite")],
)
def test_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, module, package, kind):
    path = tmp_path / f"net.{kind}"
    write_onnx(path) if kind == "onnx" else write_lookalike(path, kind)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WeightsError, match=rf"not installed .* pip install {package}"):
        dl.load(path).prepare()


def test_image_that_there_is_no_memory_for_is_an_error(onnx, monkeypatch):
    net = dl.load(onnx)
    least = net.runner.engine.least_memory(1, 401, 305)
    assert least >= 401 * 305 * 4 * 3 * 2  # conv1_2 reads and writes three channels
    monkeypatch.setattr("deeplabctl.prediction.forward.memory_limit", lambda: least - 1)
    with pytest.raises(DataError, match="not enough memory to segment this image of 300x400 pixels"):
        net.label(noise(400, 300))


def test_processors_without_vnni_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("deeplabctl.prediction.engines.exported.platform.machine", lambda: "x86_64")
    (tmp_path / "old").write_text("flags: fpu avx2 fma\n")
    (tmp_path / "new").write_text("flags: fpu avx2 avx512_vnni\n")
    assert [clips_int8(tmp_path / name) for name in ("old", "new", "none")] == [True, False, True]
    monkeypatch.setattr("deeplabctl.prediction.engines.exported.platform.machine", lambda: "aarch64")
    assert not clips_int8(tmp_path / "old")


@pytest.mark.parametrize(
    ("outcome", "error", "text"),
    [
        (RuntimeError("Failed to allocate memory for requested buffer"), DataError, "not enough memory"),
        (RuntimeError("node 3 is odd"), WeightsError, "onnxruntime cannot run it: node 3 is odd; export it again"),
        (ImportError("no module named x"), WeightsError, "onnxruntime cannot run it: no module named x; export"),
        ((np.zeros((1, 9, 9), np.uint8), np.zeros((1, 9, 9, 2), np.float32)), WeightsError, "of 5 classes"),
        ((np.zeros((1, 9, 9), np.uint8), np.full((1, 9, 9, 5), np.nan, np.float32)), WeightsError, "finite scores"),
    ],
    ids=["memory", "failure", "import", "shape", "numbers"],
)
def test_what_a_runtime_raises_becomes_one_line(onnx, monkeypatch, outcome, error, text):
    net = dl.load(onnx)

    def run(images):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(net.runner.engine, "_run", run)
    with pytest.raises(error, match=text) as caught:
        net.label(noise(9, 9))
    assert "\n" not in str(caught.value)


def test_file_whose_graph_no_runtime_reads_is_refused_in_one_line(tmp_path):
    write_lookalike(tmp_path / "net.tflite", "tflite")
    net = dl.load(tmp_path / "net.tflite")
    with pytest.raises(WeightsError, match=r"net\.tflite: litert cannot run it: "):
        net.prepare()


def data_set(folder):
    from dataset_files import make_dataset

    make_dataset(folder, train=1, val=2)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return next((folder / "JPEGImages").iterdir())


def check_commands(weights, engine, folder):
    """Run infer and eval without TensorFlow, and without numba, which only other engines need."""
    image = data_set(folder / "set")
    code, out, err = run_without_tensorflow("infer", image, "--weights", weights, "--json", cwd=folder)
    assert code == 0, err
    assert json.loads(out)["settings"]["engine"] == engine
    np.testing.assert_array_equal(read_label(folder / "masks" / f"{image.stem}.png"), dl.load(weights)(image).label)
    code, out, err = run_without_tensorflow("eval", "--weights", weights, "--data", "set", "--json", cwd=folder)
    assert code == 0, err
    assert json.loads(out)["settings"]["engine"] == engine
    assert all(line.split()[0] in ("weights:", "data", "checking", "checked", "scoring:") for line in err.splitlines())


@pytest.mark.process
def test_infer_and_eval_on_an_onnx_file_never_load_tensorflow(onnx, tmp_path):
    check_commands(onnx, "onnxruntime", tmp_path)


@pytest.mark.tf
def test_tflite_file_is_run_by_litert_and_never_loads_tensorflow(tmp_path):
    pytest.importorskip("ai_edge_litert")
    write_export(export_plan(tmp_path, "tflite"))
    check_commands(tmp_path / "net.tflite", "litert", tmp_path)
    net, numbas = dl.load(tmp_path / "net.tflite"), Segmenter.from_network(small_network())
    for shape in ((1, 1), (37, 50), (37, 50), (9, 64)):  # the sizes change between calls
        np.testing.assert_allclose(net(noise(*shape)).scores, numbas.predict(noise(*shape)).scores, atol=1e-5)


@pytest.mark.tf
def test_saved_model_is_run_by_tensorflow(tmp_path):
    write_export(export_plan(tmp_path, "savedmodel", flip=True))
    net = dl.load(tmp_path / "net.savedmodel")
    assert net.applied.engine == "tensorflow"
    assert net.engine_class is SavedModelRuntime
    expected = Segmenter.from_network(small_network(), PredictionSettings(flip=True, engine="numba"))
    np.testing.assert_allclose(net(noise(30, 41)).scores, expected.predict(noise(30, 41)).scores, atol=1e-5)


@pytest.mark.tf
@pytest.mark.parametrize("format_", ["tflite", "savedmodel"])
def test_sides_that_the_table_of_scaled_sizes_lacks_are_refused(format_, tmp_path):
    if format_ == "tflite":
        pytest.importorskip("ai_edge_litert")
    write_export(dataclasses.replace(export_plan(tmp_path, format_), settings=PredictionSettings(scales=(0.5,))))
    net = dl.load(tmp_path / f"net.{format_}")
    assert net(noise(1, 2**15 + 1)).label.shape == (1, 2**15 + 1)
    with pytest.raises(WeightsError, match="cannot run it: "):
        net(noise(1, 2**15 + 2))


@pytest.mark.tf
def test_saved_model_that_does_anything_else_is_refused_and_does_nothing(tmp_path):
    import tensorflow as tf

    written = tmp_path / "written"

    class Forged(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
        def __call__(self, image):
            tf.io.write_file(str(written), "x")
            return {"label": image[..., 0], "scores": tf.zeros(tf.concat([tf.shape(image)[:3], [5]], 0))}

    forged = Forged()
    path = tmp_path / "net.savedmodel"
    tf.saved_model.save(forged, str(path), signatures={"serving_default": forged.__call__})
    facts = ExportFacts("savedmodel", "float32", (1.0,), flip=False)
    READERS["savedmodel"](path).write_facts(dataclasses.replace(small_network().info, export=facts))
    with pytest.raises(WeightsError, match=r"expected the operations of an export only, got .*WriteFile"):
        dl.load(path)(noise(9, 9))
    assert not written.exists()


@pytest.mark.tf
def test_two_saved_models_are_run_in_one_process(tmp_path):
    for seed in (1, 2):
        write_export(export_plan(tmp_path / str(seed), "savedmodel", network=small_network(seed=seed)))
    first, second = (dl.load(tmp_path / str(seed) / "net.savedmodel") for seed in (1, 2))
    assert not np.array_equal(first(noise(9, 9)).scores, second(noise(9, 9)).scores)
