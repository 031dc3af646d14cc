"""Trainings that are stopped, disturbed or full of faults go on where they were."""

import json

import numpy as np
import pytest
from dataset_files import make_dataset
from PIL import Image
from run_trainings import KilledError, after, resume, train_new
from small_training import shallow_network

from deeplabctl.errors import DataError, OutputError, RunError
from deeplabctl.reports.run_records import RunResults
from deeplabctl.training import loop
from deeplabctl.training.plan import plan_training
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.training.step import TrainingStep

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("shallow")]

SMALL = [
    "model.width=0.05", "model.dropout=0.3", "augment.crop_size=33", "solver.batch_size=2", "solver.steps=9",
    "run.log_every=2", "run.val_every=4", "run.save_every=3", "run.preview_every=100", "solver.learning_rate=0.01",
]  # fmt: skip


def plan_small(root, *settings):
    if not root.exists():
        make_dataset(root, train=5, val=3)
    return plan_training("shapes", [*SMALL, *settings], {"data.root": str(root)})


def weights_of(path):
    import keras

    return [array.tobytes() for array in keras.saving.load_model(path, compile=False).get_weights()]


def figures_of(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["kind"], line["step"], line.get("loss"), line.get("miou")) for line in lines]


def events_of(run):
    """Return the steps and values of each scalar that TensorBoard reads, and the steps of the previews."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_accumulator")
    from tensorboard.util.tensor_util import make_ndarray

    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, make_ndarray(event.tensor_proto).tolist()) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Train without an interruption."""
    root = tmp_path_factory.mktemp("whole")
    with shallow_network():
        train_new(plan_small(root / "set"), root / "run")
    return root


# The stop comes after steps 1, 2 and 3; in the validation that follows step 4; before, in and after the last one.
@pytest.mark.parametrize(
    "calls", [5, 13, *(pytest.param(calls, marks=pytest.mark.slow) for calls in (1, 2, 3, 6, 8, 12))]
)
def test_stopped_and_resumed_training_ends_with_the_bytes_of_the_uninterrupted_one(whole, tmp_path, calls):
    result = train_new(plan_small(whole / "set"), tmp_path / "run", should_stop=after(calls))
    assert result.stopped
    assert result.first_step == 0
    left_off = result.steps
    result = resume(tmp_path / "run")
    assert (result.steps, result.stopped, result.first_step) == (9, False, left_off)
    assert RunResults.read(tmp_path / "run").seconds_in_all > result.seconds > 0
    for name in ("last.keras", "best.keras"):
        assert weights_of(tmp_path / "run" / name) == weights_of(whole / "run" / name)
    assert figures_of(tmp_path / "run") == figures_of(whole / "run")


def test_resuming_a_training_that_has_no_steps_left_changes_nothing(whole):
    before = weights_of(whole / "run" / "last.keras")
    result = resume(whole / "run")
    assert result.steps == 9
    assert weights_of(whole / "run" / "last.keras") == before


def test_image_that_vanishes_stops_with_its_name_and_the_run_goes_on_once_it_is_back(whole, tmp_path):
    plan = plan_small(tmp_path / "set")
    lost = plan.samples[0].image
    lost.rename(tmp_path / "lost.png")
    with pytest.raises(DataError) as error:
        train_new(plan, tmp_path / "run")
    assert str(lost) in str(error.value)
    assert f"`resume={tmp_path / 'run'}`" in str(error.value)
    (tmp_path / "lost.png").rename(lost)
    resume(tmp_path / "run")
    assert weights_of(tmp_path / "run" / "last.keras") == weights_of(whole / "run" / "last.keras")


