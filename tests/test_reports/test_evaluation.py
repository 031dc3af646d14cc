"""The files of an evaluation: printed before they are written, refused early where they cannot be written."""

import errno
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from browser import browser, violations
from caffe_files import TINY
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.labels import read_label
from deeplabctl.errors import OutputError
from deeplabctl.evaluation.boundaries import BANDS, Trimap
from deeplabctl.evaluation.scores import METRICS, Extremes, SplitScores
from deeplabctl.reports.evaluation import check_results, confusion_image, error_map, render_report, write_results
from deeplabctl.reports.page import percent, shrunk


@pytest.fixture
def scored(tmp_path):
    """Score three images, the second with a mistake."""
    classes = ("background", "disc <b>", "square & co")
    dataset = open_dataset(make_dataset(tmp_path / "set", val=3, classes=classes))
    evaluation, extremes = SplitScores(dataset.classes, {"data": "a <set>"}), Extremes(1)
    for number, sample in enumerate(dataset.samples("val")):
        label = read_label(sample.label)
        prediction = np.where(label == 255, 0, label).astype(np.uint8)
        if number == 1:
            prediction[:, 40:] = 2
        image = evaluation.score(sample, label, prediction)
        evaluation.add(image)
        extremes.add(image)
    scores = evaluation.to_dict()
    scores["expected"] = {"text": "expected mIoU 1, give or take 0 (a <paper>)"}
    return scores, evaluation, extremes


def test_report_asks_nothing_of_any_server_and_holds_its_pictures(scored):
    page = render_report(*scored, "weights <x>", "set & split")
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:' in page
    assert re.findall(r"https?:|//[a-z]|url\(|@import", re.sub("base64,[^'\"]*", "", page)) == []
    sources = re.findall(r"""src=["']([^"']{0,30})""", page)
    assert len(sources) == 2 * 4  # four pictures of the worst and of the best image
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


def test_legend_has_the_classes_that_the_pictures_show(scored):
    _, evaluation, extremes = scored
    evaluation = SplitScores((*evaluation.classes, "in no picture"), {})
    page = render_report(evaluation.to_dict(), evaluation, extremes, "t", "s")
    legend = re.search('<p class="legend">(.*)</p>', page)[1]
    assert re.findall("</s>([^<]*)</span>", legend) == ["background", "disc &lt;b&gt;", "square &amp; co"]


def test_report_shows_every_score_and_the_worst_image_before_the_best(scored):
    scores, evaluation, extremes = scored
    page = render_report(scores, evaluation, extremes, "t", "s")
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "fw_iou", "boundary_f1"):
        assert f"{100 * scores[key]:.2f}" in page
    assert re.findall(r"<span>([^<]*) %</span></div>", page)[:2] == ["mIoU", "pixel accuracy"]
    assert page.index("v1 <small>") < page.index("Best images") < page.index("v0 <small>")
    assert page.count("<circle") == sum(miou is not None for miou in scores["trimap"]["miou"]) == BANDS


@pytest.mark.parametrize(("right", "levels"), [(100, ["90", "100"]), (98, ["40", "50"]), (0, ["0", "10"])])
def test_axis_of_a_curve_lies_around_its_scores_and_ends_at_100_percent(right, levels):
    evaluation = SplitScores(("a", "b"), {})
    evaluation.metrics[METRICS.index(Trimap)].counts[0] = [[right, 100 - right], [0, 0]]  # class b has IoU 0 or none
    page = render_report({**evaluation.to_dict(), "expected": None}, evaluation, Extremes(2), "t", "s")
    assert re.findall(r"text-anchor=end>(\d+)<", page) == levels


def test_confusion_matrix_of_the_page_has_shares_of_rows_and_its_mistakes_come_first(scored):
    scores, evaluation, extremes = scored
    counts = evaluation.matrix.counts
    counts[...] = [[90, 10, 0], [1, 199, 0], [0, 25, 25]]
    page = render_report(scores, evaluation, extremes, "t", "s")
    matrix = page[page.index("<table class=matrix>") :].partition("</table>")[0]
    cells = re.findall(r"<td( class=right)?(?: style='--share:(\d+)%')?>(\d*)</td>", matrix)[1:]
    assert [text for _, _, text in cells] == ["90", "10", "", "", "100", "", "", "50", "50"]  # 0.5 % is left out
    assert all(share == text for _, share, text in cells)
    assert [bool(right) for right, _, _ in cells] == np.eye(3, dtype=bool).ravel().tolist()
    mistakes = page[page.index("Most frequent mistakes") : page.index("Confusion matrix")]
    assert re.findall(r"<td>([\d.]+)</td><td>(\d+)</td>", mistakes) == [("50.00", "25"), ("10.00", "10"), ("0.50", "1")]


