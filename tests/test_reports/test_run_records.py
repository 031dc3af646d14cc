import json
import math

import pytest
from run_files import make_run, train_line, validation_line, write_lines

from deeplabctl.errors import OutputError, RunError
from deeplabctl.recipe import read_recipe
from deeplabctl.reports.run_records import Metrics, RunResults, append_metrics, number, rewind_metrics


def steps(lines):
    return [line["step"] for line in lines]


def test_appended_lines_are_read_by_kind_and_in_order(tmp_path):
    append_metrics(tmp_path, "train", step=1, loss=2.5)
    append_metrics(tmp_path, "validation", step=1, miou=0.25)
    append_metrics(tmp_path, "train", step=2, loss=2.0)
    metrics = Metrics.read(tmp_path)
    assert metrics.train == [{"kind": "train", "step": 1, "loss": 2.5}, {"kind": "train", "step": 2, "loss": 2.0}]
    assert metrics.validations == [{"kind": "validation", "step": 1, "miou": 0.25}]
    assert metrics.last_step == 2


def test_lines_that_were_cut_off_are_skipped(tmp_path):
    write_lines(tmp_path, [train_line(1), train_line(2)])
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    for length in range(len(whole) // 2 + 2, len(whole) - 1):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:length])
        assert steps(Metrics.read(tmp_path).train) == [1]
    (tmp_path / "metrics.jsonl").write_bytes(whole + b'{"kind": "tr\xff\n17\n[]\n{"kind": "train"}\n{"step": 5}\n')
    append_metrics(tmp_path, "train", step=10**400)
    assert steps(Metrics.read(tmp_path).train) == [1, 2]


def test_run_without_metrics_has_no_lines(tmp_path):
    metrics = Metrics.read(tmp_path)
    assert (metrics.train, metrics.validations, metrics.last_step, metrics.best) == ([], [], 0, None)


def test_best_is_the_first_validation_with_the_highest_finite_score(tmp_path):
    scores = (0.2, math.nan, 0.6, 0.6, 0.4)
    write_lines(tmp_path, [validation_line(step, miou) for step, miou in enumerate(scores)])
    assert Metrics.read(tmp_path).best["step"] == 2
    write_lines(tmp_path, [validation_line(1, math.nan)])
    assert Metrics.read(tmp_path).best is None


@pytest.mark.parametrize(
    ("keep_validation", "kept"),
    [(True, ["train 1", "train 20", "validation 20", "train 40", "validation 40"]),
     (False, ["train 1", "train 20", "validation 20", "train 40"])],
)  # fmt: skip
def test_rewound_metrics_end_with_the_step_and_with_its_validation_only_if_that_is_kept(
    tmp_path, keep_validation, kept
):
    run = make_run(tmp_path / "run")
    before = (run / "metrics.jsonl").read_text().splitlines()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    rewind_metrics(run, 40, keep_validation=keep_validation)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert lines == before[: len(kept)]
    assert [f"{line['kind']} {line['step']}" for line in map(json.loads, lines)] == kept


def test_metrics_that_cannot_be_written_or_read_are_errors_of_the_project(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*nowhere"):
        append_metrics(tmp_path / "nowhere", "train", step=1)
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"cannot read .*metrics\.jsonl"):
        Metrics.read(tmp_path)


def test_numbers_that_a_line_does_not_have_are_nan():
    line = {"loss": 2, "miou": None, "best": "yes", "waiting": 10**400}
    assert number(line, "loss") == 2.0
    assert all(math.isnan(number(line, key)) for key in ("miou", "best", "learning_rate", "waiting"))


def test_recipe_that_was_saved_by_an_editor_of_windows_is_read_as_train_reads_it(tmp_path):
    run = make_run(tmp_path / "run")
    recipe = run / "recipe.toml"
    recipe.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes())
    assert RunResults.read(run).planned_steps == read_recipe(str(recipe)).solver.steps == 60


def test_damaged_recipe_is_an_error_and_damaged_facts_are_none(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "run.json").write_text("[" * 100_000)
    assert RunResults.read(run).facts == {}
    for text in ("a = ", "a = " + "[" * 3000):
        (run / "recipe.toml").write_text(text)
        with pytest.raises(RunError, match=r"cannot read .*recipe\.toml"):
            RunResults.read(run)
