"""Hold the directory of a training run: its lock, its log, and what killed processes leave in it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from deeplabctl.errors import DeepLabError, OutputError, RunError
from deeplabctl.files import lock, unfinished_target, write_text
from deeplabctl.recipe import Recipe, recipe_text
from deeplabctl.reporting import Note, Reporter, silent
from deeplabctl.reports.run_records import has_metrics, run_facts
from deeplabctl.run_layout import (
    BEST,
    CHECKPOINTS,
    CURVES,
    FACTS,
    LAST,
    LOG,
    METRICS_LOG,
    PREVIEWS,
    RECIPE,
    REPORT,
    TENSORBOARD,
)

_LOCK = ".lock"
# What a training may leave that fails before its first checkpoint and its first validation.
_OF_A_START = (RECIPE, FACTS, METRICS_LOG, LOG, PREVIEWS, TENSORBOARD)

# What a training writes whole or not at all: a killed one may leave them under temporary names.
_WRITTEN = re.compile(
    rf"{RECIPE}|{FACTS}|{METRICS_LOG}|{BEST}|{LAST}|{CURVES}|{REPORT}|{CHECKPOINTS}/step-\d+\.npz|"
    rf"{PREVIEWS}/step-\d+\.png"
)


class RunDirectory:
    """Hold a run's directory and its lock, from ``create`` or ``open`` to the end of its ``with`` block.

    The lock dies with the process, so a killed run leaves none behind.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock
        self._opened_at = time.perf_counter()
        self._facts: dict[str, Any] = {}
        self._is_new = False  # made by this process
        self._is_disposable = False  # a training that leaves nothing if it fails before its first step

    @classmethod
    def create(
        cls, path: Path | None, recipe: Recipe, data_name: str, argv: Sequence[str] = (), report: Reporter = silent
    ) -> Self:
        """Make a new run directory, ``runs/<date>-<time>-<architecture>-<data>`` unless a path is given.

        What a training left there that failed before its first checkpoint is removed. Raises RunError if the path is
        not UTF-8, is a folder that is not empty (see `check_new_run`) or cannot be written.
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe.model.architecture}-{data_name}"
        chosen = path or Path("runs", name)
        for used in (recipe.data.root, recipe.model.init, str(chosen.absolute())):
            if used.encode(errors="ignore").decode() != used:  # no recipe can hold it, nor can TensorFlow read it
                raise RunError(f"{used}: expected a path in UTF-8 for a training, got other bytes; rename it")
        if path is not None:
            check_new_run(path)
        is_new = path is None or not path.exists()
        try:
            number = 1
            while path is None and not _made(chosen):
                number += 1
                chosen = chosen.with_name(f"{name}-{number}")
            chosen.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_be_written(Path(error.filename or chosen), error) from None
        run = cls(chosen, _lock(chosen, report))
        try:
            _check_empty(chosen)  # again, as another training may have begun and ended in it
            run._is_new, run._is_disposable = is_new, True
            run._remove_start()
            run.remove_unfinished()
            run.write_recipe(recipe)
            run._record_start(argv, recipe)
        except BaseException as error:
            run.__exit__(type(error), error, None)
            raise
        return run

    @classmethod
    def open(cls, path: Path, report: Reporter = silent) -> Self:
        """Lock a run directory, and change nothing in it until `resume`.

        Raises RunError if it cannot be written or a training runs in it.
        """
        return cls(path, _lock(path, report))

    def resume(self, recipe: Recipe, argv: Sequence[str] = ()) -> None:
        """Begin to train again in a directory that was opened."""
        self.remove_unfinished()
        self._facts = run_facts(self.path)
        before = {key: self._facts.get(key) for key in ("argv", "started", "status", "error", "seconds")}
        self._facts["earlier"] = [*self._facts.get("earlier", []), before]
        self.write_recipe(recipe)
        self._record_start(argv, recipe)

    def check_restart(self) -> None:
        """Raise RunError for a run without checkpoints whose models or metrics would be lost if it began once more.

        One that was killed before its first checkpoint has models and metrics at most of the steps that come again.
        """
        found = [name for name in (LAST, BEST, METRICS_LOG) if (self.path / name).exists()]
        status = run_facts(self.path).get("status")
        if found and (LAST in found or status in (None, "finished")):
            raise RunError(
                f"run directory {self.path}: expected the checkpoints of this run in {CHECKPOINTS}, got none; restore "
                f"them (a training from step 0 would replace {found[0]}), or start a new training from its weights "
                "(`init`)"
            )

    def remove_unfinished(self) -> None:
        """Remove what a killed training left under temporary names."""
        for folder in ("", CHECKPOINTS, PREVIEWS):
            for path in self.path.glob(f"{folder}/.*" if folder else ".*"):
                if (target := unfinished_target(path)) and _WRITTEN.fullmatch(str(target.relative_to(self.path))):
                    path.unlink(missing_ok=True)

    def keep(self) -> None:
        """Keep the directory also if the training fails before its first step."""
        self._is_disposable = False

    def _remove_start(self) -> None:
        """Remove what a training leaves that fails before its first checkpoint."""
        for name in _OF_A_START:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe, fully resolved."""
        write_text(self.path / RECIPE, recipe_text(recipe))

    def _record_start(self, argv: Sequence[str], recipe: Recipe) -> None:
        self.record(
            status="running",
            error=None,
            seconds=None,
            argv=list(argv),
            seed=recipe.run.seed,
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            python=platform.python_version(),
            platform=platform.platform(),
            versions={name: _version(name) for name in ("deeplabctl", "tensorflow", "keras", "numpy", "pillow")},
            git=_git_commit(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._facts.get("status") == "running":
            asked = kind in (KeyboardInterrupt, SystemExit)
            status = "finished" if kind is None else "interrupted" if asked else "failed"
            with contextlib.suppress(OutputError):  # a full disk must not hide what went wrong
                self.end(status, error=None if error is None else f"{kind.__name__ if kind else ''}: {error}")
        with contextlib.suppress(OSError):  # there is none, or it has checkpoints
            (self.path / CHECKPOINTS).rmdir()  # empty, as the first one could not be written
        leaves_nothing = self._is_disposable and isinstance(error, DeepLabError) and not has_metrics(self.path)
        if leaves_nothing:
            self._remove_start()
        self._lock.close()
        if leaves_nothing and self._is_new:
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def seconds(self) -> float:
        """Return how long this process has had the directory: with the start, the validations and the report."""
        return time.perf_counter() - self._opened_at

    def end(self, status: str, **facts: Any) -> None:
        """Add to run.json how the training ended, and after what time."""
        self.record(status=status, seconds=self.seconds, **facts)

    def record(self, **facts: Any) -> None:
        """Add facts to run.json."""
        changed = self._facts | facts
        write_text(self.path / FACTS, json.dumps(changed, indent=1) + "\n")
        self._facts = changed  # after the file, so that what could not be written is written next time

    def log(self, text: str) -> None:
        """Append to log.txt, with the time of day before it."""
        path = self.path / LOG
        try:
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:  # names may not be UTF-8
                file.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error


def find_run(name: str) -> Path:
    """Return the run directory to resume: a path, or "last" for the newest in ./runs."""
    if name == "last":
        found = sorted(Path("runs").glob(f"*/{RECIPE}"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            raise RunError("`resume=last`: there is no run under runs; train one (deeplabctl train)")
        return found[-1].parent
    path = Path(name)
    if not (path / RECIPE).is_file():
        raise RunError(f"`resume={name}`: expected a run directory with a {RECIPE}, got none; give its path, or last")
    return path


def check_new_run(path: Path) -> None:
    """Raise RunError for a folder in which no new training may start: one runs in it, or it is not empty.

    The files of a training do not count that was killed before it wrote its recipe, or failed before it wrote a model.
    """
    if (path / RECIPE).exists() and (path / _LOCK).exists():
        _lock(path, silent).close()
    _check_empty(path)


def _check_empty(path: Path) -> None:
    try:
        entries = sorted(path.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    if run_facts(path).get("status") == "failed" and {entry.name for entry in entries} <= {_LOCK, *_OF_A_START}:
        return
    if path / RECIPE in entries:
        raise RunError(
            f"run directory {path}: it holds a run already; continue that with `resume={path}`, or choose "
            "another `run_dir`"
        )
    for entry in entries:
        is_lock = entry.name == _LOCK and entry.is_file() and not entry.stat().st_size
        if not is_lock and unfinished_target(entry) != path / RECIPE:
            raise RunError(
                f"run directory {path}: expected a new or an empty folder, got one with {entry.name}; choose another "
                "`run_dir`"
            )


def _lock(path: Path, report: Reporter) -> IO[str]:
    """Lock a run directory until the file that is returned is closed, or the process dies.

    Where the file system has no locks, a warning says so, and nothing is locked. Raises RunError if another training
    runs in the directory, or it cannot be written.
    """
    try:
        opened = (path / _LOCK).open("a")
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    try:
        is_free = lock(opened.fileno())
    except OSError as error:
        is_free = True
        text = f"its file system has no locks ({error.strerror}); do not start another training in it"
        report(Note(f"run directory {path}: {text}", warning=True))
    if not is_free:
        opened.close()
        raise RunError(
            f"run directory {path}: another training is running in it; wait for it, or train in another folder"
        )
    return opened


def _cannot_be_written(path: Path, error: OSError) -> RunError:
    """Return the error for a run directory that the system refuses."""
    return RunError(f"run directory {path}: cannot be written: {error.strerror}; train in another folder")


def _made(folder: Path) -> bool:
    """Make a new folder; returns False if it exists already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not os.path.lexists(folder):  # a parent is a link to nothing
            raise
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the folder that the command runs in, if it is a git checkout."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip() or None
    return None
