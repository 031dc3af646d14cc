"""Define the settings of a training: a typed recipe, read from TOML and checked to the last key."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from deeplabctl import recipes
from deeplabctl.choices import (
    EngineName,
    LossName,
    OptimizerName,
    Pad,
    ScheduleName,
    Strategy,
    TrainingPrecision,
)
from deeplabctl.crf.params import CrfParams
from deeplabctl.data.augmentation import Augment
from deeplabctl.errors import RecipeError
from deeplabctl.limits import (
    ABOVE_0,
    AT_LEAST_0,
    AUTO,
    COUNT,
    FACTOR,
    FACTORS,
    SHARE,
    SIDE,
    Auto,
    Limit,
    Reach,
    beyond_limits,
    limited,
)
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE
from deeplabctl.reporting import percent


def parse_duration(text: str) -> float:
    """Return the seconds of a time such as 90s, 45m or 1h30m; 0 for any other text."""
    parts = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", text.strip())
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    return 3600.0 * hours + 60 * minutes + seconds


@dataclass(frozen=True)
class Data:
    """Choose the data to train on."""

    # Folder in VOC layout, or "shapes"; empty: the default data set.
    root: str = field(default="", metadata={"reach": Reach.PLACE})
    split: str = ""  # empty: train_aug if the set has it, else train
    val_split: str = "val"
    # The working size: images are this many times as large for the network, in training and in prediction.
    scale: float = limited(1.0, *FACTOR)
    # Before that, images are made smaller whose longer side has more pixels, in training and in prediction; 0: none.
    max_side: int = limited(0, *SIDE, auto=True)


@dataclass(frozen=True)
class Model:
    """Choose the network to train."""

    architecture: str = limited(DEFAULT_ARCHITECTURE, f"one of {', '.join(ARCHITECTURES)}", ARCHITECTURES.__contains__)
    width: float = limited(1.0, *FACTOR)  # of the paper's channels
    dropout: float = limited(0.5, *SHARE)  # of the last layers' units; where it is not given, the architecture's
    # "random", "imagenet", a weight file, or published weights; empty: random for shapes, else the network's.
    init: str = ""


_CLASS_WEIGHTS = Limit(
    "none, median, sqrt-median, or numbers of at least 0 that are not all 0",
    lambda v: isinstance(v, str) or (all(map(AT_LEAST_0.holds, v)) and sum(v) > 0),
)


@dataclass(frozen=True)
class Solver:
    """Set the solver; names and formulas are Caffe's."""

    optimizer: OptimizerName = "sgd"
    learning_rate: float = limited(1e-3, "a number above 0", ABOVE_0.holds, auto=True)  # "auto": the architecture's
    policy: ScheduleName = "poly"
    power: float = limited(0.9, *AT_LEAST_0)
    gamma: float = limited(0.1, "a factor above 0, at most 1", lambda v: 0 < v <= 1)
    step_size: int = limited(2000, *COUNT)
    warmup_steps: int = limited(0, *AT_LEAST_0)
    momentum: float = limited(0.9, "at least 0 and below 1", SHARE.holds)  # of sgd
    weight_decay: float = limited(5e-4, *AT_LEAST_0)  # L2, in the gradient, kernels only
    head_multiplier: float = limited(10.0, *AT_LEAST_0)  # on the classifier's rate: 10 for its kernel, 20 for its bias
    new_layer_multiplier: float = limited(0.0, *AT_LEAST_0)  # instead of it, for every layer that starts random; 0: off
    gradient_clip: float = limited(0.0, *AT_LEAST_0)  # largest global norm of the gradient; 0: off
    # Layers that keep the weights that they were given; "auto": the architecture's early ones, of sets of few images.
    freeze: Literal["auto"] | tuple[str, ...] = ()
    freeze_steps: int = limited(0, *AT_LEAST_0)  # train these layers, too, after this many steps; 0: never
    # Validate and save the moving average of the weights, of this decay a step; 0: off.
    average: float = limited(0.0, "a decay of at least 0 and below 1", SHARE.holds)
    batch_size: int = limited(10, *COUNT)
    accumulate: int = limited(1, *COUNT)  # batches of batch_size in a step
    normalization: Literal["step", "batch"] = "step"  # divide the loss by the valid pixels of the step, or of each
    # batch in it and by their number: Caffe's iter_size, a mean of means
    steps: int = limited(20_000, *COUNT, auto=True)  # "auto": by number of images
    class_weights: Literal["none", "median", "sqrt-median"] | tuple[float, ...] = limited("none", *_CLASS_WEIGHTS)
    loss: LossName = "cross-entropy"
    focal_gamma: float = limited(2.0, *AT_LEAST_0)  # of focal
    # In the loss: a divisor of the logits' stride; a smaller one upsamples the logits. Not given: the architecture's.
    label_stride: int = 8
    # Share of the valid pixels that counts in the loss: those with the largest losses.
    hard_pixels: float = limited(1.0, "a share above 0, at most 1", lambda v: 0 < v <= 1)
    # Stop after this many validations without a better mIoU; 0: never.
    patience: int = limited(0, *AT_LEAST_0, reach=Reach.BEST)


