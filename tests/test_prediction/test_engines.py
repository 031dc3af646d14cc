"""Two engines, one result: TensorFlow's graphs are the reference of the kernels that numba compiles."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from caffe_files import DATA, fixture, read_blobs
from command_process import run_without_tensorflow
from PIL import Image
from plain_resizing import linear

import deeplabctl as dl
from deeplabctl.crf import CrfParams
from deeplabctl.engine.network import NumbaNetwork
from deeplabctl.engine.row_kernels import fused
from deeplabctl.engine.workspace import Workers
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.interpolation import CORNERS, HALF_PIXELS, enlarge, label_of
from deeplabctl.network import ARCHITECTURES, preprocess
from deeplabctl.network.ops import Sum
from deeplabctl.network.tensorflow_startup import has_gpu, may_have_gpu
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.prediction.engines import with_engine
from deeplabctl.prediction.engines.numba import NumbaEngine
from deeplabctl.prediction.engines.onnx import OnnxEngine
from deeplabctl.prediction.results import Result
from deeplabctl.weights.fitting import Network, read_network
from deeplabctl.weights.model_info import ModelInfo

NETS = {"slim": "lfov_slim_v1.caffemodel", "tiny": "lfov_tiny_v2.caffemodel"}
LEAST = 1e-18  # of the scores that are compared: the kernels' are at least 2**-64
CAFFES, RESNETS = 2e-5, 5e-5  # of the largest logit


@pytest.fixture
def _cpu(monkeypatch):
    monkeypatch.setattr("deeplabctl.prediction.engines.numba.has_gpu", lambda: False)
    monkeypatch.setattr("deeplabctl.prediction.engines.numba.platform.machine", lambda: "x86_64")


@pytest.mark.usefixtures("_cpu")
def test_auto_is_numba_on_cpus_and_tensorflow_for_what_numba_does_not_do(monkeypatch):
    def chosen(usual=None, **settings):
        return with_engine(PredictionSettings(**settings), ModelInfo(("a",)), usual).engine

    assert chosen() == "numba"
    assert chosen(precision="bfloat16") == "tensorflow"
    assert chosen(engine="tensorflow") == "tensorflow"
    assert chosen("tensorflow") == "tensorflow"
    assert chosen("tensorflow", engine="numba") == "numba"
    with pytest.raises(RecipeError, match="float32 only, got bfloat16; use engine=tensorflow"):
        chosen(engine="numba", precision="bfloat16")
    monkeypatch.setattr("deeplabctl.prediction.engines.numba.platform.machine", lambda: "arm64")
    assert chosen() == "tensorflow"
    monkeypatch.setattr("deeplabctl.prediction.engines.numba.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("deeplabctl.prediction.engines.numba.has_gpu", lambda: True)
    assert chosen() == "tensorflow"
    assert chosen(engine="numba") == "numba"


@pytest.mark.usefixtures("_cpu")
def test_network_with_an_operation_that_numba_lacks_is_tensorflows(monkeypatch):
    class Other(Sum):
        pass

    plain = ARCHITECTURES["largefov"]
    rows = (*plain.rows, Other("other", (plain.rows[-1].name,)))
    monkeypatch.setitem(ARCHITECTURES, "other", replace(plain, name="other", rows=rows))
    info = ModelInfo(("a",), "other")
    assert with_engine(PredictionSettings(), info).engine == "tensorflow"
    with pytest.raises(RecipeError, match="`engine`: expected auto or tensorflow for other, got 'numba'"):
        with_engine(PredictionSettings(engine="numba"), info)
    assert all(NumbaEngine.computes(ModelInfo(("a",), name)) for name in ARCHITECTURES if name != "other")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"engine": "torch"},
            "`engine`: expected auto or onnxruntime or numba or tensorflow for largefov, got 'torch'",
        ),
        ({"precision": "int8"}, "`precision`: expected float32 or bfloat16 or float16, got 'int8'"),
        ({"precision": "int8", "engine": "numba"}, "`precision`: expected float32 or bfloat16 or float16, got 'int8'"),
    ],
    ids=str,
)
def test_unknown_engine_and_format_are_refused_with_the_known_ones(settings, text):
    with pytest.raises(RecipeError, match=text):
        with_engine(PredictionSettings(**settings), ModelInfo(("a",)))


def test_gpus_are_seen_by_their_devices(tmp_path):
    (tmp_path / "nvidia").touch()
    (tmp_path / "nvidiactl").touch()
    assert not may_have_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert may_have_gpu(tmp_path)


@pytest.mark.tf
def test_tensorflow_is_asked_where_there_may_be_a_gpu(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr("deeplabctl.network.tensorflow_startup.may_have_gpu", lambda: True)
    for gpus in ([], ["GPU:0"]):  # as an APU of AMD that no kernel is for, and a GPU
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind, gpus=gpus: gpus)
        assert has_gpu.__wrapped__() == bool(gpus)


def test_without_tensorflow_a_gpu_is_not_used(monkeypatch):
    monkeypatch.setattr("deeplabctl.network.tensorflow_startup.may_have_gpu", lambda: True)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert not has_gpu.__wrapped__()


@pytest.mark.parametrize("size", ["33x33", "97x130", "321x321"])
@pytest.mark.parametrize("net", NETS)
def test_every_label_is_caffes(net, size):
    network = NumbaNetwork("largefov", read_blobs(fixture(NETS[net])))
    logits = network.logits(preprocess(np.load(DATA / "inputs_u8.npz")[size][..., ::-1], "largefov"))
    blobs = np.load(DATA / f"fwd_{net}_{size}.npz")
    expected, coarse = blobs["interp_argmax"][0], blobs["fc8_voc12"][0].transpose(1, 2, 0)
    label = fused([[logits]], expected.shape, expected.shape, network.workers, with_scores=False)[0]
    other = label != expected
    upsampled = linear(coarse, *expected.shape)[other]  # a tie, as near as the logits may be to Caffe's
    lead = np.take_along_axis(upsampled, expected[other][:, None].astype(int), -1)
    lead -= np.take_along_axis(upsampled, label[other][:, None].astype(int), -1)
    assert (lead <= CAFFES * np.abs(coarse).max()).all()
    assert other.sum() <= 1


def segmenter_of(architecture, classes, width, seed, settings):
    info = ModelInfo(tuple(map(str, range(classes))), architecture, width)
    network = Network(info, ARCHITECTURES[architecture].random_weights(classes, width, seed), [], [], classes)
    return Segmenter.from_network(network, settings)


@lru_cache(maxsize=1)
def by_tensorflow(architecture, classes, width, shape, seed, settings):
    """Return an image, TensorFlow's prediction of it, and the largest logit (as numba computes it)."""
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    tensorflow, numba = (
        segmenter_of(architecture, classes, width, seed, PredictionSettings(engine=engine, **dict(settings)))
        for engine in ("tensorflow", "numba")
    )
    return image, tensorflow.predict(image), max(np.abs(one).max() for one in numba.runner.coarse_logits(image))


