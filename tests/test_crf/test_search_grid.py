import dataclasses
from dataclasses import replace

import pytest

from deeplabctl.crf.params import CrfParams
from deeplabctl.crf.search_grid import GRIDS, SearchTable, at_border, best_of_table, finer, parse_grid, points
from deeplabctl.errors import RecipeError, RunError

BASE = CrfParams(pos_w=2.0, iterations=3, normalization="symmetric")


def at(bi_w, bi_xy_std, bi_rgb_std, **changes):
    return dataclasses.replace(BASE, bi_w=bi_w, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std, **changes)


def test_grids_are_the_papers():
    assert len(points(GRIDS["v1"], BASE)) == 6 * 6 * 8
    assert len(points(GRIDS["v2"], BASE)) == 4 * 8 * 4
    assert points(GRIDS["v2"], BASE)[:2] == [at(3, 30, 3), at(3, 30, 4)]
    assert points(GRIDS["v1"], BASE)[-1] == at(10, 100, 10)


def test_ranges_are_matlabs_and_change_the_grid():
    assert parse_grid([]) == GRIDS["v2"]
    assert parse_grid(["v1"]) == GRIDS["v1"]
    grid = parse_grid(["bi_w=3:6", "bi_xy_std=30:10:60", "bi_rgb_std=2,5"])
    assert grid == {"bi_w": (3, 4, 5, 6), "bi_xy_std": (30, 40, 50, 60), "bi_rgb_std": (2, 5)}
    assert parse_grid(["bi_w=0.1:0.1:0.3"])["bi_w"] == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    "text",
    [
        "v3",
        "bi_w",
        "bi_w=",
        "bi_w=3:x",
        "bi_w=5:3",
        "bi_w=-1:3",
        "bi_xy_std=0:3",
        "bi_xy_std=4e-10",
        "bi_w=nan",
        "bi_w=1:inf",
        "bi_w=1:0:3",
        "bi_w=3:inf:6",
        "bi_w=1:1e5:2e6",
        "bi_w=1:2:3:4",
        "bi_w=0:1e-9:3",
        "iterations=1:3",
    ],
)
def test_other_texts_than_ranges_are_refused(text):
    with pytest.raises(RecipeError):
        parse_grid([text])


def test_finer_round_goes_half_a_step_around_the_best():
    grid = parse_grid(["bi_w=3:6", "bi_xy_std=30:10:60", "bi_rgb_std=5"])
    near = finer(grid, at(3, 60, 5), 1)
    assert set(near) == {at(w, xy, 5) for w in (2.5, 3, 3.5) for xy in (55, 60, 65)} - {at(3, 60, 5)}
    assert at(3.25, 57.5, 5) in finer(grid, at(3, 60, 5), 2)
    assert finer(parse_grid(["bi_w=1", "bi_xy_std=1", "bi_rgb_std=1"]), at(1, 1, 1), 1) == []


def test_gaussian_kernel_is_searched_if_it_is_named():
    grid = parse_grid(["pos_xy_std=1,3", "bi_w=3", "bi_xy_std=50", "bi_rgb_std=3", "pos_w=0.5,1"])
    assert list(grid) == ["bi_w", "bi_xy_std", "bi_rgb_std", "pos_w", "pos_xy_std"]
    assert points(grid, BASE) == [at(3, 50, 3, pos_w=w, pos_xy_std=xy) for w in (0.5, 1) for xy in (1, 3)]
    best = at(3, 50, 3, pos_w=0.5, pos_xy_std=1)
    near = {(point.pos_w, point.pos_xy_std) for point in finer(grid, best, 1)}
    assert near == {(w, xy) for w in (0.25, 0.5, 0.75) for xy in (1, 2)} - {(0.5, 1)}  # a deviation of 0 is not tried


def test_weight_of_zero_leaves_a_kernel_out():
    grid = parse_grid(["pos_w=0:2", "bi_w=3", "bi_xy_std=50", "bi_rgb_std=3"])
    assert grid["pos_w"] == (0, 1, 2)
    assert [point.pos_w for point in finer(grid, at(3, 50, 3, pos_w=0.5), 1)] == [0, 1]
    assert [point.pos_w for point in finer(grid, at(3, 50, 3, pos_w=0), 1)] == [0.5]
    with pytest.raises(RecipeError, match="pos_xy_std=0: expected numbers above 0"):
        parse_grid(["pos_xy_std=0"])


def test_range_of_too_many_values_is_refused():
    assert len(parse_grid(["bi_w=1:1000"])["bi_w"]) == 1000
    for text in ["bi_w=0:1000", "bi_w=1:1e-9:2", "bi_xy_std=1:1e30"]:
        with pytest.raises(RecipeError, match=f"{text}: expected at most 1000 values; use a larger step"):
            parse_grid([text])


