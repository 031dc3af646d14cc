import pickle
from dataclasses import replace

import numpy as np
import pytest
from caffe_files import DATA
from PIL import Image
from tiny_segmenter import segmenter

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError, OutputError, RecipeError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction import PredictionSettings, Segmentation, Segmenter
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.settings import resolve

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("size", ["33x33", "321x321"])
def test_label_of_an_8k_plus_1_image_is_caffes(net, size):
    rgb = np.load(DATA / "inputs_u8.npz")[size][..., ::-1]
    expected = np.load(DATA / f"fwd_tiny_{size}.npz")["interp_argmax"][0]
    prediction = net.predict(rgb)
    np.testing.assert_array_equal(prediction.label, expected)
    np.testing.assert_array_equal(net.label(rgb), expected)
    assert prediction.scores.shape == (*rgb.shape[:2], 21)
    np.testing.assert_allclose(prediction.scores.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(prediction.scores.argmax(-1), expected)


@pytest.mark.parametrize("shape", [(1, 1), (97, 130), (40, 64), (120, 33)])
def test_any_size_comes_back_in_its_own_size(net, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    label, scores = net.predict(image)
    assert label.shape == shape
    assert scores.shape == (*shape, 21)


def test_padding_is_with_the_mean_at_the_bottom_and_right(tiny, net):
    """What the padded net sees is the 8k + 1 image whose margin is the mean: 0 after it is taken."""
    import tensorflow as tf

    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    padded = np.zeros((1, 513, 513, 3), np.float32)
    padded[0, :97, :130] = rgb[..., ::-1] - np.float32([104.008, 116.669, 122.675])
    full = tf.raw_ops.ResizeBilinear(images=tiny(padded), size=(513, 513), align_corners=True)
    label = segmenter(tiny, "paper").label(rgb)
    np.testing.assert_array_equal(label, np.argmax(full[0, :97, :130], -1))
    assert (label != net.label(rgb)).any()


def test_network_is_used_as_its_recipe_says_unless_other_settings_are_given(tiny, net):
    info = replace(net.info, provenance={"recipe": {"eval": {"pad": "paper", "flip": True}, "data": {"scale": 0.5}}})
    assert Segmenter(tiny, info).settings == PredictionSettings("paper", (0.5,), True)
    assert Segmenter(tiny, info, PredictionSettings()).settings == PredictionSettings()


def resize(x, height, width):
    """Resize (h, w, C) bilinearly with aligned corners: the formula of Caffe's INTERP layer, in float64."""

    def positions(old, new):
        at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0)
        low = np.minimum(at.astype(int), old - 1)
        return low, np.minimum(low + 1, old - 1), at - low

    top, bottom, down = positions(x.shape[0], height)
    x = x[top] * (1 - down)[:, None, None] + x[bottom] * down[:, None, None]
    left, right, across = positions(x.shape[1], width)
    return x[:, left] * (1 - across)[:, None] + x[:, right] * across[:, None]


def literal_logits(model, rgb, size, scales, flip):
    """Fuse scales by the maximum and the mirrored image by the mean, step by step, on an image padded to ``size``."""

    def of(image):
        padded = np.zeros((*size, 3))
        padded[: image.shape[0], : image.shape[1]] = image[..., ::-1] - np.array([104.008, 116.669, 122.675])
        fused = []
        for scale in scales:
            sides = [8 * round((side - 1) * scale / 8) + 1 for side in size]
            logits = model(resize(padded, *sides)[None].astype(np.float32)).numpy()[0].astype(float)
            fused.append(resize(logits, *size)[: image.shape[0], : image.shape[1]])
        return np.max(fused, 0)

    return (of(rgb) + of(rgb[:, ::-1])[:, ::-1]) / 2 if flip else of(rgb)


@pytest.mark.parametrize(
    ("pad", "size", "scales", "flip"),
    [
        ("tight", (97, 137), (1.0,), True),
        ("tight", (97, 137), (0.5, 0.75, 1.0), False),
        ("tight", (97, 137), (1.5, 1.0), True),
        ("paper", (513, 513), (0.5, 0.75), False),
    ],
)
def test_scales_are_fused_by_the_maximum_and_mirrored_images_by_the_mean(tiny, pad, size, scales, flip):
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    logits = literal_logits(tiny, rgb, size, scales, flip)
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    net = segmenter(tiny, pad, scales, flip)
    label, scores = net.predict(rgb)
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    sure = np.sort(expected, -1)[..., -1] - np.sort(expected, -1)[..., -2] > 1e-3
    np.testing.assert_array_equal(label[sure], expected.argmax(-1)[sure])
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(net.label(rgb), label)


def test_prediction_of_a_mirrored_image_is_the_mirrored_prediction_with_flip_only(tiny, net):
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    flipping = segmenter(tiny, flip=True)
    np.testing.assert_array_equal(flipping.label(rgb[:, ::-1]), flipping.label(rgb)[:, ::-1])
    assert (net.label(rgb[:, ::-1]) != net.label(rgb)[:, ::-1]).any()


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [(513, 0.75, 385), (513, 0.5, 257), (513, 1, 513), (321, 0.5, 161), (105, 0.75, 81), (9, 0.1, 1), (1, 2, 1)],
)
def test_scaled_sizes_are_8k_plus_1_and_those_of_the_original_nets(size, scale, expected):
    assert ARCHITECTURES["largefov"].scaled_size(size, scale) == expected