def check(engine, architecture, classes, width, shape, seed, **settings):
    """Compare an engine with TensorFlow: scores, and labels where the first two differ by more than the logits."""
    image, expected, largest = by_tensorflow(architecture, classes, width, shape, seed, tuple(settings.items()))
    segmenter = segmenter_of(architecture, classes, width, seed, PredictionSettings(engine=engine, **settings))
    found = segmenter.predict(image)
    limit = 4 * (RESNETS if architecture == "resnet101" else CAFFES) * largest
    logs = [np.log(np.maximum(scores, LEAST)) for scores in (found.scores, expected.scores)]
    np.testing.assert_allclose(*logs, atol=max(limit, 2e-6))
    best = np.sort(logs[1], -1)
    sure = best[..., -1] - best[..., -2] > limit
    np.testing.assert_array_equal(found.label[sure], expected.label[sure])
    assert np.mean(found.label == expected.label) > 0.999
    np.testing.assert_array_equal(segmenter.label(image), found.label)
    of_label = np.take_along_axis(found.scores, found.label[..., None].astype(int), -1)[..., 0]
    np.testing.assert_array_equal(of_label, found.scores.max(-1))  # rounding makes some scores equal


CASES = [
    ("largefov", 21, 0.1, (70, 101), {}),
    ("largefov", 2, 0.06, (1, 1), {"flip": True}),
    ("largefov", 255, 0.05, (33, 50), {"scales": (0.5, 0.75, 1.25), "flip": True}),
    ("aspp-l", 7, 0.05, (60, 41), {"scales": (0.5, 1.0)}),
    pytest.param("resnet101", 5, 0.05, (50, 67), {"scales": (1.0, 0.75, 0.5), "flip": True}, marks=pytest.mark.slow),
    ("msc-largefov", 4, 0.05, (45, 60), {"scales": (1.0, 0.5)}),
    ("largefov", 3, 0.05, (90, 30), {"pad": "paper"}),
    ("deeplabv3-mnv2", 21, 0.2, (70, 101), {}),
    ("deeplabv3plus-mnv2", 5, 0.2, (60, 41), {"scales": (0.75, 1.0), "flip": True}),
    ("deeplabv3-mobilenetv3", 7, 0.2, (64, 50), {}),
    ("deeplabv3-resnet50", 3, 0.05, (30, 47), {}),
]


