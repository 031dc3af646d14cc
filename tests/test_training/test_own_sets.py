"""The recipe for a data set of one's own: what it chooses, that it resumes exactly, and that it keeps to a time."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from dataset_files import draw_few_shapes, make_dataset
from run_trainings import after, resume, train_new

from deeplabctl.data.inspection import LabelFacts, count_neighbours
from deeplabctl.data.labels import write_mask
from deeplabctl.errors import DataError, RecipeError, RunError
from deeplabctl.limits import AUTO
from deeplabctl.recipe import read_recipe
from deeplabctl.reporting import Note, silent
from deeplabctl.training import timing
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.input_pipeline import TrainingPipeline
from deeplabctl.training.plan import fitted_to_images, plan_resume, plan_training, with_steps
from deeplabctl.training.run import TrainingRequest, planned_training
from deeplabctl.training.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("shallow")

TINY = [
    "model.architecture=largefov", "model.width=0.05", "model.init=random", "augment.crop_size=33",
    "solver.batch_size=2", "run.log_every=2", "run.precision=float32",
]  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "set", train=5, val=3)


def plan_own(dataset, *settings, report=silent, **options):
    return plan_training(None, [*TINY, *settings], {"data.root": str(dataset), **options}, report=report)


def start_of(folder):
    """Write a network to start from; returns its file."""
    from deeplabctl.network.keras_model import zero_model
    from deeplabctl.weights.model_info import ModelInfo
    from deeplabctl.weights.sources.keras_files import save_model

    info = ModelInfo(("background", "disc", "square"), "largefov", 0.05)
    save_model(folder / "start.keras", zero_model("largefov", 3, width=0.05), info)
    return folder / "start.keras"


def weights_of(path):
    from deeplabctl.weights.locating import open_weights

    return {name: array.tobytes() for name, array in open_weights(path).weights.items()}


@pytest.fixture
def _few_shapes(monkeypatch):
    draw_few_shapes(monkeypatch)


@pytest.mark.usefixtures("_few_shapes")
def test_own_is_the_recipe_of_sets_that_are_neither_vocs_nor_the_built_in_one(dataset, tmp_path):
    assert plan_own(dataset).recipe_name == "own"
    voc = make_dataset(tmp_path / "voc")
    (voc / "classes.txt").unlink()
    assert plan_own(voc).recipe_name == "paper-v2"
    assert plan_own("shapes").recipe_name == "shapes"


@pytest.mark.usefixtures("_few_shapes")
def test_settings_are_those_of_the_recipe_for_the_set_and_not_of_another(dataset):
    architecture = ("model.architecture=resnet101",)
    refused = r"recipe own: augment\.crop_size: expected 32k \+ 1"
    assert plan_training(None, [*architecture], {"data.root": "shapes"}).recipe_name == "shapes"
    with pytest.raises(RecipeError, match=refused):
        plan_own(dataset, *architecture, "augment.crop_size=41")
    assert plan_own(dataset, *architecture).recipe_name == "own"


@pytest.mark.parametrize(("steps", "every"), [(2, 2), (9, 3), (60, 6)])
def test_short_training_validates_no_more_images_than_it_has_steps(dataset, steps, every):
    assert plan_own(dataset, **{"solver.steps": steps}).recipe.run.val_every == every  # 3 images


def test_own_chooses_crop_steps_and_intervals_from_the_set_and_says_so(dataset):
    notes = []
    settings = [setting for setting in TINY if "crop" not in setting]
    plan = plan_training(None, settings, {"data.root": str(dataset)}, report=notes.append)
    assert plan.recipe.augment.crop_size == 57  # nine tenths of 60
    assert plan.recipe.solver.steps == 447  # 400 * sqrt(5) / 2
    assert plan.recipe.solver.learning_rate == 1e-4  # of largefov
    assert (plan.recipe.run.val_every, plan.recipe.run.save_every) == (45, 45)
    texts = [event.text for event in notes if isinstance(event, Note)]
    assert "chosen for 5 images of about 80x60: crops of 57 pixels, 447 steps of 2 images" in texts


@pytest.mark.parametrize(
    ("images", "init", "freeze", "kept"),
    [
        (100, "w.keras", "auto", 18), (101, "w.keras", "auto", 0), (100, "random", "auto", 0), (5, "w.keras", "[]", 0),
    ],
)  # fmt: skip
def test_early_layers_keep_their_weights_where_images_are_few(images, init, freeze, kept):
    recipe = read_recipe("own", [f"model.init='{init}'", f"solver.freeze={freeze}"])
    frozen = fitted_to_images(recipe, [LabelFacts(360, 480, {}, "")] * images).solver.freeze
    assert len(frozen) == kept
    assert frozen[-1:] == (("expanded_conv_5_project",) if kept else ())


def test_early_layers_are_named_with_what_else_is_chosen(dataset, monkeypatch):
    notes = []
    monkeypatch.setattr("deeplabctl.training.plan.open_start", lambda init, architecture: None)
    settings = [setting.replace("largefov", "deeplabv3plus-mnv2") for setting in TINY if "init" not in setting]
    plan = plan_own(dataset, *settings, f"model.init='{dataset}/classes.txt'", report=notes.append)
    assert len(plan.recipe.solver.freeze) == 18
    assert any("18 early layers that keep their weights" in event.text for event in notes if isinstance(event, Note))


@pytest.mark.parametrize(
    ("sorted_along", "classes", "turns", "jitter", "gain"),
    [(0, 4, False, 0.4, 0.12), (None, 4, True, 0.2, 0.07), (None, 2, False, 0.2, 0.07)],  # streets, from above, cells
)
def test_light_changes_more_where_labels_show_which_side_is_up(sorted_along, classes, turns, jitter, gain):
    rng = np.random.default_rng(0)
    fields = [np.repeat(np.repeat(rng.integers(0, classes, (12, 12)), 9, 0), 9, 1) for _ in range(40)]
    labels = [field if sorted_along is None else np.sort(field, axis=sorted_along) for field in fields]
    facts = [LabelFacts(*label.shape, {}, "", count_neighbours(label.astype(np.uint8))) for label in labels]
    augment = fitted_to_images(read_recipe("own"), facts).augment
    assert (augment.turns, augment.jitter, augment.channel_gain) == (turns, jitter, gain)
    recipe = read_recipe("own", ["augment.jitter=0.7", "augment.turns=true"])
    assert recipe.augment.gamma == AUTO
    augment = fitted_to_images(recipe, facts).augment
    assert (augment.turns, augment.jitter, augment.channel_gain) == (True, 0.7, gain)


@pytest.mark.tf
def test_network_is_applied_at_the_size_that_it_was_trained_at(dataset, tmp_path):
    from deeplabctl.prediction import load

    plan = plan_own(dataset, "solver.steps=1", "data.scale=1.25")
    assert TrainingPipeline.of(plan).settings.scale == (0.75 * 1.25, 1.5 * 1.25)
    train_new(plan, tmp_path / "run")
    assert load(tmp_path / "run").settings.scales == (1.25,)


def test_labels_to_train_on_that_are_all_void_are_counted(dataset):
    events = []
    for name in ("t1", "t3", "v0"):
        write_mask(dataset / "SegmentationClass" / f"{name}.png", np.full((60, 80), 255, np.uint8))
    plan_own(dataset, report=events.append)
    text = "2 of 5 labels to train on have only void (t1.png, t3.png); nothing is learned from these images"
    assert Note(text, warning=True) in events


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
    plan = plan_own(dataset, *settings, f"model.init='{start_of(tmp_path)}'", "solver.hard_pixels=0.5")
    train_new(plan, tmp_path / "once")
    assert train_new(plan, tmp_path / "twice", should_stop=after(3)).stopped
    assert not resume(tmp_path / "twice").stopped
    for name in ("best.keras", "last.keras"):
        assert weights_of(tmp_path / "once" / name) == weights_of(tmp_path / "twice" / name)


@pytest.mark.tf
def test_run_in_a_format_that_is_not_computed_here_is_not_told_to_take_another(dataset, tmp_path, monkeypatch):
    assert train_new(plan_own(dataset, "solver.steps=3"), tmp_path / "run", should_stop=after(1)).stopped
    with pytest.raises(
        RunError, match=r"run\.precision \(was 'float32', now 'bfloat16'\)"
    ):  # as a resumed run keeps its format
        plan_resume(tmp_path / "run", None, ["run.precision=bfloat16"])
    monkeypatch.setattr("deeplabctl.training.loop.can_compute", lambda precision: False)
    with pytest.raises(RunError, match="got float32; resume it on a machine where it can, or start a new training"):
        resume(tmp_path / "run")


@pytest.mark.tf
def test_average_is_what_is_saved(dataset, tmp_path):
    recipe = ("solver.steps=6", "solver.average=0.9")
    train_new(plan_own(dataset, *recipe), tmp_path / "averaged")
    train_new(plan_own(dataset, recipe[0], "solver.average=0"), tmp_path / "plain")
    averaged, plain = (weights_of(tmp_path / name / "last.keras") for name in ("averaged", "plain"))
    assert averaged != plain


@pytest.mark.tf
def test_steps_and_a_validation_are_timed_on_a_network_of_their_own(dataset):
    from deeplabctl.training import timing
    from deeplabctl.training.cluster import Cluster

    plan = plan_own(dataset, "run.precision=float32")
    timed = timing._measure(plan, Cluster(), 3600, lambda: False)
    assert timed.compiling > timed.step > timed.loading > 1e-4
    assert timed.validation == timed.preview > 1e-4  # three images each
    assert timed.start > 0


@pytest.mark.tf
def test_timing_ends_as_soon_as_ten_steps_cannot_fit(dataset):
    from deeplabctl.training import timing
    from deeplabctl.training.cluster import Cluster

    plan = plan_own(dataset, "run.precision=float32", **{"run.time": "1s"})
    with pytest.raises(
        RunError, match=r"^`time`: expected enough for 10 steps, got 1s; timing 1 step took \d+ s; give"
    ):
        timing._measure(plan, Cluster(), 0.001, lambda: False)


@pytest.mark.tf
def test_reading_the_images_counts(dataset, monkeypatch):
    from deeplabctl.parallel import available_cpus
    from deeplabctl.training import timing
    from deeplabctl.training.cluster import Cluster
    from deeplabctl.training.input_pipeline import TrainingPipeline

    load = TrainingPipeline.load
    monkeypatch.setattr(TrainingPipeline, "load", lambda self, position: time.sleep(0.2) or load(self, position))
    timed = timing._measure(plan_own(dataset, "run.precision=float32"), Cluster(), 3600, lambda: False)
    assert timed.step > timed.loading > 0.2 * 2 / available_cpus()


@pytest.mark.tf
def test_image_that_vanishes_while_steps_are_timed_is_named(dataset, tmp_path):
    plan = plan_own(dataset, **{"run.time": "1m"})
    plan.samples[0].image.unlink()
    with pytest.raises(DataError, match=f"cannot read .*{plan.samples[0].image.name}"):
        train_new(plan, tmp_path / "run")


@pytest.fixture
def timing_of_a_machine(monkeypatch):
    """Make a step take 2 s and a validation 2 s, whatever this machine does meanwhile."""
    monkeypatch.setattr(timing, "_measure", lambda *_: timing.Timing(0.0, 1.0, 2.0, 0.01, 2.0, 0.1))
    monkeypatch.setattr(timing.TimeLimit, "refitted", lambda *_: None)


@pytest.mark.tf
@pytest.mark.usefixtures("timing_of_a_machine")
def test_time_sets_steps_that_fit_and_the_run_repeats_them(dataset, tmp_path):
    notes = []
    plan = plan_own(dataset, **{"run.time": "1m"})
    result = train_new(plan, tmp_path / "run", report=notes.append)
    # 97 % of a minute, without a first step of 1 s, 2 validations of 2 s and 2 previews of 0.1 s, in steps of 2 s; the
    # call takes a bit.
    assert 23 <= result.steps <= 26
    recipe = read_recipe(str(tmp_path / "run" / "recipe.toml"))
    assert (recipe.run.time, recipe.solver.steps) == ("", result.steps)
    assert (recipe.run.val_every, recipe.run.save_every) == (-(-result.steps // 2), -(-result.steps // 10))
    assert any(f"{result.steps:,} steps fit into 1m" in event.text for event in notes if isinstance(event, Note))
    assert plan_resume(tmp_path / "run")[0].recipe == recipe
    named = plan_resume(tmp_path / "run", "own", TINY, {"data.root": str(dataset)})[0].recipe
    assert named == recipe


@pytest.mark.tf
@pytest.mark.parametrize(
    ("left", "step_seconds", "steps"),
    [
        (870, 0.4, 20 + 1975),  # 161 steps were planned beside other work; 8 validations of 10 s take a tenth
        (870, 5.4, None),  # nearly as planned
        (100, 2.0, 20 + 45),  # the machine has become slower: one validation at the end, none after 10 more steps
        (10, 2.0, 20),  # no time for a step and the validation after it: this one was the last
        (-5, 2.0, 20),
    ],
)
def test_steps_are_fitted_again_to_the_time_that_is_left(left, step_seconds, steps):
    recipe, cluster = read_recipe("own"), Cluster()
    limit, planned = timing.TimeLimit(recipe, time.perf_counter() + left), with_steps(recipe, 161, 8)
    recipe = limit.refitted(20, planned, step_seconds, SimpleNamespace(seconds=9.0, preview_seconds=1.0), cluster)
    if steps is None:
        assert recipe is None
    else:
        assert abs(recipe.solver.steps - steps) <= 2
        assert recipe.run.val_every != AUTO


@pytest.mark.tf
def test_steps_that_are_fitted_again_are_those_of_the_run_and_of_a_resumed_one(dataset, tmp_path, monkeypatch):
    more = iter([with_steps(plan_own(dataset, **{"run.time": "1m"}).recipe.with_settings(run={"time": ""}), 14, 2)])
    monkeypatch.setattr(timing, "_measure", lambda *_: timing.Timing(0.0, 1.0, 5.0, 0.01, 0.5, 0.1))
    asked, notes = [], []
    monkeypatch.setattr(timing.TimeLimit, "refitted", lambda _, step, *__: asked.append(step) or next(more, None))
    plan = plan_own(dataset, **{"run.time": "1m", "run.precision": "float32"})
    result = train_new(plan, tmp_path / "run", report=notes.append)
    assert result.steps == 14
    assert asked[0] == 2  # step 1 was validated, too, but it compiles
    assert any("14 steps fit into the time, not " in event.text for event in notes if isinstance(event, Note))
    recipe = tmp_path / "run" / "recipe.toml"
    assert read_recipe(str(recipe)).solver.steps == 14
    recipe.write_text(recipe.read_text().replace("steps = 14", "steps = 11"))  # killed before it was written
    for name, overrides in ((None, []), ("own", [*TINY, "run.precision=float32"])):
        again, checkpoint = plan_resume(tmp_path / "run", name, overrides, {"data.root": str(dataset)})
        assert (again.recipe.solver.steps, checkpoint.progress.step) == (14, 14)


@pytest.mark.tf
@pytest.mark.usefixtures("timing_of_a_machine")
def test_timed_run_of_a_recipe_with_steps_is_resumed_by_the_same_command(dataset, tmp_path):
    settings = ["model.width=0.05", "augment.crop_size=33", "run.precision=float32"]
    options = {"data.root": str(dataset), "model.init": "random"}
    plan = plan_training("shapes", settings, options | {"run.time": "50s"})
    steps = train_new(plan, tmp_path / "run").steps
    assert 10 < steps < 25
    again, checkpoint = plan_resume(tmp_path / "run", "shapes", settings, options)
    assert (again.recipe.solver.steps, checkpoint.progress.step) == (steps, steps)
    with pytest.raises(RunError, match=r"solver\.steps \(was"):
        plan_resume(tmp_path / "run", "shapes", settings, options | {"solver.steps": 99})


@pytest.mark.tf
@pytest.mark.usefixtures("timing_of_a_machine")
def test_time_too_short_for_ten_steps_is_refused_with_the_time_of_a_step_and_leaves_no_run(dataset, tmp_path):
    said = (
        r"^`time`: expected enough for 10 steps, got 9s; a step takes 2\.00 s here, a validation 2 s, timing took \d s"
        ", and the start would take 1 s; give more time, or make a step cheaper"
    )
    with pytest.raises(RunError, match=said):
        train_new(plan_own(dataset, **{"run.time": "9s"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.tf
@pytest.mark.parametrize("asked", [1, 7])  # after the first step, and in the validation
def test_training_that_is_stopped_while_steps_are_timed_ends_there_and_is_timed_anew(dataset, tmp_path, asked, request):
    questions, notes = iter(range(1, 100)), []
    plan = plan_own(dataset, **{"run.time": "40s"})
    stopped = train_new(plan, tmp_path / "run", report=notes.append, should_stop=lambda: next(questions) == asked)
    assert (stopped.stopped, stopped.steps, stopped.scores) == (True, 0, {})
    assert next(questions) == asked + 1  # nothing was computed after it
    assert notes[-1].text == f"stopped before the first step; resume the run with `resume={tmp_path / 'run'}`"
    assert read_recipe(str(tmp_path / "run" / "recipe.toml")).run.time == "40s"
    request.getfixturevalue("timing_of_a_machine")
    assert resume(tmp_path / "run").steps > 10


@pytest.mark.tf
@pytest.mark.usefixtures("timing_of_a_machine")
def test_run_that_was_killed_before_it_was_timed_is_timed_when_it_is_resumed(dataset, tmp_path):
    plan = plan_own(dataset, **{"run.time": "40s"})
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set"):
        pass
    assert read_recipe(str(tmp_path / "run" / "recipe.toml")).run.time == "40s"
    assert plan_resume(tmp_path / "run", "own", TINY, {"data.root": str(dataset)})[0].recipe == plan.recipe
    assert not resume(tmp_path / "run").stopped
    assert read_recipe(str(tmp_path / "run" / "recipe.toml")).run.time == ""


def test_steps_and_time_together_are_refused_and_so_is_a_time_for_a_run_that_has_steps(dataset, tmp_path):
    with pytest.raises(RecipeError, match="`steps` and `time`: expected one of them, got both"):
        plan_own(dataset, **{"solver.steps": 5, "run.time": "1m"})
    plan = plan_own(dataset)
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set"):
        pass
    for asked in ({"time": "1m"}, {"settings": ["run.time=1m"], "recipe": "own"}):
        request = TrainingRequest(resume=str(tmp_path / "run"), **asked)
        with (
            pytest.raises(RunError, match="`time`: a resumed run keeps its number of steps"),
            planned_training(request, silent),
        ):
            pass


@pytest.mark.parametrize("text", ["soon", "45", "1.5h", "-3m", "0m", "m"])
def test_time_that_is_none_is_refused(dataset, text):
    with pytest.raises(RecipeError, match=r"run\.time: expected a time such as 90s, 45m or 1h30m"):
        plan_own(dataset, **{"run.time": text})


def test_error_of_a_setting_names_the_option_that_gave_it(dataset):
    asked = {"time": "soon"}, {"learning_rate": -1.0}, {"crop_size": 100}, {"settings": ["run.time=soon"]}
    named = "`time`", "`learning_rate`", "`crop_size`", r"recipe own: run\.time"
    for options, name in zip(asked, named, strict=True):
        request = TrainingRequest(data=str(dataset), recipe="own", **options)
        with pytest.raises(RecipeError, match=f"^{name}: expected "), planned_training(request, silent):
            pass


@pytest.mark.tf
@pytest.mark.parametrize(("init", "frozen", "warmup", "rising"), [("random", False, 2, True), ("VGG", True, 1, False)])
def test_layers_that_stay_frozen_and_a_warm_up_without_an_end_are_warned_of(
    dataset, tmp_path, init, frozen, warmup, rising
):
    init = start_of(tmp_path) if init == "VGG" else init
    frozen_for_9 = ("solver.freeze=['conv1_1']", "solver.freeze_steps=9", f"model.init='{init}'")
    notes = []
    plan = plan_own(dataset, *frozen_for_9, f"solver.warmup_steps={warmup}", "solver.steps=1")
    train_new(plan, tmp_path / "run", report=notes.append)
    texts = [event.text for event in notes if isinstance(event, Note)]
    text = "solver.freeze_steps: 9 is not less than the 1 step; the frozen layers are never trained"
    assert (text in texts) == frozen
    text = "solver.warmup_steps: 2 is more than the 1 step; the training ends before its warm-up does"
    assert (text in texts) == rising


def test_class_weights_with_which_nothing_is_learned_are_refused(dataset):
    for path in sorted((dataset / "SegmentationClass").glob("t*.png")):
        write_mask(path, np.array([[1, 255]], np.uint8).repeat(60, 0).repeat(40, 1))
    assert plan_own(dataset, "solver.class_weights=[0, 1, 0]").class_weights() == [0, 1, 0]
    with pytest.raises(RecipeError, match=r"class_weights: expected .* above 0 .* got 0 for all of them \(disc\)"):
        plan_own(dataset, "solver.class_weights=[1, 0, 1]")


def test_hardest_pixels_are_those_of_a_loss_of_pixels(dataset):
    plan_own(dataset, "solver.hard_pixels=0.5", "solver.loss=cross-entropy+dice")
    for loss in ("dice", "lovasz"):
        with pytest.raises(RecipeError, match=rf"solver\.hard_pixels: expected a loss of pixels, got {loss}; leave it"):
            plan_own(dataset, "solver.hard_pixels=0.5", f"solver.loss={loss}")


def test_steps_of_the_user_come_before_a_time_of_the_recipe(dataset, tmp_path):
    (tmp_path / "timed.toml").write_text('[run]\ntime = "45m"\n')
    options = {"data.root": str(dataset), "solver.steps": 30}
    recipe = plan_training(str(tmp_path / "timed.toml"), TINY, options).recipe
    assert (recipe.run.time, recipe.solver.steps) == ("", 30)
