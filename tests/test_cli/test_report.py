"""Draw the curves of trainings on the command line, without TensorFlow."""

import json
import sys

import pytest
from command_process import fails_with_one_line, run_without_tensorflow
from run_files import make_run, train_line, validation_line


@pytest.fixture
def two(tmp_path):
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", settings=["run.seed=5"])
    return tmp_path


def test_files_of_one_run_are_redrawn_without_tensorflow(two):
    (two / "one" / "curves.png").write_text("old")
    code, out, err = run_without_tensorflow("report", "one", cwd=two)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "one: 60 steps, best val mIoU 50.00 at step 40", "curves one/curves.png", "report one/report.html",
    ]  # fmt: skip
    assert (two / "one" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (two / "one" / "report.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(("planned", "said"), [(1, "1 step"), (60, "1 of 60 steps")])
def test_steps_are_counted(tmp_path, deeplabctl, planned, said):
    make_run(tmp_path / "run", [train_line(1)], settings=[f"solver.steps={planned}"])
    assert deeplabctl("report", "run")[1].startswith(f"run: {said}, no validation yet\n")
    assert f"shapes, {said}</p>" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("runs", [["one"], ["one", "two"]])
def test_missing_matplotlib_is_one_line(two, deeplabctl, monkeypatch, runs):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = deeplabctl("report", *runs)
    assert (code, out, err) == (1, "", "error: curves need the package matplotlib: pip install matplotlib\n")


def test_one_run_as_json(two, deeplabctl):
    code, out, err = deeplabctl("report", two / "one", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["best_miou"], result["best_step"], result["loss"], result["steps"]) == (0.5, 40, 0.9, 60)
    assert result["report"] == str(two / "one" / "report.html")


def test_several_runs_are_compared(two, deeplabctl):
    code, out, err = deeplabctl("report", "one", "two")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert " ".join(lines[0].split()) == "run best mIoU % at step steps last loss time of steps recipe data"
    assert lines[1].split() == ["one", "50.00", "40", "60", "0.9000", "0:12", "shapes", "shapes"]
    assert lines[-2:] == ["curves comparison/comparison.png", "report comparison/comparison.html"]
    assert not (two / "one" / "curves.png").exists()

    code, out, err = deeplabctl("report", "one", "two")
    assert (code, out) == (1, "")
    assert err == ("error: comparison/comparison.png exists; use --overwrite to replace it, or choose another name\n")
    assert deeplabctl("report", "one", "two", "--overwrite")[0] == 0


def test_comparison_as_json(two, deeplabctl):
    code, out, _ = deeplabctl("report", "one", "two", "--out", "there", "--json")
    assert code == 0
    result = json.loads(out)
    assert [run["run"] for run in result["runs"]] == ["one", "two"]
    assert result["settings"] == {"run.seed": [0, 5]}
    assert result["classes"][0] == {"name": "background", "iou": [0.5, 0.5]}
    assert (two / result["curves"]).is_file()
    assert (two / result["report"]).is_file()


def test_runs_of_different_classes_are_noted_unless_quiet(two, deeplabctl):
    make_run(two / "other", [train_line(1), validation_line(1, 0.5, ("sky", "road"))])
    _, _, err = deeplabctl("report", "one", "other")
    assert err == "the runs have different classes, so there is no table of classes\n"
    _, _, err = deeplabctl("report", "one", "other", "--overwrite", "--quiet")
    assert err == ""


def test_folders_without_records_are_passed_over_among_several(two, deeplabctl):
    make_run(two / "failed", [])
    code, out, err = deeplabctl("report", "one", "failed", "two", "--json")
    assert code == 0
    assert [run["run"] for run in json.loads(out)["runs"]] == ["one", "two"]
    assert err == "failed: skipped, as it has no training records\n"
    assert deeplabctl("report", "one", "typo", "two", "--overwrite")[0] == 1


def test_folders_that_are_not_runs_are_one_line(two):
    fails_with_one_line("gone: expected a run directory with a recipe.toml", "report", "gone", cwd=two)
    fails_with_one_line("gone: expected a run directory with a recipe.toml", "report", "one", "gone", cwd=two)
    make_run(two / "new", [])
    fails_with_one_line("new: expected at least one training step", "report", "new", cwd=two)
    fails_with_one_line("one: expected different runs", "report", "one", "two", "one", cwd=two)
    assert not (two / "comparison").exists()


def test_folder_for_a_comparison_is_a_usage_error_with_one_run(two, deeplabctl):
    code, _, err = deeplabctl("report", "one", "--out", "there")
    assert code == 2
    assert "expected several runs" in err


def test_report_without_arguments_prints_its_help(tmp_path):
    code, out, err = run_without_tensorflow("report", cwd=tmp_path)
    assert code == 2
    assert "Usage: deeplabctl report" in out + err