@pytest.mark.tf
@pytest.mark.parametrize("engine", ["numba", "onnxruntime"])
@pytest.mark.parametrize(("architecture", "classes", "width", "shape", "settings"), CASES, ids=str)
def test_engines_agree(architecture, classes, width, shape, settings, engine):
    check(engine, architecture, classes, width, shape, 3, **settings)


def fuzzed(count):
    random = np.random.default_rng(7)
    for number in range(count):
        scales = tuple(random.choice([0.25, 0.5, 0.75, 1.0, 1.5], random.integers(1, 4), replace=False).tolist())
        settings = {"scales": scales, "flip": bool(random.integers(2))}
        shape = tuple(int(side) for side in random.integers(1, 200, 2))
        width = float(random.uniform(0.05, 0.3))
        yield list(ARCHITECTURES)[number % len(ARCHITECTURES)], int(random.integers(2, 256)), width, shape, settings


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "classes", "width", "shape", "settings"), list(fuzzed(60)), ids=str)
def test_engines_agree_for_many_sizes_and_settings(architecture, classes, width, shape, settings):
    check("numba", architecture, classes, width, shape, 5, **settings)
    check("onnxruntime", architecture, classes, width, shape, 5, **settings)


@pytest.mark.usefixtures("_cpu")
def test_onnx_runtime_is_for_depthwise_networks():
    def chosen(architecture):
        return with_engine(PredictionSettings(), ModelInfo(("a",), architecture)).engine

    assert chosen("deeplabv3plus-mnv2") == "onnxruntime"
    assert chosen("largefov") == "numba"


def test_onnx_runtime_needs_neither_numba_nor_tensorflow():
    script = (
        "import sys, numpy as np\n"
        "from deeplabctl.network import ARCHITECTURES\n"
        "from deeplabctl.prediction import PredictionSettings, Segmenter\n"
        "from deeplabctl.weights.fitting import Network\n"
        "from deeplabctl.weights.model_info import ModelInfo\n"
        "info = ModelInfo(('a', 'b', 'c'), 'deeplabv3-mnv2', 0.2)\n"
        "network = Network(info, ARCHITECTURES[info.architecture].random_weights(3, 0.2, 0), [], [], 3)\n"
        "net = Segmenter.from_network(network, PredictionSettings(engine='onnxruntime', image_size=64))\n"
        "image = np.random.default_rng(0).integers(0, 256, (70, 101, 3)).astype(np.uint8)\n"
        "assert net.label(image).shape == net.predict(image).label.shape == (70, 101)\n"
        "print(*{'numba', 'llvmlite', 'tensorflow'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"


def test_onnx_runtime_says_which_settings_need_compiled_kernels():
    settings = [{}, {"scales": (0.5,)}, {"scales": (1.0, 1.5)}, {"flip": True}, {"tile": 256}]
    needs = [OnnxEngine.compiles(PredictionSettings(**each)) for each in settings]
    assert needs == [False, True, True, True, True]


@pytest.mark.parametrize("crf", [None, CrfParams(iterations=1)])
def test_images_at_once_in_threads_are_segmented_as_each_alone(crf, monkeypatch):
    monkeypatch.setattr("deeplabctl.prediction.segmenter.available_cpus", lambda: 4)
    settings = PredictionSettings(engine="onnxruntime", crf=crf, image_size=64)
    segmenter = segmenter_of("deeplabv3-mnv2", 5, 0.2, 1, settings)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (30 + number, 41, 3)).astype(np.uint8) for number in range(5)]
    images.append(random.integers(0, 256, (90, 70, 3)).astype(np.uint8))  # which is made smaller
    failed = Result(9, error=DataError("unreadable"))
    found = list(segmenter.segment([failed, *map(Result, range(6), images)], scores=True))
    assert found[0] is failed
    for result, image in zip(found[1:], images, strict=True):
        label, scores = segmenter.predict(image)
        np.testing.assert_array_equal(result.found(), label)
        np.testing.assert_array_equal(result.scores, scores)
        np.testing.assert_array_equal(result.image, image)
    assert len(segmenter._source.engines) == 2
    assert len(list(segmenter.segment([Result(0, images[0])]))) == 1


