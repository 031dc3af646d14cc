import dataclasses
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from crf_oracle import exact_kernel, marginals
from crf_problems import problem, refine_energy, with_weak_labels
from PIL import Image

from deeplabctl.crf import CrfParams, refine
from deeplabctl.crf.lattice import tiled_order
from deeplabctl.crf.mean_field import memory_to_refine
from deeplabctl.parallel import map_ahead

DATA = Path(__file__).parents[1] / "data" / "crf"
V2VOC = CrfParams(pos_w=3, pos_xy_std=3, bi_w=4, bi_xy_std=67, bi_rgb_std=3)
PROTO = CrfParams(pos_w=3, pos_xy_std=3, bi_w=5, bi_xy_std=50, bi_rgb_std=10)
NORMALIZATIONS = pytest.mark.parametrize("normalization", ["after", "symmetric"])


@pytest.fixture(scope="module")
def densecrf():
    return np.load(DATA / "densecrf_101x75.npz")


@pytest.mark.parametrize(
    ("params", "stored", "tolerance"),
    [
        (dataclasses.replace(V2VOC, iterations=1), "q1_v2voc", 1e-5),
        (V2VOC, "q10_v2voc", 1e-5),
        (PROTO, "q10_proto", 3e-4),  # stored as float16
    ],
)
def test_marginals_are_those_of_the_original_program(densecrf, params, stored, tolerance):
    refined = refine_energy(densecrf["image"], -densecrf["logits"].astype(np.float32), params)
    np.testing.assert_allclose(refined[::5], densecrf[stored].astype(np.float32), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("params", "stored"), [(V2VOC, "map10_v2voc"), (PROTO, "map10_proto")])
@pytest.mark.parametrize("adaptive", [False, True])
def test_labels_are_those_of_the_original_program_at_every_pixel(densecrf, params, stored, adaptive):
    scores = scipy.special.softmax(densecrf["logits"].astype(np.float32), -1)
    refined = refine(densecrf["image"], scores, params, adaptive=adaptive)
    np.testing.assert_array_equal(refined.argmax(-1), densecrf[stored])


def pydensecrfs(path):
    """Return image, energies, parameters, marginals and labels of a file; what is below 5e-4 is stored as 0."""
    stored = np.load(path)
    settings = json.loads(str(stored["params"]))
    near, alike = settings["gaussian"], settings["bilateral"]
    kernels = {"pos_w": near["compat"], "pos_xy_std": near["sxy"], "bi_w": alike["compat"], "bi_xy_std": alike["sxy"]}
    params = CrfParams(**kernels, bi_rgb_std=alike["srgb"], normalization="symmetric")
    energy = stored["unary_x8"].astype(np.float32) / 8
    return stored["image"], energy, params, stored["q"].astype(np.float32), stored["map"]


def test_marginals_are_pydensecrfs_with_symmetric_normalization():
    image, energy, params, q, labels = pydensecrfs(DATA / "pydensecrf_249x187.npz")
    refined = refine_energy(image, energy, params)
    np.testing.assert_allclose(refined[::5], q, rtol=0, atol=5.1e-4)
    np.testing.assert_array_equal(refined.argmax(-1), labels)


