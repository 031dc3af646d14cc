"""What a training needs is checked, and its directory locked, before it starts."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.data.dataset import Dataset
from deeplabctl.errors import DataError, RecipeError, RunError, WeightsError
from deeplabctl.reporting import silent
from deeplabctl.training import run as running
from deeplabctl.training.checkpoint import Checkpoint, Progress
from deeplabctl.training.plan import plan_training
from deeplabctl.training.run import TrainingRequest, planned_training
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.weights import starting


@pytest.fixture
def plan(tmp_path):
    options = {"data.root": str(make_dataset(tmp_path / "set")), "model.init": "random"}
    return plan_training("shapes", ["augment.crop_size=33", "model.width=0.05"], options)


def a_run(plan, path, status="interrupted", files=(), **facts):
    with RunDirectory.create(path, plan.recipe, "set") as run:
        for name in files:
            (path / name).write_bytes(b"trained")
    run.record(status=status, **facts)
    return path


def planned(**request):
    with planned_training(TrainingRequest(**request), silent) as planned:
        return planned


def test_run_to_resume_is_locked_before_it_is_read_and_until_the_training_ends(plan, tmp_path, monkeypatch):
    run = a_run(plan, tmp_path / "run")
    with planned_training(TrainingRequest(resume=str(run)), silent) as first:
        assert first.plan.recipe == plan.recipe
        with monkeypatch.context() as patch:
            patch.setattr(running, "plan_resume", lambda *arguments, **more: pytest.fail("read without the lock"))
            with pytest.raises(RunError, match="another training is running in it"):
                planned(resume=str(run))
        with first.opened(silent, ["again"]), pytest.raises(RunError, match="another training is running"):
            planned(resume=str(run))
    assert planned(resume=str(run)).resumed == run


def test_finished_run_that_was_killed_in_its_report_is_left_without_what_is_half_written(plan, tmp_path):
    run = a_run(plan, tmp_path / "run", status="finished")
    progress = Progress(step=plan.recipe.solver.steps, validated=True)
    Checkpoint(progress, {}, [], asdict(plan.recipe), plan.fingerprint).write(run / "checkpoints")
    left = [".curves.0123abcd.png", ".report.0123abcd.html"]
    for name in [*left, ".mine.0123abcd.png"]:
        (run / name).touch()
    with planned_training(TrainingRequest(resume=str(run)), silent) as resumed:
        assert resumed.end_finished_run() is not None
    assert not any((run / name).exists() for name in left)
    assert (run / ".mine.0123abcd.png").exists()


def test_worker_that_leaves_writing_to_the_chief_takes_no_lock(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    with RunDirectory.open(run), planned_training(TrainingRequest(resume=str(run)), silent, writes=False) as second:
        assert second.directory is None


def test_folder_with_files_of_others_is_refused_before_the_data_set_is_read(tmp_path):
    (tmp_path / "best.keras").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"expected a new or an empty folder, got one with best\.keras"):
        planned(run_dir=tmp_path, data="nowhere")


@pytest.mark.parametrize(
    ("status", "files"),
    [("finished", ["metrics.jsonl", "best.keras"]), ("interrupted", ["last.keras"]), (None, ["best.keras"]),
     (None, ["metrics.jsonl"])],
)  # fmt: skip
def test_trained_run_whose_checkpoints_are_gone_is_not_begun_once_more(plan, tmp_path, status, files):
    run = a_run(plan, tmp_path / "run", status, files)
    if status is None:
        (run / "run.json").unlink()
    with pytest.raises(RunError, match=r"expected the checkpoints of this run in checkpoints, got none; .*`init`"):
        planned(resume=str(run))
    assert all((run / name).read_bytes() == b"trained" for name in files)


@pytest.mark.parametrize(("status", "files"), [("running", ["metrics.jsonl", "best.keras"]), (None, [])])
def test_run_that_was_killed_before_its_first_checkpoint_begins_once_more(plan, tmp_path, status, files):
    run = a_run(plan, tmp_path / "run", status, files)
    if status is None:
        (run / "run.json").unlink()
    assert planned(resume=str(run)).checkpoint is None


@pytest.mark.parametrize("asked", [{"steps": 99}, {"settings": ["solver.warmup_steps=99"]}])
def test_steps_for_a_run_that_was_timed_are_refused_and_not_passed_over(plan, tmp_path, asked):
    run = a_run(plan, tmp_path / "run", timed=True)
    Checkpoint(Progress(4), {}, [], asdict(plan.recipe), plan.fingerprint).write(run / "checkpoints")
    assert planned(resume=str(run)).checkpoint.progress.step == 4
    with pytest.raises(RunError, match=r"the recipe is not that of the run: solver\.\w+ \(was \d+, now 99\); resume"):
        planned(resume=str(run), **asked)


@pytest.mark.parametrize("as_setting", [str, Path])
def test_settings_in_python_may_be_paths_and_have_letters_of_any_script(tmp_path, as_setting):
    root = tmp_path / "Straße 😀"
    with pytest.raises(DataError, match="Straße 😀"):
        running.train(settings={"data.root": as_setting(root)}, report=silent)


def test_settings_in_python_may_be_numbers_of_numpy():
    for name, value, said in [
        ("solver.power", np.float32(-0.5), "solver.power: expected .*, got -0.5"),
        ("augment.scale", np.array([2.0, 1.0]), r"augment.scale: expected .*, got \(2\.0, 1\.0\)"),
    ]:
        with pytest.raises(RecipeError, match=said):
            running.train(recipe="shapes", settings={name: value}, report=silent)


def test_recipe_in_python_may_be_a_path_and_is_a_text_in_the_facts_of_the_run(monkeypatch):
    def plan(request, report):
        raise RunError(repr(request.recipe))

    monkeypatch.setattr(running, "planned_training", plan)
    with pytest.raises(RunError, match=r"^'mine\.toml'$"):
        running.train(recipe=Path("mine.toml"), report=silent)


def test_arguments_that_are_no_paths_are_type_errors_and_not_names_of_files():
    for wrong in ({"data": Dataset(Path("set"), ("a", "b"))}, {"init": 3}, {"resume": True}):
        with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not (Dataset|int|bool)"):
            running.train(**wrong, report=silent)


def test_run_that_begins_once_more_has_its_first_weights_before_tensorflow_starts(plan, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(starting, "fetch_imagenet", lambda name, report: asked.append(name))
    run = a_run(plan.with_settings(model={"init": "imagenet"}), tmp_path / "run", status="running")
    planned(resume=str(run))
    assert asked == ["VGG16"]
    (tmp_path / "mine.keras").touch()
    other = plan.with_settings(model={"init": str(tmp_path / "mine.keras")})
    other = a_run(other, tmp_path / "other", status="running")
    with pytest.raises(WeightsError, match=r"mine\.keras"):
        planned(resume=str(other))


def test_checkpoint_of_another_name_in_the_folder_is_neither_read_nor_removed(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    (run / "checkpoints").mkdir()
    mine = ["step-000900-good.npz", "step-last.npz", "step-900.npz", "step-0000900.npz", "best.npz"]
    for name in mine:
        (run / "checkpoints" / name).write_bytes(b"mine")
    for step in (5, 10, 15):
        Checkpoint(Progress(step), {}, [], {}, {}).write(run / "checkpoints")
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == sorted([*mine, "step-000010.npz", "step-000015.npz"])
