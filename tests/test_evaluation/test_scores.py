"""The scores of a split: its metrics, its extremes, and the memory that they take."""

import json
import shutil
from typing import ClassVar

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.data.dataset import Sample, open_dataset
from deeplabctl.data.labels import read_label, write_mask
from deeplabctl.evaluation import masks
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.evaluation.metrics import ConfusionMatrix, Metric
from deeplabctl.evaluation.scores import (
    METRICS,
    Extremes,
    SplitScores,
    class_columns,
    samples_to_score,
)
from deeplabctl.reporting import Note


def test_trimaps_of_many_classes_wait_only_in_a_part_of_the_memory(tmp_path, monkeypatch):
    names = tuple(f"class {number}" for number in range(200))  # a trimap has 13 MB
    dataset = open_dataset(make_dataset(tmp_path / "set", val=6, classes=names))
    asked = []
    real = masks.map_ahead
    monkeypatch.setattr(
        masks,
        "map_ahead",
        lambda function, items, **more: asked.append(more["size"]) or real(function, items, **more),
    )
    shutil.copytree(tmp_path / "set" / "SegmentationClass", tmp_path / "masks")
    samples = dataset.samples("val")
    extremes = Extremes(3)
    result = score_masks(tmp_path / "masks", dataset, samples, has_void=False, on_image=extremes.add)
    assert sum(metric.counts.nbytes for metric in result.scores.metrics) == asked[0](samples[0]) > 13e6
    kept = [part for image in [*extremes.best(), *extremes.worst()] for part in vars(image).values()]
    assert kept
    assert not any(isinstance(part, Metric | list) for part in kept)


def scored(name, right, split=None):
    """Return the scores of an image of ten pixels, of which ``right`` are right."""
    label = np.zeros((1, 10), np.uint8)
    prediction = (np.arange(10) >= right).astype(np.uint8)[None]
    return (split or SplitScores("ab", {})).score(Sample(name, None, None), label, prediction)


def test_extremes_are_the_best_and_the_worst_images_each_once():
    extremes = Extremes(2)
    for name, right in [("a", 5), ("b", 9), ("c", 1), ("d", 10), ("e", 4), ("f", 7)]:
        extremes.add(scored(name, right))
    void, prediction = np.full((1, 1), 255, np.uint8), np.zeros((1, 1), np.uint8)
    extremes.add(SplitScores("ab", {}).score(Sample("void", None, None), void, prediction))
    assert [image.sample.id for image in extremes.worst()] == ["c", "e"]
    assert [image.sample.id for image in extremes.best()] == ["d", "b"]
    few = Extremes(3)
    for name, right in [("a", 5), ("b", 9), ("c", 1), ("d", 10)]:
        few.add(scored(name, right))
    assert [image.sample.id for image in few.best()] == ["d"]


def test_split_counts_only_the_metrics_that_it_is_given():
    split = SplitScores(("a", "b"), {"pad": "tight"}, [ConfusionMatrix])
    split.add(scored("x", 6, split))
    result = split.to_dict()
    assert "trimap" not in result
    assert "boundary_f1" not in result
    assert result["images"] == 1
    assert result["miou"] == pytest.approx((0.6 + 0) / 2)


def test_counts_of_workers_add_up():
    shares = [SplitScores("ab", {}) for _ in range(2)]
    whole = SplitScores("ab", {})
    for number, right in enumerate([3, 8, 9, 10]):
        shares[number % 2].add(scored("x", right))
        whole.add(scored("x", right))
    others = iter([metric.counts for metric in shares[1].metrics])
    shares[0].sum_over_workers(lambda counts: counts + next(others), images=4)
    assert shares[0].to_dict() == whole.to_dict()


def test_new_metric_is_shown_everywhere_by_its_entry(monkeypatch, deeplabctl, tmp_path):
    class Errors(Metric):
        """Count the images with an error."""

        totals: ClassVar = {"flawed": "flawed images"}
        columns: ClassVar = {"missed": "missed"}

        def __init__(self, num_classes, *, has_void=True):
            super().__init__(num_classes, has_void=has_void)
            self.counts = np.zeros(2, np.int64)

        def update(self, label, prediction):
            self.counts += (((label != prediction) & (label != 255)).any(), 1)

        def to_dict(self):
            return {"flawed": self.counts[0] / self.counts[1]}

        def of_classes(self):
            return {"missed": np.full(self.num_classes, 0.125)}

        def line(self):
            return "a line of its own"

    dataset = open_dataset(make_dataset(tmp_path / "set", val=2))
    (tmp_path / "masks").mkdir()
    for sample in dataset.samples("val"):
        label = read_label(sample.label)
        write_mask(tmp_path / "masks" / f"{sample.id}.png", np.where(label == 255, 0, label).astype(np.uint8))
    monkeypatch.setattr("deeplabctl.evaluation.scores.METRICS", (*METRICS, Errors))
    code, out, _ = deeplabctl("eval", "--data", "set", "--pred-dir", "masks", "--out", "scores")
    assert code == 0
    assert "missed %  pixels" in out
    assert "  flawed images 0.00\n" in out
    assert "a line of its own\n" in out
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["flawed"] == 0
    assert [entry["missed"] for entry in scores["classes"]] == [0.125] * 3
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "<span>flawed images %</span>" in page
    assert "<th>missed %</th>" in page


def test_columns_of_the_table_are_those_that_the_classes_have():
    assert class_columns([{"name": "a", "iou": 0.5}]) == {"iou": "IoU"}
    assert list(class_columns(SplitScores("ab", {}).to_dict()["classes"])) == ["iou", "accuracy", "boundary_f1"]


def test_images_that_a_list_has_twice_are_said_as_they_count_more(tmp_path):
    dataset, said = open_dataset(make_dataset(tmp_path / "set")), []
    dataset.list_file("val").write_text("v0\nv1\nv0\n")
    samples, facts = samples_to_score(dataset, "val", None, said.append)
    assert (len(samples), len(facts)) == (3, 3)
    assert "val.txt has 1 image more than once, which count more than others (v0.png)" in said[0].text
    said.clear()
    samples_to_score(dataset, "val", 2, said.append)
    assert not [event for event in said if isinstance(event, Note)]
