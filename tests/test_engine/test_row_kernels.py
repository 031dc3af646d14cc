import numpy as np
import pytest
from caffe_files import DATA
from plain_resizing import linear

from deeplabctl.engine.row_kernels import fused, resized
from deeplabctl.engine.workspace import Workers


@pytest.fixture(scope="module", params=[1, 3])
def workers(request):
    return Workers(request.param)


def test_resizing_is_caffes_interp_layer(workers):
    blobs = np.load(DATA / "interp.npz")
    coarse, expected = (blobs[name].transpose(0, 2, 3, 1) for name in ("a", "z8"))
    for one, wide in zip(coarse, expected, strict=True):
        np.testing.assert_allclose(resized([one], wide.shape[:2], workers), wide, atol=2e-6 * np.abs(wide).max())


@pytest.mark.parametrize("classes", [2, 8, 21, 255])
@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize(
    ("full", "size", "shapes"),
    [
        ((1, 1), (1, 1), [(1, 1)]),
        ((17, 9), (11, 9), [(3, 2)]),
        ((33, 25), (33, 20), [(5, 4), (3, 3), (9, 7)]),
    ],
)
def test_label_and_scores_are_the_largest_of_the_scales_and_the_mean_with_the_mirrored_image(
    workers, full, size, shapes, is_flipped, classes
):
    random = np.random.default_rng(classes)
    coarse = [[random.normal(0, 3, (*shape, classes)).astype(np.float32) for shape in shapes] for _ in range(2)]
    images = coarse[: 1 + is_flipped]
    logits = [np.max([linear(x, *full)[: size[0], : size[1]] for x in image], 0) for image in images]
    expected = (logits[0] + logits[1][:, ::-1]) / 2 if is_flipped else logits[0]
    powers = np.exp(expected - expected.max(-1, keepdims=True))
    label, scores = fused(images, full, size, workers, with_scores=True)
    np.testing.assert_allclose(scores, powers / powers.sum(-1, keepdims=True), atol=3e-6)
    order = np.sort(expected, -1)
    sure = order[..., -1] - order[..., -2] > 1e-4
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(label[sure], expected.argmax(-1)[sure])
    only, none = fused(images, full, size, workers, with_scores=False)
    np.testing.assert_array_equal(only, label)
    assert none.size == 0


@pytest.mark.parametrize(("before", "after"), [((5, 4), (33, 25)), ((1, 1), (7, 2)), ((9, 17), (20, 16))])
def test_resizing_with_half_pixels_aligns_the_borders(workers, before, after):
    image = np.random.default_rng(0).normal(size=(*before, 21)).astype(np.float32)
    found = resized([image], after, workers, half_pixel=True)
    np.testing.assert_allclose(found, linear(image, *after, half_pixel=True), atol=1e-5)


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_label_and_scores_are_the_mean_of_the_scores_of_scales_and_images(workers, is_flipped, half_pixel):
    random = np.random.default_rng(0)
    coarse = [[random.normal(0, 3, (*shape, 21)).astype(np.float32) for shape in ((5, 4), (9, 7))] for _ in range(2)]
    full, size = (33, 25), (30, 20)
    scores = []
    for number, logits in enumerate(coarse[: 1 + is_flipped]):
        for one in logits:
            powers = np.exp(linear(one, *full, half_pixel=half_pixel)[: size[0], : size[1]])
            scores.append((powers / powers.sum(-1, keepdims=True))[:, :: -1 if number else 1])
    expected = np.mean(scores, 0)
    settings = {"half_pixel": half_pixel, "averages": True}
    label, found = fused(coarse[: 1 + is_flipped], full, size, workers, with_scores=True, **settings)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    order = np.sort(expected, -1)
    sure = order[..., -1] - order[..., -2] > 1e-5
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(label[sure], expected.argmax(-1)[sure])
    np.testing.assert_array_equal(
        fused(coarse[: 1 + is_flipped], full, size, workers, with_scores=False, **settings)[0], label
    )


def test_the_first_of_equal_classes_is_the_label(workers):
    label, scores = fused([[np.zeros((2, 2, 5), np.float32)]], (9, 9), (9, 9), workers, with_scores=True)
    assert not label.any()
    np.testing.assert_allclose(scores, 0.2, rtol=1e-6)