def test_confusion_matrix_of_many_classes_is_an_image(scored):
    many = SplitScores(tuple(f"class {number}" for number in range(60)), {})
    page = render_report({**many.to_dict(), "expected": None}, many, Extremes(2), "t", "s")
    assert "<table class=matrix>" not in page
    assert "alt='confusion matrix' src='data:image/png" in page
    assert "is bold" not in page
    assert "classes without a pixel are grey" in page


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 60])
def test_report_fits_a_phone_whatever_names_are_long(tmp_path, count):
    classes = ("Donaudampfschifffahrtsgesellschaft" * 2, *(f"class {number}" for number in range(1, count)))
    dataset = open_dataset(make_dataset(tmp_path / "set", val=1, classes=classes[:3]))
    evaluation, extremes = SplitScores(classes, {}), Extremes(1)
    (sample,) = dataset.samples("val")
    label = read_label(sample.label)
    image = evaluation.score(replace(sample, id="a_name_of_a_photo" * 5), label, np.ones_like(label))
    evaluation.add(image)
    extremes.add(image)
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 360, "height": 800})
        page.set_content(render_report({**evaluation.to_dict(), "expected": None}, evaluation, extremes, "t", "s"))
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert violations(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [30, 60])
def test_report_is_whole_on_paper(count):
    classes = tuple(f"class {number}" for number in range(count))
    evaluation = SplitScores(classes, {})
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 794, "height": 1000})  # of A4
        page.emulate_media(media="print")
        page.set_content(render_report({**evaluation.to_dict(), "expected": None}, evaluation, Extremes(1), "t", "s"))
        whole = "frame => frame.scrollWidth === frame.clientWidth || getComputedStyle(frame).overflowX === 'visible'"
        assert page.locator(".scroll").evaluate_all(f"frames => frames.map({whole})") == [True, True]


def test_report_of_an_image_all_void_has_dashes_and_no_curve(tmp_path):
    evaluation = SplitScores(("a", "b"), {})
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
def test_confusion_image_has_a_dark_cell_for_each_class_that_is_always_right(count):
    names = [f"class {number}" for number in range(count)]
    cell = 34 if count < 60 else 12
    dark = (confusion_image(np.eye(count, dtype=np.int64) * 50, names) == (8, 69, 148)).all(-1).sum()
    assert 0.6 * count * (cell - 3) ** 2 < dark <= count * cell**2
    assert not (confusion_image(np.zeros((count, count), np.int64), names) == (8, 69, 148)).all(-1).any()


def test_confusion_image_has_a_cell_where_labelled_meets_predicted():
    counts = np.array([[10, 0, 0], [0, 0, 30], [0, 0, 0]])
    drawn = confusion_image(counts, ["a", "b", "c"])
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


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Make a set of VOC's classes, and return how to score its labels themselves."""
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS", str(TINY))
    root = make_dataset(tmp_path / "set", val=2, size=(24, 32), classes=VOC_CLASSES)
    (root / "classes.txt").unlink()
    (tmp_path / "masks").mkdir()
    for path in (root / "SegmentationClass").glob("v*.png"):
        with Image.open(path) as mask:
            Image.fromarray(np.asarray(mask) % 255).save(tmp_path / "masks" / path.name)
    return ["eval", "--data", "set", "--pred-dir", "masks"]


def test_scores_are_printed_before_they_are_written(arguments, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.files.os.fsync", full_disk)
    code, out, err = deeplabctl(*arguments, "--out", "scores")
    assert code == 1
    assert "mIoU" in out
    assert err.splitlines()[-1].startswith("error: cannot write scores/scores.json: No space left on device")
    code, out, err = deeplabctl(*arguments, "--out", "scores", "--json")
    assert (code, json.loads(out)["images"]) == (1, 2)


@pytest.mark.tf
def test_scores_of_a_network_are_printed_before_they_are_written(arguments, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.files.os.fsync", full_disk)
    code, out, err = deeplabctl(*arguments[:3], "--out", "scores", "--pad", "tight")
    assert code == 1
    assert "mIoU" in out
    assert err.splitlines()[-1].startswith("error: cannot write scores/scores.json: No space left on device")


@pytest.mark.parametrize("more", [["eval", "--pred-dir", "masks"], ["eval"], ["crf-search"]])
def test_folder_of_results_that_cannot_be_written_is_refused_before_anything_is_scored(
    arguments, deeplabctl, monkeypatch, more
):
    monkeypatch.setattr("deeplabctl.files.tempfile.TemporaryFile", full_disk)
    monkeypatch.setattr("deeplabctl.evaluation.masks.score_masks", None)
    monkeypatch.setattr("deeplabctl.evaluation.network.open_target", None)
    code, out, err = deeplabctl(*more, *arguments[1:3], "--out", "new/scores")
    assert (code, out) == (1, "")
    assert "error: cannot write new/scores: No space left on device" in err
