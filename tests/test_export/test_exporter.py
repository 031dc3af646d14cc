"""Whole exports of small random networks: what is compared, kept, refused and left."""

import dataclasses
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from caffe_files import TINY
from exports import CLASSES, export_plan, noise, settled_network, small_network, smooth, write_images, write_onnx

import deeplabctl as dl
from deeplabctl import choices
from deeplabctl.errors import DeepLabError, OutputError, RecipeError, WeightsError
from deeplabctl.export import ExportRequest, exporter, formats
from deeplabctl.export.exporter import Agreement, plan_export, write_export
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.reporting import silent
from deeplabctl.weights.model_info import ExportFacts
from deeplabctl.weights.sources import READERS


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "images")


def test_onnx_file_is_kept_with_what_was_found(tmp_path):
    exported = write_export(export_plan(tmp_path, "onnx"))
    assert files(tmp_path) == ["net.onnx"]
    assert exported.agreement.labels >= 0.9999
    assert exported.agreement.scores < 1e-5
    assert exported.agreement.images == 3
    assert exported.bytes == (tmp_path / "net.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["deeplabctl.json"])
    assert facts["export"]["agreement"] == dataclasses.asdict(exported.agreement)
    assert facts["classes"] == list(CLASSES)
    assert [(one.name, one.type, one.shape) for one in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", "tensor(uint8)", ["n", "height", "width", 3]),
        ("label", "tensor(uint8)", ["n", "height", "width"]),
        ("scores", "tensor(float)", ["n", "height", "width", 5]),
    ]


def test_export_that_disagrees_fails_in_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    other = small_network(seed=4)
    nodes, writer = ARCHITECTURES["largefov"].graph(other.weights), exporter.WRITERS["onnx"]

    def other_write(graph, path):
        writer.write(dataclasses.replace(graph, nodes=nodes), path)

    monkeypatch.setitem(exporter.WRITERS, "onnx", dataclasses.replace(writer, write=other_write))
    with pytest.raises(OutputError, match=r"expected 99.99% of the labels to be the network's, got [\d.]+%") as caught:
        write_export(export_plan(tmp_path, "onnx"))
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == []
    exported = write_export(export_plan(tmp_path, "onnx", least_agreement=0.0))
    assert exported.agreement.labels < 0.9
    before = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(OutputError, match="nothing was written"):
        write_export(export_plan(tmp_path, "onnx", overwrite=True))
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert files(tmp_path) == ["net.onnx"]


def test_labels_of_scores_that_are_not_finite_do_not_agree():
    """Of an overflow in float16 all labels are 0, as where there is background only."""
    label, scores = np.zeros((4, 5), np.uint8), np.full((4, 5, 2), 0.5, np.float32)
    overflowed = scores.copy()
    overflowed[:2] = np.nan
    results = (SimpleNamespace(label=label, scores=each) for each in (scores, overflowed))
    network, exported = (
        SimpleNamespace(predict=lambda _, result=result: result, applied=PredictionSettings()) for result in results
    )
    found = exporter.compare(network, exported, [smooth(4, 5)], "noise", silent)
    assert (found.labels, found.scores) == (0.5, np.inf)


def test_share_that_is_too_small_is_never_shown_as_what_was_expected(tmp_path, monkeypatch):
    agreement = Agreement(0.999889, 0.1, 999_999, 3, "images", "numba")
    monkeypatch.setattr(exporter, "compare", lambda *given: agreement)
    with pytest.raises(OutputError, match=r"expected 99\.99% of the labels to be the network's, got 99\.988% on"):
        write_export(export_plan(tmp_path, "onnx"))


def test_every_second_image_is_compared_at_another_size(tmp_path):
    plan = export_plan(tmp_path, "onnx")
    shapes = [image.shape[:2] for image in plan.images.compared()]
    assert shapes == [(70, 90), (55, 72), (72, 104)]


@pytest.mark.parametrize("clips", [False, True])
def test_int8_onnx_file_is_small_and_near_its_network(tmp_path, monkeypatch, clips):
    monkeypatch.setattr("deeplabctl.prediction.engines.exported.clips_int8", lambda: clips)
    whole = write_export(export_plan(tmp_path / "a", "onnx"))
    small = write_export(export_plan(tmp_path / "b", "onnx", precision="int8", least_agreement=0.5))
    half = write_export(export_plan(tmp_path / "c", "onnx", precision="float16", least_agreement=0.9))
    assert half.bytes < 0.62 * whole.bytes
    assert small.bytes < half.bytes
    import onnx

    model = onnx.load(small.path)
    stored = {one.name: one.data_type for one in model.graph.initializer}
    assert stored["conv3_1/kernel_quantized"] == onnx.TensorProto.INT8
    assert stored["fc8_voc12/kernel"] == onnx.TensorProto.FLOAT  # classifiers stay
    net = dl.load(small.path)
    assert str(net.settings) == "images at their own size; int8"
    expected = Segmenter.from_network(small_network()).predict(noise(33, 40))
    assert np.abs(net(noise(33, 40)).scores - expected.scores).max() < 0.1


@pytest.mark.tf
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_tflite_files_of_all_precisions(tmp_path, precision):
    pytest.importorskip("ai_edge_litert")
    least = {"int8": 0.5, "float16": 0.9}.get(precision)
    exported = write_export(export_plan(tmp_path, "tflite", precision=precision, least_agreement=least))
    parameters = sum(array.size for array in small_network().weights.values())
    size = {"float32": 4, "float16": 2, "int8": 1}[precision] * parameters
    assert size < exported.bytes < size + 60_000
    assert dl.load(exported.path)(noise(20, 31)).scores.shape == (20, 31, 5)


@pytest.mark.tf
def test_saved_model_stores_half_and_opens_in_plain_tensorflow(tmp_path):
    import tensorflow as tf

    whole = write_export(export_plan(tmp_path / "a", "savedmodel"))
    half = write_export(export_plan(tmp_path / "b", "savedmodel", precision="float16", least_agreement=0.9))
    assert half.bytes < 0.75 * whole.bytes
    function = tf.saved_model.load(str(whole.path)).signatures["serving_default"]
    found = function(image=tf.constant(noise(2, 3)[None]))
    assert (found["label"].dtype, found["label"].shape) == (tf.uint8, (1, 2, 3))
    assert (found["scores"].dtype, found["scores"].shape) == (tf.float32, (1, 2, 3, 5))


@pytest.mark.tf
def test_error_of_tensorflow_names_the_folder_that_was_asked_for(tmp_path, monkeypatch):
    import tensorflow as tf

    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "the disk is full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OutputError) as caught:
        write_export(export_plan(tmp_path, "savedmodel"))
    expected = f"cannot write {tmp_path / 'net.savedmodel'}: the disk is full; no partial file was left"
    assert (str(caught.value), files(tmp_path)) == (expected, [])


SHAPES = ((1, 1), (16, 33), (34, 57))
SLOW = pytest.mark.slow


def is_quick(architecture):
    return architecture in ("deeplabv3-mnv2", "deeplabv3plus-mnv2", "deeplabv3-mobilenetv3")


@functools.cache
def network_of(architecture):
    return settled_network(architecture)


@functools.cache
def expected(architecture, scales, flip):
    settings = PredictionSettings(scales=scales, flip=flip, engine="tensorflow")
    net = Segmenter.from_network(network_of(architecture), settings)
    return [net.predict(smooth(*shape)) for shape in SHAPES]


def check_export(folder, architecture, format_, scales, flip):
    network = network_of(architecture)
    facts = ExportFacts(format_, "float32", scales, flip)
    path = folder / "net"
    nodes = ARCHITECTURES[architecture].graph(network.weights)
    exporter.WRITERS[format_].write(formats.Graph(architecture, nodes, facts), path)
    READERS[format_](path).write_facts(dataclasses.replace(network.info, export=facts))
    net = dl.load(path)
    for shape, tensorflows in zip(SHAPES, expected(architecture, scales, flip), strict=True):
        found = net(smooth(*shape))
        np.testing.assert_allclose(found.scores, tensorflows.scores, atol=2e-5)
        np.testing.assert_array_equal(found.label, np.argmax(found.scores, -1))
        chosen = np.take_along_axis(tensorflows.scores, found.label[..., None], -1)[..., 0]
        assert (tensorflows.scores.max(-1) - chosen).max() < 4e-5  # another label where two scores are as near only


@pytest.mark.tf
@pytest.mark.parametrize("format_", exporter.WRITERS)
@pytest.mark.parametrize("flip", [False, pytest.param(True, marks=SLOW)], ids=["plain", "flip"])
@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=() if is_quick(name) else SLOW) for name in ARCHITECTURES]
)
def test_exports_of_every_network_compute_what_tensorflow_does(tmp_path, architecture, format_, flip):
    check_export(tmp_path, architecture, format_, ARCHITECTURES[architecture].scales, flip)


