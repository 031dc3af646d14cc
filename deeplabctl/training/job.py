"""Run a training from its options to its results: what ``deeplabctl train`` and ``deeplabctl.train`` do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl import reporting
from deeplabctl.errors import RunError
from deeplabctl.reporting import Event, Note, Reporter, tqdm_reporter
from deeplabctl.reports.run_results import run_facts
from deeplabctl.training.loop import TrainingResult, train_plan
from deeplabctl.training.plan import Plan, plan_resume, plan_training
from deeplabctl.training.run_directory import RunDirectory, check_new_run, find_run
from deeplabctl.training.signals import StopRequest, stop_signals

if TYPE_CHECKING:
    from deeplabctl.training.checkpoint import Checkpoint
    from deeplabctl.training.cluster import Cluster

# The options of a training that set something of its recipe.
OPTIONS = {
    "data": "data.root",
    "init": "model.init",
    "width": "model.width",
    "crop_size": "augment.crop_size",
    "steps": "solver.steps",
    "time": "run.time",
    "batch_size": "solver.batch_size",
    "accumulate": "solver.accumulate",
    "learning_rate": "solver.learning_rate",
    "precision": "run.precision",
    "strategy": "run.strategy",
    "seed": "run.seed",
}


@dataclass(frozen=True)
class TrainingRequest:
    """Hold what a user asks for; None leaves an option to the recipe."""

    recipe: str | None = None  # name or file
    settings: Sequence[str] = ()  # SECTION.KEY=VALUE
    options: Mapping[str, Any] = field(default_factory=dict)  # by the names of OPTIONS
    run_dir: Path | None = None
    resume: str | None = None  # a run directory, or "last"
    default_data: str | None = None  # where neither options nor recipe name a data set


@dataclass(frozen=True)
class TrainedRun:
    """Hold the result of a training."""

    path: Path | None  # of the run directory; None on a worker other than the chief
    steps: int
    seconds: float  # of this process
    scores: dict[str, Any]  # of the best validation, as `eval --json` has them; empty if there was none
    best_step: int
    stopped: bool = False  # asked to, before its last step
    first_step: int = 0  # where this process began: 0, or where it was resumed
    finished_before: bool = False  # a run to resume that had no steps left

    @classmethod
    def of(cls, path: Path | None, result: TrainingResult) -> TrainedRun:
        """Return the result of a training in a run directory."""
        best = result.best or {}
        return cls(path, result.steps, result.seconds, best, result.best_step, result.stopped, result.first_step)


@dataclass(frozen=True)
class TrainingJob:
    """Hold a planned training, and where it is resumed from."""

    plan: Plan
    run_dir: Path | None = None
    resumed: Path | None = None  # the directory of the run to continue
    checkpoint: Checkpoint | None = None
    directory: RunDirectory | None = None  # ``resumed``, locked

    def finished_run(self) -> TrainedRun | None:
        """Return the result of a run to resume that has no steps left; None for any other."""
        if self.resumed is None or self.checkpoint is None or run_facts(self.resumed).get("status") != "finished":
            return None
        progress, solver = self.checkpoint.progress, self.plan.recipe.solver
        if progress.step < solver.steps and not progress.is_out_of_patience(solver.patience):
            return None
        if self.directory:
            self.directory.remove_unfinished()  # of a report, before which a run is finished
        best = progress.best or {}
        return TrainedRun(self.resumed, progress.step, 0.0, best, progress.best_step, finished_before=True)

    def open_directory(self, argv: Sequence[str], report: Reporter) -> RunDirectory:
        """Make the run's directory, or begin to write in the one to resume; raises RunError if it cannot be used."""
        if self.resumed is None:
            return RunDirectory.create(self.run_dir, self.plan.recipe, self.plan.dataset.name, argv, report)
        directory = self.directory or RunDirectory.open(self.resumed, report)
        directory.resume(self.plan.recipe, argv)
        return directory


@contextmanager
def prepared_job(request: TrainingRequest, report: Reporter, *, writes: bool = True) -> Iterator[TrainingJob]:
    """Plan a new training, or one to resume; raises DeepLabError for anything that would stop or spoil it.

    The directory of a run to resume is locked before it is read, until the block ends; not where ``writes`` is False,
    on a worker that leaves this to the chief.
    """
    settings = {OPTIONS[name]: value for name, value in request.options.items()}
    if request.resume is None:
        if writes and request.run_dir is not None:
            check_new_run(request.run_dir)
        plan = plan_training(
            request.recipe, request.settings, settings, default_data=request.default_data, report=report
        )
        yield TrainingJob(plan, request.run_dir)
        return
    if request.run_dir is not None:
        raise RunError("`run_dir`: a resumed run stays in its directory; leave it out")
    run = find_run(request.resume)
    with RunDirectory.open(run, report) if writes else nullcontext() as directory:
        plan, checkpoint = plan_resume(run, request.recipe, request.settings, settings, report=report)
        if directory is not None and checkpoint is None:
            directory.check_restart()
        yield TrainingJob(plan, None, run, checkpoint, directory)


