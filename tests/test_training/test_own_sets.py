"""The recipe for a data set of one's own: what it chooses, that it resumes exactly, and that it keeps to a time."""

import pytest
from dataset_files import make_dataset

from deeplabctl.errors import RecipeError, RunError
from deeplabctl.recipe import read_recipe
from deeplabctl.reporting import Note, silent
from deeplabctl.training.job import TrainingRequest, prepared_job
from deeplabctl.training.plan import plan_resume, plan_training
from deeplabctl.training.run_directory import RunDirectory

TINY = ["model.width=0.05", "model.init=random", "augment.crop_size=33", "solver.batch_size=2", "run.log_every=2"]


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "set", train=5, val=3)


def plan_own(dataset, *settings, report=silent, **options):
    return plan_training(None, [*TINY, *settings], {"data.root": str(dataset), **options}, report=report)


def train(plan, path, **arguments):
    from deeplabctl.training.loop import train_plan

    with RunDirectory.create(path, plan.recipe, "set") as run:
        return train_plan(plan, run, **arguments)


def resume(path, **arguments):
    from deeplabctl.training.loop import train_plan

    plan, checkpoint = plan_resume(path)
    with RunDirectory.open(path) as run:
        run.resume(plan.recipe)
        return train_plan(plan, run, checkpoint=checkpoint, **arguments)


def after(calls):
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) >= calls

    return should_stop


def weights_of(path):
    from deeplabctl.weights.reading import read_weight_file

    return {name: [array.tobytes() for array in arrays] for name, arrays in read_weight_file(path).layers.items()}


def test_own_is_the_recipe_of_sets_that_are_neither_vocs_nor_the_built_in_one(dataset, tmp_path):
    assert plan_own(dataset).recipe_name == "own"
    voc = make_dataset(tmp_path / "voc")
    (voc / "classes.txt").unlink()
    assert plan_own(voc).recipe_name == "paper-v2"
    assert plan_own("shapes").recipe_name == "shapes"


def test_own_chooses_crop_steps_and_intervals_from_the_set_and_says_so(dataset):
    notes = []
    settings = [setting for setting in TINY if "crop" not in setting]
    plan = plan_training(None, settings, {"data.root": str(dataset)}, report=notes.append)
    assert plan.recipe.augment.crop_size == 41  # two thirds of 60
    assert plan.recipe.solver.steps == 716  # 640 * sqrt(5) / 2
    assert (plan.recipe.run.val_every, plan.recipe.run.save_every) == (72, 72)
    texts = [event.text for event in notes if isinstance(event, Note)]
    assert "chosen for 5 images of about 80x60: crops of 41 pixels, 716 steps of 2 images" in texts


def test_settings_of_the_user_come_before_what_own_chooses(dataset):
    recipe = plan_own(dataset, "run.val_every=7", **{"solver.steps": 20}).recipe
    assert (recipe.solver.steps, recipe.run.val_every, recipe.run.save_every) == (20, 7, 2)


def test_run_repeats_its_resolved_recipe(dataset, tmp_path):
    plan = plan_own(dataset)
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set"):
        assert read_recipe(str(tmp_path / "run" / "recipe.toml")) == plan.recipe


@pytest.mark.tf
def test_averages_crops_colours_and_thawing_resume_to_the_same_bytes(dataset, tmp_path):
    settings = ("solver.freeze=['conv1_1', 'fc6']", "solver.freeze_steps=4", "solver.steps=9", "run.save_every=2")
    init = tmp_path / "whole" / "last.keras"
    train(plan_own(dataset, "solver.steps=1"), init.parent)
    plan = plan_own(dataset, *settings, f"model.init='{init}'", "solver.hard_pixels=0.5")
    train(plan, tmp_path / "once")
    assert train(plan, tmp_path / "twice", should_stop=after(3)).stopped
    assert resume(tmp_path / "twice", should_stop=after(4)).stopped
    assert not resume(tmp_path / "twice").stopped
    for name in ("best.keras", "last.keras"):
        assert weights_of(tmp_path / "once" / name) == weights_of(tmp_path / "twice" / name)


@pytest.mark.tf
def test_average_is_what_is_saved(dataset, tmp_path):
    recipe = ("solver.steps=6", "solver.average=0.9")
    train(plan_own(dataset, *recipe), tmp_path / "averaged")
    train(plan_own(dataset, recipe[0], "solver.average=0"), tmp_path / "plain")
    averaged, plain = (weights_of(tmp_path / name / "last.keras") for name in ("averaged", "plain"))
    assert averaged != plain


@pytest.mark.tf
def test_time_sets_steps_that_fit_and_the_run_repeats_them(dataset, tmp_path):
    notes = []
    plan = plan_own(dataset, **{"run.time": "25s"})
    result = train(plan, tmp_path / "run", report=notes.append)
    assert result.steps >= 20
    recipe = read_recipe(str(tmp_path / "run" / "recipe.toml"))
    assert (recipe.run.time, recipe.solver.steps) == ("", result.steps)
    assert recipe.run.val_every == -(-result.steps // 10)
    assert any(f"{result.steps:,} steps fit into 25s" in event.text for event in notes if isinstance(event, Note))
    assert plan_resume(tmp_path / "run")[0].recipe == recipe


@pytest.mark.tf
def test_time_too_short_for_ten_steps_is_refused_with_the_time_of_a_step(dataset, tmp_path):
    with pytest.raises(RunError, match=r"run\.time: expected enough for 10 steps, got 1s; a step takes"):
        train(plan_own(dataset, **{"run.time": "1s"}), tmp_path / "run")


@pytest.mark.tf
def test_run_that_was_killed_before_it_was_timed_is_timed_when_it_is_resumed(dataset, tmp_path):
    plan = plan_own(dataset, **{"run.time": "20s"})
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set"):
        pass
    assert read_recipe(str(tmp_path / "run" / "recipe.toml")).run.time == "20s"
    assert not resume(tmp_path / "run").stopped
    assert read_recipe(str(tmp_path / "run" / "recipe.toml")).run.time == ""


def test_steps_and_time_together_are_refused_and_so_is_a_time_for_a_run_that_has_steps(dataset, tmp_path):
    with pytest.raises(RecipeError, match="`steps` and `time`: expected one of them, got both"):
        plan_own(dataset, **{"solver.steps": 5, "run.time": "1m"})
    plan = plan_own(dataset)
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set"):
        pass
    request = TrainingRequest(resume=str(tmp_path / "run"), options={"time": "1m"})
    with (
        pytest.raises(RunError, match="`time`: a resumed run keeps its number of steps"),
        prepared_job(request, silent),
    ):
        pass


@pytest.mark.parametrize("text", ["soon", "45", "1.5h", "-3m", "0m", "m"])
def test_time_that_is_none_is_refused(dataset, text):
    with pytest.raises(RecipeError, match=r"run\.time: expected a time, as 90s, 45m or 1h30m"):
        plan_own(dataset, **{"run.time": text})


def test_steps_of_the_user_come_before_a_time_of_the_recipe(dataset, tmp_path):
    (tmp_path / "timed.toml").write_text('[run]\ntime = "45m"\n')
    options = {"data.root": str(dataset), "solver.steps": 30}
    recipe = plan_training(str(tmp_path / "timed.toml"), TINY, options).recipe
    assert (recipe.run.time, recipe.solver.steps) == ("", 30)
