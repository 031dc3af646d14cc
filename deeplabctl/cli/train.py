"""``deeplabctl train``: train a network."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl import recipes
from deeplabctl.cli.console import Console
from deeplabctl.cli.formatting import describe, duration, percent, score_rows
from deeplabctl.cli.multi_worker import Worker, is_worker_process, limited_wait, run_worker, worker_from_environment
from deeplabctl.cli.options import DebugOption, JsonOption, Precision, QuietOption, Strategy
from deeplabctl.errors import RunError

if TYPE_CHECKING:
    from deeplabctl.recipe import Expect
    from deeplabctl.reporting import Reporter
    from deeplabctl.training.cluster import Cluster
    from deeplabctl.training.job import TrainedRun, TrainingJob

EXAMPLES = """
Examples
  # the built-in shapes: some minutes on two CPU cores
  deeplabctl train

  # your own data set, from ImageNet's features, in the time that you have
  deeplabctl train --data my-set --time 45m

  # the second paper's training
  deeplabctl train --data VOCdevkit/VOC2012 --recipe paper-v2
"""


def train(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|shapes",
            help="Data set in VOC layout, or shapes, the built-in one. Default: $DEEPLABCTL_DATA, else "
            "VOCdevkit/VOC2012 in . or ./data, else shapes.",
            rich_help_panel="Data",
        ),
    ] = None,
    crop_size: Annotated[
        int | None,
        typer.Option(
            "--crop-size",
            metavar="N",
            help="Side of the training crops, a multiple of 8 plus 1, as 321. Default: the recipe's.",
            rich_help_panel="Data",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="FILE|RUN|imagenet|random",
            help="Weights to start from. Default: random for shapes, else imagenet.",
            rich_help_panel="Network",
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            "--width",
            metavar="X",
            help="Number of channels relative to the papers' network (1.0).",
            rich_help_panel="Network",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE.toml",
            help=f"Settings of the training: {', '.join(recipes.names())}, or a file. "
            "Default: shapes for that data set, paper-v2 for VOC's classes, else own.",
            rich_help_panel="Training",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe, as solver.power=0.9; may be repeated.",
            rich_help_panel="Training",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Number of steps.", rich_help_panel="Training")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="How long the training may take here, as 45m or 1h30m: sets the number of steps, after timing some.",
            rich_help_panel="Training",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Images in a batch.", rich_help_panel="Training"),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            "--accumulate",
            metavar="N",
            help="Batches in a step: the gradients of one large batch, in less memory.",
            rich_help_panel="Training",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", metavar="X", help="Base learning rate.", rich_help_panel="Training"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Seed of the random numbers: the same seed gives the same weights.",
            rich_help_panel="Training",
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            "--precision",
            help="Number format of the forward and backward pass. Default: auto, the fastest on this machine.",
            rich_help_panel="Hardware",
        ),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            "--strategy",
            help="Devices to train on. Default: auto, all GPUs of this machine, and all machines in $TF_CONFIG.",
            rich_help_panel="Hardware",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir",
            metavar="DIR",
            help="Folder for this run's results, new or empty. Default: a new one in ./runs.",
            rich_help_panel="Output",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN|last",
            help="Continue a run from its last checkpoint.",
            rich_help_panel="Output",
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a network on a data set.

    The best and the last weights, previews and metrics go to a run directory, where eval and infer find them.
    """
    options = {
        "data": data, "init": init, "width": width, "crop_size": crop_size, "steps": steps, "time": time,
        "batch_size": batch_size, "accumulate": accumulate, "learning_rate": learning_rate, "precision": precision,
        "strategy": strategy, "seed": seed,
    }  # fmt: skip
    if resume is not None and run_dir is not None:
        raise typer.BadParameter("a resumed run stays in its directory; leave it out", param_hint="--run-dir")
    console = Console(json, quiet, debug)
    with console.errors():
        worker = worker_from_environment()
        if worker is not None and strategy not in ("single", "mirrored") and not is_worker_process():
            raise typer.Exit(run_worker(worker))
        from deeplabctl.training.job import TrainingRequest, prepared_job

        default_data = os.environ.get("DEEPLABCTL_DATA")
        request = TrainingRequest(recipe, settings or [], options, run_dir, resume, default_data)
        writes = worker is None or worker.index == 0
        with console.reporter() as report, prepared_job(request, report, writes=writes) as planned:
            job = _with_auto_precision(planned)
            run, code = job.finished_run(), 0
            if run is None:
                run, code = _train(job, worker, report)
        _print_run(console, run, job.plan.expect)
        raise typer.Exit(code)