@pytest.mark.parametrize("name", ["astronaut_250x188", "coffee_250x188", "rocket_249x187"])
@pytest.mark.parametrize(("adaptive", "tolerance"), [(False, 5.1e-4), (True, 5e-3)])
def test_marginals_are_pydensecrfs_on_whole_photos(name, adaptive, tolerance):
    image, energy, params, q, labels = pydensecrfs(DATA / f"{name}.npz")
    refined = refine_energy(image, energy, params, adaptive=adaptive)
    np.testing.assert_allclose(refined, q, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(refined.argmax(-1), labels)


@pytest.mark.parametrize(
    ("height", "width", "labels", "iterations", "kind"),
    [
        (13, 17, 2, 3, "photo"),
        (21, 8, 7, 3, "noise"),
        (9, 14, 8, 1, "flat"),
        (16, 27, 9, 3, "photo"),
        (35, 34, 21, 3, "photo"),  # more than a tile each way
        (1, 40, 60, 3, "noise"),
        (40, 1, 3, 3, "photo"),
        (1, 1, 2, 3, "photo"),
        (12, 11, 255, 1, "photo"),
        (12, 11, 21, 0, "photo"),
    ],
)
@NORMALIZATIONS
def test_marginals_are_those_of_the_sparse_matrices(height, width, labels, iterations, kind, normalization):
    image, energy = problem(height, width, labels, kind=kind)
    params = CrfParams(bi_xy_std=20, bi_rgb_std=8, iterations=iterations, normalization=normalization)
    refined = refine_energy(image, energy, params)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, marginals(image, energy, params), rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", [{"bi_w": 0}, {"pos_w": 0}, {"bi_w": 0, "pos_w": 0}, {"pos_w": 30, "bi_w": 50}])
@NORMALIZATIONS
def test_kernels_of_any_weight_work(weights, normalization):
    image, energy = problem(15, 22, 5)
    params = CrfParams(bi_xy_std=20, bi_rgb_std=8, iterations=2, normalization=normalization, **weights)
    np.testing.assert_allclose(
        refine_energy(image, energy, params), marginals(image, energy, params), rtol=0, atol=1e-5
    )


def test_zeros_that_the_original_pads_with_add_vertices():
    image = np.array([[2, 0, 7], [6, 5, 3], [2, 5, 4], [6, 6, 5], [1, 7, 2]], np.uint8).reshape(5, 1, 3)
    energy = np.array([[0.5, -3], [0.75, 0.25], [-1, -0.75], [-0.25, 0.5], [-0.25, 1.25]], np.float32).reshape(5, 1, 2)
    params = CrfParams(bi_xy_std=20, bi_rgb_std=5)
    pydensecrf = {  # without the zeros 0.24 and 0.9937 would stand where 0.18 and 0.9904 stand
        "after": [0.175348893, 0.003860949, 0.001716253, 0.000875715, 0.000388215],
        "symmetric": [0.999939919, 0.999424934, 0.998860717, 0.997731268, 0.990433216],
    }
    for normalization, expected in pydensecrf.items():
        refined = refine_energy(image, energy, dataclasses.replace(params, normalization=normalization))
        np.testing.assert_allclose(refined[:, 0, 1], expected, rtol=0, atol=1e-5)


def test_labels_are_nearly_those_of_the_gaussian_kernels_themselves(densecrf):
    part = np.s_[10:50, 20:60]
    image, energy = densecrf["image"][part], -densecrf["logits"][part].astype(np.float32)
    exact = marginals(image, energy, V2VOC, exact_kernel).argmax(-1)
    assert (refine_energy(image, energy, V2VOC).argmax(-1) == exact).mean() > 0.97
    assert (energy.argmin(-1) == exact).mean() < 0.95  # so the CRF did something


def test_zeros_among_the_scores_have_finite_energies():
    image, _ = problem(11, 13, 4)
    certain = np.zeros((11, 13, 4), np.float32)
    certain[..., 2] = 1
    np.testing.assert_allclose(refine(image, certain), certain, atol=1e-12)


def test_arrays_of_any_memory_layout_give_the_same_marginals():
    image, scores = with_weak_labels(10, 12)
    expected = refine(image, scores)
    wide = np.repeat(scores, 2, 1)
    for image_, scores_ in (
        (np.asfortranarray(image), np.asfortranarray(scores)),
        (image[::-1, ::-1][::-1, ::-1], wide[:, ::2]),
        (np.repeat(image, 3, 0)[::3], scores.transpose(2, 0, 1).copy().transpose(1, 2, 0)),
    ):
        image_.setflags(write=False)
        scores_.setflags(write=False)
        np.testing.assert_array_equal(refine(image_, scores_), expected)


@pytest.mark.parametrize("adaptive", [False, True])
def test_threads_give_the_same_bits_in_order(adaptive):
    pairs = [with_weak_labels(40 + i, 50) for i in range(7)]
    together = map_ahead(lambda pair: refine(*pair, adaptive=adaptive), pairs, workers=3)
    for refined, pair in zip(together, pairs, strict=True):
        np.testing.assert_array_equal(refined, refine(*pair, adaptive=adaptive))


def test_image_that_takes_more_memory_than_is_free_is_refused_by_its_lattice(monkeypatch):
    scores = np.full((60, 80, 40), 1 / 40, np.float32)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    plain = np.full((60, 80, 3), 9, np.uint8)
    expected = [refine(image, scores) for image in (plain, noise)]
    enough = memory_to_refine(scores.shape)
    for free, fitting in ((enough, 2), (4 << 20, 1), (1 << 20, 0)):
        monkeypatch.setattr("deeplabctl.crf.mean_field.free_memory", lambda free=free: free)
        for image, before in zip((plain, noise)[:fitting], expected, strict=False):
            np.testing.assert_array_equal(refine(image, scores), before)
        for image in (plain, noise)[fitting:]:
            with pytest.raises(
                MemoryError, match=r"CRF: scores of 60x80x40 take 0\.0 GiB of memory, and 0\.0 are free"
            ):
                refine(image, scores)


@pytest.mark.process
def test_noise_takes_no_more_memory_than_is_counted():
    program = (
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from deeplabctl.crf import CrfParams, compile_kernels, refine\n"
        "from deeplabctl.crf.mean_field import memory_to_refine\n"
        "def peak(): return next(int(line.split()[1]) << 10\n"
        "    for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))\n"
        "compile_kernels()\n"
        "image = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)\n"
        "scores = np.full((300, 300, 64), 1 / 64, np.float32)\n"
        "before = peak()\n"
        "refine(image, scores, CrfParams(iterations=2))\n"
        "print((peak() - before) / memory_to_refine(scores.shape))\n"
    )
    share = float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert 0.6 < share <= 1


@pytest.mark.parametrize(
    ("image", "scores", "params", "message"),
    [
        (np.zeros((4, 5), np.uint8), None, {}, "expected an image"),
        (np.zeros((4, 5, 3), np.float32), None, {}, "got .4, 5, 3. of float32"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5, 2), np.float32), {}, "expected an image"),
        (None, np.zeros((5, 4, 2), np.float32), {}, r"scores \(4, 5, C\) of float32 .* got \(5, 4, 2\)"),
        (None, np.zeros((4, 5, 2)), {}, "got .4, 5, 2. of float64"),
        (None, np.ones((4, 5, 1), np.float32), {}, "2 to 255 labels, got 1"),
        (None, np.ones((4, 5, 256), np.float32), {}, "2 to 255 labels, got 256"),
        (None, np.full((4, 5, 2), -3, np.float32), {}, "expected scores after softmax"),
        (None, np.full((4, 5, 2), np.nan, np.float32), {}, "expected scores after softmax"),
        (None, None, {"bi_w": -1}, "bi_w: expected 0 to 1e6, got -1"),
        (None, None, {"bi_rgb_std": 0}, "bi_rgb_std: expected above 0, got 0"),
        (None, None, {"iterations": -1}, "iterations: expected a whole number, 0 to 1000, got -1"),
        (None, None, {"normalization": "before"}, "expected after or symmetric, got 'before'"),
        (None, None, {"bi_rgb_std": 1e-3}, "too small for an image of this size"),
        (None, None, {"pos_xy_std": 1e-30}, "too small for an image of this size"),
        (None, None, {"pos_xy_std": 1e-7}, "too small for an image of this size"),  # float32 has no digits for ranks
    ],
)
def test_wrong_inputs_and_parameters_are_refused_in_one_line(image, scores, params, message):
    image = np.full((4, 5, 3), 200, np.uint8) if image is None else image
    scores = np.full((4, 5, 2), 0.5, np.float32) if scores is None else scores
    with pytest.raises(ValueError, match=message):
        refine(image, scores, CrfParams(**params))


def test_images_and_scores_may_be_any_arrays_and_parameters_are_crf_params():
    image, scores = np.full((4, 5, 3), 200, np.uint8), np.full((4, 5, 2), 0.5, np.float32)
    np.testing.assert_array_equal(refine(Image.fromarray(image), scores), refine(image, scores))
    for wrong in ("bi_w=5", None, {"bi_w": 5}):
        with pytest.raises(ValueError, match="CRF: expected the parameters as CrfParams, got"):
            refine(image, scores, wrong)
    with pytest.raises(ValueError, match="bi_w: expected 0 to 1e6, got '4'"):
        refine(image, scores, CrfParams(bi_w="4"))


@pytest.mark.parametrize("size", [(1, 1), (16, 32), (33, 50), (15, 100)])
def test_pixels_go_tile_by_tile_in_an_order_that_is_not_kept(size):
    y, x = np.divmod(np.arange(size[0] * size[1]), size[1])
    order = tiled_order(*size)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(order, np.lexsort((x, y, x // 16, y // 16)))
    kept = weakref.ref(tiled_order(*size))
    assert kept() is None  # it takes 4 bytes of a pixel, for each size
