import errno
import fcntl
import json
import os

import pytest
from run_files import make_run

from deeplabctl.errors import OutputError, RunError
from deeplabctl.recipe import read_recipe
from deeplabctl.reporting import Note
from deeplabctl.reports.run_records import append_metrics, rewind_metrics
from deeplabctl.training import run_directory
from deeplabctl.training.run_directory import RunDirectory

RECIPE = read_recipe("shapes")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_directory_is_named_locked_and_records_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory.create(None, RECIPE, "set", ["deeplabctl", "train"]) as run:
        assert run.path.parent.name == "runs"
        assert run.path.name.endswith("-largefov-set")
        with pytest.raises(RunError, match="another training is running in it"):
            RunDirectory.create(run.path, RECIPE, "set")
        with RunDirectory.create(None, RECIPE, "set") as second:
            assert second.path != run.path
        run.log("hello")
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["status"] == "finished"
    assert 0 < facts["seconds"] < run.seconds
    assert "hello" in (run.path / "log.txt").read_text()
    assert read_recipe(str(run.path / "recipe.toml")) == RECIPE
    with pytest.raises(RunError, match="it holds a run already; continue that"):
        RunDirectory.create(run.path, RECIPE, "set")
    with pytest.raises(ValueError, match="boom"), RunDirectory.create(tmp_path / "other", RECIPE, "set"):
        raise ValueError("boom")
    assert '"status": "failed"' in (tmp_path / "other" / "run.json").read_text()


def test_run_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run directory .*file/run: cannot be written"):
        RunDirectory.create(tmp_path / "file" / "run", RECIPE, "set")
    with pytest.raises(RunError, match=r"run directory .*file: cannot be written"):
        RunDirectory.create(tmp_path / "file", RECIPE, "set")


def at_most(count, function):
    """Return a function that may be called so often: an endless loop ends."""
    calls = iter(range(count))
    return lambda *arguments: (next(calls), function(*arguments))[1]


def test_link_to_a_missing_folder_of_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to("disk that is not mounted")
    monkeypatch.setattr("deeplabctl.training.run_directory._made", at_most(3, run_directory._made))
    with pytest.raises(RunError, match=r"^run directory runs: cannot be written: File exists"):
        RunDirectory.create(None, RECIPE, "set")


@pytest.mark.parametrize("name", ["recipe.toml", "run.json"])
def test_start_that_cannot_write_its_files_leaves_no_lock(tmp_path, monkeypatch, name):
    write = run_directory.write_text

    def write_to_full_disk(path, text):
        if path.name == name:
            raise OutputError(f"cannot write {path}: no space")
        write(path, text)

    monkeypatch.setattr(run_directory, "write_text", write_to_full_disk)
    with pytest.raises(OutputError) as caught:  # its frames hold the lock's file
        RunDirectory.create(tmp_path, RECIPE, "set")
    assert caught
    with (tmp_path / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    "name", ["best.keras", "metrics.jsonl", "checkpoints/step-000900.npz", "notes.txt", ".git/config", ".lock"]
)
def test_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path, name):
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(RunError, match=rf"expected a new or an empty folder, got one with {name.split('/')[0]}"):
        RunDirectory.create(tmp_path / "run", RECIPE, "set")
    assert content(tmp_path / "run") == {file.relative_to(tmp_path / "run"): b"mine"}


def test_recipe_of_the_user_is_not_taken_for_a_folder_to_write_to(tmp_path):
    (tmp_path / "recipe.toml").write_text("mine")
    with pytest.raises(RunError, match="it holds a run already"):
        RunDirectory.create(tmp_path, RECIPE, "set")
    assert content(tmp_path) == {(tmp_path / "recipe.toml").relative_to(tmp_path): b"mine"}


def test_folder_of_a_start_that_was_killed_before_its_recipe_is_taken_again(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".recipe.0123abcd.toml").write_text("[mod")
    with RunDirectory.create(tmp_path, RECIPE, "set") as run:
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "recipe.toml", "run.json"]


def test_resumed_run_removes_what_a_killed_one_left_half_written_and_nothing_of_the_user(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "checkpoints").mkdir()
    left = [".best.0123abcd.keras", ".metrics.0123abcd.jsonl", "checkpoints/.step-000020.0123abcd.npz",
            "previews/.step-000020.0123abcd.png"]  # fmt: skip
    mine = [".mine.keras", ".mine.0123abcd.keras", ".best.keras", "checkpoints/.mine.npz", "checkpoints/best.npz"]
    for name in left + mine:
        (run / name).touch()
    with RunDirectory.open(run) as directory:
        directory.resume(RECIPE)
    assert not any((run / name).exists() for name in left)
    assert all((run / name).exists() for name in mine)


