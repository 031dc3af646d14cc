"""The scores of a split take little memory."""

import shutil

from dataset_files import make_dataset

from deeplabctl.data.dataset import open_dataset
from deeplabctl.evaluation import mask_scores
from deeplabctl.evaluation.mask_scores import score_masks
from deeplabctl.evaluation.split_scores import Extremes


def test_trimaps_of_many_classes_wait_only_in_a_part_of_the_memory(tmp_path, monkeypatch):
    names = tuple(f"class {number}" for number in range(200))  # a trimap has 13 MB
    dataset = open_dataset(make_dataset(tmp_path / "set", val=6, classes=names))
    asked = []
    real = mask_scores.map_ahead
    monkeypatch.setattr(
        mask_scores,
        "map_ahead",
        lambda function, items, **more: asked.append(more["size"]) or real(function, items, **more),
    )
    shutil.copytree(tmp_path / "set" / "SegmentationClass", tmp_path / "masks")
    samples = dataset.samples("val")
    extremes = Extremes(3)
    result = score_masks(tmp_path / "masks", dataset, samples, around="boundaries", on_image=extremes.add)
    assert result.scores.trimap.counts.nbytes == asked[0](samples[0])
    assert all(image.trimap is None for _, image in [*extremes.best(), *extremes.worst()])
    assert extremes.worst()
