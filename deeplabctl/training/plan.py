"""Plan a training: resolve its recipe, fit that to its data, and check the data, before TensorFlow is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from deeplabctl import recipes
from deeplabctl.arrays import Size
from deeplabctl.choices import LOSSES, Precision, load
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.dataset import SHAPES, Dataset, Sample, is_shapes, name_or_path, open_dataset
from deeplabctl.data.findings import FindingError, join_some
from deeplabctl.data.images import working_size
from deeplabctl.data.inspection import LabelFacts, absent_classes, check_files, same_images, void_split_finding
from deeplabctl.data.stats import max_side_for, median_frequency_weights, shows_upright
from deeplabctl.errors import RecipeError, RunError
from deeplabctl.limits import AUTO, Reach
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.network.keras_model import POLICIES, zero_model
from deeplabctl.recipe import Expect, Recipe, read_recipe, setting_of
from deeplabctl.reporting import Note, Reporter, counted, silent
from deeplabctl.reports.run_records import run_facts
from deeplabctl.run_layout import CHECKPOINTS, RECIPE
from deeplabctl.training.checkpoint import Checkpoint, check_same_training, fingerprint, last_checkpoint, recipe_changes
from deeplabctl.weights.locating import weights_path
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.starting import IMAGENET, RANDOM, ImageNet, open_start, start_weights, start_width
from deeplabctl.weights.weight_file import WeightFile

if TYPE_CHECKING:
    import keras

_LARGEST_CROP = 321  # the papers'
_SMALLEST_CROP = 33
_CROP_SHARE = 0.9  # of the shorter side of the images, at the working size
_STEPS_PER_ROOT = 400  # steps times images in a step, for each square root of an image: 3,831 of 2 for 367 images
# Changes of light and colour that are "auto": of photos from the ground, which hours and weather change, and of others.
_STRONG_LIGHT = {"jitter": 0.4, "gamma": 0.4, "contrast": 0.35, "saturation": 0.4, "channel_gain": 0.12}
_WEAK_LIGHT = {"jitter": 0.2, "gamma": 0.2, "contrast": 0.2, "saturation": 0.25, "channel_gain": 0.07}
_FEW_IMAGES = 100  # early layers learn nothing from these that generalizes
_FITTED = "steps", "step_size", "warmup_steps"  # settings of the solver that a timing fits, see `with_steps`
INTERVALS = 10  # validations, at most, and checkpoints of a training that does not say how many
_MOST_STEPS_AT_RISK = 200  # between two checkpoints: minutes of a training on two CPU cores
_WARMUP_SHARE = 10  # the warm-up is at most a tenth of the steps


def default_recipe(dataset: Dataset) -> str:
    """Return the name of the recipe for a data set where none is named."""
    if is_shapes(dataset):
        return SHAPES
    return "paper-v2" if dataset.is_voc else "own"


@dataclass(frozen=True)
class Plan:
    """Hold a fully resolved recipe, its data set, and what its labels contain."""

    recipe: Recipe
    dataset: Dataset
    samples: list[Sample]
    val_samples: list[Sample]
    facts: list[LabelFacts]  # of ``samples``
    fingerprint: dict[str, Any]  # of the class names and both splits
    expect: Expect | None  # the score of the recipe, where none of its settings was changed
    recipe_name: str | None = None  # a packaged recipe or a file; None for the stored one of a resumed run
    start: WeightFile | None = None  # what `model.init` names, if it is open already

    def with_settings(self, **sections: Mapping[str, Any]) -> Plan:
        """Return a plan with some settings of its recipe changed, by section."""
        return dataclasses.replace(self, recipe=self.recipe.with_settings(**sections))

    def class_weights(self) -> list[float]:
        """Return the weight of each class in the loss: as the recipe gives them, or by the set's frequencies."""
        given, num_classes = self.recipe.solver.class_weights, len(self.dataset.classes)
        if given == "none":
            return [1.0] * num_classes
        if given in ("median", "sqrt-median"):
            weights = median_frequency_weights(self.facts, num_classes)
            return weights if given == "median" else [math.sqrt(weight) for weight in weights]
        return [float(weight) for weight in given]

    def fetch_start(self, report: Reporter) -> None:
        """Download the weights of ImageNet, where the training starts from these; others are there already."""
        if isinstance(self.start, ImageNet):
            self.start.fetch(report)

    def initial_weights(self) -> tuple[Weights, list[str], list[str]]:
        """Return the weights that the training starts from; see `start_weights`."""
        model, seed = self.recipe.model, self.recipe.run.seed
        file = self.start or open_start(model.init, model.architecture)
        return start_weights(file, model.architecture, self.dataset.classes, model.width, seed)

    def zero_model(self, dtype: str | None = None) -> keras.Model:
        """Return the network, all zero, to compute in ``dtype``, or in the recipe's precision."""
        model, classes = self.recipe.model, len(self.dataset.classes)
        dtype = dtype or POLICIES[cast(Precision, self.recipe.run.precision)]
        return zero_model(model.architecture, classes, width=model.width, dropout=model.dropout, dtype=dtype)

    def model_info(self, step: int, miou: float | None = None) -> ModelInfo:
        """Return what the model files of this training say about themselves."""
        recipe = self.recipe
        provenance = {
            "source": f"trained by deeplabctl from {recipe.model.init}",
            "data": recipe.data.root,
            "split": recipe.data.split,
            "image_side": int(median(max(fact.height, fact.width) for fact in self.facts)),  # pixels, the longer one
            "step": step,
            "val_miou": miou,
            "recipe": dataclasses.asdict(recipe),
            "expect": dataclasses.asdict(self.expect) if self.expect else None,
        }
        return ModelInfo(self.dataset.classes, recipe.model.architecture, recipe.model.width, provenance)


