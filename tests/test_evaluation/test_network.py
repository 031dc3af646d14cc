"""Scoring a network, and the command around it."""

import json
import os
import zipfile

import numpy as np
import pytest
from closed_folder import closed
from eval_command import CAFFEMODEL, scores_of
from PIL import Image

from deeplabctl.classes import VOC_CLASSES, voc_palette
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError
from deeplabctl.evaluation.boundaries import Trimap, boundary_f1
from deeplabctl.evaluation.metrics import ConfusionMatrix
from deeplabctl.evaluation.network import EvaluationRequest, score_network
from deeplabctl.evaluation.scores import METRICS
from deeplabctl.prediction import PredictionSettings
from deeplabctl.reporting import Advanced, Finished, Started
from deeplabctl.weights.model_info import ModelInfo

pytestmark = pytest.mark.tf


def test_evaluation_is_one_matrix_over_all_images_at_their_own_sizes(segmenter, dataset):
    events = []
    scored = score_network(segmenter, dataset, dataset.samples("val"), events.append)
    expected = ConfusionMatrix(21)
    for sample in dataset.samples("val"):
        expected.update(read_label(sample.label), segmenter.label(read_image(sample.image)))
    np.testing.assert_array_equal(scored.matrix.counts, expected.counts)
    assert events == [Started("scoring", 5, "images"), *[Advanced(1)] * 5, Finished()]
    result = scored.to_dict()
    assert result["miou"] == pytest.approx(expected.mean_iou())
    assert result["images"] == 5
    assert [entry["name"] for entry in result["classes"]] == list(VOC_CLASSES)
    assert None in [entry["iou"] for entry in result["classes"]]  # absent, not 0 and not NaN
    assert "trimap" not in result  # a validation in a training does without


def test_trimap_and_boundary_f1_come_from_the_same_pass(segmenter, dataset):
    seen = []
    scored = score_network(
        segmenter, dataset, dataset.samples("val"), kinds=METRICS, on_image=lambda image: seen.append(image.sample.id)
    )
    trimap, f1 = Trimap(21), []
    for sample in dataset.samples("val"):
        label, prediction = read_label(sample.label), segmenter.label(read_image(sample.image))
        trimap.update(label, prediction)
        f1.append(np.nanmean(boundary_f1(label, prediction, 21)))
    np.testing.assert_array_equal(scored.metrics[METRICS.index(Trimap)].counts, trimap.counts)
    assert scored.to_dict()["boundary_f1"] == pytest.approx(np.mean(f1), rel=1e-12)
    assert seen == [f"v{number}" for number in range(5)]


def test_label_out_of_range_stops_with_its_file(segmenter, dataset):
    from deeplabctl.errors import DataError

    label = read_label(dataset.root / "SegmentationClass" / "v3.png")
    label[0, 0] = 77
    Image.fromarray(label).save(dataset.root / "SegmentationClass" / "v3.png")
    events = []
    with pytest.raises(DataError, match=r"v3\.png: label: expected class ids 0 to 20, got 77; fix the label"):
        score_network(segmenter, dataset, dataset.samples("val"), events.append)
    assert events[-1] == Finished()


def test_evaluation_with_a_crf_scores_what_refine_makes_of_the_scores(segmenter, dataset):
    from deeplabctl.crf import CrfParams, refine

    params = CrfParams(bi_xy_std=20, iterations=3)
    refining = segmenter.with_settings(PredictionSettings(crf=params, crf_adaptive=True))
    scored = score_network(refining, dataset, dataset.samples("val"))
    expected, without = ConfusionMatrix(21), ConfusionMatrix(21)
    for sample in dataset.samples("val"):
        image, label = read_image(sample.image), read_label(sample.label)
        prediction, scores = segmenter.predict(image)
        expected.update(label, refine(image, scores, params, adaptive=True).argmax(-1))
        without.update(label, prediction)
    np.testing.assert_array_equal(scored.matrix.counts, expected.counts)
    assert (expected.counts != without.counts).any()


def test_eval_pads_voc_as_the_papers_do_and_says_how_the_network_was_applied(here, deeplabctl):
    scores = scores_of(deeplabctl)
    settings = scores["settings"]
    assert settings["weights"] == str(CAFFEMODEL)
    assert {key: settings[key] for key in ("pad", "scales", "flip", "crf", "split")} == {
        "pad": "paper", "scales": [1.0], "flip": False, "crf": None, "split": "val",
    }  # fmt: skip
    assert scores["expected"] is None
    assert len(scores["trimap"]["miou"]) == 40
    other = scores_of(deeplabctl, "--pad", "tight", "--scales", "0.5,1", "--flip")
    assert other["settings"]["scales"] == [0.5, 1.0]
    assert other["settings"]["flip"] is True
    assert other["classes"] != scores["classes"]
    code, out, err = deeplabctl("eval", "--data", "set")
    assert code == 0
    assert "5 images of val; images at their own size; pad paper; " in out
    assert "left out of the means" in out
    assert "\x1b" not in out + err


