import json
import re

import pytest
from browser import browser
from PIL import Image
from run_files import LINES, make_run, train_line, validation_line

from deeplabctl.errors import OutputError, RunError
from deeplabctl.reports.comparison import Comparison, check_comparison, render_comparison, write_comparison


@pytest.fixture
def runs(tmp_path, no_curves):
    """Make two runs with different settings; the second is better at two of three classes, and an older one."""
    better = [train_line(1), validation_line(60, 0.505), train_line(60, 0.8)]
    better[1]["classes"][2]["iou"] = 0.1
    return [
        make_run(tmp_path / "a" / "one"),
        make_run(tmp_path / "b" / "two <b>", better, settings=["solver.learning_rate=0.5", "run.seed=7"]),
        make_run(tmp_path / "b" / "one", [train_line(1), validation_line(1, 0.2, classes=())]),
    ]


def test_only_settings_that_differ_are_compared(runs):
    comparison = Comparison.read(runs)
    assert comparison.settings == {"solver.learning_rate": [0.02, 0.5, 0.02], "run.seed": [0, 7, 0]}
    assert "All settings are the same." in render_comparison(Comparison.read(runs[::2]))


def test_settings_that_json_does_not_know_become_texts(tmp_path, runs):
    text = (runs[0] / "recipe.toml").read_text()
    text = text.replace("power = 0.9", "power = inf\nday = 2026-01-02\nlist = [nan, 1]")
    (runs[0] / "recipe.toml").write_text(text)
    comparison = Comparison.read(runs[:2])
    settings = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["settings"]
    assert settings["solver.power"] == ["inf", 0.9]
    assert settings["solver.day"] == ["2026-01-02", None]
    assert settings["solver.list"] == [["nan", 1], None]
    render_comparison(comparison)


def test_runs_of_the_same_name_are_named_by_their_paths(runs):
    assert Comparison.read(runs).names == [str(runs[0]), "two <b>", str(runs[2])]
    assert Comparison.read(runs[:2]).names == ["one", "two <b>"]


def test_table_has_a_row_for_each_run(runs):
    _, better, older = Comparison.read(runs).rows()
    assert better == ["two <b>", "50.50", "60", "60", "0.8000", "0:12", "shapes", "shapes"]
    assert older[1:6] == ["20.00", "1", "1 of 60", "1.0000", "0:00"]


def test_run_has_the_line_of_its_curves_wherever_it_is_named(tmp_path, no_curves):
    runs = [make_run(tmp_path / f"run{number}", settings=[f"run.seed={number}"]) for number in range(9)]
    page = render_comparison(Comparison.read(runs))
    lines = {index: set(re.findall(rf"border-top:(3px \w+ #\w+);[^>]*></s>run{index}<", page)) for index in (0, 8)}
    assert lines == {0: {"3px solid #0b5cad"}, 8: {"3px dashed #0b5cad"}}


def test_classes_stand_side_by_side_with_the_best_in_bold(runs):
    comparison = Comparison.read(runs)
    assert comparison.note is None
    assert comparison.class_ious() == {
        "background": [0.5, 0.505, None],
        "disc": [pytest.approx(0.51), pytest.approx(0.515), None],
        "ring": [pytest.approx(0.52), 0.1, None],
    }
    page = render_comparison(comparison)
    assert "<td>50.00</td><td><b>50.50</b></td><td>–</td>" in page  # noqa: RUF001
    assert "<td><b>52.00</b></td><td>10.00</td>" in page


def test_classes_have_the_colours_of_their_data_set(tmp_path, no_curves):
    lines = [train_line(1), validation_line(1, 0.2)]
    for entry, color in zip(lines[1]["classes"], ("#804080", "#010203", "#040506"), strict=True):
        entry["color"] = color
    page = render_comparison(Comparison.read([make_run(tmp_path / name, lines) for name in ("a", "b")]))
    assert "background:#804080'></s>background<" in page
    assert "background:#040506'></s>ring<" in page


@pytest.mark.parametrize("setting", ["data.root='elsewhere/shapes'", "data.val_split=train", "eval.flip=true"])
def test_no_run_is_the_best_where_they_were_validated_differently(runs, tmp_path, setting):
    assert Comparison.read(runs).warning is None
    other = make_run(tmp_path / "other", settings=[setting])
    comparison = Comparison.read([runs[1], other])
    page = render_comparison(comparison)
    assert setting.partition("=")[0] in comparison.warning
    assert "The runs were validated on different images, or in different ways" in page
    assert "<b>" not in page.replace("two <b>", "")


def test_runs_of_different_classes_are_compared_without_a_table_of_classes(runs, tmp_path):
    other = make_run(tmp_path / "other", [train_line(1), validation_line(1, 0.5, ("sky", "road"))])
    comparison = Comparison.read([runs[0], other])
    assert comparison.note == "the runs have different classes, so there is no table of classes"
    assert comparison.to_dict()["classes"] == []
    assert "The runs have different classes, so there is no table of classes." in render_comparison(comparison)


def test_comparison_escapes_names_and_loads_nothing(runs):
    page = render_comparison(Comparison.read(runs))
    assert "two &lt;b&gt;" in page
    assert "two <b>" not in page
    assert re.findall(r"https?:|//[a-z]|url\(|@import|<script", re.sub(r"base64,[^'\"]*", "", page)) == []
    assert all(source.startswith("data:image/png") for source in re.findall(r"src(?:set)?='([^']{0,30})", page))


@pytest.mark.slow
def test_settings_of_long_lists_do_not_push_those_of_other_runs_away(tmp_path, no_curves):
    names = [f"conv{stage}_{number}" for stage in (3, 4, 5) for number in (1, 2, 3)]
    frozen = f"solver.freeze={['conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', *names, 'fc6', 'fc7']}"
    runs = [make_run(tmp_path / f"run{number}", settings=settings) for number, settings in enumerate([[frozen], []])]
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 800, "height": 800})
        page.set_content(render_comparison(Comparison.read(runs)))
        assert page.locator(".differing .scroll").evaluate("frame => frame.scrollWidth === frame.clientWidth")


def test_run_that_is_named_twice_is_refused(runs):
    with pytest.raises(RunError, match="one: expected different runs"):
        Comparison.read([runs[0], runs[1], runs[1] / ".." / ".." / "a" / "one"])


def test_comparison_is_written_and_existing_files_are_refused(runs, tmp_path):
    out = tmp_path / "new" / "folder"
    check_comparison(out, overwrite=False)
    write_comparison(Comparison.read(runs), out)
    assert sorted(path.name for path in out.iterdir()) == ["comparison.html", "comparison.png"]
    with Image.open(out / "comparison.png") as picture:
        assert picture.width == 2000
    with pytest.raises(OutputError, match=r"comparison\.png exists; use `overwrite`"):
        check_comparison(out, overwrite=False)
    check_comparison(out, overwrite=True)
    with pytest.raises(OutputError, match="expected a folder, got a file"):
        check_comparison(out / "comparison.png", overwrite=True)


def test_runs_without_validations_can_be_compared(tmp_path):
    runs = [make_run(tmp_path / name, LINES[:2]) for name in ("a", "b")]
    comparison = Comparison.read(runs)
    assert comparison.rows()[0][1:3] == ["–", "–"]  # noqa: RUF001
    assert "have no scores of the classes" in comparison.note
    render_comparison(comparison)