@pytest.mark.parametrize(("pad", "scales", "flip"), [("tight", (1.0,), False), ("paper", (0.5, 1.0), True)])
def test_scores_made_later_from_coarse_logits_are_those_of_the_prediction(tiny, pad, scales, flip):
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    whole = segmenter(tiny, pad, scales, flip)
    coarse = whole.runner.coarse_logits(rgb)
    assert len(coarse) == len(scales)
    np.testing.assert_allclose(whole.runner.scores_from(coarse, rgb.shape[:2]), whole.predict(rgb).scores, atol=1e-6)


@pytest.mark.parametrize("crf", [None, "fake"])
def test_many_images_come_back_in_order_with_their_tags(tiny, net, crf, monkeypatch):
    from deeplabctl.crf.params import CrfParams

    def refine(image, scores, params, *, adaptive):
        assert (params.bi_w, adaptive) == (9, True)
        assert image.shape[:2] == scores.shape[:2]
        return np.roll(scores, 1, -1)

    monkeypatch.setattr("deeplabctl.prediction.segmenter.refine", refine)
    images = [np.random.default_rng(n).integers(0, 256, (20 + n, 30, 3)).astype(np.uint8) for n in range(5)]
    params = None if crf is None else CrfParams(bi_w=9)
    found = list(segmenter(tiny, crf=params, crf_adaptive=params is not None).labels(enumerate(images)))
    assert [tag for tag, _ in found] == list(range(5))
    for image, (_, label) in zip(images, found, strict=True):
        expected = net.label(image)
        np.testing.assert_array_equal(label, expected if crf is None else (expected + 1) % 21)
        assert label.dtype == np.uint8


def test_call_takes_a_path_a_pil_image_or_an_array_one_or_many(net, tmp_path):
    rgb = np.ascontiguousarray(np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1])
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    expected = net.predict(rgb)
    results = [net(tmp_path / "photo.png"), net(str(tmp_path / "photo.png")), net(Image.fromarray(rgb)), net(rgb)]
    results += net([rgb, tmp_path / "photo.png"])
    assert len(results) == 6
    for result in results:
        np.testing.assert_array_equal(result.image, rgb)
        np.testing.assert_array_equal(result.label, expected.label)
        np.testing.assert_array_equal(result.scores, expected.scores)
        assert result.classes == VOC_CLASSES


def test_array_may_be_reused_for_the_next_image(net):
    rgb = np.load(DATA / "inputs_u8.npz")["33x33"]
    frames, reused = [rgb, rgb[::-1], 255 - rgb], np.empty_like(rgb)

    def read():
        for frame in frames:
            reused[:] = frame
            yield reused

    for result, frame in zip(net(read()), frames, strict=True):
        np.testing.assert_array_equal(result.image, frame)
        np.testing.assert_array_equal(result.scores, net.predict(frame).scores)


def test_settings_of_a_call_are_those_of_a_segmenter_made_with_them(tiny, net):
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    before = net(rgb)
    changed = net(rgb, scales=(0.5, 1.0), flip=True, pad="paper")
    np.testing.assert_array_equal(changed.scores, segmenter(tiny, "paper", (0.5, 1.0), True).predict(rgb).scores)
    np.testing.assert_array_equal(net(rgb).scores, before.scores)  # and is not changed itself


