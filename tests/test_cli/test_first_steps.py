"""Train, eval and infer one after the other, each with its defaults."""

import json

import pytest
from small_training import SMALL

from deeplabctl.data.labels import read_label
from deeplabctl.weights.locating import open_weights


@pytest.mark.tf
def test_train_eval_infer_with_the_defaults_between_them(here, deeplabctl):
    code, out, err = deeplabctl("train", "--data", "set", *SMALL, "--steps", 8)
    assert code == 0
    (run,) = (here / "runs").iterdir()
    names = {path.name for path in run.iterdir()}
    assert {"recipe.toml", "run.json", "metrics.jsonl", "log.txt", "best.keras", "last.keras", "previews"} <= names
    assert {"curves.png", "report.html"} <= names
    assert [path.name for path in sorted((run / "previews").iterdir())] == ["step-000004.png", "step-000008.png"]
    assert "next: deeplabctl eval" in out
    assert "square" in out
    assert "step 8/8  loss" in err
    assert "val mIoU" in err
    assert "\x1b" not in out + err
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["versions"]["tensorflow"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 4, 6, 8]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [4, 8]
    info = open_weights(run / "best.keras").info
    assert info.classes == ("background", "disc", "square")
    assert info.provenance["split"] == "train"

    code, out, err = deeplabctl("eval", "--split", "val", "--json")
    assert code == 0
    scores = json.loads(out)
    best = max(line["miou"] for line in lines if line["kind"] == "validation")
    assert scores["miou"] == pytest.approx(best)
    assert scores["images"] == 3
    assert {entry["name"] for entry in scores["classes"]} == {"background", "disc", "square"}

    code, _, err = deeplabctl("eval", "--split", "train")
    assert code == 0
    assert "warning: the weights were trained on 6 of these 6 images" in err

    grid = ("--grid", "bi_w=3", "--grid", "bi_xy_std=30", "--grid", "bi_rgb_std=5", "--rounds", 1)
    code, _, err = deeplabctl("crf-search", *grid, "--images", 1)
    assert code == 0
    assert "6 images of train" in err
    assert "warning" not in err  # unlike a score, a search may be one of images that were trained on

    code, out, err = deeplabctl("infer", "set/JPEGImages/v0.png", "set/JPEGImages/v1.png", "--overlay")
    assert code == 0
    for name in ("v0", "v1"):
        assert read_label(here / "masks" / f"{name}.png").shape == (60, 80)
        assert (here / "masks" / f"{name}_overlay.png").exists()
        assert f"{name}.png" in out
    code, out, err = deeplabctl("infer", "set/JPEGImages/v0.png")
    assert code == 1
    assert "use --overwrite to replace it" in err
