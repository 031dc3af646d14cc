"""Compare the exports of a network: labels, mIoU, size, latency and cold start of each format and precision.

python benchmarks/exports.py --weights runs/camvid [--data camvid] [--split val] [--limit 20] [--formats onnx tflite]

The rows `keras` are the weights themselves, by the engines numba (the first, with which labels are compared) and
tensorflow. Latency is the median from picture to label of the split's first picture, without reading it; cold start the
median of `deeplabctl infer` on that picture in a process of its own. The exports are kept if --out names a folder.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image
from deeplabctl.errors import DeepLabError
from deeplabctl.evaluation import ConfusionMatrix
from deeplabctl.evaluation.network import EvaluationRequest, read_ahead
from deeplabctl.export import ExportRequest, export
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction import Segmenter, load
from deeplabctl.reporting import silent
from deeplabctl.weights import find_weights
from deeplabctl.weights.fitting import read_network

COMMAND = "import sys; sys.argv[0] = 'deeplabctl'; from deeplabctl.cli.app import main; main()"
PRECISIONS = ("float32", "float16", "int8")
HEADERS = ("format", "precision", "labels equal %", "mIoU %", "MB", "latency ms", "cold start s")


def size_of(path: Path) -> float:
    """Return the megabytes of a file or a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) / 1e6


def score(
    segmenter: Segmenter, dataset: Dataset, samples: list[Sample], reference: list[np.ndarray]
) -> tuple[float, float]:
    """Return the share of labels that are the reference's, which the first call fills, and the mIoU."""
    matrix = ConfusionMatrix(len(dataset.classes))
    fill, equal, pixels = not reference, 0, 0
    for number, (_, image, label) in enumerate(read_ahead(samples)):
        found = segmenter.label(image)
        matrix.update(label, found)
        if fill:
            reference.append(found)
        equal += int(np.count_nonzero(found == reference[number]))
        pixels += found.size
    return equal / pixels, matrix.mean_iou()


def latency(segmenter: Segmenter, path: Path, repetitions: int) -> float:
    """Return the median seconds from picture to label."""
    image, times = read_image(path), []
    segmenter.label(image)
    for _ in range(repetitions):
        begin = time.perf_counter()
        segmenter.label(image)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def cold_start(weights: Path, picture: Path, repetitions: int, *options: str) -> float:
    """Return the median seconds of the command `infer` on a picture, in a process of its own."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["infer", str(picture), "--weights", str(weights), "--out", folder, "--overwrite", "-q", *options]
        for _ in range(1 + repetitions):  # the first may compile
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", COMMAND, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def candidates(arguments: argparse.Namespace, weights: Path, out: Path):
    """Yield (format, precision, path, options of load and infer); exports are made here."""
    for engine in ("numba", "tensorflow"):
        yield f"keras, {engine}", "float32", weights, {"engine": engine}
    for format_ in arguments.formats:
        for precision in PRECISIONS:
            if (format_, precision) == ("savedmodel", "int8"):
                continue
            path = out / f"{precision}.{format_}"
            least = arguments.least_agreement
            request = ExportRequest(format_, str(weights), precision, path, least_agreement=least, overwrite=True,
                                    calibrate=arguments.calibrate if precision == "int8" else None,
                                    images=arguments.data)  # fmt: skip
            try:
                begin = time.perf_counter()
                export(request)
                print(f"# {path.name}: exported in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
            except DeepLabError as error:
                print(f"# {format_} {precision}: {error}", file=sys.stderr)
                continue
            yield format_, precision, path, {}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", help="run directory or weight file; default: the newest run")
    parser.add_argument("--data", help="data set; default: the one that the weights were trained on")
    parser.add_argument("--calibrate", help="data set or pictures for int8; default: that of the training")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, help="score the first images only")
    parser.add_argument("--formats", nargs="+", default=["savedmodel", "onnx", "tflite"])
    parser.add_argument("--least-agreement", type=float, help="as of the command; 0 keeps every export")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--starts", type=int, default=3, help="cold starts of each")
    parser.add_argument("--out", type=Path, help="folder to keep the exports in")
    arguments = parser.parse_args()
    weights = find_weights(arguments.weights).resolve()
    network = read_network(weights)
    dataset = EvaluationRequest(data=arguments.data).dataset(network.info, silent)
    samples = dataset.samples(arguments.split)[: arguments.limit]
    picture = samples[0].image.resolve()
    info, shape = network.info, read_image(picture).shape
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "onnxruntime", "ai-edge-litert"))
    print(
        f"{info.architecture} of width {info.width:g}, {len(samples)} images of {dataset.name} {arguments.split}; "
        f"latency and cold start of {shape[1]}x{shape[0]} pixels, {available_cpus()} CPUs; {packages}\n"
    )
    print(f"| {' | '.join(HEADERS)} |\n|---|---|{'---:|' * (len(HEADERS) - 2)}")
    reference: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        for format_, precision, path, options in candidates(arguments, weights, out):
            segmenter = load(path, **options)
            labels, miou = score(segmenter, dataset, samples, reference)
            seconds = latency(segmenter, picture, arguments.repetitions)
            del segmenter
            gc.collect()
            words = [word for name, value in options.items() for word in (f"--{name}", value)]
            start = cold_start(path, picture, arguments.starts, *words)
            print(
                f"| {format_} | {precision} | {100 * labels:.4f} | {100 * miou:.2f} | {size_of(path):.1f} | "
                f"{1e3 * seconds:.0f} | {start:.2f} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except DeepLabError as error:  # no weights, or no data set
        sys.exit(str(error))