@dataclass(frozen=True)
class Run:
    """Set how the training runs."""

    seed: int = limited(0, "0 to 2147483647", lambda v: 0 <= v < 2**31)
    precision: TrainingPrecision = "auto"  # of the forward and backward pass
    engine: EngineName = "auto"  # of validations, and of float32 steps on CPUs
    strategy: Strategy = field(default="auto", metadata={"reach": Reach.PLACE})
    log_every: int = limited(20, *COUNT, reach=Reach.OUTPUT)  # steps
    # Steps; "auto": a tenth, or as many as images to validate.
    val_every: int = limited(1000, *COUNT, auto=True, reach=Reach.BEST)
    save_every: int = limited(500, *COUNT, auto=True, reach=Reach.BEST)  # steps; "auto": a tenth of all, at most 200
    preview_every: int = limited(1000, *COUNT, auto=True, reach=Reach.BEST)  # steps; "auto": with each validation
    # How long the training may take: sets solver.steps once a step has been timed.
    time: str = limited("", "a time such as 90s, 45m or 1h30m", lambda v: not v or parse_duration(v) > 0)


@dataclass(frozen=True)
class Evaluation:
    """Set how the network is evaluated."""

    pad: Literal["auto", Pad] = "auto"  # auto: paper (513) for VOC's classes, tight otherwise
    # Of the image; the largest of the logits counts; empty: the architecture's, times data.scale.
    scales: tuple[float, ...] = limited((), *FACTORS)
    flip: bool = False  # average with the mirrored image's logits


@dataclass(frozen=True)
class Expect:
    """State the score that the recipe gives, and its source."""

    miou: float = limited(0.0, *SHARE)  # on the validation split; 0: not known
    tolerance: float = limited(0.01, *SHARE)
    images: int = 0  # in the split of this score, which identifies it
    source: str = ""
    needs_start: bool = False  # it is that of trained weights which model.init names, not of ImageNet's

    @property
    def text(self) -> str:
        """Return the score in a line, as percentages."""
        return f"expected mIoU {percent(self.miou)}, give or take {percent(self.tolerance)} ({self.source})"


