"""Measure a full-size training step, the loop around it, and a full-size prediction.

python benchmarks/training_step.py
"""

import itertools
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from input_pipeline import make_samples

from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.reporting import Trained
from deeplabctl.training import loop as training
from deeplabctl.training.plan import Plan, plan_training
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.weights.fitting import read_network

STEPS, BATCH = 12, 2


class TimedStep(training.TrainingStep):
    """Note the time that the bare step takes."""

    seconds: list[float] = []  # noqa: RUF012 - one training in this process

    def __call__(self, *arguments):
        """Run the step."""
        begin = time.perf_counter()
        loss = super().__call__(*arguments)
        self.seconds.append(time.perf_counter() - begin)
        return loss


def make_plan(root: Path) -> Plan:
    """Write a data set of VOC's size and plan a full-size training on it."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    samples = make_samples(root / "JPEGImages")
    for sample in samples:
        sample.label.rename(root / "SegmentationClass" / sample.label.name)
    for split, chosen in (("train", samples), ("val", samples[:1])):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(sample.id for sample in chosen))
    options = {"data.root": str(root), "model.init": "random", "solver.steps": STEPS, "solver.batch_size": BATCH}
    return plan_training("paper-v2", (), options)


def main() -> None:
    """Print medians, ratios, and the peak memory of this process."""
    training.TrainingStep = TimedStep
    events: list[tuple[float, Trained]] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(Path(folder, "voc"))
        with RunDirectory.create(Path(folder, "run"), plan.recipe, "voc") as run:
            training.train_plan(
                plan, run, lambda event: isinstance(event, Trained) and events.append((time.perf_counter(), event))
            )
            segmenter = Segmenter.from_network(read_network(run.path / "best.keras"), PredictionSettings("paper"))
    step = statistics.median(TimedStep.seconds[2:])
    loop = statistics.median(later[0] - earlier[0] for earlier, later in itertools.pairwise(events[1:]))
    print(f"step at width 1.0, crop 321, batch {BATCH}: {step:.2f} s, the first {TimedStep.seconds[0]:.1f} s")
    print(f"loop / bare step: {loop / step:.4f}")
    print(f"share of the time spent waiting for data: {events[-1][1].waiting:.2%}")

    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3)).astype(np.uint8)
    segmenter.label(image)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        segmenter.label(image)
        times.append(time.perf_counter() - begin)
    print(f"prediction at 513x513: {statistics.median(times):.2f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
