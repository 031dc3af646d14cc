"""Compare the dense CRF with pydensecrf, at one normalization: how far apart, how much faster.

python benchmarks/dense_crf.py [--images N] [PHOTO...]

Photos are scikit-image's where it is installed, else those of the tests; all are brought to 500x375. Scores have 21
labels, of which four or five compete, and look like a network's: softmax at an eighth of the size, enlarged. Both
programs run in turn in this process; a figure is pydensecrf's median over ours. Without pydensecrf (it has no wheels:
`pip install pydensecrf2==1.1` compiles it) ours is measured alone.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabctl.crf import CrfParams, refine
from deeplabctl.parallel import map_ahead

WIDTH, HEIGHT, LABELS = 500, 375, 21
SETTINGS = {
    "A": CrfParams(bi_xy_std=49, bi_rgb_std=5, bi_w=4, normalization="symmetric"),
    "B": CrfParams(bi_xy_std=121, bi_rgb_std=5, bi_w=5, normalization="symmetric"),
    "C": CrfParams(bi_xy_std=67, bi_rgb_std=3, bi_w=4, normalization="symmetric"),
}
FIRST_USE = """
import time, numpy as np
begin = time.perf_counter()
from deeplabctl.crf import compile_kernels
compile_kernels()
print(time.perf_counter() - begin)
"""


def photos(paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and pictures (375, 500, 3) uint8 RGB."""
    pictures = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in paths}
    if not pictures:
        try:
            import skimage.data

            pictures = {name: getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}
        except (ImportError, OSError):
            print("scikit-image's photos are not here: two small ones of the tests are enlarged, which makes them easy")
            data = Path(__file__).parents[1] / "tests" / "data"
            pictures["rocket"] = np.load(data / "crf" / "pydensecrf_249x187.npz")["image"]
            pictures["321x321"] = np.load(data / "caffe" / "inputs_u8.npz")["321x321"][..., ::-1]
    for name, picture in pictures.items():
        yield name, np.array(Image.fromarray(np.ascontiguousarray(picture[..., :3])).resize((WIDTH, HEIGHT)))


def network_scores(seed: int) -> np.ndarray:
    """Return scores (375, 500, 21) float32 after softmax: a background and four blobs, and others that are weak."""
    rng = np.random.default_rng(seed)
    height, width = HEIGHT // 8 + 2, WIDTH // 8 + 2

    def enlarged(plane: np.ndarray, size: tuple[int, int], kind: int) -> np.ndarray:
        return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, kind))

    smooth = [enlarged(rng.normal(0, 1.5, (6, 8)), (width, height), Image.Resampling.BICUBIC) for _ in range(LABELS)]
    logits = np.stack(smooth, -1) + rng.normal(0, 0.3, (height, width, LABELS))
    logits[..., 0] += 8
    y, x = np.mgrid[:height, :width]
    for label in rng.permutation(np.arange(1, LABELS))[:4]:
        distance = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width))
        logits[..., label] += 16 * np.exp(-((distance / rng.uniform(5, 12)) ** 2) / 2)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    planes = [enlarged(scores[..., i], (width * 8, height * 8), Image.Resampling.BILINEAR) for i in range(LABELS)]
    return np.clip(np.stack(planes, -1)[:HEIGHT, :WIDTH], 1e-5, 1)  # pydensecrf's own bound


def pydensecrf(image: np.ndarray, scores: np.ndarray, params: CrfParams) -> np.ndarray:
    """Return pydensecrf's marginals."""
    from pydensecrf.densecrf import DenseCRF2D

    energy = -np.log(scores).reshape(-1, LABELS).T
    crf = DenseCRF2D(WIDTH, HEIGHT, LABELS)
    crf.setUnaryEnergy(np.ascontiguousarray(energy))
    crf.addPairwiseGaussian(sxy=params.pos_xy_std, compat=params.pos_w)
    crf.addPairwiseBilateral(sxy=params.bi_xy_std, srgb=params.bi_rgb_std, rgbim=image, compat=params.bi_w)
    return np.asarray(crf.inference(params.iterations)).reshape(LABELS, HEIGHT, WIDTH).transpose(1, 2, 0)


def in_turn(runs: dict[str, Callable[[], np.ndarray]], rounds: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the median seconds of each, and what each returned last; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results = {}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            results[name] = run()
            if round_:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(measured) for name, measured in seconds.items()}, results


def one_thread(problems: list[tuple[str, np.ndarray, np.ndarray]], peer: bool) -> None:
    """Print times on one thread, and how far apart the results are."""
    ratios: dict[str, list[float]] = {"exact": [], "adaptive": []}
    for name, image, scores in problems:
        for letter, params in SETTINGS.items():
            runs = {
                "exact": lambda image=image, scores=scores, params=params: refine(image, scores, params),
                "adaptive": lambda image=image, scores=scores, params=params: refine(
                    image, scores, params, adaptive=True
                ),
            }
            if peer:
                runs["pydensecrf"] = lambda image=image, scores=scores, params=params: pydensecrf(image, scores, params)
            seconds, results = in_turn(runs, 5)
            line = f"{name} {letter}: " + ", ".join(f"{kind} {s * 1e3:.0f} ms" for kind, s in seconds.items())
            for kind in ratios if peer else ():
                ratios[kind].append(seconds["pydensecrf"] / seconds[kind])
                difference = abs(results[kind] - results["pydensecrf"]).max()
                agreement = (results[kind].argmax(-1) == results["pydensecrf"].argmax(-1)).mean()
                line += f"; {kind} x{ratios[kind][-1]:.2f}, off by {difference:.0e} at most, agrees at {agreement:.4%}"
            print(line, flush=True)
    for kind, values in ratios.items():
        if values:
            print(f"one thread, {kind}: x{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


def data_set(problems: list[tuple[str, np.ndarray, np.ndarray]], peer: bool, images: int) -> None:
    """Print times for many images on all cores."""
    pairs = [problems[i % len(problems)][1:] for i in range(images)]
    params = SETTINGS["A"]
    runs: dict[str, Callable[[], object]] = {
        kind: lambda adaptive=kind == "adaptive": [
            None for _ in map_ahead(lambda pair: refine(*pair, params, adaptive=adaptive), pairs)
        ]
        for kind in ("exact", "adaptive")
    }
    if peer:
        runs["pydensecrf"] = lambda: [None for pair in pairs if pydensecrf(*pair, params) is None]
    seconds, _ = in_turn(runs, 3)  # type: ignore[arg-type]
    for kind in ("exact", "adaptive"):
        ratio = f", x{seconds['pydensecrf'] / seconds[kind]:.2f}" if peer else ""
        print(f"{images} images on all cores, {kind}: {images / seconds[kind]:.1f} images/s{ratio}")


def main() -> None:
    """Print first use, one thread, all cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--images", type=int, default=20, help="of the measurement on all cores; 0: none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        for what in ("compiling the kernels, once", "loading them in a later process"):
            command = [sys.executable, "-c", FIRST_USE]
            run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            print(f"{what}: {float(run.stdout):.2f} s, numba's import included")
    try:
        import pydensecrf.densecrf  # noqa: F401

        peer = True
    except ImportError:
        peer = False
        print("pydensecrf is not installed: no ratios")
    problems = [(name, image, network_scores(100 + i)) for i, (name, image) in enumerate(photos(arguments.photos))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refine(*problems[0][1:], SETTINGS["C"])
    print(f"memory of one refinement: {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MB")
    one_thread(problems, peer)
    if arguments.images:
        data_set(problems, peer, arguments.images)


if __name__ == "__main__":
    main()