def test_large_images_are_computed_and_refined_at_their_working_size(net):
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    large = np.asarray(Image.fromarray(rgb).resize((390, 291)))
    small = np.asarray(Image.fromarray(large).resize((130, 97), Image.Resampling.BILINEAR))
    for crf in (False, "iterations=2"):
        scores = net(small, crf=crf).scores
        found = net(large, image_size=130, crf=crf)
        np.testing.assert_array_equal(found.image, large)
        resized = [Image.fromarray(scores[..., index]).resize((390, 291), Image.Resampling.BILINEAR)
                   for index in range(21)]  # fmt: skip
        np.testing.assert_array_equal(found.scores, np.stack(resized, -1))
        np.testing.assert_array_equal(found.label, found.scores.argmax(-1))
    at_130 = net.with_settings(replace(net.settings, image_size=130))
    results = list(at_130.segment([Result(0, large), Result(1, small)]))
    np.testing.assert_array_equal(results[0].found(), at_130.label(large))
    np.testing.assert_array_equal(results[1].found(), net.label(small))
    assert results[0].image is large


def test_crf_of_a_call_is_refine_on_the_scores(net):
    from deeplabctl.crf import CrfParams, refine

    rgb = np.ascontiguousarray(np.load(DATA / "inputs_u8.npz")["33x33"][..., ::-1])
    expected = refine(rgb, net.predict(rgb).scores, CrfParams(bi_w=7, iterations=2))
    for crf in (CrfParams(bi_w=7, iterations=2), "bi_w=7,iterations=2"):
        refined = net(rgb, crf=crf)
        np.testing.assert_array_equal(refined.scores, expected)
        np.testing.assert_array_equal(refined.label, expected.argmax(-1))


def test_bfloat16_scores_are_near_float32s_and_come_from_the_same_weights(tiny, net, needs_bfloat16):
    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    exact, rough = net.predict(rgb).scores, segmenter(tiny, precision="bfloat16").predict(rgb).scores
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.1


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"pad": "wide"}, "paper or tight"), ({"precision": "int8"}, "float32 or"), ({"scales": (9,)}, "at most 4")],
)
def test_settings_that_are_not_possible_are_refused(net, change, expected):
    with pytest.raises(RecipeError, match=expected):
        net(np.zeros((9, 9, 3), np.uint8), **change)


@pytest.mark.parametrize("crf", [False, True])
def test_many_images_have_the_labels_and_scores_of_each_alone(net, crf):
    rgb = np.load(DATA / "inputs_u8.npz")["33x33"][..., ::-1]
    images = [rgb, rgb[::2], rgb[:, ::2]]
    for result, image in zip(net(images, crf=crf), images, strict=True):
        alone = net.with_settings(resolve({"crf": crf}, net.info, before=net.settings)).predict(image)
        kept = pickle.loads(pickle.dumps(result))
        for found in (result, net(image, crf=crf), kept):
            np.testing.assert_array_equal(found.image, image)
            np.testing.assert_array_equal(found.label, alone.label)
            np.testing.assert_array_equal(found.scores, alone.scores)


@pytest.mark.parametrize("call", ["__call__", "label", "predict"])
@pytest.mark.parametrize(
    ("image", "fix"),
    [
        (np.full((9, 8, 3), 0.5), "multiply by 255"),
        (np.zeros((9, 8, 3), np.uint16), "values from 0 to 255"),
        (np.zeros((9, 8, 1), np.uint8), "array\\[..., 0\\]"),
        (np.zeros((3, 9, 8), np.uint8), "transpose"),
        (np.zeros((9, 8, 4), np.uint8), "drop the alpha channel"),
        (np.zeros((2, 9, 8, 3), np.uint8), "as a list"),
    ],
)
def test_arrays_that_are_no_images_are_refused_by_every_call(net, call, image, fix):
    with pytest.raises(DataError, match=fix):
        getattr(net, call)(image)
    with pytest.raises(DataError, match=fix):
        list(net.labels([("name", image)]))


def test_a_tensor_is_an_image(net):
    import tensorflow as tf

    rgb = np.load(DATA / "inputs_u8.npz")["33x33"]
    np.testing.assert_array_equal(net(tf.constant(rgb)).label, net.label(rgb))
    with pytest.raises(DataError, match="the image: expected an image of shape"):
        net(tf.constant("photo.jpg"))
    with pytest.raises(DataError, match=r"^images\[1\]: expected an image of shape"):
        net([rgb, np.zeros((4, 5))])
    with pytest.raises(DataError, match="the image: expected the path of an image, got an empty one"):
        net("")


def test_segmentation_names_the_areas_and_saves_the_mask(tmp_path):
    label = np.array([[0, 0, 0, 2]], np.uint8)
    result = Segmentation(
        np.zeros((1, 4, 3), np.uint8), label, ("a", "b", "c"), lambda: np.zeros((1, 4, 3), np.float32)
    )
    assert result.areas == {"a": 0.75, "c": 0.25}
    result.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_label(tmp_path / "mask.png"), label)
    with pytest.raises(OutputError, match=r"mask\.jpg: expected a name that ends in \.png"):
        result.save(tmp_path / "mask.jpg")
    assert result.overlay(legend=False).size == (4, 1)
    assert result.overlay().height > 1