@pytest.mark.tf
@pytest.mark.parametrize("format_", ["onnx", *(pytest.param(name, marks=SLOW) for name in ("tflite", "savedmodel"))])
@pytest.mark.parametrize("architecture", ["deeplabv3plus-mnv2", pytest.param("deeplabv3-mobilenetv3", marks=SLOW)])
def test_exports_at_several_scales_compute_what_tensorflow_does(tmp_path, architecture, format_):
    check_export(tmp_path, architecture, format_, (1.0, 0.5, 1.25), flip=True)


@pytest.mark.tf
@pytest.mark.parametrize("format_", exporter.WRITERS)
def test_size_at_a_scale_is_that_of_the_network(tmp_path, format_):
    network, shape = small_network(), (9, 360)  # of 45 steps, 31.499999999999996 at this scale: 31.5 in float32
    settings = PredictionSettings("tight", scales=(0.7,), engine="tensorflow")
    expected = Segmenter.from_network(network, settings).predict(smooth(*shape)).scores
    plan = export_plan(tmp_path, format_, network=network, least_agreement=0.0)
    plan = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, scales=(0.7,)))
    found = dl.load(write_export(plan).path)(smooth(*shape)).scores
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.tf
@pytest.mark.parametrize("name", ["largefov", "deeplabv3-mobilenetv3"])  # steps of 8 pixels, and of 1
def test_size_at_a_scale_of_a_large_image(name):
    import tensorflow as tf

    from deeplabctl.export.tensorflow_graph import _scaled

    architecture = ARCHITECTURES[name]
    sides = [architecture.padded_size(12_001), architecture.padded_size(4_500)]
    steps = tf.constant([(side - 1) // architecture.padded_step for side in sides])
    found = _scaled(steps, 0.7, architecture).numpy().tolist()
    assert found == [architecture.scaled_size(side, 0.7) for side in sides]


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.parametrize("format_", ["onnx", "tflite"])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "largefov"])
def test_every_network_of_the_family_exports_in_int8(tmp_path, architecture, format_):
    network = network_of(architecture)
    plan = export_plan(tmp_path, format_, architecture, precision="int8", network=network, least_agreement=0.0)
    exported = write_export(plan)
    expected = Segmenter.from_network(network).predict(smooth(34, 57)).scores
    found = dl.load(exported.path)(smooth(34, 57)).scores
    # Many layers of random weights make a lot of a rounding: up to 0.7; networks of another seed differ by 1.07 to 2.3.
    assert np.abs(found - expected).mean() < 0.8 * expected.std()


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"format": "pb"}, RecipeError, "`to`: expected .*onnx.*, got 'pb'"),
        ({"format": "savedmodel", "precision": "half"}, RecipeError, "a SavedModel has no half; use `to=onnx`"),
        ({"format": "savedmodel", "precision": "int8"}, RecipeError, "a SavedModel has no int8; use `to=onnx`"),
        ({"calibrate": "set"}, RecipeError, "`calibrate` is for int8 only"),
        ({"weights": "none.keras"}, WeightsError, "none.keras: there is no such file"),
        ({"weights": "net.onnx"}, WeightsError, r"net\.onnx: expected weights to export, got an export"),
        ({"out": "net.tflite"}, OutputError, r"expected a name that ends in \.onnx"),
        ({"out": "net.onnx"}, OutputError, r"net\.onnx exists; use `overwrite`"),
        ({"format": "savedmodel", "out": "full"}, OutputError, "full exists and is not an empty folder"),
        ({"format": "savedmodel", "out": "full", "overwrite": True}, OutputError, "expected a SavedModel to replace"),
        ({"precision": "int8"}, DeepLabError, "name one, or a folder of images: `calibrate`"),
        ({"precision": "int8", "calibrate": "nowhere"}, DeepLabError, "nowhere: there is no such file or folder"),
        ({"images": "full"}, DeepLabError, "full: expected images in this folder"),
        ({"scales": (5.0,)}, RecipeError, "scales"),
    ],
    ids=str,
)
def test_what_cannot_be_exported_is_refused_before_anything_is_computed(tmp_path, monkeypatch, changes, error, text):
    monkeypatch.chdir(tmp_path)
    write_onnx(tmp_path / "net.onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("a")
    out = changes.pop("out", None)
    request = ExportRequest("onnx", str(TINY), out=None if out is None else tmp_path / out)
    with pytest.raises(error, match=text) as caught:
        plan_export(dataclasses.replace(request, **changes))
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == ["full", "net.onnx"]


@pytest.mark.parametrize(
    ("format_", "packages", "install"),
    [
        ("onnx", ["onnx", "onnxruntime"], "onnx onnxruntime"),
        ("tflite", ["ai_edge_litert"], r"'deeplabctl\[tflite\]'"),
    ],
)
def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch, format_, packages, install):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    text = rf"it needs {' and '.join(packages)}, which (is|are) not installed; pip install {install}$"
    with pytest.raises(OutputError, match=text):
        plan_export(ExportRequest(format_))