def plan_training(
    name: str | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
    *,
    default_data: str | None = None,
    report: Reporter = silent,
) -> Plan:
    """Read the recipe (`default_recipe` where none is named), and open and check its data set.

    ``overrides`` and ``options`` change its settings (see `read_recipe`); ``default_data`` is the data set where they
    name none. Raises DeepLabError for anything that would stop or silently spoil the training.
    """
    overrides, options = _changes(overrides, options)
    if name is None:
        root = setting_of("data.root", overrides, options)
        dataset = open_dataset(str(root) if root else default_data, report)
        name = default_recipe(dataset)
        draft = read_recipe(name, overrides, options)
    else:
        draft = read_recipe(name, overrides, options)
        built_in = name == SHAPES or name not in recipes.names()  # the others are for larger sets
        dataset = open_dataset(draft.data.root or default_data, report, built_in=built_in)
    _samples(draft, dataset)  # whose errors are found before weights are downloaded
    usual = RANDOM if is_shapes(dataset) else ARCHITECTURES[draft.model.architecture].start
    init = _resolved_init(draft.model.init or usual, report)
    explicit_width = setting_of("model.width", overrides, options) is not None
    recipe, start = _resolve(draft, dataset, init, explicit_width=explicit_width)
    unchanged = gives_its_score(draft, read_recipe(name))
    return dataclasses.replace(_check_data(recipe, dataset, unchanged, report), recipe_name=name, start=start)


def gives_its_score(draft: Recipe, named: Recipe) -> bool:
    """Tell whether a training has the settings, and the start, of the score that the recipe as it stands expects."""
    start, usual = draft.model.init, named.model.init
    same_start = start not in ("", IMAGENET, RANDOM) if named.expect.needs_start else start == usual
    return same_start and not recipe_changes(dataclasses.asdict(named), draft, Reach.BEST, ("model.init", "run.seed"))


