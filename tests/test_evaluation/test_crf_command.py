"""The dense CRF in ``eval`` and ``infer``, and the search for its parameters."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_command import CAFFEMODEL, scores_of
from PIL import Image

from deeplabctl.data.labels import read_label

pytestmark = pytest.mark.tf

SPLIT = ("--split", "val")


def fake_refine(image, scores, params, *, adaptive=False):
    """Stand in for the CRF: everything becomes the class whose number is bi_w."""
    return np.broadcast_to(np.eye(scores.shape[-1], dtype=np.float32)[int(params.bi_w)], scores.shape)


def test_crf_refines_what_is_scored_and_what_is_segmented(here, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.prediction.segmenter.refine", fake_refine)
    scores = scores_of(deeplabctl, "--crf-adaptive", "--crf-params", "bi_w=7", "--pad", "tight")
    assert scores["settings"]["crf"]["bi_w"] == 7
    assert scores["settings"]["crf"]["adaptive"] is True
    recalled = [entry["accuracy"] for entry in scores["classes"] if entry["pixels"]]
    assert set(recalled) <= {0.0, 1.0}
    code, out, _ = deeplabctl("infer", "set/JPEGImages/v0.png", "set/JPEGImages/v1.png", "--crf")
    assert code == 0
    assert "bicycle" not in out
    assert (read_label(here / "masks" / "v1.png") == 4).all()  # boat: largefov-v1's bi_w is 4


def test_adaptive_crf_alone_asks_for_the_recipes_crf(here, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.prediction.segmenter.refine", fake_refine)
    scores = scores_of(deeplabctl, "--crf-adaptive", "--pad", "tight")
    assert scores["settings"]["crf"] == scores_of(deeplabctl, "--crf", "--pad", "tight")["settings"]["crf"] | {
        "adaptive": True
    }


def test_crf_search_leaves_a_table_that_eval_and_infer_take(here, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.prediction.segmenter.refine", fake_refine)
    monkeypatch.setattr("deeplabctl.evaluation.crf_search.refine", fake_refine)
    grid = ["--grid", "bi_w=1:3", "--grid", "bi_xy_std=50", "--grid", "bi_rgb_std=3"]
    arguments = ["crf-search", "--data", "set", *SPLIT, *grid, "--images", 3, "--pad", "tight", "--rounds", 1]
    code, out, err = deeplabctl(*arguments, "--out", "found")
    assert code == 0
    assert "best of 3 points on 3 images of val: bi_w " in out
    assert err.count("  bi_xy_std 50  bi_rgb_std 3: mIoU ") == 3
    code, out, err = deeplabctl(*arguments, "--out", "found", "--json")
    assert code == 0
    assert "3 of 3 points are already in found/crf-search.csv" in err
    best = json.loads(out)["best"]
    scores = scores_of(deeplabctl, "--crf-params", "found/crf-search.csv", "--pad", "tight")
    assert {key: scores["settings"]["crf"][key] for key in best} == best
    code, _, err = deeplabctl(*arguments, "--out", "found", "--flip")
    assert code == 1
    assert "is the table of another search (flip: expected True, got False)" in err


def test_crf_search_names_the_evaluation_that_predicts_as_it_did(here, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.evaluation.crf_search.refine", fake_refine)
    shutil.copyfile(CAFFEMODEL, "net.caffemodel")
    grid = ["--grid", "bi_w=3", "--grid", "bi_xy_std=50", "--grid", "bi_rgb_std=3", "--rounds", 1]
    prediction = "--pad tight --scales 1,1.25 --flip --engine tensorflow --image-size 64 --tile off --crf-adaptive"
    options = f"--weights net.caffemodel --data set {prediction}"
    search = [*grid, "--images", 1, "--out", "a folder"]
    code, out, _ = deeplabctl("crf-search", *options.split(), *SPLIT, *search)
    assert code == 0
    assert f"next: deeplabctl eval {options} --crf-params 'a folder/crf-search.csv'\n" in out


def test_table_of_a_search_with_other_weights_or_images_is_not_continued(here, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.evaluation.crf_search.refine", fake_refine)
    shutil.copyfile(CAFFEMODEL, "net.caffemodel")
    grid = ["--grid", "bi_w=3", "--grid", "bi_xy_std=50", "--grid", "bi_rgb_std=3", "--rounds", 1]
    arguments = ["crf-search", "--weights", "net.caffemodel", "--data", "set", *SPLIT, *grid, "--pad", "tight"]
    assert deeplabctl(*arguments, "--images", 3)[0] == 0
    code, _, err = deeplabctl(*arguments, "--images", 3, "--limit", 3)  # the first, not spread over the split
    assert code == 1
    assert "is the table of another search (images_sha256: expected" in err
    label = here / "set" / "SegmentationClass" / "v0.png"
    content = label.read_bytes()
    Image.open(here / "set" / "SegmentationClass" / "v1.png").save(label)
    code, _, err = deeplabctl(*arguments, "--images", 3)
    assert (code, "images_sha256" in err) == (1, True)
    label.write_bytes(content)
    assert deeplabctl(*arguments, "--images", 3)[0] == 0
    with Path("net.caffemodel").open("ab") as file:
        file.write(b"\x0a\x01x")  # the name again: the content changes, the path and the layers do not
    code, _, err = deeplabctl(*arguments, "--images", 3)
    assert (code, "weights_sha256" in err) == (1, True)


@pytest.mark.usefixtures("needs_bfloat16")
def test_table_of_a_search_in_another_number_format_is_not_continued(here, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.evaluation.crf_search.refine", fake_refine)
    grid = ["--grid", "bi_w=3", "--grid", "bi_xy_std=50", "--grid", "bi_rgb_std=3", "--rounds", 1]
    arguments = ["crf-search", "--data", "set", *SPLIT, *grid, "--pad", "tight", "--images", 1]
    code, out, _ = deeplabctl(*arguments, "--precision", "bfloat16")
    assert code == 0
    assert " --precision bfloat16 --crf-params" in out
    code, _, err = deeplabctl(*arguments)
    assert code == 1
    assert "is the table of another search (precision: expected None, got bfloat16)" in err


def test_search_takes_from_the_recipe_what_it_does_not_search(here, deeplabctl, monkeypatch, segmenter):
    from deeplabctl.weights.sources.keras_files import save_model

    monkeypatch.setattr("deeplabctl.evaluation.crf_search.refine", fake_refine)
    recipe = {"crf": {"pos_w": 0.5, "pos_xy_std": 1.0}}
    save_model(Path("own.keras"), segmenter.model, replace(segmenter.info, provenance={"recipe": recipe}))
    grid = ["--grid", "bi_w=3", "--grid", "bi_xy_std=50", "--grid", "bi_rgb_std=3", "--rounds", 1]
    arguments = ["crf-search", "--weights", "own.keras", "--data", "set", *SPLIT, *grid, "--images", 1, "--json"]
    for given, pos_w in [([], 0.5), (["--crf-params", "pos_w=2"], 2)]:
        code, out, _ = deeplabctl(*arguments, *given, "--overwrite")
        assert code == 0
        best = json.loads(out)["best"]
        assert (best["pos_w"], best["pos_xy_std"]) == (pos_w, 1)
