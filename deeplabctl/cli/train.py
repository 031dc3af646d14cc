"""``deeplabctl train``: train a network."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.formatting import describe, duration, percent, score_rows
from deeplabctl.cli.multi_worker import Worker, is_watched, not_alone, watch, worker_of_environment
from deeplabctl.cli.options import DebugOption, JsonOption, QuietOption
from deeplabctl.errors import RunError

if TYPE_CHECKING:
    from deeplabctl.reporting import Reporter
    from deeplabctl.training.checkpoint import Checkpoint
    from deeplabctl.training.loop import TrainingResult
    from deeplabctl.training.plan import Plan
    from deeplabctl.training.run_directory import RunDirectory


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
            help="paper-v1, paper-v2, seed, camvid, shapes or a file. Default: shapes for that set, else paper-v2.",
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
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="auto|float32|bfloat16|float16",
            help="Of the forward and backward pass. Default: auto, the fastest here.",
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            metavar="auto|single|mirrored|multi-worker",
            help="Devices to train on. Default: auto, all GPUs here, and all machines of $TF_CONFIG.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed gives the same weights.")] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", metavar="DIR", help="The run's own folder. Default: a new one in ./runs."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN|last", help="Go on with a run from its last checkpoint."),
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
        "run.precision": precision,
        "run.strategy": strategy,
        "run.seed": seed,
    }
    if resume is not None and run_dir is not None:
        raise typer.BadParameter("a resumed run stays in its directory", param_hint="--run-dir")
    console = Console(json, quiet, debug)
    with console.errors():
        worker = worker_of_environment()
        if worker is not None and strategy not in ("single", "mirrored") and not is_watched():
            raise typer.Exit(watch(worker))
        with console.reporter() as report:
            job = _plan(resume, recipe, settings or [], options, report)
            outcome = _finished(job) or _train(job, run_dir, worker, report)
        _print_outcome(console, job, outcome)
        raise typer.Exit(outcome.exit_code)


@dataclass(frozen=True)
class _Job:
    """Hold what is to be done."""

    plan: Plan
    resumed: Path | None = None  # the directory of the run to go on with
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class _Outcome:
    """Hold what came of it."""

    run: Path | None  # None on a worker that is not the chief
    result: TrainingResult
    exit_code: int = 0
    already: bool = False  # finished before


def _plan(
    resume: str | None, recipe: str | None, settings: list[str], options: Mapping[str, object], report: Reporter
) -> _Job:
    from deeplabctl.training.plan import plan_resume, plan_training
    from deeplabctl.training.run_directory import find_run

    if resume is None:
        default_data = os.environ.get("DEEPLABCTL_DATA")
        return _Job(plan_training(recipe, settings, options, default_data=default_data, report=report))
    run = find_run(resume)
    plan, checkpoint = plan_resume(run, recipe, settings, options, report=report)
    return _Job(plan, run, checkpoint)


def _finished(job: _Job) -> _Outcome | None:
    """Return the outcome of a run that has no steps left; None if it has, or is new."""
    from deeplabctl.training.loop import TrainingResult
    from deeplabctl.training.run_directory import run_facts

    if job.resumed is None or job.checkpoint is None or run_facts(job.resumed).get("status") != "finished":
        return None
    progress, solver = job.checkpoint.progress, job.plan.recipe.solver
    if progress.step < solver.steps and not 0 < solver.patience <= progress.validations_without_gain:
        return None
    return _Outcome(job.resumed, TrainingResult(progress.step, 0.0, progress.best, progress.best_step, False), 0, True)


def _train(job: _Job, run_dir: Path | None, worker: Worker | None, report: Reporter) -> _Outcome:
    """Load TensorFlow and train."""
    from deeplabctl.cli.signals import stop_signals
    from deeplabctl.cli.tensorflow_startup import start_tensorflow
    from deeplabctl.reporting import Event, Note
    from deeplabctl.training.loop import train

    job = replace(job, plan=_with_auto_precision(job.plan))
    plan = job.plan
    strategy = _strategy(plan.recipe.run.strategy, worker)
    with _directory(job, run_dir, chief=strategy != "multi-worker" or worker is None or worker.index == 0) as run:

        def report_and_log(event: Event) -> None:
            report(event)
            if run is not None and (line := describe(event)) is not None:
                run.log(line)

        if run is not None:
            report_and_log(Note(f"run directory: {run.path}"))
        if job.resumed is not None:
            step = job.checkpoint.progress.step if job.checkpoint else 0
            report_and_log(Note(f"going on after step {step} of {plan.recipe.solver.steps}"))
        waiting = worker is not None and strategy == "multi-worker"
        said = f" as {worker}, and waiting for the others: {', '.join(worker.addresses)}" if worker and waiting else ""
        report_and_log(Note(f"starting TensorFlow{said}"))
        with not_alone() if waiting else nullcontext():
            cluster = start_tensorflow(run.log if run else lambda text: None, strategy)
        if run is not None:
            run.record(device=cluster.device, expect=asdict(plan.expect) if plan.expect else None)
        with stop_signals() as should_stop:
            result = train(plan, run, report_and_log, should_stop, checkpoint=job.checkpoint, cluster=cluster)
        if result.stopped and run is not None:
            run.record(status="interrupted")
        # Where another worker was asked to stop, this one ends as if it had been asked too.
        code = (should_stop.exit_code or 128 + signal.SIGTERM) if result.stopped else 0
        return _Outcome(run.path if run else None, result, code)


def _with_auto_precision(plan: Plan) -> Plan:
    """Let $DEEPLABCTL_AUTO_PRECISION say what "auto" gives, in place of what this machine is fastest in."""
    from deeplabctl.training.plan import with_precision
    from deeplabctl.training.precision import POLICIES

    wanted = os.environ.get("DEEPLABCTL_AUTO_PRECISION")
    if not wanted or plan.recipe.run.precision != "auto":
        return plan
    if wanted not in POLICIES:
        raise RunError(f"$DEEPLABCTL_AUTO_PRECISION: expected {', '.join(POLICIES)}, got {wanted!r}")
    return with_precision(plan, wanted)


def _strategy(wanted: str, worker: Worker | None) -> str:
    """Return the strategy to start TensorFlow with; "auto" leaves the GPUs to see."""
    if wanted == "multi-worker" and worker is None:
        raise RunError("--strategy multi-worker: expected $TF_CONFIG to name several workers, got none; see the README")
    return "multi-worker" if worker is not None and wanted == "auto" else wanted


def _directory(job: _Job, run_dir: Path | None, *, chief: bool) -> AbstractContextManager[RunDirectory | None]:
    """Return the run's directory, on the worker that writes."""
    from deeplabctl.training.run_directory import RunDirectory

    if not chief:
        return nullcontext()
    if job.resumed is not None:
        return RunDirectory.resume(job.resumed, job.plan.recipe, sys.argv)
    return RunDirectory.create(run_dir, job.plan.recipe, job.plan.dataset.name, sys.argv)


