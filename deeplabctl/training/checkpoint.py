"""Keep what a training needs to continue: weights, optimizer, counters, and the recipe and data that they belong to.

A checkpoint is an uncompressed .npz of arrays, with the counters as JSON in an entry of their own. It is read without
pickle, and written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from types import UnionType
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.damage import DAMAGED
from deeplabctl.data.dataset import Sample
from deeplabctl.data.inspection import ImageFacts, LabelFacts
from deeplabctl.errors import RunError
from deeplabctl.files import whole_file
from deeplabctl.limits import Reach
from deeplabctl.recipe import Recipe
from deeplabctl.reporting import Note, Reporter, silent
from deeplabctl.training.optimizers import learning_rate

_KEPT = 2  # checkpoints: the newest, and the one before it in case the disk damages that
_COUNTERS = "progress"

# What a checkpoint's facts are, and the counters among them.
_TYPES: dict[str, type | UnionType] = {
    "new_layers": list, "recipe": dict, "fingerprint": dict,
    "step": int, "losses": list, "best": dict | None, "best_step": int, "validations_without_gain": int,
}  # fmt: skip
# What numpy raises for the headers of damaged arrays, and for sizes beyond the memory, beside what zipfile does.
_DAMAGED = (*DAMAGED, SyntaxError, TokenError)


@dataclass
class Progress:
    """Count how far a training has come."""

    step: int = 0
    validated: bool = True  # the validation that follows the step, if one does, was done
    losses: list[float] = field(default_factory=list)  # of the last steps, for their mean
    best: dict[str, Any] | None = None  # scores of the best validation
    best_step: int = 0
    validations_without_gain: int = 0

    def add_validation(self, scores: dict[str, Any]) -> bool:
        """Count a validation at this step; return whether its scores are the best so far, by mean IoU."""
        if self.best is not None and not (scores["miou"] or 0.0) > (self.best["miou"] or 0.0):
            self.validations_without_gain += 1
            return False
        self.best, self.best_step, self.validations_without_gain = scores, self.step, 0
        return True

    def is_out_of_patience(self, patience: int) -> bool:
        """Tell whether as many validations as ``patience`` brought no gain; 0 never ends a training."""
        return 0 < patience <= self.validations_without_gain


@dataclass(frozen=True)
class Checkpoint:
    """Hold a training after a step."""

    progress: Progress
    arrays: dict[str, npt.NDArray[Any]]  # of `TrainingStep.state`
    new_layers: list[str]  # that started random
    recipe: dict[str, Any]
    fingerprint: dict[str, Any]  # of the data: class names, and of each split what `fingerprint` returns

    def write(self, folder: Path) -> None:
        """Write ``step-000500.npz`` into the folder, and remove all but the last two there."""
        facts = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "arrays"}
        text = json.dumps(facts | {_COUNTERS: dataclasses.asdict(self.progress)})
        with whole_file(folder / _name(self.progress.step)) as temporary:
            np.savez(temporary, __facts__=np.array(text), **self.arrays)  # type: ignore[arg-type]
        files = checkpoint_files(folder)
        older = [path for path in files if _step(path) <= self.progress.step]
        for path in {*files} - {*older[:_KEPT]}:  # later ones are of a run that was rewound
            path.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; raises RunError for a damaged one."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if any(entry.compress_type for entry in stored.zip.infolist()):  # it could exceed the memory
                    raise ValueError("compressed entries")
                facts = json.loads(str(stored["__facts__"]))
                arrays = {name: stored[name] for name in stored.files if name != "__facts__"}
            checkpoint = cls(**facts | {_COUNTERS: Progress(**facts[_COUNTERS]), "arrays": arrays})
            for name, value in (vars(checkpoint) | vars(checkpoint.progress)).items():
                if not isinstance(value, _TYPES.get(name, object)):
                    raise TypeError(f"{name} {value!r}")
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise TypeError("an entry that is not an array")
        except _DAMAGED as error:
            raise RunError(f"checkpoint {path}: the file is damaged ({type(error).__name__}: {error})") from None
        return checkpoint


def last_checkpoint(folder: Path, report: Reporter = silent) -> Checkpoint | None:
    """Return the newest checkpoint that can be read; None if there is none. Raises RunError if none can be read."""
    for path in checkpoint_files(folder):
        try:
            return Checkpoint.read(path)
        except RunError as error:
            report(Note(f"{error}; using the previous one", warning=True))
    if checkpoint_files(folder):
        raise RunError(
            f"checkpoints {folder}: none can be read; start a new training from best.keras or last.keras (`init`)"
        )
    return None


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest first, without files of other names."""
    files = [path for path in folder.glob("step-*.npz") if re.fullmatch("step-[0-9]+", path.stem)]
    return sorted((path for path in files if path.name == _name(_step(path))), key=_step, reverse=True)