def test_table_has_a_column_for_each_axis(tmp_path):
    grid = parse_grid(["bi_w=3", "bi_xy_std=50", "bi_rgb_std=3", "pos_w=1,2"])
    table = SearchTable(tmp_path / "table.csv", BASE, grid, {})
    for index, point in enumerate(points(grid, BASE)):
        table.add(point, 0.5 + index / 4)
    head, *lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines == ["bi_w,bi_xy_std,bi_rgb_std,pos_w,miou %", "3.0,50.0,3.0,1.0,50", "3.0,50.0,3.0,2.0,75"]
    assert '"pos_w"' not in head
    assert best_of_table(tmp_path / "table.csv") == at(3, 50, 3, pos_w=2)
    with pytest.raises(RunError, match="the table of another search"):
        SearchTable(tmp_path / "table.csv", BASE, GRIDS["v2"], {})
    (tmp_path / "less.csv").write_text("\n".join([head, "bi_w,bi_xy_std,bi_rgb_std,miou", "3,50,3,0.5"]))
    with pytest.raises(RecipeError, match="do not give all of the CRF's"):
        best_of_table(tmp_path / "less.csv")


def test_table_is_continued_and_has_the_best_parameters(tmp_path):
    table = SearchTable(tmp_path / "table.csv", BASE, GRIDS["v2"], {"weights": "a", "images": 3})
    table.add(at(3, 30, 3.5), 0.3125)
    table.add(at(4, 30, 3.5), 0.25)
    again = SearchTable(tmp_path / "table.csv", BASE, GRIDS["v2"], {"weights": "a", "images": 3})
    assert again.rows == {at(3, 30, 3.5): 0.3125, at(4, 30, 3.5): 0.25}
    assert best_of_table(tmp_path / "table.csv") == at(3, 30, 3.5)
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "old.csv").write_text(
        text.replace("miou %", "miou").replace("31.25", "0.3125").replace(",25\n", ",0.25\n")
    )
    assert SearchTable(tmp_path / "old.csv", BASE, GRIDS["v2"], {"weights": "a", "images": 3}).rows == again.rows
    assert SearchTable(tmp_path / "table.csv", BASE, GRIDS["v2"], {"weights": "b"}, overwrite=True).rows == {}


def test_table_of_two_searches_at_once_loses_no_row_and_mixes_no_settings(tmp_path):
    path = tmp_path / "table.csv"
    one, same, other = (SearchTable(path, BASE, GRIDS["v2"], {"weights": name}) for name in "aab")
    one.add(at(3, 30, 3), 0.5)
    same.add(at(4, 30, 3), 0.25)
    assert (
        same.rows
        == SearchTable(path, BASE, GRIDS["v2"], {"weights": "a"}).rows
        == {at(3, 30, 3): 0.5, at(4, 30, 3): 0.25}
    )
    with pytest.raises(RunError, match="weights: expected b, got a"):
        other.add(at(5, 30, 3), 0.75)
    new = SearchTable(path, BASE, GRIDS["v2"], {"weights": "b"}, overwrite=True)
    new.add(at(5, 30, 3), 0.75)
    new.add(at(6, 30, 3), 0.5)
    assert new.rows == {at(5, 30, 3): 0.75, at(6, 30, 3): 0.5}


def test_table_of_another_search_is_refused_with_the_difference(tmp_path):
    SearchTable(tmp_path / "table.csv", BASE, GRIDS["v2"], {"weights": "a", "images": 3}).add(at(3, 30, 3), 0.5)
    for base, settings, message in [
        (BASE, {"weights": "b", "images": 3}, "weights: expected b, got a"),
        (BASE, {"weights": "a"}, "images: expected None, got 3"),
        (CrfParams(pos_w=1.0), {"weights": "a", "images": 3}, "fixed: expected"),
    ]:
        with pytest.raises(RunError, match=message):
            SearchTable(tmp_path / "table.csv", base, GRIDS["v2"], settings)
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "changed.csv").write_text(text.replace('"iterations": 3', '"iterations": 65536'))
    with pytest.raises(RecipeError, match=r"changed\.csv: CRF: iterations: expected .*, 0 to 1000, got 65536"):
        best_of_table(tmp_path / "changed.csv")
    for other in ("a,b\n1,2\n", "# " + "[" * 100_000 + "\nbi_w,miou %\n", text.replace(",50\n", ",nan\n")):
        (tmp_path / "other.csv").write_text(other)
        with pytest.raises(RecipeError, match="expected the table of a search"):
            best_of_table(tmp_path / "other.csv")


def test_best_point_at_the_border_of_what_was_tried_is_named():
    grid = {"bi_w": (3, 4, 5), "bi_xy_std": (50,), "bi_rgb_std": (3, 4, 5)}
    tried = points(grid, BASE)

    def borders(bi_w, bi_rgb_std, also=()):
        best = replace(BASE, bi_w=bi_w, bi_xy_std=50, bi_rgb_std=bi_rgb_std)
        return at_border(best, grid, [*tried, *also])

    assert borders(4, 4) == []
    assert borders(5, 4) == ["bi_w"]
    assert borders(3, 5) == ["bi_w", "bi_rgb_std"]
    assert borders(5, 4, [replace(BASE, bi_w=5.5, bi_xy_std=50, bi_rgb_std=4)]) == []  # a finer round went beyond
    assert borders(0, 4, [replace(BASE, bi_w=0.0, bi_xy_std=50, bi_rgb_std=4)]) == []  # no weight is below 0