def _train(job: TrainingJob, worker: Worker | None, report: Reporter) -> tuple[TrainedRun, int]:
    """Load TensorFlow and train; returns the result and the exit code."""
    from deeplabctl.training.job import run_job
    from deeplabctl.training.signals import StopRequest, stop_signals

    strategy = _strategy(job.plan.recipe.run.strategy, worker)
    waiting = worker if strategy == "multi-worker" else None

    def start(report: Reporter, log: Callable[[str], None]) -> Cluster:
        from deeplabctl.cli.tensorflow_startup import tensorflow_startup
        from deeplabctl.reporting import Note

        others = f" as {waiting}, and waiting for the others: {', '.join(waiting.addresses)}" if waiting else ""
        report(Note(f"starting TensorFlow{others}"))
        with limited_wait() if waiting else nullcontext(), tensorflow_startup(log):
            from deeplabctl.training.cluster import Cluster

            cluster = Cluster.of_kind(strategy, job.plan.recipe.solver.batch_size)
        stack.enter_context(stop_signals(should_stop))  # now, as several workers' TensorFlow has set a handler itself
        return cluster

    should_stop = StopRequest()
    with ExitStack() as stack:
        is_chief = waiting is None or waiting.index == 0
        run = run_job(job, report, start, should_stop, argv=sys.argv, writes=is_chief, describe=describe)
    # If another worker was asked to stop, this one ends as if it had been asked as well.
    return run, (should_stop.exit_code or 128 + signal.SIGTERM) if run.stopped else 0


def _with_auto_precision(job: TrainingJob) -> TrainingJob:
    """Let $DEEPLABCTL_AUTO_PRECISION say what "auto" stands for, instead of what is fastest on this machine."""
    from deeplabctl.network.keras_model import POLICIES
    from deeplabctl.training.plan import with_precision

    wanted = os.environ.get("DEEPLABCTL_AUTO_PRECISION")
    if not wanted or job.plan.recipe.run.precision != "auto":
        return job
    for precision in POLICIES:
        if precision == wanted:
            return replace(job, plan=with_precision(job.plan, precision))
    raise RunError(f"$DEEPLABCTL_AUTO_PRECISION: expected {', '.join(POLICIES)}, got {wanted!r}")


def _strategy(wanted: str, worker: Worker | None) -> str:
    """Return the strategy to start TensorFlow with; "auto" leaves the choice of GPUs to it."""
    if wanted == "multi-worker" and worker is None:
        raise RunError(
            "`strategy=multi-worker`: expected $TF_CONFIG to name several workers, got none; docs/many-machines.md "
            "shows how"
        )
    return "multi-worker" if worker is not None and wanted == "auto" else wanted


def _print_run(console: Console, run: TrainedRun, expect: Expect | None) -> None:
    if run.path is None:
        console.say(f"worker done after {run.steps} steps; the chief has the results")
        console.document({"steps": run.steps, "seconds": run.seconds, "stopped": run.stopped})
        return
    scores = run.scores
    if scores:
        console.table(*score_rows(scores))
        console.say()
    best = f"best val mIoU {percent(scores['miou'])} at step {run.best_step}" if scores else "not validated yet"
    how = "stopped" if run.stopped else "trained"
    since = f", {run.steps - run.first_step} of them" if run.first_step else ""
    ended = f"{how} after {run.steps} steps{since} in {duration(run.seconds)}"
    console.say(f"already finished: {run.steps} steps; {best}" if run.finished_before else f"{ended}; {best}")
    if expect is not None and not run.stopped:
        console.say(f"expected {percent(expect.miou)} +- {percent(expect.tolerance)} ({expect.source})")
    from deeplabctl.reports.training_run import REPORT
    from deeplabctl.weights.locating import BEST, LAST

    model = run.path / (BEST if scores else LAST)
    named = shlex.quote(str(run.path))
    for name, path in (("model", model), ("previews", run.path / "previews"), ("report", run.path / REPORT)):
        if path.exists():
            console.say(f"{name:8} {path}")
    console.say()
    commands = [f"train --resume {named}"] if run.stopped else []
    if run.steps:
        commands += [f"eval --weights {named}", f"infer IMAGE --weights {named} --overlay"]
    for place, command in enumerate(commands):
        console.say(f"{'     ' if place else 'next:'} deeplabctl {command}")
    console.document(
        {
            "run": str(run.path),
            "model": str(model) if run.steps else None,
            "steps": run.steps,
            "seconds": run.seconds,
            "best_step": run.best_step,
            "stopped": run.stopped,
            **scores,
        }
    )