def refuse_locks(monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("code", ["ENOTSUP", "ENOLCK", "ENOSYS", "EINVAL", "EIO"])
def test_file_system_without_locks_is_noted_and_trains(tmp_path, monkeypatch, code):
    refuse_locks(monkeypatch, getattr(errno, code))
    notes = []
    with RunDirectory.create(tmp_path / "run", RECIPE, "set", report=notes.append):
        pass
    with RunDirectory.open(tmp_path / "run", notes.append) as run:
        run.resume(RECIPE)
    text = f"its file system has no locks ({os.strerror(getattr(errno, code))}); do not start another training in it"
    assert notes == [Note(f"run directory {tmp_path / 'run'}: {text}", warning=True)] * 2


@pytest.mark.parametrize("code", ["EWOULDBLOCK", "EAGAIN", "EACCES"])
def test_lock_of_another_training_is_not_taken_for_a_missing_one(tmp_path, monkeypatch, code):
    refuse_locks(monkeypatch, getattr(errno, code))
    with pytest.raises(RunError, match="another training is running in it"):
        RunDirectory.create(tmp_path / "run", RECIPE, "set")
    with pytest.raises(RunError, match="another training is running in it"):
        RunDirectory.open(make_run(tmp_path / "other"))


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "interrupted"), (SystemExit(143), "interrupted"), (ValueError("x"), "failed")],
)
def test_run_that_was_ended_by_a_signal_was_interrupted_and_did_not_fail(tmp_path, error, status):
    with pytest.raises(type(error)), RunDirectory.create(tmp_path / "run", read_recipe("shapes"), "set"):
        raise error
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == status


@pytest.mark.parametrize("part", ["data", "init", "run"])
def test_paths_that_are_not_utf8_are_refused_before_a_run_begins(tmp_path, part):
    odd = os.fsdecode(b"a \xff")
    paths = {"data.root": odd if part == "data" else "set", "model.init": odd if part == "init" else "random"}
    recipe = read_recipe("shapes", [], paths)
    with pytest.raises(RunError, match=r"a \\udcff: expected a path in UTF-8 for a training"):
        RunDirectory.create(tmp_path / (odd if part == "run" else "run"), recipe, "set")
    assert not list(tmp_path.iterdir())


def fail(path, *changes):
    """Let a training fail after changes of its directory."""
    run = RunDirectory.create(path, RECIPE, "set")
    run.log("the first")
    for change in changes:
        change(run)
    with pytest.raises(RunError, match="no GPU"), run:
        raise RunError("no GPU")


def begin_steps(run):
    run.record(device="CPU")
    rewind_metrics(run.path, 0, keep_validation=True)


def do_a_step(run):
    begin_steps(run)
    append_metrics(run.path, "train", step=1)


def test_start_that_fails_leaves_no_directory_of_its_own(tmp_path):
    for _ in range(2):
        fail(tmp_path / "new", begin_steps)
        assert not (tmp_path / "new").exists()
    fail(tmp_path / "of workers", begin_steps, RunDirectory.keep)
    assert (tmp_path / "of workers" / "run.json").exists()
    (tmp_path / "mine").mkdir()
    fail(tmp_path / "mine", begin_steps)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [".lock"]


def test_run_that_failed_before_its_first_model_makes_room_for_a_new_one(tmp_path):
    def write_more(run):
        for name in ("previews/step-000001.png", "tensorboard/events"):
            (run.path / name).parent.mkdir()
            (run.path / name).touch()
        (run.path / "checkpoints").mkdir()  # for one that could not be written

    fail(tmp_path / "run", do_a_step, write_more)
    assert "the first" in (tmp_path / "run" / "log.txt").read_text()
    with RunDirectory.create(tmp_path / "run", RECIPE, "set") as run:
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "recipe.toml", "run.json"]
    with pytest.raises(RunError, match="it holds a run already"):
        RunDirectory.create(tmp_path / "run", RECIPE, "set")


@pytest.mark.parametrize("name", ["checkpoints/step-000005.npz", "best.keras", "notes.txt"])
def test_failed_run_with_a_model_or_files_of_the_user_is_left_as_it_is(tmp_path, name):
    def write(run):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).touch()

    fail(tmp_path / "run", do_a_step, write)
    before = content(tmp_path / "run")
    with pytest.raises(RunError, match="it holds a run already"):
        RunDirectory.create(tmp_path / "run", RECIPE, "set")
    assert content(tmp_path / "run") == before


def test_end_that_could_not_be_written_is_written_when_the_run_is_left(tmp_path, monkeypatch):
    def fail(path, text):
        raise OutputError(f"cannot write {path}: No space left on device")

    with RunDirectory.create(tmp_path / "run", RECIPE, "set") as run:
        with monkeypatch.context() as patch:
            patch.setattr(run_directory, "write_text", fail)
            with pytest.raises(OutputError):
                run.end("finished")
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