def run_job(
    job: TrainingJob,
    report: Reporter,
    start: Callable[[Reporter, Callable[[str], None]], Cluster],
    should_stop: Callable[[], bool] = lambda: False,
    *,
    argv: Sequence[str] = (),
    writes: bool = True,
    describe: Callable[[Event], str | None] = reporting.describe,
) -> TrainedRun:
    """Train, and record what was reported in the run's log.

    ``start`` loads TensorFlow, with a reporter and the log to write its output to, and returns the devices; ``writes``
    is False on a worker that has no run directory; ``describe`` puts events into the words of the log. Raises as
    `train_plan`.
    """
    directory: AbstractContextManager[RunDirectory | None] = (
        job.open_directory(argv, report) if writes else nullcontext()
    )
    with directory as run:

        def report_and_log(event: Event) -> None:
            report(event)
            if run is not None and (line := describe(event)) is not None:
                run.log(line)

        if run is not None:
            report_and_log(Note(f"run directory: {run.path}"))
        if job.resumed is not None:
            recipe, step = job.plan.recipe, job.checkpoint.progress.step if job.checkpoint else 0
            steps = f" of {recipe.solver.steps}" if not recipe.run.time else ", before its steps were timed"
            report_and_log(Note(f"continuing after step {step}{steps}"))
        cluster = start(report_and_log, run.log if run else lambda text: None)
        if run is not None:
            expect = job.plan.expect
            run.record(device=cluster.device, expect=asdict(expect) if expect else None)
            if job.plan.recipe_name is not None:
                run.record(recipe=job.plan.recipe_name)
        result = train_plan(job.plan, run, report_and_log, should_stop, checkpoint=job.checkpoint, cluster=cluster)
        if result.stopped and run is not None:
            run.record(status="interrupted")
        return TrainedRun.of(run.path if run else None, result)


def train(
    data: str | Path | None = None,
    *,
    recipe: str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    init: str | Path | None = None,
    steps: int | None = None,
    time: str | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    crop_size: int | None = None,
    learning_rate: float | None = None,
    width: float | None = None,
    precision: str | None = None,
    strategy: str | None = None,
    seed: int | None = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    report: Reporter | None = None,
) -> TrainedRun:
    """Train a network; the options are those of ``deeplabctl train``.

    ``data`` is a folder in VOC layout or "shapes"; ``recipe`` a packaged recipe or a file; ``settings`` changes of it:
    texts such as "solver.power=0.9", or {"solver.power": 0.9}; ``init`` weights, "imagenet" or "random"; ``time`` how
    long the training may take, as "45m", instead of ``steps``. ``resume`` continues a run directory, or "last". What is
    not given is as in the recipe. Progress is shown by tqdm unless ``report`` takes the events. Returns the run's path
    and the scores of its best validation. An interrupt (Ctrl-C, the stop button of a notebook) ends the training after
    its step, with a checkpoint; a second one ends it at once. Raises DeepLabError for what cannot be used or trained.
    """
    options = {
        "data": None if data is None else str(data),
        "init": None if init is None else str(init),
        "width": width, "crop_size": crop_size, "steps": steps, "time": time, "batch_size": batch_size,
        "accumulate": accumulate, "learning_rate": learning_rate, "precision": precision, "strategy": strategy,
        "seed": seed,
    }  # fmt: skip
    directory, run = None if run_dir is None else Path(run_dir), None if resume is None else str(resume)
    report = report or tqdm_reporter()
    changes = [settings] if isinstance(settings, str) else settings
    if isinstance(changes, Mapping):
        changes = [f"{name}={json.dumps(value)}" for name, value in changes.items()]  # JSON's values are TOML's
    with prepared_job(TrainingRequest(recipe, changes, options, directory, run), report) as job:
        kind = job.plan.recipe.run.strategy
        if kind == "multi-worker":
            raise RunError("`strategy=multi-worker`: a training on several machines needs the command deeplabctl train")

        def start(report: Reporter, log: Callable[[str], None]) -> Cluster:
            report(Note("starting TensorFlow"))
            from deeplabctl.training.cluster import Cluster

            return Cluster.of_kind(kind, job.plan.recipe.solver.batch_size)

        if finished := job.finished_run():
            return finished
        should_stop = StopRequest()
        in_main_thread = threading.current_thread() is threading.main_thread()  # only there signals can be handled
        with stop_signals(should_stop) if in_main_thread else nullcontext():
            return run_job(job, report, start, should_stop)
