import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.errors import OutputError, RunError
from deeplabctl.reports.run_records import append_metrics, rewind_metrics
from deeplabctl.training import optimizers
from deeplabctl.training.checkpoint import Checkpoint, Progress, last_checkpoint
from deeplabctl.training.plan import plan_resume, plan_training
from deeplabctl.training.run_directory import RunDirectory, find_run

SETTINGS = ["augment.crop_size=33", "model.width=0.05", "solver.steps=10", "solver.policy=fixed"]


@pytest.fixture
def plan(tmp_path):
    return plan_training(
        "paper-v2", SETTINGS, {"data.root": str(make_dataset(tmp_path / "set")), "model.init": "random"}
    )


def a_checkpoint(plan, step=4, **progress):
    arrays = {"weights/conv1_1/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "loss_scale": np.float32(8)}
    recipe = json.loads(json.dumps(dataclasses.asdict(plan.recipe)))
    return Checkpoint(Progress(step, **progress), arrays, ["fc6"], recipe, plan.fingerprint)


def a_run(plan, path):
    with RunDirectory.create(path, plan.recipe, "set") as run:
        run.record(status="interrupted")
    return run


def test_checkpoint_comes_back_as_it_was_written(plan, tmp_path):
    best = {"miou": 0.25, "classes": [{"name": "disc", "iou": None}]}
    written = a_checkpoint(plan, validated=False, losses=[0.1, 2.0], best=best, best_step=3, validations_without_gain=2)
    written.write(tmp_path)
    read = Checkpoint.read(tmp_path / "step-000004.npz")
    assert (read.progress, read.new_layers, read.recipe) == (written.progress, ["fc6"], written.recipe)
    assert read.fingerprint == plan.fingerprint
    for name, array in written.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)


def test_the_last_two_checkpoints_are_kept(plan, tmp_path):
    for step in (5, 10, 15, 20):
        a_checkpoint(plan, step).write(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["step-000015.npz", "step-000020.npz"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_checkpoint_gives_way_to_the_one_before(plan, tmp_path, damage):
    for step in (5, 10):
        a_checkpoint(plan, step).write(tmp_path)
    path = tmp_path / "step-000010.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    notes = []
    found = last_checkpoint(tmp_path, notes.append)
    assert found.progress.step == 5
    assert len(notes) == 1
    assert notes[0].warning
    assert "step-000010.npz" in notes[0].text


def test_checkpoints_of_which_none_can_be_read_are_not_taken_for_a_new_run(plan, tmp_path):
    (tmp_path / "step-000005.npz").write_bytes(b"damaged")
    with pytest.raises(RunError, match="none can be read; start a new training"):
        last_checkpoint(tmp_path)


def test_checkpoint_removes_later_ones_of_a_run_that_was_wound_back_and_counts_beyond_a_million(plan, tmp_path):
    for step in (999_999, 1_000_000, 1_000_001):
        a_checkpoint(plan, step).write(tmp_path)
    assert last_checkpoint(tmp_path).progress.step == 1_000_001
    a_checkpoint(plan, 7).write(tmp_path)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["step-000007.npz"]


def test_checkpoint_with_pickled_objects_is_not_opened(plan, tmp_path):
    np.savez(tmp_path / "step-000003.npz", __facts__=np.array([{"any": "object"}], object))
    with pytest.raises(RunError, match="damaged"):
        Checkpoint.read(tmp_path / "step-000003.npz")


def test_full_disk_leaves_the_checkpoint_before_and_nothing_half_written(plan, tmp_path, monkeypatch):
    a_checkpoint(plan, 5).write(tmp_path)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OutputError, match=r"step-000010\.npz: No space left on device; no partial file was left"):
        a_checkpoint(plan, 10).write(tmp_path)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["step-000005.npz"]


def test_run_without_a_checkpoint_starts_again(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    again, checkpoint = plan_resume(run.path)
    assert checkpoint is None
    assert again.recipe == plan.recipe


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("solver.learning_rate=0.5", "solver.learning_rate (was 0.001, now 0.5)"),
        ("solver.batch_size=3", "solver.batch_size"),
        ("augment.mirror=false", "augment.mirror (was True, now False)"),
        ("run.seed=9", "run.seed"),
        ("run.precision=bfloat16", "run.precision"),
        ("model.width=0.1", "model.width"),
        ("eval.flip=true", "eval.flip (was False, now True)"),  # the best model would be chosen by another score
    ],
)
def test_resuming_with_other_mathematics_is_refused_with_the_setting(plan, tmp_path, setting, named):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    with pytest.raises(RunError) as error:
        plan_resume(run.path, None, [setting])
    assert named in str(error.value)
    assert "`init`" in str(error.value)


