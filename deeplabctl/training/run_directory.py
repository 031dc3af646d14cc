"""Hold the directory of a training run.

recipe.toml      fully resolved: it runs again as given
run.json         argv, versions, git, device, seed, status
metrics.jsonl    a line for each logged step and validation
curves.png       loss, learning rate and validations, drawn from the metrics
report.html      settings, curves, classes and previews on one page, at the end
log.txt          notes and figures, with the time of day
checkpoints/     what a resumed training starts from: step-000500.npz
best.keras       the model with the best validation mIoU
last.keras       the model of the last step
previews/        step-000500.png: image, label, prediction
tensorboard/     the same scalars and previews, where the package tensorboard is installed
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from deeplabctl.errors import OutputError, RunError
from deeplabctl.files import write_text
from deeplabctl.recipe import Recipe
from deeplabctl.recipe import write_recipe as recipe_text
from deeplabctl.weights.locating import BEST, LAST

RECIPE, CHECKPOINTS = "recipe.toml", "checkpoints"


class RunDirectory:
    """Hold a run's directory and its lock, from ``create`` or ``resume`` to the end of its ``with`` block.

    The lock dies with the process, so a killed run leaves none behind.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock
        self._facts: dict[str, Any] = {}

    @classmethod
    def create(cls, path: Path | None, recipe: Recipe, data_name: str, argv: Sequence[str] = ()) -> Self:
        """Make a new run directory, ``runs/<date>-<time>-<architecture>-<data>`` unless a path is given.

        Raises RunError if it holds a run already or cannot be written.
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe.model.architecture}-{data_name}"
        chosen = path or Path("runs", name)
        try:
            number = 1
            while path is None and not _made(chosen):
                number += 1
                chosen = chosen.with_name(f"{name}-{number}")
            chosen.mkdir(parents=True, exist_ok=True)
            lock = (chosen / ".lock").open("w")
        except OSError as error:
            raise RunError(
                f"run directory {chosen}: cannot be written: {error.strerror}; choose another `run_dir`"
            ) from None
        _hold(lock, chosen)
        if (chosen / RECIPE).exists():
            lock.close()
            raise RunError(
                f"run directory {chosen}: it holds a run already; continue that with `resume={chosen}`, or choose "
                "another `run_dir`"
            )
        run = cls(chosen, lock)
        run.write_recipe(recipe)
        run._begin(argv, recipe)
        return run

    @classmethod
    def resume(cls, path: Path, recipe: Recipe, argv: Sequence[str] = ()) -> Self:
        """Open a run directory again; raises RunError if it cannot be written or a training runs in it."""
        try:
            lock = (path / ".lock").open("w")
        except OSError as error:
            raise RunError(f"run directory {path}: cannot be written: {error.strerror}") from None
        _hold(lock, path)
        run = cls(path, lock)
        for leftover in [*path.glob(".*.keras"), *path.glob(f"{CHECKPOINTS}/.*.npz")]:  # killed while writing
            leftover.unlink(missing_ok=True)
        run._facts = run_facts(path)
        before = {key: run._facts.get(key) for key in ("argv", "started", "status", "error")}
        run._facts["earlier"] = [*run._facts.get("earlier", []), before]
        run.write_recipe(recipe)
        run._begin(argv, recipe)
        return run

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe, fully resolved."""
        write_text(self.path / RECIPE, recipe_text(recipe))

    def _begin(self, argv: Sequence[str], recipe: Recipe) -> None:
        self.record(
            status="running",
            error=None,
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
            status = "finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed"
            with contextlib.suppress(OutputError):  # a full disk must not hide what went wrong
                self.record(status=status, error=None if error is None else f"{kind.__name__ if kind else ''}: {error}")
        self._lock.close()

    @property
    def best(self) -> Path:
        """Return the path of the best model."""
        return self.path / BEST

    @property
    def last(self) -> Path:
        """Return the path of the last model."""
        return self.path / LAST

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.path / CHECKPOINTS

    def preview(self, step: int) -> Path:
        """Return the path of a step's preview."""
        return self.path / "previews" / f"step-{step:06d}.png"

    def record(self, **facts: Any) -> None:
        """Add facts to run.json."""
        self._facts |= facts
        write_text(self.path / "run.json", json.dumps(self._facts, indent=1) + "\n")

    def log(self, text: str) -> None:
        """Append to log.txt, with the time of day before it."""
        path = self.path / "log.txt"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error


def find_run(name: str, runs: Path = Path("runs")) -> Path:
    """Return the run directory to resume: a path, or "last" for the newest under ``runs``."""
    if name == "last":
        found = sorted(runs.glob(f"*/{RECIPE}"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            raise RunError(f"`resume=last`: there is no run under {runs}; train one (deeplabctl train)")
        return found[-1].parent
    path = Path(name)
    if not (path / RECIPE).is_file():
        raise RunError(f"`resume={name}`: expected a run directory with a {RECIPE}, got none; give its path, or last")
    return path


def run_facts(path: Path) -> dict[str, Any]:
    """Return what run.json says; nothing if the run was killed before it was written."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads((path / "run.json").read_text("utf-8"))
        if isinstance(facts, dict):
            return facts
    return {}


def _hold(lock: IO[str], path: Path) -> None:
    """Lock a run directory; the lock ends with the process."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise RunError(f"run directory {path}: another training is running in it; choose another `run_dir`") from None


def _made(folder: Path) -> bool:
    """Make a new folder; False if it exists, perhaps since a moment ago."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
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