def _name(step: int) -> str:
    return f"step-{step:06d}.npz"


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def fingerprint(samples: Sequence[Sample], facts: Iterable[tuple[LabelFacts, ImageFacts]]) -> dict[str, Any]:
    """Return what identifies a split: its count, and a hash of ids, images and labels.

    A copy elsewhere has the same. The other hash, of ids, sizes of files and labelled pixels, is all that checkpoints
    of version 0.1 have.
    """
    content, sizes = hashlib.sha256(), hashlib.sha256()
    for sample, (label, image) in zip(samples, facts, strict=True):
        content.update(json.dumps([sample.id, image.digest, label.height, label.width, label.digest]).encode())
        counts = sorted((int(value), int(count)) for value, count in label.pixels.items())
        sizes.update(json.dumps([sample.id, sample.image.stat().st_size, counts]).encode())
    return {"images": len(samples), "content": content.hexdigest(), "sha256": sizes.hexdigest()}


def check_same_training(checkpoint: Checkpoint, recipe: Recipe, data: dict[str, Any], where: Path) -> None:
    """Raise RunError if a recipe or a data set is not the one that a checkpoint was trained with.

    Settings that do not change the mathematics may differ; so may ``steps``, where the learning rate of the steps that
    are done does not depend on them and some are left.
    """
    done, steps, planned = checkpoint.progress.step, recipe.solver.steps, checkpoint.recipe["solver"]["steps"]
    last, before = max(0, min(done, steps) - 1), dataclasses.replace(recipe.solver, steps=planned)
    same_rate = learning_rate(before, last) == learning_rate(recipe.solver, last)
    if differing := recipe_changes(checkpoint.recipe, recipe, Reach.WEIGHTS, ("solver.steps",) if same_rate else ()):
        raise RunError(
            f"run directory {where}: the recipe is not that of the run: {', '.join(differing)}; resume without these "
            "changes, or start a new training from its weights (`init`)"
        )
    if steps <= done and steps != planned:
        raise RunError(
            f"run directory {where}: solver.steps: expected more than the {done:,} steps of the run that are done, got "
            f"{steps:,}; resume without this change"
        )
    for what, expected in _data_changes(checkpoint.fingerprint, data):
        raise RunError(
            f"data set {recipe.data.root}: {what} has changed since step {checkpoint.progress.step} of the run: "
            f"expected {expected}; restore the data, or start a new training from the run's weights (`init`)"
        )


def recipe_changes(before: dict[str, Any], recipe: Recipe, least: Reach, apart_from: Sequence[str] = ()) -> list[str]:
    """Return the settings of a `Reach` in which a recipe differs from another's sections, with both values."""
    # An older version's checkpoint lacks the settings that came later: it was trained with their defaults.
    old = _by_name(dataclasses.asdict(Recipe())) | _by_name(before)
    new = _by_name(dataclasses.asdict(recipe))
    counting = (old.keys() - Recipe().values(Reach.PLACE).keys()) | recipe.values(least).keys()
    return [
        f"{name} (was {old.get(name)!r}, now {new.get(name)!r})"
        for name in sorted(counting - {*apart_from})
        if old.get(name) != new.get(name)
    ]


def _data_changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what of the data is another than before, and what was expected; what a checkpoint lacks may be any."""
    if "classes" in before and before["classes"] != now["classes"]:
        yield "the list of classes", _expected_classes(before["classes"], now["classes"])
    for split in sorted(before.keys() - {"classes"}):
        old, new = before[split], now[split]
        if old != {key: new.get(key) for key in old}:
            number = f"{old['images']} images, got {new['images']}"
            yield f"split {split}", "the same files, got others" if old["images"] == new["images"] else number


def _expected_classes(before: Sequence[str], now: Sequence[str]) -> str:
    if len(before) != len(now):
        return f"{len(before)} classes, got {len(now)}"
    number = next(number for number, name in enumerate(before) if name != now[number])
    return f"class {number} to be {before[number]}, got {now[number]}"


def _by_name(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe by their names "section.key", as JSON holds them."""
    sections = json.loads(json.dumps(recipe)).items()
    return {f"{section}.{key}": value for section, values in sections for key, value in values.items()}