def test_recipe_edited_in_the_run_directory_is_refused_too(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    path = run.path / "recipe.toml"
    path.write_text(path.read_text().replace("momentum = 0.9", "momentum = 0.8"))
    with pytest.raises(RunError, match=r"solver\.momentum \(was 0\.9, now 0\.8\)"):
        plan_resume(run.path)


@pytest.mark.parametrize(
    "setting", ["run.save_every=3", "run.val_every=7", "run.log_every=1", "solver.patience=4", "solver.steps=50"]
)
def test_resuming_with_another_setting_that_changes_no_mathematics_is_fine(plan, tmp_path, setting):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    again, checkpoint = plan_resume(run.path, None, [setting])
    assert checkpoint.progress.step == 4
    assert again.recipe != plan.recipe


def test_more_steps_are_refused_where_the_learning_rate_hangs_on_them(tmp_path):
    options = {"data.root": str(make_dataset(tmp_path / "set")), "model.init": "random"}
    plan = plan_training("paper-v2", [*SETTINGS, "solver.policy=poly"], options)
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    with pytest.raises(RunError, match=r"solver\.steps \(was 10, now 50\)"):
        plan_resume(run.path, None, ["solver.steps=50"])


def test_more_steps_are_refused_with_any_schedule_that_hangs_on_them(plan, tmp_path, monkeypatch):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    monkeypatch.setattr(optimizers, plan.recipe.solver.policy, lambda solver, step: 1 - step / solver.steps)
    with pytest.raises(RunError, match=r"solver\.steps \(was 10, now 50\)"):
        plan_resume(run.path, None, ["solver.steps=50"])


@pytest.mark.parametrize("name", [None, "paper-v2"])
def test_steps_take_the_place_of_the_time_of_a_run_that_was_not_timed_yet(tmp_path, name):
    options = {"data.root": str(make_dataset(tmp_path / "set")), "model.init": "random"}
    run = a_run(plan_training("paper-v2", SETTINGS[:2], options | {"run.time": "10m"}), tmp_path / "run")
    again, _ = plan_resume(run.path, name, SETTINGS, options)
    assert (again.recipe.solver.steps, again.recipe.run.time) == (10, "")


@pytest.mark.parametrize("steps", [3, 4])
def test_steps_that_are_done_already_are_refused(plan, tmp_path, steps):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    with pytest.raises(RunError, match=f"expected more than the 4 steps of the run that are done, got {steps}"):
        plan_resume(run.path, None, [f"solver.steps={steps}"])


def test_run_of_a_version_without_a_setting_resumes_with_its_default(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    checkpoint = a_checkpoint(plan)
    del checkpoint.recipe["solver"]["loss"]
    checkpoint.write(run.path / "checkpoints")
    recipe = run.path / "recipe.toml"
    lines = recipe.read_text("utf-8").splitlines()
    recipe.write_text("\n".join(line for line in lines if not line.startswith("loss = ")), "utf-8")
    again, found = plan_resume(run.path)
    assert (again.recipe.solver.loss, found.progress.step) == ("cross-entropy", 4)


def test_the_command_line_of_the_run_may_be_given_again(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    options = {"data.root": plan.recipe.data.root, "model.init": "random"}
    again, _ = plan_resume(run.path, "paper-v2", SETTINGS, options)
    assert again.recipe.solver == plan.recipe.solver


def test_settings_of_the_run_may_be_given_again_as_they_were(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start.keras").touch()
    plan = plan.with_settings(model={"init": str(tmp_path / "start.keras")}, solver={"learning_rate": 1e-4})
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    again, _ = plan_resume(run.path, None, ["model.init='start.keras'", "solver.learning_rate=auto"])
    assert again.recipe == plan.recipe


@pytest.mark.parametrize(
    ("settings", "expected"), [([], True), (["solver.steps=10"], True), (["run.val_every=7"], False)]
)
def test_score_is_expected_of_a_resumed_run_whose_settings_are_the_same(plan, tmp_path, settings, expected):
    run = a_run(plan, tmp_path / "run")
    run.record(expect={"miou": 0.6588, "of": "another version"})
    a_checkpoint(plan).write(run.path / "checkpoints")
    again, _ = plan_resume(run.path, None, settings, {"data.root": plan.recipe.data.root})
    assert again.expect == (plan.recipe.expect if expected else None)


def test_moved_data_set_is_found_where_it_is_said_to_be(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    again, _ = plan_resume(run.path, None, (), {"data.root": str(tmp_path / "elsewhere")})
    assert again.recipe.data.root == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("change", ["fewer", "label", "order"])
def test_changed_data_is_refused(plan, tmp_path, split, change):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    names = tmp_path / "set" / "ImageSets" / "Segmentation" / f"{split}.txt"
    ids = names.read_text().split()
    if change == "fewer":
        names.write_text("\n".join(ids[1:]))
    elif change == "order":
        names.write_text("\n".join(ids[::-1]))
    else:
        path = tmp_path / "set" / "SegmentationClass" / f"{ids[0]}.png"
        label = np.asarray(Image.open(path)).copy()
        label[0, 0] = 1
        Image.fromarray(label).save(path)
    with pytest.raises(RunError, match=f"split {'train' if split == 'train' else 'validation'} has changed"):
        plan_resume(run.path)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
def test_files_of_other_content_are_refused_also_where_sizes_and_labelled_pixels_are_the_same(tmp_path, split, folder):
    root = make_dataset(tmp_path / "set")
    name = f"{split[0]}0.png"
    image = np.asarray(Image.open(root / "JPEGImages" / name))
    path = root / folder / name
    if folder == "JPEGImages":  # without compression, so that files of one shape have one size
        Image.fromarray(image).save(path, compress_level=0)
    plan = plan_training("shapes", SETTINGS, {"data.root": str(root), "model.init": "random"})
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    assert plan_resume(run.path)[1].progress.step == 4
    before = path.stat().st_size
    with Image.open(path) as opened:
        opened.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path, compress_level=0)
    assert folder == "SegmentationClass" or path.stat().st_size == before
    expected = (
        f"split {'train' if split == 'train' else 'validation'} has changed .* expected the same files, got others"
    )
    with pytest.raises(RunError, match=expected):
        plan_resume(run.path)


def test_label_that_another_program_wrote_with_the_same_values_is_the_same(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    path = tmp_path / "set" / "SegmentationClass" / "t0.png"
    before = path.read_bytes()
    with Image.open(path) as label:
        label.save(path, compress_level=0)
    assert path.read_bytes() != before
    assert plan_resume(run.path)[1].progress.step == 4


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("background\nsquare\ndisc\n", "expected class 1 to be disc, got square"),
        ("background\ndisc\nsquare\nstar\n", "expected 3 classes, got 4"),
    ],
)
def test_other_classes_are_refused(plan, tmp_path, classes, expected):
    run = a_run(plan, tmp_path / "run")
    a_checkpoint(plan).write(run.path / "checkpoints")
    (tmp_path / "set" / "classes.txt").write_text(classes)
    with pytest.raises(RunError, match=f"the list of classes has changed since step 4 of the run: {expected}; restore"):
        plan_resume(run.path)


def test_checkpoint_of_version_0_1_is_compared_by_what_it_has(plan, tmp_path):
    run = a_run(plan, tmp_path / "run")
    checkpoint = a_checkpoint(plan)
    del checkpoint.fingerprint["classes"]
    for split in ("train", "validation"):
        del checkpoint.fingerprint[split]["content"]
    checkpoint.write(run.path / "checkpoints")
    assert plan_resume(run.path)[1].progress.step == 4
    label = tmp_path / "set" / "SegmentationClass" / "t0.png"
    Image.fromarray(np.ones((60, 80), np.uint8)).save(label)
    with pytest.raises(RunError, match="split train has changed"):
        plan_resume(run.path)


def test_metrics_are_cut_back_to_the_checkpoint(plan, tmp_path):
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set") as run:
        for step in (2, 4, 6):
            append_metrics(run.path, "train", step=step)
            append_metrics(run.path, "validation", step=step)
        metrics = run.path / "metrics.jsonl"
        metrics.write_text(metrics.read_text() + '{"kind": "train", "st')  # killed while writing
        rewind_metrics(run.path, 4, keep_validation=False)
        lines = [json.loads(line) for line in run.path.joinpath("metrics.jsonl").read_text().splitlines()]
        assert [(line["kind"], line["step"]) for line in lines] == [("train", 2), ("validation", 2), ("train", 4)]


def test_two_trainings_in_one_directory_are_refused_also_when_resuming(plan, tmp_path):
    with RunDirectory.create(tmp_path / "run", plan.recipe, "set"):
        with pytest.raises(RunError, match="another training is running"):
            RunDirectory.create(tmp_path / "run", plan.recipe, "set")
        with pytest.raises(RunError, match="another training is running"):
            RunDirectory.open(tmp_path / "run")
    with RunDirectory.open(tmp_path / "run") as run:
        run.resume(plan.recipe, ["again"])
        facts = json.loads((run.path / "run.json").read_text())
        assert facts["status"] == "running"
        assert facts["argv"] == ["again"]
        assert facts["earlier"][0]["status"] == "finished"


def test_last_is_the_newest_run(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="there is no run under runs"):
        find_run("last")
    for name in ("20260101-b", "20260102-a"):
        a_run(plan, tmp_path / "runs" / name)
    assert find_run("last").name == "20260102-a"
    with pytest.raises(RunError, match=r"expected a run directory with a recipe\.toml"):
        find_run("runs")


def test_checkpoint_of_other_content_is_refused_in_one_line(plan, tmp_path):
    a_checkpoint(plan).write(tmp_path)
    path = tmp_path / "step-000004.npz"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    facts = str(np.load(path)["__facts__"])
    first = entries["loss_scale.npy"]

    def write(kind=zipfile.ZIP_STORED, facts=facts, **changed):
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, content in (entries | changed).items():
                archive.writestr(name, content)
            buffer = io.BytesIO()
            np.save(buffer, np.array(facts))
            with archive.open("__facts__.npy", "w") as file:
                file.write(buffer.getvalue())

    del entries["__facts__.npy"]
    write()
    assert Checkpoint.read(path).progress.step == 4
    for damage in (
        {"kind": zipfile.ZIP_DEFLATED},  # may become as large as it likes
        {"loss_scale.npy": first.replace(b"'shape': ()", b"'shape': ((")},
        {"loss_scale.npy": first.replace(b"'shape': (), }" + b" " * 9, b"'shape': (1" + b"0" * 11 + b",)}")},
        {"loss_scale.npy": first.replace(b"'<f4'", b"'|O' ")},
        {"readme": b"text"},
        {"facts": facts.replace('"step": 4', '"step": "4"')},
        {"facts": facts.replace('"new_layers": ["fc6"]', '"new_layers": 7')},
        {"facts": "[" * 100_000},
    ):
        write(**damage)
        with pytest.raises(RunError, match="the file is damaged") as error:
            Checkpoint.read(path)
        assert str(path) in str(error.value)