@dataclass(frozen=True)
class Recipe:
    """Hold the sections of a recipe."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    augment: Augment = field(default_factory=Augment)
    solver: Solver = field(default_factory=Solver)
    run: Run = field(default_factory=Run)
    eval: Evaluation = field(default_factory=Evaluation)
    crf: CrfParams = field(default_factory=CrfParams, metadata={"reach": Reach.OUTPUT})
    expect: Expect = field(default_factory=Expect, metadata={"reach": Reach.PLACE})

    def setting(self, name: str) -> Any:
        """Return the value of a setting, by its name "section.key"."""
        section, _, key = name.partition(".")
        return getattr(getattr(self, section), key)

    def values(self, least: Reach) -> dict[str, Any]:
        """Return the settings by their names "section.key" whose `Reach` is at least this."""
        found = {}
        for part in dataclasses.fields(self):
            section, reach = getattr(self, part.name), part.metadata.get("reach", Reach.WEIGHTS)
            for item in dataclasses.fields(section):
                if min(reach, item.metadata.get("reach", Reach.WEIGHTS)) >= least:
                    found[f"{part.name}.{item.name}"] = getattr(section, item.name)
        return found

    def auto_settings(self) -> list[str]:
        """Return the names "section.key" of the settings that are "auto"."""
        sections = vars(self).items()
        return [f"{name}.{key}" for name, values in sections for key, v in vars(values).items() if isinstance(v, Auto)]

    def with_settings(self, **sections: Mapping[str, Any]) -> Recipe:
        """Return a recipe with some settings changed, by section."""
        changed = {name: dataclasses.replace(getattr(self, name), **values) for name, values in sections.items()}
        return dataclasses.replace(self, **changed)


def read_recipe(
    name_or_path: str, overrides: Iterable[str] = (), options: Mapping[str, object] | None = None
) -> Recipe:
    """Read a packaged recipe by name, or a TOML file, and change some settings.

    ``overrides`` are texts ``section.key=value`` with TOML values; ``options``, which come last, map "section.key" to
    values, where None changes nothing. Raises RecipeError for unknown keys, wrong types and values out of range; it
    suggests the closest name.
    """
    packaged = name_or_path in recipes.names()
    text = recipes.text(name_or_path) if packaged else _recipe_file(Path(name_or_path))
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise RecipeError(f"recipe {name_or_path}: not valid TOML: {error}") from None
    for name, value in _changes(overrides, options):
        section, _, key = name.partition(".")
        table = tree.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return recipe_from_dict(tree, f"recipe {name_or_path}")


def setting_of(name: str, overrides: Iterable[str], options: Mapping[str, object] | None = None) -> object | None:
    """Return the value that overrides and options of `read_recipe` give a setting; None if they do not name it."""
    return dict(_changes(overrides, options)).get(name)


def recipe_from_dict(tree: dict[str, Any], where: str) -> Recipe:
    """Build a recipe from nested dictionaries and check it; ``where`` begins every error."""
    recipe = typing.cast(Recipe, _build(Recipe, tree, where, ""))
    for name, section in vars(recipe).items():
        for wrong in beyond_limits(section):
            raise RecipeError(f"{where}: {name}.{wrong}")
    architecture, crop = ARCHITECTURES[recipe.model.architecture], recipe.augment.crop_size
    for section, key in (("model", "dropout"), ("solver", "label_stride")):
        if key not in tree.get(section, {}):
            recipe = recipe.with_settings(**{section: {key: getattr(architecture, key)}})
    if not isinstance(crop, Auto) and not architecture.is_crop_size(crop):
        step, scales = architecture.crop_step, ", ".join(f"{scale:g}" for scale in architecture.scales)
        several = len(architecture.scales) > 1
        sizes = ", ".join(str(k * step + 1) for k in ((10,) if several else (20, 40, 64)))
        at_scales = f" at all scales of {architecture.name} ({scales})" if several else ""
        raise RecipeError(
            f"{where}: augment.crop_size: expected {step}k + 1 pixels ({sizes}, ...), so that labels lie on the "
            f"logits{at_scales}, got {crop}"
        )
    stride = 1 if architecture.half_pixel else architecture.output_stride  # its cells lie between pixels
    *smaller, largest = [divisor for divisor in range(1, stride + 1) if stride % divisor == 0]
    if recipe.solver.label_stride not in (*smaller, largest):
        expected = f"{', '.join(map(str, smaller))} or {largest}" if smaller else str(largest)
        raise RecipeError(f"{where}: solver.label_stride: expected {expected}, got {recipe.solver.label_stride}")
    names = [conv.name for conv in architecture.convolutions]
    for layer in () if recipe.solver.freeze == "auto" else recipe.solver.freeze:
        if layer not in names:
            raise RecipeError(
                f"{where}: solver.freeze: {architecture.name} has no layer {layer!r}; "
                f"solver.freeze=[] trains all layers{_guess(layer, names)}"
            )
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as TOML that reads back equal."""
    import tomli_w

    tree = dataclasses.asdict(recipe)
    for name in recipe.auto_settings():
        section, key = name.split(".")
        tree[section][key] = "auto"
    return tomli_w.dumps(tree)