def test_names_of_exports_are_those_of_the_runs_and_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stem = TINY.stem
    images = str(write_images(tmp_path / "images")[0])
    assert plan_export(ExportRequest("onnx", str(TINY), images=images)).out.name == f"{stem}.onnx"
    half = ExportRequest("savedmodel", str(TINY), "float16", images=images)
    assert plan_export(half).out.name == f"{stem}-float16.savedmodel"
    assert plan_export(ExportRequest("onnx", str(TINY), out="mine.onnx", images=images)).out.name == "mine.onnx"
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "best.keras").write_bytes(TINY.read_bytes())  # the content tells what it is
    assert plan_export(ExportRequest("onnx", str(run), images=images)).out.name == "mine.onnx"
    blob = tmp_path / "models--user--leaves" / "blobs" / "0a1b"  # as the hub's package keeps files
    blob.parent.mkdir(parents=True)
    blob.write_bytes(TINY.read_bytes())
    for name in ("best.keras", "model.safetensors"):
        monkeypatch.setattr("deeplabctl.weights.hub.fetch", lambda address, report, name=name: blob.parent / name)
        (blob.parent / name).symlink_to(blob)
        assert plan_export(ExportRequest("onnx", "hf://user/leaves@v1", images=images)).out.name == "leaves.onnx"