def plan_resume(
    run: Path,
    name: str | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
    *,
    report: Reporter = silent,
) -> tuple[Plan, Checkpoint | None]:
    """Plan to continue the run in a directory, from its last checkpoint (None: it was killed before its first).

    ``name``, ``overrides`` and ``options`` may repeat those of the run. Raises RunError for settings or data that would
    make it another training.
    """
    overrides, options = _changes(overrides, options)
    stored, timed = read_recipe(str(run / RECIPE)), bool(run_facts(run).get("timed"))
    checkpoint = last_checkpoint(run / CHECKPOINTS, report)
    fitted = {key: checkpoint.recipe["solver"][key] for key in _FITTED} if timed and checkpoint else {}
    stored = stored.with_settings(solver=fitted)
    if setting_of("run.time", overrides, options) and not stored.run.time:
        raise RunError("`time`: a resumed run keeps its number of steps; leave it out")
    if name is not None:
        first = _chosen_at_first(read_recipe(name, overrides, options), stored, timed)
        chosen = {key: value for key, value in first.items() if setting_of(key, overrides, options) is None}
        plan = plan_training(name, overrides, {**options, **chosen}, default_data=stored.data.root, report=report)
    else:
        unnamed = {key: n for key, n in fitted.items() if setting_of(f"solver.{key}", overrides, options) is None}
        recipe = read_recipe(str(run / RECIPE), overrides, options).with_settings(solver=unnamed)
        if setting_of("model.init", overrides, options):
            recipe = recipe.with_settings(model={"init": _resolved_init(recipe.model.init, report)})
        dataset = open_dataset(recipe.data.root, report)
        plan = _check_data(recipe.with_settings(data={"root": name_or_path(dataset)}), dataset, False, report)
        if checkpoint is None:
            start = open_start(recipe.model.init, recipe.model.architecture)
            plan = dataclasses.replace(plan, start=start)
        unchanged = plan.recipe.with_settings(data={"root": stored.data.root}) == stored
        if unchanged and run_facts(run).get("expect"):
            plan = dataclasses.replace(plan, expect=stored.expect)
    if plan.recipe.run.precision == "auto":
        plan = plan.with_settings(run={"precision": stored.run.precision})
    if checkpoint is not None:
        check_same_training(checkpoint, plan.recipe, plan.fingerprint, run)
    return plan, checkpoint


def _changes(overrides: Iterable[str], options: Mapping[str, object] | None) -> tuple[list[str], dict[str, object]]:
    """Return the overrides and the options, of which a number of steps takes the place of the recipe's time."""
    overrides, options = list(overrides), {**(options or {})}
    if setting_of("solver.steps", overrides, options) is not None:
        if setting_of("run.time", overrides, options):
            raise RecipeError("`steps` and `time`: expected one of them, got both; the time sets the number of steps")
        options["run.time"] = ""
    return overrides, options


def _chosen_at_first(recipe: Recipe, stored: Recipe, timed: bool) -> dict[str, object]:
    """Return what a recipe leaves to the data set or to a timing, with the values of a run that began with it.

    ``timed`` tells that the number of steps was timed, which an option may ask for where the recipe does not.
    """
    if stored.run.time:  # the run ended before it was timed
        return {"run.time": stored.run.time}
    names = recipe.auto_settings()
    if timed or recipe.run.time or "solver.steps" in names:
        names += [f"solver.{name}" for name in _FITTED]
    return {name: stored.setting(name) for name in names}


