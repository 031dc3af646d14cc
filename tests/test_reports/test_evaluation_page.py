import json
import re

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_label
from deeplabctl.errors import OutputError
from deeplabctl.evaluation.boundaries import BANDS
from deeplabctl.evaluation.split_scores import Extremes, SplitScores, score_image
from deeplabctl.reports.evaluation import render_report
from deeplabctl.reports.evaluation_files import check_results, write_results
from deeplabctl.reports.evaluation_pictures import confusion_picture, error_map, shrunk
from deeplabctl.reports.page import percent


@pytest.fixture
def scored(tmp_path):
    """Score three images, the second with a mistake."""
    classes = ("background", "disc <b>", "square & co")
    dataset = open_dataset(make_dataset(tmp_path / "set", val=3, classes=classes))
    evaluation, extremes = SplitScores.empty(dataset.classes, {"data": "a <set>"}, "void"), Extremes(1)
    for number, sample in enumerate(dataset.samples("val")):
        label = read_label(sample.label)
        prediction = np.where(label == 255, 0, label).astype(np.uint8)
        if number == 1:
            prediction[:, 40:] = 2
        image = score_image(sample, label, prediction, 3, "void")
        evaluation.add(image)
        extremes.add(image)
    scores = evaluation.to_dict()
    scores["expected"] = {"text": "expected 1 +- 0 (a <paper>)"}
    return scores, evaluation, extremes


def test_report_asks_nothing_of_any_server_and_holds_its_pictures(scored):
    page = render_report(*scored, "weights <x>", "set & split")
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:' in page
    assert re.findall(r"https?:|//[a-z]|url\(|@import", re.sub("base64,[^'\"]*", "", page)) == []
    sources = re.findall(r"""src=["']([^"']{0,30})""", page)
    assert len(sources) == 1 + 2 * 4  # the confusion matrix, and four pictures of the worst and of the best image
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in page
    assert "<link" not in page


def test_report_escapes_what_comes_from_outside(scored):
    page = render_report(*scored, "weights <x>", "set & split")
    for text in (
        "disc &lt;b&gt;",
        "square &amp; co",
        "weights &lt;x&gt;",
        "set &amp; split",
        "a &lt;paper&gt;",
        "a &lt;set&gt;",
    ):
        assert text in page
    assert "<b>disc" not in page
    assert "disc <b>" not in page


def test_report_shows_every_score_and_the_worst_image_before_the_best(scored):
    scores, evaluation, extremes = scored
    page = render_report(scores, evaluation, extremes, "t", "s")
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "fw_iou", "boundary_f1"):
        assert f"{100 * scores[key]:.2f}" in page
    assert page.index("v1 <small>") < page.index("Best images") < page.index("v0 <small>")
    assert page.count("<circle") == sum(miou is not None for miou in scores["trimap"]["miou"]) == BANDS


def test_report_of_an_image_all_void_has_dashes_and_no_curve(tmp_path):
    evaluation = SplitScores.empty(("a", "b"), {}, "void")
    page = render_report({**evaluation.to_dict(), "expected": None}, evaluation, Extremes(2), "t", "s")
    assert "<svg" not in page
    assert "–" in page  # noqa: RUF001


def test_scores_of_zero_are_told_from_those_that_there_are_not():
    assert percent(0.0) == "0.00"
    assert percent(None) == "–"  # noqa: RUF001


def test_error_map_is_red_where_wrong_pale_grey_where_right_and_white_on_void():
    image = np.full((2, 3, 3), 100, np.uint8)
    label = np.array([[0, 1, 255], [0, 0, 0]], np.uint8)
    drawn = error_map(image, label, np.array([[0, 0, 0], [0, 0, 0]], np.uint8)).astype(int)
    assert drawn[0, 1, 0] > 2 * drawn[0, 1, 1]
    assert drawn[0, 2].tolist() == [255, 255, 255]
    assert len(set(drawn[0, 0])) == 1
    assert 140 <= drawn[0, 0, 0] < 240


@pytest.mark.parametrize("count", [2, 21, 60])
def test_confusion_picture_has_a_dark_cell_for_each_class_that_is_always_right(count):
    names = [f"class {number}" for number in range(count)]
    cell = 34 if count < 60 else 12
    dark = (confusion_picture(np.eye(count, dtype=np.int64) * 50, names) == (8, 69, 148)).all(-1).sum()
    assert 0.6 * count * (cell - 3) ** 2 < dark <= count * cell**2
    assert not (confusion_picture(np.zeros((count, count), np.int64), names) == (8, 69, 148)).all(-1).any()


def test_confusion_picture_has_a_cell_where_labelled_meets_predicted():
    counts = np.array([[10, 0, 0], [0, 0, 30], [0, 0, 0]])
    drawn = confusion_picture(counts, ["a", "b", "c"])
    dark = np.argwhere((drawn == (8, 69, 148)).all(-1))
    left = dark[dark[:, 0] < dark[:, 0].mean()]
    below = dark[dark[:, 0] > dark[:, 0].mean()]
    assert below[:, 1].mean() - left[:, 1].mean() == pytest.approx(2 * 34, abs=3)  # one row down, two columns right
    assert below[:, 0].mean() - left[:, 0].mean() == pytest.approx(34, abs=3)


def test_pictures_are_shrunk_only_where_they_are_too_wide():
    assert shrunk(np.zeros((100, 1000, 3), np.uint8), 480).shape == (48, 480, 3)
    assert shrunk(np.zeros((900, 300, 3), np.uint8), 480).shape == (900, 300, 3)


def test_written_scores_are_those_of_the_evaluation(scored, tmp_path):
    write_results(tmp_path / "out", *scored, "t", "s")
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scored[0]


@pytest.mark.parametrize("name", ["scores.json", "classes.csv", "confusion.csv", "confusion.png", "report.html"])
def test_results_that_exist_are_refused_unless_they_may_be_overwritten(scored, tmp_path, name):
    check_results(tmp_path / "out", overwrite=False)
    (tmp_path / name).write_text("")
    with pytest.raises(OutputError, match=f"{name} exists; use `overwrite`"):
        check_results(tmp_path, overwrite=False)
    check_results(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="expected a folder, got a file"):
        check_results(tmp_path / name, overwrite=True)
