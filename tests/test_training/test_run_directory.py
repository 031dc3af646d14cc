import pytest

from deeplabctl.errors import RunError
from deeplabctl.recipe import read_recipe
from deeplabctl.training.run_directory import RunDirectory


def test_run_directory_is_named_locked_and_records_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("shapes")
    with RunDirectory.create(None, recipe, "set", ["deeplabctl", "train"]) as run:
        assert run.path.parent.name == "runs"
        assert run.path.name.endswith("-largefov-set")
        with pytest.raises(RunError, match="another training is running in it"):
            RunDirectory.create(run.path, recipe, "set")
        with RunDirectory.create(None, recipe, "set") as second:
            assert second.path != run.path
        run.log("hello")
    assert '"status": "finished"' in (run.path / "run.json").read_text()
    assert "hello" in (run.path / "log.txt").read_text()
    assert read_recipe(str(run.path / "recipe.toml")) == recipe
    with pytest.raises(RunError, match="it holds a run already; continue that"):
        RunDirectory.create(run.path, recipe, "set")
    with pytest.raises(ValueError, match="boom"), RunDirectory.create(tmp_path / "other", recipe, "set"):
        raise ValueError("boom")
    assert '"status": "failed"' in (tmp_path / "other" / "run.json").read_text()


def test_run_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run directory .*file/run: cannot be written"):
        RunDirectory.create(tmp_path / "file" / "run", read_recipe("shapes"), "set")
