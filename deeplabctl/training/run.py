"""Run a training from its request to its results: what ``deeplabctl train`` and ``deeplabctl.train`` do."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl import reporting
from deeplabctl.errors import RecipeError, RunError
from deeplabctl.limits import Reach
from deeplabctl.parallel import keep_freed_memory
from deeplabctl.reporting import Event, Note, Reporter, silent, tqdm_reporter
from deeplabctl.reports.run_records import run_facts
from deeplabctl.training.checkpoint import Checkpoint, recipe_changes
from deeplabctl.training.loop import TrainedRun, train_plan
from deeplabctl.training.plan import Plan, plan_resume, plan_training
from deeplabctl.training.run_directory import RunDirectory, check_new_run, find_run
from deeplabctl.training.signals import StopRequest, stop_signals


def _sets(setting: str) -> Any:
    """Return an option's field, with the setting of the recipe that it changes."""
    return field(default=None, metadata={"setting": setting})


@dataclass(frozen=True)
class TrainingRequest:
    """Hold what a user asks for; None leaves an option to the recipe."""

    recipe: str | None = None  # name or file
    settings: Sequence[str] | None = None  # SECTION.KEY=VALUE
    data: str | None = _sets("data.root")
    init: str | None = _sets("model.init")
    width: float | None = _sets("model.width")
    image_size: int | None = _sets("data.max_side")
    crop_size: int | None = _sets("augment.crop_size")
    steps: int | None = _sets("solver.steps")
    time: str | None = _sets("run.time")
    batch_size: int | None = _sets("solver.batch_size")
    accumulate: int | None = _sets("solver.accumulate")
    learning_rate: float | None = _sets("solver.learning_rate")
    precision: str | None = _sets("run.precision")
    strategy: str | None = _sets("run.strategy")
    seed: int | None = _sets("run.seed")
    run_dir: Path | None = None
    resume: str | None = None  # a run directory, or "last"
    default_data: str | None = None  # where neither options nor recipe name a data set

    def options(self) -> dict[str, Any]:
        """Return the options that are given by the settings that they change."""
        given = {item.metadata.get("setting"): getattr(self, item.name) for item in fields(self)}
        return {setting: value for setting, value in given.items() if setting and value is not None}

    @contextmanager
    def naming_options(self) -> Iterator[None]:
        """Let errors of settings that options gave name these options, and no recipe."""
        try:
            yield
        except RecipeError as error:
            text = str(error)
            for item in fields(self):
                if (setting := item.metadata.get("setting")) and getattr(self, item.name) is not None:
                    text = re.sub(rf"^recipe .+?: {re.escape(setting)}(?=:)", f"`{item.name}`", text)
            raise RecipeError(text) from error


@dataclass(frozen=True)
class PlannedTraining:
    """Hold a planned training, and where it is resumed from."""

    plan: Plan
    run_dir: Path | None = None
    resumed: Path | None = None  # the directory of the run to continue
    checkpoint: Checkpoint | None = None
    directory: RunDirectory | None = None  # ``resumed``, locked
    writes: bool = True  # False on a worker that leaves the run directory to the chief

    def end_finished_run(self, report: Reporter = silent) -> TrainedRun | None:
        """Return the result of a run to resume that has no steps left; None for any other.

        A warning names settings that differ and are not applied.
        """
        if self.resumed is None or self.checkpoint is None or run_facts(self.resumed).get("status") != "finished":
            return None
        progress, solver = self.checkpoint.progress, self.plan.recipe.solver
        if progress.step < solver.steps and not progress.is_out_of_patience(solver.patience):
            return None
        if self.directory:
            self.directory.remove_unfinished()  # of a report, before which a run is finished
        if changes := recipe_changes(self.checkpoint.recipe, self.plan.recipe, Reach.OUTPUT):
            report(Note(f"the run is finished; not applied: {', '.join(changes)}", warning=True))
        best = progress.best or {}
        return TrainedRun(self.resumed, progress.step, 0.0, best, progress.best_step, finished_before=True)

    @contextmanager
    def opened(
        self,
        report: Reporter,
        argv: Sequence[str] = (),
        describe: Callable[[Event], str | None] = reporting.describe,
    ) -> Iterator[tuple[RunDirectory | None, Reporter]]:
        """Make the run's directory, or begin to write in the one to resume; None where this worker does not write.

        The reporter that comes with it also writes to the run's log, in the words of ``describe``. Raises RunError for
        a directory that cannot be used.
        """
        keep_freed_memory()  # before TensorFlow's threads begin
        recipe, directory = self.plan.recipe, self.directory
        if directory is not None:
            directory.resume(recipe, argv)
        elif self.writes:
            directory = RunDirectory.create(self.run_dir, recipe, self.plan.dataset.name, argv, report)
        with directory or nullcontext() as run:

            def report_and_log(event: Event) -> None:
                report(event)
                if run is not None and (line := describe(event)) is not None:
                    run.log(line)

            if run is not None:
                report_and_log(Note(f"run directory: {run.path}"))
            if self.resumed is not None:
                step = self.checkpoint.progress.step if self.checkpoint else 0
                steps = f" of {recipe.solver.steps}" if not recipe.run.time else ", before its steps were timed"
                report_and_log(Note(f"continuing after step {step}{steps}"))
            yield run, report_and_log


