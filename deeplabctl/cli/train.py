"""``deeplabctl train``: train a network."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl import recipes
from deeplabctl.choices import Strategy, TrainingPrecision
from deeplabctl.cli.console import Console
from deeplabctl.cli.formatting import argument, describe, score_table
from deeplabctl.cli.multi_worker import Worker, is_worker_process, limited_wait, run_worker, worker_from_environment
from deeplabctl.cli.options import DATA, NETWORK, OUTPUT, complete_weights, default_data, section
from deeplabctl.cli.recipes import complete_recipe
from deeplabctl.errors import RunError
from deeplabctl.reporting import counted, duration, percent
from deeplabctl.run_layout import BEST, LAST, PREVIEWS, REPORT

if TYPE_CHECKING:
    from deeplabctl.recipe import Expect
    from deeplabctl.reporting import Reporter
    from deeplabctl.training.loop import TrainedRun
    from deeplabctl.training.run import PlannedTraining

EXAMPLES = """
Examples
  # the built-in shapes: some minutes on two CPU cores
  deeplabctl train

  # your own data set, from ImageNet's features, in the time that you have
  deeplabctl train --data my-set --time 45m

  # the second paper's training
  deeplabctl train --data VOCdevkit/VOC2012 --recipe paper-v2
"""
_OF_ONE_MACHINE = "single", "mirrored"  # strategies for which $TF_CONFIG does not count
HARDWARE = section("Hardware")
TRAINING = section("Training")


@dataclass(frozen=True)
class TrainingOptions:
    """Hold the options of a training, by the names of `TrainingRequest`."""

    data: Annotated[
        str | None,
        DATA(
            "--data DIR|shapes",
            "Data set in VOC layout, or the built-in one, shapes. Default: $DEEPLABCTL_DATA, else "
            "VOCdevkit/VOC2012 in . or ./data, else shapes.",
        ),
    ] = None
    crop_size: Annotated[
        int | None,
        DATA(
            "--crop-size N",
            "Side of the training crops, such as 321: 8k + 1 pixels, for some networks 16k + 1 or 32k + 1. Default: "
            "the recipe's.",
        ),
    ] = None
    image_size: Annotated[
        int | None,
        DATA(
            "--image-size N",
            "Scale larger images down to this longer side, in pixels; 0 keeps their size. Default: the recipe's.",
        ),
    ] = None
    init: Annotated[
        str | None,
        NETWORK(
            "--init FILE|RUN|NAME|imagenet|random",
            "Weights to start from; NAME: published ones. Default: random for shapes, else imagenet, or "
            "published ones for DeepLab v3 and v3+.",
            autocompletion=complete_weights,
        ),
    ] = None
    width: Annotated[
        float | None, NETWORK("--width X", "Number of channels relative to the papers' network (1.0).")
    ] = None
    recipe: Annotated[
        str | None,
        TRAINING(
            "--recipe NAME|FILE.toml",
            f"Settings of the training: {', '.join(recipes.names())}, or a file. "
            "Default: shapes for that data set, paper-v2 for VOC's classes, else own.",
            autocompletion=complete_recipe,
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        TRAINING("--set KEY=VALUE", "Change a setting of the recipe, such as solver.power=0.9; may be repeated."),
    ] = None
    steps: Annotated[int | None, TRAINING("--steps N", "Number of steps.")] = None
    time: Annotated[
        str | None,
        TRAINING(
            "--time TIME",
            "How long the training may take on this machine, such as 45m or 1h30m; some steps are timed first, to set "
            "their number.",
        ),
    ] = None
    batch_size: Annotated[int | None, TRAINING("--batch-size N", "Images in a batch.")] = None
    accumulate: Annotated[
        int | None, TRAINING("--accumulate N", "Batches in a step: the gradients of one large batch, in less memory.")
    ] = None
    learning_rate: Annotated[float | None, TRAINING("--learning-rate X", "Base learning rate.")] = None
    seed: Annotated[
        int | None, TRAINING("--seed N", "Seed of the random numbers: the same seed gives the same weights.")
    ] = None
    precision: Annotated[
        TrainingPrecision | None,
        HARDWARE(
            "--precision", "Number format of the forward and backward pass. Default: auto, the fastest on this machine."
        ),
    ] = None
    strategy: Annotated[
        Strategy | None,
        HARDWARE(
            "--strategy",
            "Devices to train on. Default: auto, all GPUs of this machine, and all machines in $TF_CONFIG.",
        ),
    ] = None
    run_dir: Annotated[
        Path | None,
        OUTPUT("--run-dir DIR", "Folder for this run's results, new or empty. Default: a new one in ./runs."),
    ] = None
    resume: Annotated[str | None, OUTPUT("--resume RUN|last", "Continue a run from its last checkpoint.")] = None


def train(options: TrainingOptions, console: Console) -> None:
    """Train a network on a data set.

    The best and the last weights, previews and metrics go to a run directory, where eval and infer find them.
    """
    if options.resume is not None and options.run_dir is not None:
        raise typer.BadParameter("a resumed run stays in its directory; leave it out", param_hint="--run-dir")
    from deeplabctl.recipe import setting_of

    strategy = setting_of("run.strategy", options.settings or (), {"run.strategy": options.strategy})
    worker = None if strategy in _OF_ONE_MACHINE else worker_from_environment()
    if worker is not None and not is_worker_process():
        raise typer.Exit(run_worker(worker))
    from deeplabctl.training.run import TrainingRequest, planned_training

    request = TrainingRequest(**vars(options), default_data=default_data())
    writes = worker is None or worker.index == 0
    with console.reporter() as report, planned_training(request, report, writes=writes) as planned:
        planned = _with_auto_precision(planned)
        run, code = planned.end_finished_run(report), 0
        if run is None:
            run, code = _train(planned, worker, report)
    _print_run(console, run, planned.plan.expect)
    raise typer.Exit(code)


def _train(planned: PlannedTraining, worker: Worker | None, report: Reporter) -> tuple[TrainedRun, int]:
    """Load TensorFlow and train; returns the result and the exit code."""
    from deeplabctl.network.tensorflow_startup import tensorflow_startup
    from deeplabctl.reporting import Note
    from deeplabctl.training.loop import train_plan
    from deeplabctl.training.signals import StopRequest, stop_signals

    plan = planned.plan
    strategy = _strategy(plan.recipe.run.strategy, worker)
    others = worker if strategy == "multi-worker" else None
    should_stop = StopRequest()
    with planned.opened(report, sys.argv, describe) as (directory, report_and_log):
        waiting = f" as {others}, and waiting for the others: {', '.join(others.addresses)}" if others else ""
        report_and_log(Note(f"starting TensorFlow{waiting}"))
        log = directory.log if directory else lambda text: None
        with limited_wait() if others else nullcontext(), tensorflow_startup(log):
            from deeplabctl.training.cluster import Cluster

            cluster = Cluster.of_kind(strategy, plan.recipe.solver.batch_size)
        with stop_signals(should_stop):  # now, as several workers' TensorFlow has set a handler itself
            run = train_plan(
                plan, directory, report_and_log, should_stop, checkpoint=planned.checkpoint, cluster=cluster
            )
    # If another worker was asked to stop, this one ends as if it had been asked as well.
    return run, (should_stop.exit_code or 128 + signal.SIGTERM) if run.stopped else 0


def _with_auto_precision(planned: PlannedTraining) -> PlannedTraining:
    """Let $DEEPLABCTL_AUTO_PRECISION say what "auto" stands for, instead of what is fastest on this machine."""
    from deeplabctl.network.keras_model import POLICIES

    wanted = os.environ.get("DEEPLABCTL_AUTO_PRECISION")
    if not wanted or planned.plan.recipe.run.precision != "auto":
        return planned
    if wanted not in POLICIES:
        raise RunError(f"$DEEPLABCTL_AUTO_PRECISION: expected {', '.join(POLICIES)}, got {wanted!r}")
    return replace(planned, plan=planned.plan.with_settings(run={"precision": wanted}))


def _strategy(wanted: str, worker: Worker | None) -> str:
    """Return the strategy to start TensorFlow with; "auto" leaves the choice of GPUs to it."""
    if wanted == "multi-worker" and worker is None:
        raise RunError(
            "`strategy=multi-worker`: expected $TF_CONFIG to name several workers, got none; docs/many-machines.md "
            "shows how"
        )
    if worker is not None and wanted in _OF_ONE_MACHINE:
        raise RunError(
            f"recipe: run.strategy: expected auto or multi-worker for {worker}, as $TF_CONFIG has it, got {wanted}; "
            f"train on this machine alone with `strategy={wanted}`"
        )
    return "multi-worker" if worker is not None else wanted


def _print_run(console: Console, run: TrainedRun, expect: Expect | None) -> None:
    if run.path is None:
        console.say(f"worker done after {counted(run.steps, 'step')}; the chief has the results")
        console.document({"steps": run.steps, "seconds": run.seconds, "stopped": run.stopped})
        return
    scores = run.scores
    if scores:
        console.table(*score_table(scores))
        console.say()
    best = f"best val mIoU {percent(scores['miou'])} at step {run.best_step:,}" if scores else "not validated yet"
    how, steps = "stopped" if run.stopped else "trained", counted(run.steps, "step")
    since = f", {run.steps - run.first_step:,} of them" if run.first_step else ""
    ended = f"{how} after {steps}{since} in {duration(run.seconds)}"
    console.say(f"already finished: {steps}; {best}" if run.finished_before else f"{ended}; {best}")
    if expect is not None and not run.stopped:
        console.say(expect.text)
    model = run.path / (BEST if scores else LAST)
    named = argument(run.path)
    for name, path in (("model", model), ("previews", run.path / PREVIEWS), ("report", run.path / REPORT)):
        if path.exists():
            console.say(f"{name:8} {path}")
    commands = [f"train --resume {named}"] if run.stopped else []
    if run.steps:
        commands += [f"eval --weights {named}", f"infer IMAGE --weights {named} --overlay"]
    console.next(*commands)
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