def test_eval_writes_report_and_the_file_for_the_voc_server_and_overwrites_nothing(here, deeplabctl):
    code, out, _ = deeplabctl("eval", "--data", "set", "--out", "scores", "--voc-zip", "comp6.zip", "--pad", "tight")
    assert code == 0
    assert "report scores/report.html" in out
    assert (here / "scores" / "report.html").stat().st_size > 10_000
    with zipfile.ZipFile(here / "comp6.zip") as archive:
        names = archive.namelist()
        assert names == [f"results/VOC2012/Segmentation/comp6_val_cls/v{n}.png" for n in range(5)]
        for name in names:
            mask = Image.open(archive.open(name))
            assert (mask.mode, mask.size) == ("P", (71, 50))
            np.testing.assert_array_equal(np.reshape(mask.getpalette(), (-1, 3)), voc_palette())
        archive.extractall(here)
    masks = here / "results/VOC2012/Segmentation/comp6_val_cls"
    code, again, _ = deeplabctl("eval", "--data", "set", "--pred-dir", masks, "--json")
    scores = json.loads((here / "scores" / "scores.json").read_text())
    again = json.loads(again)
    for key in ("miou", "boundary_f1", "trimap", "classes"):
        assert again[key] == scores[key]
    for arguments in (["--out", "scores"], ["--voc-zip", "comp6.zip"]):
        code, out, err = deeplabctl("eval", "--data", "set", *arguments)
        assert (code, out) == (1, "")
        assert "use --overwrite" in err


def test_score_that_the_recipe_expects_stands_beside_the_result(here, deeplabctl, segmenter):
    from deeplabctl.weights.sources.keras_files import save_model

    provenance = {
        "recipe": {"data": {"val_split": "val"}, "eval": {"pad": "tight", "scales": [0.5], "flip": True}},
        "expect": {"miou": 0.9, "tolerance": 0.02, "images": 5, "source": "a table"},
    }
    save_model(here / "own.keras", segmenter.model, ModelInfo(VOC_CLASSES, width=1 / 32, provenance=provenance))
    code, out, _ = deeplabctl("eval", "--data", "set", "--weights", "own.keras")
    assert code == 0
    assert "expected mIoU 90.00, give or take 2.00 (a table); this is " in out
    assert "images at their own size; scales 0.5; with the mirrored image" in out
    expected = scores_of(deeplabctl, "--weights", "own.keras")["expected"]
    assert (expected["miou"], expected["within_tolerance"]) == (0.9, False)
    assert scores_of(deeplabctl, "--weights", "own.keras", "--limit", "4")["expected"] is None
    assert scores_of(deeplabctl, "--weights", "own.keras", "--no-flip")["expected"] is None


def test_split_without_labels_is_segmented_for_the_voc_server_alone(here, deeplabctl):
    (here / "set" / "ImageSets" / "Segmentation" / "test.txt").write_text("v1\nv4\n")
    for name in ("v1", "v4"):
        (here / "set" / "SegmentationClass" / f"{name}.png").unlink()
    (here / "set" / "JPEGImages" / "v1.txt").write_text("a note beside an image")
    code, out, err = deeplabctl("eval", "--data", "set", "--split", "test", "--voc-zip", "test.zip", "--out", "scores")
    assert (code, out) == (1, "")
    assert "test has no labels, so there are no scores for --out; leave it out" in err
    assert [path.name for path in here.iterdir()] == ["set"]
    code, out, err = deeplabctl("eval", "--data", "set", "--split", "test", "--voc-zip", "test.zip")
    assert code == 0
    assert "has no labels" in err
    assert "mIoU" not in out
    with zipfile.ZipFile(here / "test.zip") as archive:
        assert archive.namelist() == [
            f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in ("v1", "v4")
        ]
    code, _, err = deeplabctl("eval", "--data", "set", "--split", "test")
    assert code == 1
    assert "no label" in err


def test_eval_that_fails_leaves_no_half_written_file(here, deeplabctl):
    image = here / "set" / "JPEGImages" / "v3.png"
    os.truncate(image, image.stat().st_size // 2)
    code, _, _ = deeplabctl("eval", "--data", "set", "--voc-zip", "x.zip", "--out", "scores")
    assert code == 1
    assert sorted(path.name for path in here.iterdir()) == ["set"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scales", "a"], "expected numbers separated by commas"),
        (["--scales", "0"], "at most 4"),
        (["--crf-params", "v7"], "expected largefov-v1"),
        (["--pad", "513"], "is not one of 'paper', 'tight'"),
    ],
)
def test_settings_that_cannot_be_read_are_usage_errors(here, deeplabctl, arguments, said):
    code, _, err = deeplabctl("eval", "--data", "set", *arguments)
    assert code == 2
    assert said in " ".join(err.replace("│", " ").split())


def test_data_set_of_the_training_that_another_user_keeps_closed_is_not_found(tmp_path):
    (tmp_path / "home" / "set").mkdir(parents=True)
    trained = ModelInfo(("a", "b"), provenance={"data": str(tmp_path / "home" / "set")})
    said = "home/set, which the weights were trained on, cannot be found; name one"
    with closed(tmp_path / "home"), pytest.raises(DataError, match=said):
        EvaluationRequest().dataset(trained, lambda event: None)