def test_refining_in_threads_takes_the_memory_of_the_working_size(monkeypatch):
    needed = []

    def map_ahead(function, items, *, size, **options):
        needed.extend(map(size, items))
        return iter(())

    monkeypatch.setattr("deeplabctl.prediction.segmenter.available_cpus", lambda: 4)
    monkeypatch.setattr("deeplabctl.prediction.segmenter.map_ahead", map_ahead)
    settings = PredictionSettings(engine="onnxruntime", crf=CrfParams(), image_size=64)
    segmenter = segmenter_of("deeplabv3-mnv2", 5, 0.2, 1, settings)
    images = [np.zeros((height, width, 3), np.uint8) for height, width in ((48, 64), (960, 1280))]
    list(segmenter.segment(map(Result, range(2), images)))
    assert needed[0] == needed[1] > 0


@pytest.mark.parametrize("half_pixel", [False, True])
def test_labels_in_numpy_are_those_of_the_kernels(half_pixel):
    random = np.random.default_rng(2)
    workers, rule = Workers(1), HALF_PIXELS if half_pixel else CORNERS
    for small, full, size in (((9, 13), (65, 97), (60, 90)), ((1, 1), (1, 1), (1, 1)), ((40, 3), (313, 17), (313, 9))):
        logits = (random.normal(size=(*small, 11)) * 3).astype(np.float32)
        for values in (logits, np.round(logits)):  # with ties
            label, scores = fused([[values]], full, size, workers, with_scores=True, half_pixel=half_pixel)
            assert np.mean(label_of(values, full, rule, size) != label) < 1e-3  # without fused multiply-adds: ties
            large = np.exp(enlarge(values, full, rule, size))
            np.testing.assert_allclose(large / large.sum(-1, keepdims=True), scores, atol=2e-6)


def test_label_of_values_that_are_no_numbers_is_no_error():
    assert label_of(np.full((3, 4, 2), np.nan, np.float32), (9, 12)).shape == (9, 12)


@pytest.mark.tf
@pytest.mark.usefixtures("_cpu")
def test_a_call_in_another_format_is_tensorflows_and_the_model_has_the_same_weights(needs_bfloat16):
    rgb = np.load(DATA / "inputs_u8.npz")["33x33"][..., ::-1]
    segmenter = dl.load(fixture(NETS["tiny"]))
    assert segmenter.applied.engine == "numba"
    rough = segmenter(np.ascontiguousarray(rgb), precision="bfloat16")
    np.testing.assert_allclose(rough.scores, segmenter.predict(rgb).scores, atol=0.1)
    kernel = read_network(fixture(NETS["tiny"])).weights["conv1_1/kernel"]
    np.testing.assert_array_equal(segmenter.model.get_layer("conv1_1").kernel, kernel)


@pytest.mark.tf
def test_numba_on_a_keras_model_computes_with_its_weights():
    segmenter = dl.load(fixture(NETS["tiny"]), engine="tensorflow")
    image = np.ascontiguousarray(np.load(DATA / "inputs_u8.npz")["33x33"][..., ::-1])
    own = Segmenter(segmenter.model, segmenter.info)
    assert own.applied.engine == "tensorflow"  # which is loaded
    found = own(image, engine="numba")
    np.testing.assert_allclose(found.scores, own.predict(image).scores, atol=1e-4)


def test_scores_made_later_from_coarse_logits_are_those_of_the_prediction():
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    segmenter = dl.load(fixture(NETS["tiny"]), scales=(0.5, 1.0), flip=True, engine="numba")
    coarse = segmenter.runner.coarse_logits(rgb)
    assert [logits.shape[0] for logits in coarse] == [2, 2]
    np.testing.assert_array_equal(segmenter.runner.scores_from(coarse, rgb.shape[:2]), segmenter.predict(rgb).scores)