LARGE = np.zeros((400, 300, 3), np.uint8)


def assert_only_large_fails(net, text):
    items = [("small", np.zeros((20, 30, 3), np.uint8)), ("large", LARGE)] * 2
    results = list(net.segment(Result(*item) for item in items))
    assert [result.item for result in results] == ["small", "large"] * 2
    for result in results:
        assert (result.item == "small") == (result.error is None)
        assert result.error is None or text in str(result.error)
    assert results[0].found().shape == (20, 30)


@pytest.mark.parametrize("crf", [None, "crf"])
def test_image_that_there_is_no_memory_for_fails_alone(tiny, crf, monkeypatch):
    from deeplabctl.crf.params import CrfParams

    monkeypatch.setattr("deeplabctl.prediction.segmenter.refine", lambda image, scores, params, *, adaptive: scores)
    net = segmenter(tiny, crf=CrfParams() if crf else None)
    least = net.runner.engine.least_memory(1, 401, 305)
    assert least == 401 * 305 * 2 * 2 * 4  # two channels are read and two written, at width 1 / 32
    monkeypatch.setattr("deeplabctl.prediction.forward.memory_limit", lambda: least - 1)
    assert_only_large_fails(net, "not enough memory to segment this image of 300x400 pixels")
    for ask in (net.label, net.predict, net, net.runner.coarse_logits, lambda image: list(net.labels([(0, image)]))):
        with pytest.raises(DataError, match="make it smaller, or run the network at a smaller scale: `scales="):
            ask(LARGE)


@pytest.mark.parametrize("crf", [None, "crf"])
def test_image_that_there_is_no_memory_to_enlarge_fails_alone(tiny, crf, monkeypatch):
    from deeplabctl.crf.params import CrfParams

    def label_of(scores, size):
        raise MemoryError

    monkeypatch.setattr("deeplabctl.prediction.segmenter.label_of", label_of)
    net = segmenter(tiny, image_size=128, crf=CrfParams() if crf else None)
    assert_only_large_fails(net, "not enough memory to segment this image of 300x400 pixels")


def test_image_that_there_is_no_memory_to_refine_fails_alone_and_says_what_took_it(tiny, monkeypatch):
    from deeplabctl.crf.params import CrfParams

    net = segmenter(tiny, crf=CrfParams())
    monkeypatch.setattr("deeplabctl.crf.mean_field.free_memory", lambda: 10 << 20)
    assert_only_large_fails(net, "cannot refine this image of 300x400 pixels: CRF: scores of 400x300x")
    with pytest.raises(DataError, match="are free; make it smaller, or leave out `crf`"):
        net.label(LARGE)


def test_scores_count_as_memory(net, monkeypatch):
    least = net.runner.engine.least_memory(1, 401, 305)
    monkeypatch.setattr("deeplabctl.prediction.forward.memory_limit", lambda: least)
    assert net.label(LARGE).shape == (400, 300)
    with pytest.raises(DataError, match="not enough memory to segment this image"):
        net.predict(LARGE)


def test_tensorflow_that_runs_out_of_memory_is_the_same_error(tiny, monkeypatch):
    import tensorflow as tf

    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("deeplabctl.prediction.engines.tensorflow.fused_logits", full)
    with pytest.raises(DataError, match="not enough memory to segment this image of 30x20 pixels"):
        segmenter(tiny).label(np.zeros((20, 30, 3), np.uint8))


def test_image_that_the_crf_cannot_refine_fails_alone(tiny):
    from deeplabctl.crf.params import CrfParams

    net = segmenter(tiny, crf=CrfParams(bi_xy_std=0.1))
    assert_only_large_fails(net, "this image of 300x400 pixels: CRF: a standard deviation is too small")
    with pytest.raises(DataError, match="a standard deviation is too small"):
        net(LARGE)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("CRF: no numbers")])
def test_crf_that_fails_in_a_thread_is_the_images_error(tiny, error, monkeypatch):
    from deeplabctl.crf.params import CrfParams

    def refine(image, scores, params, *, adaptive):
        if len(image) == 400:
            raise error
        return scores

    monkeypatch.setattr("deeplabctl.prediction.segmenter.refine", refine)
    assert_only_large_fails(segmenter(tiny, crf=CrfParams()), "this image of 300x400 pixels")
