"""Settle what a training needs and check it, before TensorFlow is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.labels import LabelFacts, check_labels
from deeplabctl.data.locate import SHAPES, find_dataset, is_shapes, lasting_name
from deeplabctl.errors import DataError, RecipeError
from deeplabctl.origins import width_of_start
from deeplabctl.recipe import Expect, Recipe, read_recipe
from deeplabctl.reporting import Note, Reporter, silent
from deeplabctl.weights import model_file

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
            raise DataError(f"data set {dataset.root}: expected labelled pixels in {split}, got void (255) alone")
    followed = not overrides and not any(value is not None and key not in _HARMLESS for key, value in options.items())
    known = recipe.expect.source and (dataset.is_voc or is_shapes(dataset))
    expect = recipe.expect if followed and known else None
    return Plan(recipe, dataset, samples, val_samples, facts[: len(samples)], expect)


def _resolve(recipe: Recipe, dataset: Dataset, explicit_width: bool) -> Recipe:
    """Fill in what the recipe leaves to the data set and to the weights that it starts from."""
    init = recipe.model.init or ("random" if is_shapes(dataset) else "imagenet")
    width = recipe.model.width
    if init not in ("random", "imagenet"):
        init = str(model_file(Path(init)).resolve())
        width = width_of_start(init, width if explicit_width else None)
    else:
        width = width_of_start(init, width)
    split = recipe.data.split or dataset.training_split
    pad = recipe.eval.pad if recipe.eval.pad != "auto" else "paper" if dataset.is_voc else "tight"
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, root=lasting_name(dataset), split=split),
        model=dataclasses.replace(recipe.model, init=init, width=width),
        eval=dataclasses.replace(recipe.eval, pad=pad),
    )


def _names_width(overrides: Iterable[str], options: Mapping[str, object]) -> bool:
    """Tell whether the user named a width, rather than the recipe."""
    named = any(override.replace(" ", "").startswith("model.width=") for override in overrides)
    return named or options.get("model.width") is not None