def test_prediction_of_a_mirrored_image_is_the_mirrored_prediction_with_flip_only():
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    flipping = dl.load(fixture(NETS["tiny"]), flip=True, engine="numba")
    np.testing.assert_array_equal(flipping.label(rgb[:, ::-1]), flipping.label(rgb)[:, ::-1])
    plain = flipping.with_settings(PredictionSettings(engine="numba"))
    assert (plain.label(rgb[:, ::-1]) != plain.label(rgb)[:, ::-1]).any()


def test_image_that_there_is_no_memory_for_is_an_error(monkeypatch):
    segmenter = dl.load(fixture(NETS["tiny"]), engine="numba")
    least = segmenter.runner.engine.least_memory(1, 401, 305)
    assert least >= 401 * 305 * 4 * 16 * 2
    monkeypatch.setattr("deeplabctl.prediction.forward.memory_limit", lambda: least - 1)
    with pytest.raises(DataError, match="not enough memory to segment this image of 300x400 pixels"):
        segmenter.label(np.zeros((400, 300, 3), np.uint8))


@pytest.mark.parametrize("settings", [{}, {"tile": 16}, {"scales": (0.5, 1.0), "flip": True}])
@pytest.mark.parametrize("engine", ["numba", "onnxruntime", pytest.param("tensorflow", marks=pytest.mark.tf)])
def test_logits_that_are_not_finite_are_an_error(engine, settings):
    """They had one label, background, at every pixel."""
    network = read_network(fixture(NETS["tiny"]))
    (classifier,) = ARCHITECTURES["largefov"].classifiers
    network.weights[f"{classifier}/kernel"] = np.full_like(network.weights[f"{classifier}/kernel"], 3e38)
    segmenter = Segmenter.from_network(network, PredictionSettings(engine=engine, **settings))
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for ask in (segmenter.label, segmenter.predict, segmenter.runner.coarse_logits):
        with pytest.raises(DataError, match="expected finite logits of this image, got some that are not"):
            ask(image)


@pytest.mark.process
def test_infer_and_eval_with_numbas_engine_never_load_tensorflow(tmp_path):
    Image.new("RGB", (41, 23), "red").save(tmp_path / "a.png")
    weights = ["--weights", fixture(NETS["tiny"]), "--engine", "numba"]
    code, out, err = run_without_tensorflow(
        "infer", "a.png", *weights, "--overlay", "--json", cwd=tmp_path, loaded="numba"
    )
    assert code == 0, err
    assert json.loads(out)["settings"]["engine"] == "numba"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / "set" / "JPEGImages" / "a.png")
    Image.new("L", (41, 23), 3).save(tmp_path / "set" / "SegmentationClass" / "a.png")
    (tmp_path / "set" / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    code, out, err = run_without_tensorflow(
        "eval", "--data", "set", *weights, "--flip", "--json", cwd=tmp_path, loaded="numba"
    )
    assert code == 0, err
    assert json.loads(out)["settings"]["engine"] == "numba"


@pytest.mark.tf
@pytest.mark.usefixtures("needs_bfloat16")
def test_precision_of_the_commands_is_tensorflows(tmp_path, deeplabctl, monkeypatch):
    Image.new("RGB", (30, 20), "green").save(tmp_path / "a.png")
    weights = ["infer", "a.png", "--weights", fixture(NETS["tiny"]), "--precision", "bfloat16", "--json"]
    code, out, err = deeplabctl(*weights)
    assert code == 0, err
    settings = json.loads(out)["settings"]
    assert (settings["engine"], settings["precision"]) == ("tensorflow", "bfloat16")
    code, _, err = deeplabctl(*weights, "--engine", "numba")
    assert (code, "Invalid value for --precision: the engine numba computes in float32 only" in err) == (2, True)
    monkeypatch.setattr("deeplabctl.prediction.engines.engine.can_compute", lambda precision: False)
    code, _, err = deeplabctl(*weights, "--overwrite")
    assert (code, "--precision: expected a format that TensorFlow can compute in here, got bfloat16" in err) == (
        1,
        True,
    )