def _samples(recipe: Recipe, dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """Return the samples to train on and to validate, of a recipe whose loss and class weights fit together."""
    solver, weights = recipe.solver, recipe.solver.class_weights
    if solver.hard_pixels < 1 and not load(LOSSES[solver.loss]).is_of_pixels:
        raise RecipeError(f"solver.hard_pixels: expected a loss of pixels, got {solver.loss}; leave it out")
    if not isinstance(weights, str) and len(weights) != len(dataset.classes):
        raise RecipeError(
            f"solver.class_weights: expected {len(dataset.classes)} numbers, one per class, got {len(weights)}"
        )
    return dataset.samples(recipe.data.split or dataset.training_split), dataset.samples(recipe.data.val_split)


def _check_data(recipe: Recipe, dataset: Dataset, unchanged: bool, report: Reporter) -> Plan:
    """Open and check the data of a resolved recipe."""
    samples, val_samples = _samples(recipe, dataset)
    report(
        Note(
            f"{dataset.name}: {counted(len(samples), 'image')} to train on ({recipe.data.split}), {len(val_samples)} "
            f"to validate ({recipe.data.val_split}), {len(dataset.classes)} classes"
        )
    )
    both = samples + val_samples
    files = check_files(dataset, both, report)
    facts = [label for label, _ in files]
    for split, part in ((recipe.data.split, facts[: len(samples)]), (recipe.data.val_split, facts[len(samples) :])):
        if all(set(fact.pixels) <= {IGNORE_LABEL} for fact in part):
            raise FindingError(void_split_finding(dataset, split))
    _check_weights(recipe, dataset, facts[: len(samples)])
    trained = zip(samples, facts, strict=False)
    if void := [sample.label.name for sample, fact in trained if set(fact.pixels) <= {IGNORE_LABEL}]:
        text = f"{len(void)} of {counted(len(samples), 'label')} to train on have only void ({join_some(void, 3)})"
        report(Note(f"{text}; nothing is learned from these images", warning=True))
    digests = [(sample.image.name, image.digest) for sample, (_, image) in zip(both, files, strict=True)]
    if same := same_images(digests[len(samples) :], digests[: len(samples)]):
        text = f"{len(same)} of {counted(len(val_samples), 'image')} to validate are trained on, too"
        report(Note(f"{text} ({join_some(same, 3)}); their mIoU is not a fair score", warning=True))
    for finding in absent_classes(dataset, recipe.data.split, facts[: len(samples)], facts[len(samples) :]):
        report(Note(finding.text))
    expect = recipe.expect if unchanged and recipe.expect.images == len(val_samples) else None
    data = {
        "classes": list(dataset.classes),
        "train": fingerprint(samples, files[: len(samples)]),
        "validation": fingerprint(val_samples, files[len(samples) :]),
    }
    return _fitted(Plan(recipe, dataset, samples, val_samples, facts[: len(samples)], data, expect), report)


def _check_weights(recipe: Recipe, dataset: Dataset, facts: Sequence[LabelFacts]) -> None:
    """Raise RecipeError for class weights with which nothing is learned: 0 for each class of the training labels."""
    weights = recipe.solver.class_weights
    present = sorted({value for fact in facts for value in fact.pixels} - {IGNORE_LABEL})
    if not isinstance(weights, str) and not any(weights[value] for value in present):
        raise RecipeError(
            "solver.class_weights: expected a number above 0 for a class of the labels to train on, got 0 for all of "
            f"them ({join_some([dataset.classes[value] for value in present])}); nothing would be learned"
        )


def _fitted(plan: Plan, report: Reporter) -> Plan:
    """Return a plan with what its recipe leaves to the data set: sizes, and steps unless they will be timed."""
    recipe, chosen = fitted_to_images(plan.recipe, plan.facts), []
    if recipe.data.max_side not in (0, plan.recipe.data.max_side):
        chosen.append(f"a working size of {recipe.data.max_side} pixels on the longer side")
    if recipe.augment.crop_size != plan.recipe.augment.crop_size:
        chosen.append(f"crops of {recipe.augment.crop_size} pixels")
    if recipe.augment.turns and plan.recipe.augment.turns == AUTO:
        chosen.append("quarter turns, as nothing shows which side is up")
    if recipe.solver.freeze and plan.recipe.solver.freeze == "auto":
        chosen.append(f"{len(recipe.solver.freeze)} early layers that keep their weights")
    if not recipe.run.time:
        if (steps := recipe.solver.steps) == AUTO:
            images = recipe.solver.batch_size * recipe.solver.accumulate
            steps = steps_for(len(plan.samples), images)
            chosen.append(f"{counted(steps, 'step')} of {counted(images, 'image')}")
        # An image to validate takes about a third of a step.
        validations = min(INTERVALS, max(1, steps // len(plan.val_samples)))
        is_open = recipe.solver.steps == AUTO
        recipe = with_steps(recipe, steps, validations) if is_open else with_intervals(recipe, validations)
    if chosen:
        height, width = (int(median(sizes)) for sizes in zip(*((f.height, f.width) for f in plan.facts), strict=True))
        report(Note(f"chosen for {counted(len(plan.samples), 'image')} of about {width}x{height}: {', '.join(chosen)}"))
    return dataclasses.replace(plan, recipe=recipe)


def _resolve(recipe: Recipe, dataset: Dataset, init: str, *, explicit_width: bool) -> tuple[Recipe, WeightFile | None]:
    """Fill in what the recipe leaves to the data set and to its initial weights ``init``, and open these."""
    model = recipe.model
    start = open_start(init, model.architecture)
    keeps_width = explicit_width or init == RANDOM
    width = start_width(start, model.architecture, model.width if keeps_width else None)
    split = recipe.data.split or dataset.training_split
    pad = recipe.eval.pad if recipe.eval.pad != "auto" else "paper" if dataset.is_voc else "tight"
    resolved = recipe.with_settings(
        data={"root": name_or_path(dataset), "split": split},
        model={"init": init, "width": width},
        eval={"pad": pad},
    )
    return resolved, start


def _resolved_init(init: str, report: Reporter) -> str:
    return init if init in (RANDOM, IMAGENET) else str(weights_path(Path(init), report).absolute())


def fitted_to_images(recipe: Recipe, facts: Sequence[LabelFacts]) -> Recipe:
    """Return a recipe with what is "auto" for its network and images of the training split, but for the steps."""
    if recipe.solver.learning_rate == AUTO:
        recipe = recipe.with_settings(solver={"learning_rate": ARCHITECTURES[recipe.model.architecture].learning_rate})
    if recipe.solver.freeze == "auto":
        keeps = len(facts) <= _FEW_IMAGES and recipe.model.init != RANDOM
        early = ARCHITECTURES[recipe.model.architecture].early_layers if keeps else ()
        recipe = recipe.with_settings(solver={"freeze": early})
    if names := [name for name in ("turns", *_WEAK_LIGHT) if getattr(recipe.augment, name) == AUTO]:
        upright = shows_upright(facts)
        chosen = {"turns": upright is False, **(_STRONG_LIGHT if upright else _WEAK_LIGHT)}
        recipe = recipe.with_settings(augment={name: chosen[name] for name in names})
    if recipe.data.max_side == AUTO:
        recipe = recipe.with_settings(data={"max_side": max_side_for(facts)})
    if recipe.augment.crop_size == AUTO:
        step = ARCHITECTURES[recipe.model.architecture].crop_step
        sizes = [working_size((fact.height, fact.width), recipe.data.max_side) for fact in facts]
        recipe = recipe.with_settings(augment={"crop_size": crop_size_for(sizes, step, recipe.data.scale)})
    return recipe


def crop_size_for(sizes: Sequence[Size], step: int, scale: float = 1.0) -> int:
    """Return a crop size for images of these sizes: nine tenths of their median shorter side, at most 321.

    ``scale`` is that of the working size. It is ``step`` * k + 1; see `Architecture.crop_step`.
    """
    side = _CROP_SHARE * scale * median(map(min, sizes))
    smallest, largest = math.ceil((_SMALLEST_CROP - 1) / step), (_LARGEST_CROP - 1) // step
    return step * min(max(round((side - 1) / step), smallest), largest) + 1


def steps_for(images: int, images_per_step: int) -> int:
    """Return a number of steps, which grows with the root of the number of images."""
    return max(1, round(_STEPS_PER_ROOT * math.sqrt(images) / images_per_step))


def with_steps(recipe: Recipe, steps: int, validations: int = INTERVALS) -> Recipe:
    """Return a recipe with another number of steps, and its schedule and "auto" intervals fitted to them.

    A step policy keeps its shape: ``step_size`` is the same share of the steps. The warm-up is at most a tenth of them.
    """
    solver = recipe.solver
    step_size = solver.step_size
    if solver.policy == "step" and solver.steps != AUTO:
        step_size = max(1, round(step_size * steps / solver.steps))
    warmup_steps = min(solver.warmup_steps, steps // _WARMUP_SHARE)
    changed = recipe.with_settings(solver={"steps": steps, "step_size": step_size, "warmup_steps": warmup_steps})
    return with_intervals(changed, validations)


def with_intervals(recipe: Recipe, validations: int = INTERVALS) -> Recipe:
    """Return a recipe with intervals for those that are "auto".

    ``validations`` is their number, and that of the previews; there are ten checkpoints, or one every 200 steps.
    """
    counts = {"val_every": validations, "save_every": INTERVALS, "preview_every": validations}
    steps = {name: max(1, math.ceil(recipe.solver.steps / count)) for name, count in counts.items()}
    steps["save_every"] = min(steps["save_every"], _MOST_STEPS_AT_RISK)
    return recipe.with_settings(run={name: steps[name] for name in steps if getattr(recipe.run, name) == AUTO})
