import numpy as np
import pytest
from caffe_files import DATA, read_blobs
from making import make_dataset

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_label
from deeplabctl.evaluation import evaluate
from deeplabctl.metrics import ConfusionMatrix
from deeplabctl.reporting import Advanced, Finished, Started
from deeplabctl.weights import ModelInfo

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def tiny():
    from deeplabctl.model import assign_weights, build_model

    model = build_model("largefov", 21, width=1 / 32)
    assign_weights(model, read_blobs(DATA / "lfov_tiny_v2.caffemodel"))
    return model


def segmenter(model, pad="tight"):
    from deeplabctl.prediction import Segmenter

    return Segmenter(model, ModelInfo(VOC_CLASSES, width=1 / 32), pad)


@pytest.mark.parametrize("size", ["33x33", "321x321"])
def test_label_of_an_8k_plus_1_image_is_caffes(tiny, size):
    rgb = np.load(DATA / "inputs_u8.npz")[size][..., ::-1]
    expected = np.load(DATA / f"fwd_tiny_{size}.npz")["interp_argmax"][0]
    prediction = segmenter(tiny).predict(rgb)
    np.testing.assert_array_equal(prediction.label, expected)
    np.testing.assert_array_equal(segmenter(tiny).label(rgb), expected)
    assert prediction.scores.shape == (*rgb.shape[:2], 21)
    np.testing.assert_allclose(prediction.scores.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(prediction.scores.argmax(-1), expected)


@pytest.mark.parametrize("shape", [(1, 1), (97, 130), (40, 64), (120, 33)])
def test_any_size_comes_back_in_its_own_size(tiny, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    label, scores = segmenter(tiny).predict(image)
    assert label.shape == shape
    assert scores.shape == (*shape, 21)


def test_padding_is_with_the_mean_at_the_bottom_and_right(tiny):
    """What the padded net sees is the 8k + 1 image whose margin is the mean: 0 after it is taken."""
    import tensorflow as tf

    rgb = np.load(DATA / "inputs_u8.npz")["97x130"][..., ::-1]
    padded = np.zeros((1, 513, 513, 3), np.float32)
    padded[0, :97, :130] = rgb[..., ::-1] - np.float32([104.008, 116.669, 122.675])
    full = tf.raw_ops.ResizeBilinear(images=tiny(padded), size=(513, 513), align_corners=True)
    np.testing.assert_array_equal(segmenter(tiny, "paper").label(rgb), np.argmax(full[0, :97, :130], -1))
    assert (segmenter(tiny, "paper").label(rgb) != segmenter(tiny, "tight").label(rgb)).any()


def test_evaluation_is_one_matrix_over_all_images_at_their_own_sizes(tiny, tmp_path):
    classes = [f"c{index}" for index in range(21)]
    root = make_dataset(tmp_path / "set", val=5, size=(50, 71), classes=classes)
    dataset = open_dataset(root)
    events = []
    scored = evaluate(segmenter(tiny), dataset, dataset.samples("val"), events.append)
    expected = ConfusionMatrix(21)
    from deeplabctl.data.images import read_image

    for sample in dataset.samples("val"):
        expected.update(read_label(sample.label), segmenter(tiny).label(read_image(sample.image)))
    np.testing.assert_array_equal(scored.matrix.counts, expected.counts)
    assert events == [Started("scoring", 5, "images"), *[Advanced(1)] * 5, Finished()]
    result = scored.to_dict()
    assert result["miou"] == pytest.approx(expected.mean_iou())
    assert result["images"] == 5
    assert [entry["name"] for entry in result["classes"]] == classes
    assert None in [entry["iou"] for entry in result["classes"]]  # absent, not 0 and not NaN
