import dataclasses

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.crf.params import CrfParams
from deeplabctl.crf.search_grid import GRIDS, SearchTable, best_of_table, finer, params_at, parse_grid, points
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_label
from deeplabctl.errors import RecipeError, RunError
from deeplabctl.evaluation.crf_search import search, spread
from deeplabctl.reporting import Advanced, Note


def test_grids_are_the_papers():
    assert len(points(GRIDS["v1"])) == 6 * 6 * 8
    assert len(points(GRIDS["v2"])) == 4 * 8 * 4
    assert points(GRIDS["v2"])[:2] == [(3, 30, 3), (3, 30, 4)]
    assert points(GRIDS["v1"])[-1] == (10, 100, 10)


def test_ranges_are_matlabs_and_change_the_grid():
    assert parse_grid([]) == GRIDS["v2"]
    assert parse_grid(["v1"]) == GRIDS["v1"]
    grid = parse_grid(["bi_w=3:6", "bi_xy_std=30:10:60", "bi_rgb_std=2,5"])
    assert grid == {"bi_w": (3, 4, 5, 6), "bi_xy_std": (30, 40, 50, 60), "bi_rgb_std": (2, 5)}
    assert parse_grid(["bi_w=0.1:0.1:0.3"])["bi_w"] == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("text", ["v3", "bi_w", "bi_w=", "bi_w=3:x", "bi_w=5:3", "bi_w=0:3", "bi_w=1:0:3", "pos_w=1:3"])
def test_ranges_that_are_none_are_refused(text):
    with pytest.raises(RecipeError):
        parse_grid([text])


def test_finer_round_goes_half_a_step_around_the_best():
    grid = parse_grid(["bi_w=3:6", "bi_xy_std=30:10:60", "bi_rgb_std=5"])
    near = finer(grid, (3.0, 60.0, 5.0), 1)
    assert set(near) == {(w, xy, 5.0) for w in (2.5, 3, 3.5) for xy in (55, 60, 65)} - {(3.0, 60.0, 5.0)}
    assert (3.25, 57.5, 5.0) in finer(grid, (3.0, 60.0, 5.0), 2)
    assert finer(parse_grid(["bi_w=1", "bi_xy_std=1", "bi_rgb_std=1"]), (1.0, 1.0, 1.0), 1) == []


def test_table_goes_on_where_it_stopped_and_names_the_best_parameters(tmp_path):
    base = CrfParams(pos_w=2.0)
    table = SearchTable(tmp_path / "table.csv", base, {"weights": "a", "images": 3})
    table.add((3.0, 30.0, 3.5), 0.1 + 0.2)
    table.add((4.0, 30.0, 3.5), 0.25)
    again = SearchTable(tmp_path / "table.csv", base, {"weights": "a", "images": 3})
    assert again.rows == {(3.0, 30.0, 3.5): 0.1 + 0.2, (4.0, 30.0, 3.5): 0.25}
    assert best_of_table(tmp_path / "table.csv") == CrfParams(pos_w=2.0, bi_w=3.0, bi_xy_std=30.0, bi_rgb_std=3.5)
    assert SearchTable(tmp_path / "table.csv", base, {"weights": "b"}, overwrite=True).rows == {}


def test_table_of_another_search_is_refused_with_the_difference(tmp_path):
    SearchTable(tmp_path / "table.csv", CrfParams(), {"weights": "a", "images": 3}).add((3.0, 30.0, 3.0), 0.5)
    for base, settings, said in [
        (CrfParams(), {"weights": "b", "images": 3}, "weights: expected b, got a"),
        (CrfParams(), {"weights": "a"}, "images: expected None, got 3"),
        (CrfParams(pos_w=1.0), {"weights": "a", "images": 3}, "fixed: expected"),
    ]:
        with pytest.raises(RunError, match=said):
            SearchTable(tmp_path / "table.csv", base, settings)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RecipeError, match="expected the table of a search"):
        best_of_table(tmp_path / "other.csv")


def test_parameters_of_a_point_keep_what_is_not_searched():
    base = CrfParams(pos_w=9.0, iterations=3, normalization="symmetric")
    assert params_at((1.0, 2.0, 3.0), base) == dataclasses.replace(base, bi_w=1.0, bi_xy_std=2.0, bi_rgb_std=3.0)


def test_images_of_the_search_are_spread_over_the_split():
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread(list(range(3)), 100) == [0, 1, 2]


class FakeSegmenter:
    """Give scores that are right but for a column."""

    def __init__(self, labels):
        self.labels, self.runs = labels, 0

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
    """Stand in for the network and the CRF: the latter mends as many of the wrong columns as its bi_w says."""
    from deeplabctl.data.images import read_image

    dataset = open_dataset(make_dataset(tmp_path / "set", val=3))
    samples = dataset.samples("val")
    labels = {read_image(sample.image).tobytes(): read_label(sample.label) for sample in samples}
    asked = []

    def refine_many(pairs, params, *, adaptive=False, workers=None):
        asked.append((params, adaptive))
        for image, scores in list(pairs):
            right = labels[image.tobytes()]
            mended = scores.copy()
            count = int(9 - abs(params.bi_w - 4.5) - abs(params.bi_xy_std - 50) / 10)
            mended[:, :count] = np.eye(3, dtype=np.float32)[np.where(right == 255, 0, right)[:, :count]]
            yield mended

    monkeypatch.setattr("deeplabctl.crf.refine_many", refine_many, raising=False)
    return FakeSegmenter(labels), dataset, samples, asked


GRID = {"bi_w": (3, 4, 5, 6), "bi_xy_std": (30, 50), "bi_rgb_std": (3,)}


def test_search_finds_the_best_point_from_coarse_to_fine_and_runs_the_network_once(subject, tmp_path):
    segmenter, dataset, samples, asked = subject
    events = []
    table = SearchTable(tmp_path / "t.csv", CrfParams(), {})
    result = search(segmenter, dataset, samples, GRID, table, CrfParams(pos_w=7), events.append, adaptive=True)
    assert (result.best.bi_w, result.best.bi_xy_std, result.best.pos_w) == (4.5, 50.0, 7)
    assert result.miou == 1.0 > result.without_crf
    assert result.points == 8 + 8
    assert segmenter.runs == 3
    assert len(asked) == 16
    assert all(adaptive for _, adaptive in asked)
    assert sum(isinstance(event, Advanced) for event in events) == 3 + 16 * 3
    assert any(isinstance(event, Note) and "(best so far)" in event.text for event in events)


def test_search_that_was_broken_off_scores_only_what_is_missing(subject, tmp_path):
    segmenter, dataset, samples, asked = subject
    whole = SearchTable(tmp_path / "a.csv", CrfParams(), {})
    search(segmenter, dataset, samples, GRID, whole, CrfParams(), rounds=2)
    asked.clear()

    def stop(event):
        if len(asked) == 5:
            raise KeyboardInterrupt

    broken = SearchTable(tmp_path / "b.csv", CrfParams(), {})
    with pytest.raises(KeyboardInterrupt):
        search(segmenter, dataset, samples, GRID, broken, CrfParams(), stop)
    assert len(SearchTable(tmp_path / "b.csv", CrfParams(), {}).rows) == 4
    asked.clear()
    again = SearchTable(tmp_path / "b.csv", CrfParams(), {})
    search(segmenter, dataset, samples, GRID, again, CrfParams())
    assert len(asked) == 16 - 4
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
