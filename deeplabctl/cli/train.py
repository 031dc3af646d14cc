"""``deeplabctl train``: train a network."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import DebugOption, JsonOption, QuietOption
from deeplabctl.cli.text import describe, duration, percent, score_rows

if TYPE_CHECKING:
    from deeplabctl.plan import Plan
    from deeplabctl.reporting import Reporter
    from deeplabctl.run_dir import RunDirectory
    from deeplabctl.training import TrainingResult


def train(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|shapes",
            help="Data set in VOC layout, or the built-in one. Default: $DEEPLABCTL_DATA.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE.toml",
            help="paper-v1, paper-v2, seed, shapes or a file. Default: shapes for the built-in set, else paper-v2.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in solver.power=0.9; repeatable."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="FILE|RUN|imagenet|random", help="Weights to start from."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps to train.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images at a time.")] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", help="Batches in a step: the same result as one large batch.")
    ] = None,
    crop_size: Annotated[int | None, typer.Option("--crop-size", help="Pixels; 8k + 1.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Base rate.")] = None,
    width: Annotated[float | None, typer.Option("--width", help="Multiplies the channels; 1.0 is the paper's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed gives the same weights.")] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", metavar="DIR", help="The run's own folder. Default: a new one in ./runs."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a network on a data set in VOC layout, or on the built-in one.

    The best and the last model, previews and metrics go to a run directory, where eval and infer find them.
    """
    options = {
        "data.root": data,
        "model.init": init,
        "model.width": width,
        "augment.crop_size": crop_size,
        "solver.steps": steps,
        "solver.batch_size": batch_size,
        "solver.accumulate": accumulate,
        "solver.learning_rate": learning_rate,
        "run.seed": seed,
    }
    from deeplabctl.plan import plan_training

    console = Console(json, quiet, debug)
    with console.errors():
        default_data = os.environ.get("DEEPLABCTL_DATA")
        with console.reporter() as report:
            plan = plan_training(recipe, settings or [], options, default_data=default_data, report=report)
            run, result, exit_code = _train(plan, run_dir, report)
        _print_result(console, plan, run, result)
        raise typer.Exit(exit_code)


def _train(plan: Plan, run_dir: Path | None, report: Reporter) -> tuple[RunDirectory, TrainingResult, int]:
    """Load TensorFlow and train; returns the exit code too, which a signal changes."""
    from deeplabctl.cli.start import start_tensorflow
    from deeplabctl.cli.stopping import stop_signals
    from deeplabctl.reporting import Event, Note
    from deeplabctl.run_dir import RunDirectory
    from deeplabctl.training import train

    with RunDirectory.create(run_dir, plan.recipe, plan.dataset.name, sys.argv) as run:

        def report_and_log(event: Event) -> None:
            report(event)
            if (line := describe(event)) is not None:
                run.log(line)

        report_and_log(Note(f"run directory: {run.path}"))
        report_and_log(Note("starting TensorFlow"))
        device = start_tensorflow(run.log)
        run.record(device=device)
        with stop_signals() as should_stop:
            result = train(plan, run, report_and_log, should_stop)
        if result.stopped:
            run.record(status="interrupted")
        return run, result, should_stop.exit_code if result.stopped else 0


def _print_result(console: Console, plan: Plan, run: RunDirectory, result: TrainingResult) -> None:
    scores = result.best.to_dict() if result.best is not None else {}
    if scores:
        console.table(*score_rows(scores))
        console.say()
    how = "stopped" if result.stopped else "trained"
    best = f"best val mIoU {percent(scores['miou'])} at step {result.best_step}" if scores else "not validated yet"
    console.say(f"{how} after {result.steps} steps in {duration(result.seconds)}; {best}")
    if plan.expect is not None and not result.stopped:
        expected, tolerance = percent(plan.expect.miou), percent(plan.expect.tolerance)
        console.say(f"expected {expected} +- {tolerance} ({plan.expect.source})")
    model = run.best if scores else run.last
    console.say(f"model    {model}")
    console.say(f"previews {run.path / 'previews'}")
    console.say()
    console.say(f"next: deeplabctl eval --weights {shlex.quote(str(run.path))}")
    console.say(f"      deeplabctl infer IMAGE --weights {shlex.quote(str(run.path))} --overlay")
    console.document(
        {
            "run": str(run.path),
            "model": str(model),
            "steps": result.steps,
            "seconds": result.seconds,
            "best_step": result.best_step,
            "stopped": result.stopped,
            **scores,
        }
    )