def _build(cls: type, tree: object, where: str, prefix: str) -> object:
    """Build a dataclass from a table; unknown keys and wrong types are errors."""
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: expected a table [{prefix.rstrip('.')}], got {tree!r}")
    hints, facts = get_type_hints(cls), {item.name: item.metadata for item in dataclasses.fields(cls)}
    values = {}
    for key, value in tree.items():
        if key not in hints:
            raise RecipeError(f"{where}: there is no setting {prefix}{key}{_guess(key, hints)}")
        name = f"{prefix}{key}"
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _build(typing.cast(type, hints[key]), value, where, f"{name}.")
        elif value == "auto" and facts[key].get("auto"):
            values[key] = AUTO
        else:
            values[key] = _value(hints[key], value, f"{where}: {name}")
    return cls(**values)


def _value(hint: Any, value: object, where: str, others: str = "") -> object:
    """Return a value as its type; an integer is accepted for a float, a list for a tuple.

    ``others`` names what a message has to name beside the choices.
    """
    value = value.item() if isinstance(value, np.generic) else value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        is_list = isinstance(value, list | tuple)
        chosen = next((kind for kind in arguments if (get_origin(kind) is tuple) == is_list), arguments[0])
        has_list = any(get_origin(kind) is tuple for kind in arguments)
        return _value(chosen, value, where, " or a list" if has_list else "")
    if origin is Literal:
        if value not in arguments:
            known = ", ".join(arguments)
            meant = _guess(value, arguments).partition("; choose ")[0]  # which are named already
            expected = f"one of {known}" if len(arguments) > 1 else known
            raise RecipeError(f"{where}: expected {expected}{others}, got {value!r}{meant}")
        return value
    if origin is tuple:
        repeated = arguments[-1] is Ellipsis
        if not isinstance(value, list | tuple) or (not repeated and len(value) != len(arguments)):
            raise RecipeError(f"{where}: expected a list{'' if repeated else f' of {len(arguments)}'}, got {value!r}")
        return tuple(_value(arguments[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(str(value))  # beyond the largest float this is inf, as TOML's 1e400 is, and not an OverflowError
    if type(value) is not hint:
        kinds = {int: "an integer", float: "a number", str: "a string in quotes", bool: "true or false"}
        raise RecipeError(f"{where}: expected {kinds[hint]}, got {value!r}")
    return value


def _guess(word: object, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(str(word), names, 1)
    return f"; did you mean {close[0]}?" if close else f"; choose {', '.join(names)}"


def _recipe_file(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if path.suffix != ".toml" and isinstance(error, FileNotFoundError):
            raise RecipeError(f"there is no recipe {str(path)!r}{_guess(path, recipes.names())}") from None
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise RecipeError(f"cannot read the recipe {path}: {reason}; expected a TOML file") from None


def _changes(overrides: Iterable[str], options: Mapping[str, object] | None) -> list[tuple[str, object]]:
    """Return the settings that are named, with their values; the later one counts."""
    changes = [_parse_override(override) for override in overrides]
    return changes + [(name, value) for name, value in (options or {}).items() if value is not None]


def _parse_override(override: str) -> tuple[str, object]:
    """Split ``section.key=value``; a bare word is a text, any other value that is not TOML is an error."""
    name, equals, text = (part.strip() for part in str(override).partition("="))
    section, dot, key = name.partition(".")
    if not (equals and section and dot and key):
        raise RecipeError(f"setting {override}: expected SECTION.KEY=VALUE, such as solver.learning_rate=1e-3")
    try:
        return name, tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        if re.fullmatch(r"[\w+-]+", text):
            return name, text
        raise RecipeError(f"setting {override[:200]}: the value is not valid TOML; put strings in quotes") from None