def test_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path):
    plan = plan_small(tmp_path / "set", "solver.gradient_clip=0.0", "solver.steps=200")
    from deeplabctl.training import loop as training

    class Diverging(training.TrainingStep):
        def __call__(self, images, labels, positions, step):
            return super().__call__(images, labels, positions, step) if step < 5 else float("nan")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "TrainingStep", Diverging)
        with pytest.raises(RunError) as error:
            train_new(plan, tmp_path / "run")
    assert "step 6: the loss is nan" in str(error.value)
    assert "step-000003.npz" in str(error.value)
    assert "JPEGImages" in str(error.value)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000003.npz"]


class OverflowingStep(TrainingStep):
    """Leave a weight at infinity in the second update."""

    def __call__(self, images, labels, positions, step):
        loss = super().__call__(images, labels, positions, step)
        if step == 1:
            weight = self._model.weights[0]
            weight.assign(np.full(weight.shape, np.inf))
        return loss


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TrainingStep", OverflowingStep)
    plan = plan_small(tmp_path / "set", "solver.average=0.0", "run.save_every=1")
    with pytest.raises(RunError, match="the update left weights that are not finite") as error:
        train_new(plan, tmp_path / "run")
    checkpoints = list((tmp_path / "run" / "checkpoints").iterdir())
    assert str(checkpoints[-1]) in str(error.value)
    for path in checkpoints:
        with np.load(path) as stored:
            assert all(np.isfinite(stored[name]).all() for name in stored.files if name.startswith("weights"))


def test_logits_that_are_not_finite_in_a_validation_are_a_diverged_training_and_not_saved(tmp_path):
    """Weights that are finite may be so large that their sums are not."""
    plan = plan_small(tmp_path / "set", "solver.learning_rate=1e34", "solver.gradient_clip=1.0", "run.val_every=1")
    with pytest.raises(RunError, match=r"logits are not finite for an image .* lower solver") as error:
        train_new(plan, tmp_path / "run")
    assert "restore the data" not in str(error.value)
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_label_that_changes_to_an_unknown_class_is_named_and_nothing_is_lost(tmp_path):
    plan = plan_small(tmp_path / "set")
    path = plan.samples[0].label
    kept = path.read_bytes()
    Image.fromarray(np.full((60, 80), 77, np.uint8)).save(path)
    with pytest.raises(DataError, match="expected class ids 0 to 2 or 255, got 77") as error:
        train_new(plan, tmp_path / "run")
    assert str(path) in str(error.value)
    path.write_bytes(kept)
    assert resume(tmp_path / "run").steps == 9


def test_validation_image_that_vanishes_loses_no_step(whole, tmp_path):
    plan = plan_small(tmp_path / "set")
    lost = plan.val_samples[0].image
    lost.rename(tmp_path / "lost.png")
    with pytest.raises(DataError, match="restore the data, then resume the run with"):
        train_new(plan, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "step-000004.npz").exists()
    (tmp_path / "lost.png").rename(lost)
    resume(tmp_path / "run")
    assert weights_of(tmp_path / "run" / "last.keras") == weights_of(whole / "run" / "last.keras")
    assert figures_of(tmp_path / "run") == figures_of(whole / "run")


def test_tensorboard_that_cannot_write_ends_no_training(tmp_path):
    plan = plan_small(tmp_path / "set", "solver.steps=2")
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set") as run:
        (tmp_path / "run" / "tensorboard").write_text("in the way")
        from deeplabctl.training.loop import train_plan

        assert train_plan(plan, run).steps == 2
    assert "no more TensorBoard events" in (tmp_path / "run" / "log.txt").read_text()


def test_full_disk_ends_the_run_with_a_line_and_it_continues_later(whole, tmp_path, monkeypatch):
    plan = plan_small(whole / "set")
    with monkeypatch.context() as patch:
        real, calls = __import__("os").fsync, []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) > 6:
                raise OSError(28, "No space left on device")
            real(descriptor)

        patch.setattr("os.fsync", fsync)
        with pytest.raises(OutputError, match="No space left on device; no partial file was left"):
            train_new(plan, tmp_path / "run")
    resume(tmp_path / "run")
    assert weights_of(tmp_path / "run" / "last.keras") == weights_of(whole / "run" / "last.keras")
    assert figures_of(tmp_path / "run") == figures_of(whole / "run")


