import dataclasses

import pytest

from deeplabctl.crf.params import CrfParams
from deeplabctl.crf.search_grid import GRIDS, SearchTable, best_of_table, finer, params_at, parse_grid, points
from deeplabctl.errors import RecipeError, RunError


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
def test_other_texts_than_ranges_are_refused(text):
    with pytest.raises(RecipeError):
        parse_grid([text])


def test_finer_round_goes_half_a_step_around_the_best():
    grid = parse_grid(["bi_w=3:6", "bi_xy_std=30:10:60", "bi_rgb_std=5"])
    near = finer(grid, (3.0, 60.0, 5.0), 1)
    assert set(near) == {(w, xy, 5.0) for w in (2.5, 3, 3.5) for xy in (55, 60, 65)} - {(3.0, 60.0, 5.0)}
    assert (3.25, 57.5, 5.0) in finer(grid, (3.0, 60.0, 5.0), 2)
    assert finer(parse_grid(["bi_w=1", "bi_xy_std=1", "bi_rgb_std=1"]), (1.0, 1.0, 1.0), 1) == []


def test_table_is_continued_and_has_the_best_parameters(tmp_path):
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
    for base, settings, message in [
        (CrfParams(), {"weights": "b", "images": 3}, "weights: expected b, got a"),
        (CrfParams(), {"weights": "a"}, "images: expected None, got 3"),
        (CrfParams(pos_w=1.0), {"weights": "a", "images": 3}, "fixed: expected"),
    ]:
        with pytest.raises(RunError, match=message):
            SearchTable(tmp_path / "table.csv", base, settings)
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "changed.csv").write_text(text.replace('"iterations": 10', '"iterations": 65536'))
    with pytest.raises(RecipeError, match=r"changed\.csv: CRF: iterations: expected 0 to 1000, got 65536"):
        best_of_table(tmp_path / "changed.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RecipeError, match="expected the table of a search"):
        best_of_table(tmp_path / "other.csv")


def test_parameters_of_a_point_keep_what_is_not_searched():
    base = CrfParams(pos_w=9.0, iterations=3, normalization="symmetric")
    assert params_at((1.0, 2.0, 3.0), base) == dataclasses.replace(base, bi_w=1.0, bi_xy_std=2.0, bi_rgb_std=3.0)
