"""A training on a failing disk, or killed at a rename, leaves whole files, and continues to the same bytes."""

import errno
import json
import shutil

import pytest
from dataset_files import make_dataset
from forked_commands import spread
from surroundings import snapshot
from writing_commands import hidden_files, read_whole

from deeplabctl.weights.locating import open_weights

pytestmark = pytest.mark.tf

PARTS = 10  # of the slow tests
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
EVERY_STEP = [f"--set=run.{name}=1" for name in ("log_every", "val_every", "save_every", "preview_every")]
START = [
    "train", "--recipe", "shapes", "--data", "set", "--width", "0.03", "--crop-size", "33", "--batch-size", "2",
    "--steps", "2", "--precision", "float32", "--strategy", "single", "--run-dir", "run", *EVERY_STEP,
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """Train without a fault; returns what it did on the disk, and its run directory."""
    folder = tmp_path_factory.mktemp("undisturbed")
    make_dataset(folder / "set", train=2, val=1, size=(33, 33))
    ended = server.run(*START, cwd=folder, shallow=True, fail_at=None)
    assert ended.code == 0, ended.err
    return ended.operations, folder / "run"


@pytest.fixture
def folder(tmp_path):
    make_dataset(tmp_path / "set", train=2, val=1, size=(33, 33))
    return tmp_path


def _begin_anew(folder):
    for name in ("run", "set"):
        shutil.rmtree(folder / name, ignore_errors=True)
    make_dataset(folder / "set", train=2, val=1, size=(33, 33))


def _operations(undisturbed, kinds):
    return [(kind, path) for kind, path in undisturbed[0] if kind in kinds]


def _check_files(run, where):
    """Check that every file that has its final name can be read."""
    for path in sorted(run.rglob("*")) if run.exists() else []:
        readable = path.suffix in (".png", ".json", ".html", ".npz", ".keras", ".toml")
        if path.is_file() and readable and not path.name.startswith("."):
            read_whole(path)
    for model in run.glob("*.keras"):
        assert open_weights(model).weights, where


def _complete(server, folder, undisturbed, where):
    """Continue the run, or start it again where there is none, and compare it with the undisturbed one."""
    begun = (folder / "run" / "recipe.toml").exists()
    ended = server.run(*(["train", "--resume", "run"] if begun else START), cwd=folder, shallow=True)
    assert ended.code == 0, (where, ended.err)
    _check_files(folder / "run", where)
    assert not hidden_files(folder), where
    for name in ("best.keras", "last.keras"):
        assert _weights(folder / "run" / name) == _weights(undisturbed[1] / name), where
    assert _figures(folder / "run") == _figures(undisturbed[1]), where
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "finished", where


def _weights(path):
    return {name: array.tobytes() for name, array in open_weights(path).weights.items()}


def _figures(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["kind"], line["step"], line.get("loss"), line.get("miou")) for line in lines]


def _fail_at(number, error, server, folder, undisturbed):
    where = (number, undisturbed[0][number], errno.errorcode[error])
    data = snapshot(folder / "set")
    ended = server.run(*START, cwd=folder, shallow=True, fail_at=number, error=error, stay=error == errno.ENOSPC)
    assert "Traceback" not in ended.err, (where, ended.err)
    assert ended.code in (0, 1), (where, ended.err)
    assert len(ended.errors) == ended.code, (where, ended.err)
    assert not data.changes(snapshot(folder / "set")), where
    assert not hidden_files(folder), where
    _check_files(folder / "run", where)
    _complete(server, folder, undisturbed, where)


def _kill_at(number, server, folder, undisturbed):
    where = (number, _operations(undisturbed, ["rename"])[number])
    ended = server.run(*START, cwd=folder, shallow=True, fail_at=number, kinds=["rename"], kill=True)
    assert ended.code == 137, (where, ended.err)
    _check_files(folder / "run", where)
    _complete(server, folder, undisturbed, where)


@pytest.mark.parametrize("part", range(2))
def test_failing_disk_ends_a_training_with_one_line_and_it_continues(part, server, folder, undisturbed):
    number = spread(range(len(undisturbed[0])), 5)[2 * part + 1]
    _fail_at(number, ERRORS[part], server, folder, undisturbed)


def test_training_killed_at_a_rename_continues_to_the_same_bytes(server, folder, undisturbed):
    renames = _operations(undisturbed, ["rename"])
    _kill_at(len(renames) // 2, server, folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_operation_of_a_training_may_fail(part, server, folder, undisturbed):
    for number in range(part, len(undisturbed[0]), PARTS):
        _begin_anew(folder)
        _fail_at(number, ERRORS[number % len(ERRORS)], server, folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_training_may_be_killed_at_every_rename(part, server, folder, undisturbed):
    for number in range(part, len(_operations(undisturbed, ["rename"])), PARTS):
        _begin_anew(folder)
        _kill_at(number, server, folder, undisturbed)