def test_patience_ends_a_training_that_gets_no_better(tmp_path):
    plan = plan_small(tmp_path / "set", "solver.learning_rate=1e-12", "solver.patience=1", "run.val_every=2")
    result = train_new(plan, tmp_path / "run")
    assert (result.steps, result.best_step, result.stopped) == (4, 2, False)


def test_classes_that_are_never_predicted_are_warned_of(tmp_path):
    settings = ["solver.class_weights=[1, 0, 0]", "solver.learning_rate=0.3", "solver.gradient_clip=0.0"]
    plan = plan_small(tmp_path / "set", *settings)
    events = []
    train_new(plan, tmp_path / "run", report=events.append)
    warnings = [event.text for event in events if getattr(event, "warning", False)]
    missed = "the model predicts no disc, no square"
    assert warnings == [  # not at step 4, before half of the training
        "solver.warmup_steps: 50 is more than the 9 steps; the training ends before its warm-up does",
        f"step 8: {missed}; if this continues, start a new training with more steps, or a larger augment.class_crops",
        f"step 9: {missed}",
    ]


def test_scalars_and_previews_reach_tensorboard(whole):
    events = events_of(whole / "run")
    losses = {step: loss for kind, step, loss, _ in figures_of(whole / "run") if kind == "train"}
    assert dict(events["train/loss"]) == pytest.approx(losses)
    assert [step for step, _ in events["validation/miou"]] == [4, 8, 9]
    assert [step for step, _ in events["preview"]] == [9]


@pytest.mark.parametrize("checkpoint", ["of a step", "within a validation"])
def test_resumed_training_winds_the_events_for_tensorboard_back(whole, tmp_path, checkpoint):
    if checkpoint == "of a step":  # 6; killed after step 9
        with pytest.raises(KilledError):
            train_new(plan_small(whole / "set"), tmp_path / "run", should_stop=after(15, dies=True))
    else:  # of step 4; killed after step 5
        train_new(plan_small(whole / "set"), tmp_path / "run", should_stop=after(6))
        with pytest.raises(KilledError):
            resume(tmp_path / "run", should_stop=after(4, dies=True))
    resume(tmp_path / "run")
    found, expected = events_of(tmp_path / "run"), events_of(whole / "run")
    timed = {"train/images_per_second", "train/waiting"}
    assert found.keys() == expected.keys()
    for tag in expected.keys() - timed:
        assert found[tag] == expected[tag], tag
    for tag in timed:
        assert [step for step, _ in found[tag]] == [step for step, _ in expected[tag]], tag


def test_finished_run_says_so_and_exits_with_0(tmp_path, deeplabctl):
    make_dataset(tmp_path / "set")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["train", "--recipe", "shapes", "--data", "set", *settings, "--steps", 2]
    deeplabctl(*command, "-q")
    for options in (["train"], command):
        code, out, err = deeplabctl(*options, "--resume", "last")
        assert code == 0
        assert "already finished: 2 steps" in out
        assert "not applied" not in err
    code, out, err = deeplabctl("train", "--resume", "last", "--set", "crf.bi_w=9", "--set", "run.log_every=7")
    assert code == 0
    assert "already finished: 2 steps" in out
    assert "the run is finished; not applied: crf.bi_w (was 4.0, now 9.0), run.log_every (was 2, now 7)" in err
    code, _, err = deeplabctl("train", "--resume", "last", "--run-dir", "other")
    assert code == 2
    assert "stays in its directory" in err
    code, _, err = deeplabctl(
        "train", "--recipe", "shapes", "--data", "set", "--run-dir", next(tmp_path.glob("runs/*"))
    )
    assert code == 1
    assert "continue that with --resume" in err
