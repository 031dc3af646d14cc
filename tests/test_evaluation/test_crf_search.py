import numpy as np
import pytest
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.crf.params import CrfParams
from deeplabctl.crf.search_grid import SearchTable
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.evaluation import crf_search
from deeplabctl.evaluation.crf_search import search
from deeplabctl.prediction import PredictionSettings
from deeplabctl.reporting import Advanced, Note


class FakeSegmenter:
    """Give scores that are right but for a column."""

    def __init__(self, labels):
        self.labels, self.runs, self.runner = labels, 0, self
        self.settings = PredictionSettings(crf=CrfParams(), crf_adaptive=True)

    def coarse_logits(self, image):
        self.runs += 1
        return [self.labels[image.tobytes()]]

    def scores_from(self, coarse, shape):
        assert coarse[0].shape == shape
        wrong = np.where(coarse[0] == 255, 0, coarse[0])
        wrong[:, :9] = 1
        return np.eye(3, dtype=np.float32)[wrong]


@pytest.fixture
def subject(tmp_path, monkeypatch):
    """Stand in for the network and the CRF: the latter corrects as many of the wrong columns as its bi_w says."""
    from deeplabctl.data.images import read_image

    dataset = open_dataset(make_dataset(tmp_path / "set", val=3))
    samples = dataset.samples("val")
    labels = {read_image(sample.image).tobytes(): read_label(sample.label) for sample in samples}
    asked = {}  # by the points: whether the CRF was adaptive

    def refine(image, scores, params, *, adaptive):
        asked[params] = adaptive
        right = labels[image.tobytes()]
        corrected = scores.copy()
        count = int(9 - abs(params.bi_w - 4.5) - abs(params.bi_xy_std - 50) / 10)
        corrected[:, :count] = np.eye(3, dtype=np.float32)[np.where(right == 255, 0, right)[:, :count]]
        return corrected

    monkeypatch.setattr(crf_search, "refine", refine)
    return FakeSegmenter(labels), dataset, samples, asked


GRID = {"bi_w": (3, 4, 5, 6), "bi_xy_std": (30, 50), "bi_rgb_std": (3,)}


def test_search_finds_the_best_point_from_coarse_to_fine_and_runs_the_network_once(subject, tmp_path):
    segmenter, dataset, samples, asked = subject
    events = []
    table = SearchTable(tmp_path / "t.csv", CrfParams(pos_w=7), GRID, {})
    without_crf = search(segmenter, dataset, samples, table, events.append)
    best, miou = table.best()
    assert (best.bi_w, best.bi_xy_std, best.pos_w) == (4.5, 50.0, 7)
    assert miou == 1.0 > without_crf
    assert len(table.rows) == 8 + 8
    assert segmenter.runs == 3
    assert len(asked) == 16
    assert all(asked.values())
    assert sum(isinstance(event, Advanced) for event in events) == 3 + 16 * 3
    best = [event.text for event in events if isinstance(event, Note) and "(best so far)" in event.text]
    assert len(best) == 4  # 5, 7, 8 and 9 columns; not the points with 8 that follow


@pytest.mark.parametrize("after", [5, 10, 14])  # in the first round and in the second
def test_search_that_was_broken_off_scores_only_what_is_missing(subject, tmp_path, after):
    segmenter, dataset, samples, asked = subject
    whole = SearchTable(tmp_path / "a.csv", CrfParams(pos_w=7), GRID, {})
    search(segmenter, dataset, samples, whole, rounds=2)
    asked.clear()

    def stop(event):
        if len(asked) == after:
            raise KeyboardInterrupt

    broken = SearchTable(tmp_path / "b.csv", CrfParams(pos_w=7), GRID, {})
    with pytest.raises(KeyboardInterrupt):
        search(segmenter, dataset, samples, broken, stop)
    assert len(SearchTable(tmp_path / "b.csv", CrfParams(pos_w=7), GRID, {}).rows) == after - 1
    asked.clear()
    again = SearchTable(tmp_path / "b.csv", CrfParams(pos_w=7), GRID, {})
    search(segmenter, dataset, samples, again)
    assert len(asked) == 16 - (after - 1)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    asked.clear()
    search(segmenter, dataset, samples, SearchTable(tmp_path / "b.csv", CrfParams(pos_w=7), GRID, {}))
    assert not asked


def test_point_that_cannot_be_computed_is_left_out_unless_the_user_named_it(subject, tmp_path, monkeypatch):
    segmenter, dataset, samples, _ = subject
    fake = crf_search.refine

    def refine(image, scores, params, **options):
        if params.bi_xy_std < 50:
            raise ValueError("CRF: a standard deviation is too small")
        return fake(image, scores, params, **options)

    monkeypatch.setattr(crf_search, "refine", refine)
    events = []
    grid = {"bi_w": (4, 5), "bi_xy_std": (50, 70), "bi_rgb_std": (3,)}
    table = SearchTable(tmp_path / "a.csv", CrfParams(), grid, {})
    search(segmenter, dataset, samples, table, events.append)
    assert table.best()[0].bi_w == 4.5
    warnings = [event.text for event in events if isinstance(event, Note) and event.warning]
    assert warnings[0] == "bi_w 3.5  bi_xy_std 40  bi_rgb_std 3: left out: CRF: a standard deviation is too small"
    assert len(warnings) == 3
    with pytest.raises(RecipeError, match=r"bi_w 3  bi_xy_std 30  bi_rgb_std 3: CRF: .*; leave this value out"):
        search(segmenter, dataset, samples, SearchTable(tmp_path / "b.csv", CrfParams(), GRID, {}))


def test_labels_of_void_only_are_refused(subject, tmp_path):
    segmenter, dataset, samples, asked = subject
    for sample in samples:
        void = np.full_like(read_label(sample.label), 255)
        Image.fromarray(void).save(sample.label)
    with pytest.raises(DataError, match=r"expected class ids in the labels of 3 images, got void \(255\) only"):
        search(segmenter, dataset, samples, SearchTable(tmp_path / "t.csv", CrfParams(), GRID, {}))
    assert not asked


def test_image_that_cannot_be_segmented_is_named(subject, tmp_path, monkeypatch):
    segmenter, dataset, samples, _ = subject

    def coarse_logits(image):
        raise DataError("there is not enough memory")

    monkeypatch.setattr(segmenter, "coarse_logits", coarse_logits)
    with pytest.raises(DataError, match=r"image .*v0\.png: there is not enough memory"):
        search(segmenter, dataset, samples, SearchTable(tmp_path / "t.csv", CrfParams(), GRID, {}))
