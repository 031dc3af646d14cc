"""Write sound recipes, runs, checkpoints and tables for the fuzz, read changed ones, and check the results."""

import json
import shutil

import matplotlib.font_manager  # noqa: F401 - which runs fc-list where it has no cache yet
import numpy as np
from dataset_files import make_dataset
from run_files import make_run

from deeplabctl import recipes
from deeplabctl.crf.params import CrfParams
from deeplabctl.crf.search_grid import GRIDS, SearchTable, best_of_table
from deeplabctl.prediction.settings import parse_crf_params
from deeplabctl.recipe import read_recipe, recipe_text
from deeplabctl.reporting import silent
from deeplabctl.reports.comparison import Comparison, render_comparison, write_comparison
from deeplabctl.reports.curves import draw_curves
from deeplabctl.reports.run_records import Metrics, RunResults, rewind_metrics
from deeplabctl.reports.training_run import write_report
from deeplabctl.training import run_directory
from deeplabctl.training.checkpoint import Checkpoint, Progress, last_checkpoint
from deeplabctl.training.plan import plan_training
from deeplabctl.training.run import TrainingRequest, planned_training
from deeplabctl.training.run_directory import RunDirectory

SETTINGS = ["model.width=0.05", "augment.crop_size=33", "solver.batch_size=2", "solver.steps=9", "model.init='random'"]


def write_recipe_files(folder):
    for name in recipes.names():
        (folder / f"{name}.toml").write_text(recipes.text(name))
    (folder / "full.toml").write_text(recipe_text(read_recipe("shapes", SETTINGS)))


def read_recipe_file(folder, path, out):
    recipe = read_recipe(str(path))
    out.mkdir()
    (out / "recipe.toml").write_text(recipe_text(recipe), "utf-8")
    assert read_recipe(str(out / "recipe.toml")) == recipe


def write_run(folder):
    make_run(folder / "run")
    make_run(folder / "other", settings=["solver.momentum=0.5"])


def read_run(folder, path, out):
    comparison = Comparison.read([folder / "run", folder / "other"])
    json.dumps(comparison.to_dict(), allow_nan=False)
    for run in comparison.runs:
        assert run.metrics.last_step > 0
        assert run.best_miou is None or np.isfinite(run.best_miou)
    assert all(isinstance(cell, str) for row in comparison.rows() for cell in row)


def write_reports(folder, path, out):
    RunResults.read(folder / "run")
    shutil.copytree(folder / "run", out / "run")
    draw_curves(out / "run")
    write_report(out / "run")
    comparison = Comparison.read([out / "run", folder / "other"])
    render_comparison(comparison)
    write_comparison(comparison, out)
    for page in (out / "run" / "report.html", out / "comparison.html"):
        assert "<script" not in page.read_text("utf-8").lower()


def write_run_to_resume(folder):
    make_dataset(folder / "set", train=2, val=1, size=(20, 30))
    plan = plan_training("shapes", SETTINGS, {"data.root": str(folder / "set")})
    with RunDirectory.create(folder / "run", plan.recipe, "set") as run:
        for step in (2, 4):
            _checkpoint(step, plan).write(run.path / "checkpoints")
    shutil.copyfile(make_run(folder / "other") / "metrics.jsonl", folder / "run" / "metrics.jsonl")
    shutil.rmtree(folder / "other")


def resume_run(folder, path, out):
    run_directory._git_commit = lambda: None  # no programs
    shutil.copytree(folder / "run", out)
    with planned_training(TrainingRequest(resume=str(out)), silent) as job:
        finished, checkpoint = job.end_finished_run(), job.checkpoint
        step = checkpoint.progress.step if checkpoint else 0
        assert finished is None
        assert 0 <= step <= 9
        with job.opened(silent) as (run, _):
            rewind_metrics(run.path, step, keep_validation=True)
        assert Metrics.read(out).last_step <= step
    json.loads((out / "run.json").read_text("utf-8"))


def _checkpoint(step, plan=None):
    progress = Progress(step, True, [1.0, 0.5], {"miou": 0.3}, step, 0)
    arrays = {"weights/conv1_1/kernel": np.ones((3, 3, 3, 2), np.float32), "loss_scale": np.float32(1)}
    recipe, fingerprint = (json.loads(json.dumps(vars_of(plan.recipe))), plan.fingerprint) if plan else ({}, {})
    return Checkpoint(progress, arrays, ["fc8_voc12"], recipe, fingerprint)


def vars_of(recipe):
    import dataclasses

    return dataclasses.asdict(recipe)


def write_checkpoints(folder):
    for step in (500, 1000):
        _checkpoint(step).write(folder)


def read_checkpoint(folder, path, out):
    last_checkpoint(folder, silent)
    checkpoint = Checkpoint.read(path)
    assert isinstance(checkpoint.progress.step, int)
    assert isinstance(checkpoint.progress.losses, list)
    assert isinstance(checkpoint.recipe, dict)
    assert all(array.dtype != object for array in checkpoint.arrays.values())


def write_crf_table(folder):
    table = SearchTable(folder / "table.csv", CrfParams(), GRIDS["v2"], {"images": 3, "split": "val"})
    table.add(CrfParams(bi_w=4.0, bi_xy_std=65.0, bi_rgb_std=3.0), 0.5)
    table.add(CrfParams(bi_w=5.0, bi_xy_std=65.0, bi_rgb_std=4.0), 0.6)


def read_crf_table(folder, path, out):
    params = best_of_table(path)
    params.check()
    assert parse_crf_params(str(path), CrfParams()) == params
    out.mkdir()
    shutil.copyfile(path, out / "table.csv")
    table = SearchTable(out / "table.csv", CrfParams(), GRIDS["v2"], {"images": 3, "split": "val"})
    table.add(CrfParams(bi_w=6.0, bi_xy_std=65.0, bi_rgb_std=4.0), 0.7)
    assert table.best()[1] >= 0.7