def _print_outcome(console: Console, job: _Job, outcome: _Outcome) -> None:
    result, run = outcome.result, outcome.run
    if run is None:
        console.say(f"worker done after {result.steps} steps; the chief has the results")
        console.document({"steps": result.steps, "seconds": result.seconds, "stopped": result.stopped})
        return
    scores = result.best or {}
    if scores:
        console.table(*score_rows(scores))
        console.say()
    best = f"best val mIoU {percent(scores['miou'])} at step {result.best_step}" if scores else "not validated yet"
    how = "stopped" if result.stopped else "trained"
    said = f"finished before: {result.steps} steps" if outcome.already else f"{how} after {result.steps} steps"
    console.say(f"{said}{'' if outcome.already else f' in {duration(result.seconds)}'}; {best}")
    expect = job.plan.expect
    if expect is not None and not result.stopped:
        console.say(f"expected {percent(expect.miou)} +- {percent(expect.tolerance)} ({expect.source})")
    from deeplabctl.weights.fitting import BEST, LAST

    model = run / (BEST if scores else LAST)
    named = shlex.quote(str(run))
    console.say(f"model    {model}")
    if (run / "previews").is_dir():
        console.say(f"previews {run / 'previews'}")
    console.say()
    if result.stopped:
        console.say(f"next: deeplabctl train --resume {named}")
    console.say(f"{'     ' if result.stopped else 'next:'} deeplabctl eval --weights {named}")
    console.say(f"      deeplabctl infer IMAGE --weights {named} --overlay")
    console.document(
        {
            "run": str(run),
            "model": str(model),
            "steps": result.steps,
            "seconds": result.seconds,
            "best_step": result.best_step,
            "stopped": result.stopped,
            **scores,
        }
    )