def _plain(value: Any) -> Any:
    """Return numbers of numpy as Python's, and what else JSON does not have, such as paths, as a text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


@contextmanager
def planned_training(request: TrainingRequest, report: Reporter, *, writes: bool = True) -> Iterator[PlannedTraining]:
    """Plan a new training, or one to resume; raises DeepLabError for anything that would stop or spoil it.

    The directory of a run to resume is locked before it is read, until the block ends; not where ``writes`` is False,
    on a worker that leaves this to the chief.
    """
    if request.resume is None:
        if writes and request.run_dir is not None:
            check_new_run(request.run_dir)
        with request.naming_options():
            plan = plan_training(
                request.recipe, request.settings or (), request.options(), default_data=request.default_data,
                report=report,
            )  # fmt: skip
        plan.fetch_start(report)
        yield PlannedTraining(plan, request.run_dir, writes=writes)
        return
    if request.run_dir is not None:
        raise RunError("`run_dir`: a resumed run stays in its directory; leave it out")
    run = find_run(request.resume)
    with RunDirectory.open(run, report) if writes else nullcontext() as directory:
        with request.naming_options():
            plan, checkpoint = plan_resume(
                run, request.recipe, request.settings or (), request.options(), report=report
            )
        if directory is not None and checkpoint is None:
            directory.check_restart()
        if checkpoint is None:
            plan.fetch_start(report)
        yield PlannedTraining(plan, None, run, checkpoint, directory, writes)


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    recipe: str | os.PathLike[str] | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    init: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    time: str | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    image_size: int | None = None,
    crop_size: int | None = None,
    learning_rate: float | None = None,
    width: float | None = None,
    precision: str | None = None,
    strategy: str | None = None,
    seed: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    report: Reporter | None = None,
) -> TrainedRun:
    """Train a network; the options are those of ``deeplabctl train``.

    ``data`` is a folder in VOC layout or "shapes"; ``recipe`` a packaged recipe or a file; ``settings`` change it:
    texts such as "solver.power=0.9", or {"solver.power": 0.9}; ``init`` weights, "imagenet" or "random"; ``time`` how
    long the training may take, as "45m", instead of ``steps``. ``resume`` continues a run directory, or "last". What is
    not given is as in the recipe. Progress is shown by tqdm unless ``report`` takes the events. Returns the run's path
    and the scores of its best validation. An interrupt (Ctrl-C, the stop button of a notebook) ends the training after
    its step, with a checkpoint; a second one ends it at once. Raises DeepLabError for what cannot be used or trained.
    """
    changes = [settings] if isinstance(settings, str) else settings
    if isinstance(changes, Mapping):
        written = {name: json.dumps(value, ensure_ascii=False, default=_plain) for name, value in changes.items()}
        changes = [f"{name}={value}" for name, value in written.items()]  # JSON's values are TOML's
    data, recipe, init, resume = (None if path is None else os.fspath(path) for path in (data, recipe, init, resume))
    request = TrainingRequest(
        recipe=recipe, settings=changes, data=data, init=init, width=width, image_size=image_size, crop_size=crop_size,
        steps=steps, time=time, batch_size=batch_size, accumulate=accumulate, learning_rate=learning_rate,
        precision=precision, strategy=strategy, seed=seed, run_dir=None if run_dir is None else Path(run_dir),
        resume=resume,
    )  # fmt: skip
    report = report or tqdm_reporter()
    with planned_training(request, report) as planned:
        kind, batch_size = planned.plan.recipe.run.strategy, planned.plan.recipe.solver.batch_size
        if kind == "multi-worker":
            raise RunError("`strategy=multi-worker`: a training on several machines needs the command deeplabctl train")
        if finished := planned.end_finished_run(report):
            return finished
        should_stop = StopRequest()
        in_main_thread = threading.current_thread() is threading.main_thread()  # only there signals can be handled
        with (
            stop_signals(should_stop) if in_main_thread else nullcontext(),
            planned.opened(report) as (run, report_and_log),
        ):
            report_and_log(Note("starting TensorFlow"))
            from deeplabctl.network.tensorflow_startup import tensorflow_startup

            with tensorflow_startup(run.log if run else lambda text: None):
                from deeplabctl.training.cluster import Cluster

                cluster = Cluster.of_kind(kind, batch_size)
            return train_plan(
                planned.plan, run, report_and_log, should_stop, checkpoint=planned.checkpoint, cluster=cluster
            )
