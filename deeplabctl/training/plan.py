"""Settle what a training needs and check it, before TensorFlow is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.findings import FoundError
from deeplabctl.data.inspection import LabelFacts, check_labels, void_alone
from deeplabctl.data.locate import SHAPES, find_dataset, is_shapes, lasting_name
from deeplabctl.errors import RecipeError
from deeplabctl.recipe import Expect, Recipe, read_recipe
from deeplabctl.reporting import Note, Reporter, silent
from deeplabctl.training.checkpoint import Checkpoint, check_same_training, fingerprint, last_checkpoint
from deeplabctl.training.run_directory import CHECKPOINTS, RECIPE, run_facts
from deeplabctl.weights.fitting import model_file
from deeplabctl.weights.reading import width_of_start

_UNSETTLED = "paper-v2"  # read first where no recipe is named: it leaves the data set open
_HARMLESS = ("data.root", "run.seed")  # options that keep the score to be expected


@dataclass(frozen=True)
class Plan:
    """Hold a fully resolved recipe, its data set, and what its labels contain."""

    recipe: Recipe
    dataset: Dataset
    samples: list[Sample]
    val_samples: list[Sample]
    facts: list[LabelFacts]  # of ``samples``
    fingerprint: dict[str, Any]  # of both splits
    expect: Expect | None  # the score to come, where the recipe is followed to the letter


def plan_training(
    name: str | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
    *,
    default_data: str | None = None,
    report: Reporter = silent,
) -> Plan:
    """Read the recipe (by default shapes for the built-in set, else paper-v2), and open and check its data set.

    ``overrides`` and ``options`` change its settings (see `read_recipe`); ``default_data`` is the data set where they
    name none. Raises DeepLabError for whatever would stop or silently ruin the training.
    """
    overrides, options = list(overrides), options or {}
    draft = read_recipe(name or _UNSETTLED, overrides, options)
    dataset = find_dataset(draft.data.root or default_data, report)
    if name is None:
        draft = read_recipe(SHAPES if is_shapes(dataset) else _UNSETTLED, overrides, options)
    recipe = _resolve(draft, dataset, explicit_width=_names_width(overrides, options))
    followed = not overrides and not any(value is not None and key not in _HARMLESS for key, value in options.items())
    return _plan(recipe, dataset, followed, report)


def plan_resume(
    run: Path,
    name: str | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
    *,
    report: Reporter = silent,
) -> tuple[Plan, Checkpoint | None]:
    """Plan to go on with the run in a directory, from its last checkpoint (None: it was killed before its first).

    ``name``, ``overrides`` and ``options`` may repeat those of the run. Raises RunError for settings or data that would
    make it another training.
    """
    overrides, options = list(overrides), options or {}
    stored = read_recipe(str(run / RECIPE))
    if name is not None:
        plan = plan_training(name, overrides, options, default_data=stored.data.root, report=report)
    else:
        recipe = read_recipe(str(run / RECIPE), overrides, options)
        if options.get("model.init"):
            recipe = _with(recipe, model={"init": _settled_init(recipe.model.init)})
        dataset = find_dataset(recipe.data.root, report)
        plan = _plan(_with(recipe, data={"root": lasting_name(dataset)}), dataset, False, report)
        if (
            not overrides
            and not any(value is not None for value in options.values())
            and (expect := run_facts(run).get("expect"))
        ):
            plan = dataclasses.replace(plan, expect=Expect(**expect))
    if plan.recipe.run.precision == "auto":
        plan = dataclasses.replace(plan, recipe=_with(plan.recipe, run={"precision": stored.run.precision}))
    checkpoint = last_checkpoint(run / CHECKPOINTS, report)
    if checkpoint is not None:
        check_same_training(checkpoint, plan.recipe, plan.fingerprint, run)
    return plan, checkpoint


def with_precision(plan: Plan, precision: str) -> Plan:
    """Return the plan with the number format settled."""
    return dataclasses.replace(plan, recipe=_with(plan.recipe, run={"precision": precision}))


def _plan(recipe: Recipe, dataset: Dataset, followed: bool, report: Reporter) -> Plan:
    """Open and check the data of a resolved recipe."""
    weights = recipe.solver.class_weights
    if not isinstance(weights, str) and len(weights) != len(dataset.classes):
        raise RecipeError(
            f"solver.class_weights: expected {len(dataset.classes)} numbers, one a class, got {len(weights)}"
        )
    samples, val_samples = dataset.samples(recipe.data.split), dataset.samples(recipe.data.val_split)
    report(
        Note(
            f"{dataset.name}: {len(samples)} images to train on ({recipe.data.split}), {len(val_samples)} to validate "
            f"({recipe.data.val_split}), {len(dataset.classes)} classes"
        )
    )
    facts = check_labels(dataset, samples + val_samples, report)
    for split, part in ((recipe.data.split, facts[: len(samples)]), (recipe.data.val_split, facts[len(samples) :])):
        if all(set(fact.pixels) <= {IGNORE_LABEL} for fact in part):
            raise FoundError(void_alone(dataset, split))
    expect = recipe.expect if followed and recipe.expect.images == len(val_samples) else None
    both = {
        "train": fingerprint(samples, facts[: len(samples)]),
        "validation": fingerprint(val_samples, facts[len(samples) :]),
    }
    return Plan(recipe, dataset, samples, val_samples, facts[: len(samples)], both, expect)


def _resolve(recipe: Recipe, dataset: Dataset, explicit_width: bool) -> Recipe:
    """Fill in what the recipe leaves to the data set and to the weights that it starts from."""
    init = recipe.model.init or ("random" if is_shapes(dataset) else "imagenet")
    width = recipe.model.width
    if init not in ("random", "imagenet"):
        init = _settled_init(init)
        width = width_of_start(init, width if explicit_width else None)
    else:
        width = width_of_start(init, width)
    split = recipe.data.split or dataset.training_split
    pad = recipe.eval.pad if recipe.eval.pad != "auto" else "paper" if dataset.is_voc else "tight"
    return _with(
        recipe,
        data={"root": lasting_name(dataset), "split": split},
        model={"init": init, "width": width},
        eval={"pad": pad},
    )


def _settled_init(init: str) -> str:
    return init if init in ("random", "imagenet") else str(model_file(Path(init)).resolve())


def _with(recipe: Recipe, **sections: dict[str, Any]) -> Recipe:
    """Return a recipe with some settings changed, by section."""
    changed = {name: dataclasses.replace(getattr(recipe, name), **values) for name, values in sections.items()}
    return dataclasses.replace(recipe, **changed)


def _names_width(overrides: Iterable[str], options: Mapping[str, object]) -> bool:
    """Tell whether the user named a width, rather than the recipe."""
    named = any(override.replace(" ", "").startswith("model.width=") for override in overrides)
    return named or options.get("model.width") is not None
