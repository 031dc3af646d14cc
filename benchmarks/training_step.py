"""Measure a full-size training step, the loop around it, and a full-size prediction.

python benchmarks/training_step.py
"""

import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from input_pipeline import make_samples

from deeplabctl.plan import plan_training
from deeplabctl.prediction import Segmenter
from deeplabctl.reporting import Trained
from deeplabctl.run_dir import RunDirectory
from deeplabctl.training import train
from deeplabctl.training_step import TrainingStep

STEPS, BATCH = 12, 2


def main() -> None:
    """Print medians of five, ratios, and the peak memory of this process."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "voc")
        (root / "JPEGImages").mkdir(parents=True)
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (root / "SegmentationClass").mkdir()
        names = []
        for sample in make_samples(root / "JPEGImages"):
            sample.label.rename(root / "SegmentationClass" / sample.label.name)
            names.append(sample.id)
        (lists / "train.txt").write_text("\n".join(names))
        (lists / "val.txt").write_text("\n".join(names[:2]))
        options = {"data.root": str(root), "model.init": "random", "solver.steps": STEPS, "solver.batch_size": BATCH}
        plan = plan_training("paper-v2", ["run.log_every=1"], options)

        bare: list[float] = []
        original = TrainingStep.__call__

        def timed(self, *arguments):
            begin = time.perf_counter()
            loss = original(self, *arguments)
            bare.append(time.perf_counter() - begin)
            return loss

        TrainingStep.__call__ = timed
        events: list[tuple[float, Trained]] = []
        with RunDirectory.create(Path(folder, "run"), plan.recipe, "voc") as run:
            train(plan, run, lambda event: isinstance(event, Trained) and events.append((time.perf_counter(), event)))
            metrics = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
            segmenter = Segmenter.from_weights(run.best, "paper")
        loop = [later[0] - earlier[0] for earlier, later in zip(events[1:], events[2:], strict=False)]
        print(
            f"step, width 1.0, crop 321, batch {BATCH}: {statistics.median(bare[2:]):.2f} s (the first {bare[0]:.1f} s)"
        )
        print(f"loop against bare step: {statistics.median(loop) / statistics.median(bare[2:]):.4f}")
        print(
            f"share of the time spent waiting for data: {[m for m in metrics if m['kind'] == 'train'][-1]['waiting']:.2%}"
        )
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
