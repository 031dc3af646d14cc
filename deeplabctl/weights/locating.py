"""Find weights: as given, in a run directory, or of the newest run."""

from __future__ import annotations

import os
from pathlib import Path

from deeplabctl.errors import WeightsError
from deeplabctl.weights.formats import is_saved_model

BEST, LAST = "best.keras", "last.keras"  # the model files of a run directory


def find_weights(given: str | None, runs: Path = Path("runs")) -> Path:
    """Return the weight file: as given (a file or a run directory), else the best of the newest run in ``runs``."""
    if given:
        return weights_path(Path(given))
    found = [
        path.parent
        for path in runs.glob("*/recipe.toml")
        if any((path.parent / name).is_file() for name in (BEST, LAST))
    ]
    if not found:
        raise WeightsError(
            "there are no weights: train some (deeplabctl train), name a file or a run directory "
            "(`weights=FILE`), or set $DEEPLABCTL_WEIGHTS"
        )
    return weights_path(max(found, key=lambda run: (run / "recipe.toml").stat().st_mtime_ns))


def weights_path(path: Path) -> Path:
    """Return the weight file at a path: the path itself, also a SavedModel's, or the best file of a run directory."""
    if not os.path.isdir(path) or is_saved_model(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"weights {path}: expected a run directory with {BEST} or a SavedModel, got another folder")