@pytest.mark.parametrize(
    ("given", "path", "name"),
    [
        ("resnet101-voc", "weights/deeplabv2_resnet101_msc-vocaug-20000.pth", "resnet101-voc"),
        ("a/zoo.tar.gz", "a/zoo.tar.gz", "zoo"),
        ("model.ckpt-30000", "model.ckpt-30000", "model.ckpt-30000"),
        ("model.ckpt-30000.index", "model.ckpt-30000.index", "model.ckpt-30000"),
        ("net.v1.5.caffemodel", "net.v1.5.caffemodel", "net.v1.5"),
    ],
)
def test_name_of_an_export_is_the_published_one_or_the_files_without_its_suffix(given, path, name):
    assert exporter._name(given, Path(path)) == name


@pytest.mark.parametrize("out", [None, "link.onnx"])
def test_weights_are_never_replaced_by_their_export(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(TINY.read_bytes())  # as a .tflite of another program may be
    (tmp_path / "link.onnx").symlink_to("net.onnx")
    request = ExportRequest("onnx", "net.onnx", out=out and tmp_path / out, overwrite=True)
    with pytest.raises(OutputError, match=r"\.onnx is the file that is read and would be lost"):
        plan_export(request)


def test_reader_and_engine_are_of_their_format():
    for name, kind in choices.EXPORTS.items():
        assert READERS[name].format == name
        assert choices.load(kind.engine).name == kind.runtime
