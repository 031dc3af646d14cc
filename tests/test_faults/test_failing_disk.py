"""A disk that is full, broken or forbidden ends a command with one line, and nothing is half-written or lost."""

import errno
import shutil
from functools import cache

import pytest
from forked_commands import spread
from writing_commands import (
    COMMANDS,
    contents,
    damaged_results,
    hidden_files,
    inputs_of,
    write_inputs,
    write_old_results,
)

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)


def _marks(command):
    return [pytest.mark.tf] * command.tensorflow + [pytest.mark.slow] * command.slow


every_command = pytest.mark.parametrize(
    "command", [pytest.param(command, marks=_marks(command), id=command.name) for command in COMMANDS]
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(server, template, tmp_path_factory):
    """Return a function that runs a command, and returns what it does on the disk and what it leaves."""

    @cache
    def run(command):
        folder = _fresh(command, template, tmp_path_factory.mktemp("undisturbed") / "folder")
        ended = command.run(server, folder, fail_at=None)
        assert ended.code == 0, ended.err
        return ended.operations, {name for name in contents(folder) if name.startswith(command.results)}

    return run


def _fresh(command, template, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    write_old_results(command, folder)
    return folder


def _check(command, folder, before, old, where):
    """Check that results are whole and everything else is as it was."""
    assert not damaged_results(command, folder, old), where
    assert inputs_of(command, folder) == before, where
    for name in old:  # replaced or kept, never gone
        if command.overwrite and name.startswith(command.results):
            assert any((folder / result).exists() for result in command.results), where


def _run_again(server, command, folder, results, where):
    """Check that the next start of the command does all that the first one did not."""
    again = command.run(server, folder)
    if again.code != 0 and not command.overwrite:
        assert len(again.errors) == 1, (where, again.err)
        assert "exists" in again.errors[0], (where, again.err)
        again = command.run(server, folder, "--overwrite")
    assert again.code == 0, (where, again.err)
    assert {name for name in contents(folder) if name.startswith(command.results)} >= results, where
    assert not damaged_results(command, folder, {}), where


def _fail_everywhere(command, server, template, undisturbed, tmp_path, *, points):
    operations, results = undisturbed(command)
    assert operations
    for index, number in enumerate(spread(range(len(operations)), points)):
        error = ERRORS[index % len(ERRORS)]
        where = (command.name, number, operations[number][0], errno.errorcode[error])
        folder = _fresh(command, template, tmp_path / "failing")
        before, old = inputs_of(command, folder), contents(folder)
        ended = command.run(server, folder, fail_at=number, error=error, stay=error == errno.ENOSPC)
        assert "Traceback" not in ended.err, (where, ended.err)
        assert ended.code in (0, 1), (where, ended.err)
        if ended.code == 1:
            assert len(ended.errors) == 1, (where, ended.err)
        _check(command, folder, before, old, where)
        assert not hidden_files(folder), where
        _run_again(server, command, folder, results, where)


def _kill_everywhere(command, server, template, undisturbed, tmp_path, *, points):
    operations, results = undisturbed(command)
    renames = [path for kind, path in operations if kind == "rename"]
    for number in spread(range(len(renames)), points):
        where = (command.name, number, renames[number])
        folder = _fresh(command, template, tmp_path / "killed")
        before, old = inputs_of(command, folder), contents(folder)
        ended = command.run(server, folder, fail_at=number, kinds=["rename"], kill=True)
        assert ended.code == 137, (where, ended.err)
        _check(command, folder, before, old, where)
        _run_again(server, command, folder, results, where)
        assert not hidden_files(folder), where


@every_command
def test_failing_disk_ends_a_command_with_one_line_and_whole_files(command, server, template, undisturbed, tmp_path):
    _fail_everywhere(command, server, template, undisturbed, tmp_path, points=2 if command.tensorflow else 4)


@every_command
def test_killed_command_leaves_whole_files_and_can_be_repeated(command, server, template, undisturbed, tmp_path):
    _kill_everywhere(command, server, template, undisturbed, tmp_path, points=1 if command.tensorflow else 2)


@pytest.mark.slow
@every_command
def test_every_operation_may_fail(command, server, template, undisturbed, tmp_path):
    _fail_everywhere(command, server, template, undisturbed, tmp_path, points=200)


@pytest.mark.slow
@every_command
def test_killed_at_every_rename(command, server, template, undisturbed, tmp_path):
    _kill_everywhere(command, server, template, undisturbed, tmp_path, points=200)
