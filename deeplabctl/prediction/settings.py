"""Say how a network is applied: test size, scales, mirroring, the dense CRF, the number format and the engine."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, cast, get_args

import numpy as np

from deeplabctl.choices import EngineName, ExportPrecision, Pad, Precision
from deeplabctl.crf.params import PRESETS, CrfParams
from deeplabctl.crf.search_grid import best_of_table
from deeplabctl.errors import RecipeError
from deeplabctl.limits import FACTORS, SIDE, beyond_limits
from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import Expect, Recipe, recipe_from_dict
from deeplabctl.weights.model_info import RECIPE_SECTIONS, ModelInfo

Tile = int | Literal["auto", "off"]
_LARGE = 1024  # pixels of the longer side


@dataclass(frozen=True)
class PredictionSettings:
    """Hold how a network is applied to an image."""

    pad: Pad = "tight"  # test size: "paper" (513) or "tight" (see `Architecture.padded_size`)
    scales: tuple[float, ...] = (1.0,)  # of the image; see `Architecture.fuses`
    flip: bool = False  # take the mean with the mirrored image's logits
    crf: CrfParams | None = None  # refine the scores with the dense CRF
    crf_adaptive: bool = False  # labels that are weak in the whole image send no messages
    precision: Precision | ExportPrecision = "float32"  # of the network; of an export, its own
    engine: str = "auto"  # "auto": the usual one, see `Engine.is_usual`, or an export's own runtime
    image_size: int = 0  # the longer side at which larger images are worked on, see `working_size`; 0: their own
    tile: Tile = "auto"  # pixels on a side of the tiles in which an image is computed; "auto": of large images

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        crf = None if self.crf is None else {**asdict(self.crf), "adaptive": self.crf_adaptive}
        common = {"pad": self.pad, "image_size": self.image_size, "scales": list(self.scales), "flip": self.flip}
        return common | {"crf": crf} | {"precision": self.precision, "engine": self.engine, "tile": self.tile}

    def __str__(self) -> str:
        """Return the settings in words, without what is off."""
        words = [f"images of at most {self.image_size} pixels" if self.image_size else "images at their own size"]
        if self.pad == "paper":
            words.append("pad paper")
        if self.scales != (1.0,):
            words.append(f"scales {', '.join(f'{scale:g}' for scale in self.scales)}")
        if self.flip:
            words.append("with the mirrored image")
        if (crf := self.crf) is not None:
            kind = "adaptive CRF" if self.crf_adaptive else "CRF"
            words.append(
                f"{kind} with bi_w {crf.bi_w:g}, bi_xy_std {crf.bi_xy_std:g}, bi_rgb_std {crf.bi_rgb_std:g}, "
                f"pos_w {crf.pos_w:g}, pos_xy_std {crf.pos_xy_std:g}"
            )
        if self.precision != "float32":
            words.append(self.precision)
        return "; ".join(words)


class SettingsRequest(TypedDict, total=False):
    """Hold what a user asks for; None, or no value, leaves a setting to the recipe that the weights were trained with.

    ``crf`` is True for the recipe's parameters, or parameters, or a text that `parse_crf_params` reads; False for no
    CRF. ``crf_adaptive`` alone asks for a CRF, too.
    """

    pad: Pad | None
    scales: Sequence[float] | None
    flip: bool | None
    crf: CrfParams | str | bool | None
    crf_adaptive: bool | None
    precision: Precision | None
    engine: EngineName | None
    tile: Tile | None
    image_size: int | None


def resolve(
    request: SettingsRequest, info: ModelInfo, *, before: PredictionSettings | None = None, is_voc: bool = False
) -> PredictionSettings:
    """Return the settings to use: as asked for, else those ``before``, else those of the recipe of the weights.

    Where none of them names a test size, it is "paper" for VOC's classes and else "tight". What an export fixes is as
    it has it. Raises RecipeError for a value that is not possible, TypeError for an unknown setting.
    """
    known = SettingsRequest.__annotations__
    if unknown := [name for name in request if name not in known]:
        raise TypeError(f"unknown setting {unknown[0]!r}; the settings are {', '.join(known)}")
    asked: dict[str, Any] = {name: value for name, value in request.items() if value is not None}
    recipe = weights_recipe(info)
    if before is None:
        before = own_settings(info)
        if info.export is None:
            usual: Pad = "paper" if is_voc else "tight"
            pad = usual if recipe.eval.pad == "auto" else recipe.eval.pad
            before = replace(before, pad=pad, scales=recipe.eval.scales, flip=recipe.eval.flip)
    crf = _plain(asked.pop("crf", None))
    if not isinstance(crf, CrfParams | str | bool | None):
        raise RecipeError(f"`crf`: expected True or False, CrfParams, or a text such as bi_w=5, got {crf!r}")
    if crf is None and not asked.get("crf_adaptive"):
        crf = before.crf
    elif isinstance(crf, str):
        try:
            crf = parse_crf_params(crf, recipe.crf)
        except RecipeError as error:
            raise RecipeError(f"`crf`: {error}") from None
    elif not isinstance(crf, CrfParams):
        crf = None if crf is False else before.crf or recipe.crf
    if crf is None:
        asked.setdefault("crf_adaptive", False)
    return checked(replace(before, **asked, crf=crf), info)


def own_settings(info: ModelInfo) -> PredictionSettings:
    """Return the settings of a network's architecture, or an export's own, at the working size of its training."""
    size = weights_recipe(info).data.max_side
    if (export := info.export) is None:
        return PredictionSettings(scales=ARCHITECTURES[info.architecture].scales, image_size=size)
    return PredictionSettings(
        "tight", export.scales, export.flip, precision=export.precision, engine=export.runtime, image_size=size
    )


def unknown_size(side: int, settings: PredictionSettings, info: ModelInfo) -> str:
    """Return what is to be said of images of a longer side, in pixels, which the network may not know; "" for others.

    That is, of more than twice those of the training, or, where these are not known, of more than 1,024.
    """
    trained = info.provenance.get("image_side")
    if settings.image_size:
        return ""
    if isinstance(trained, int) and side > 2 * trained > 0:
        return (
            f"images of {side} pixels are larger than those that the network was trained on, of {trained}; if they "
            f"show the same things in more pixels, use `image_size={trained}`"
        )
    if side > _LARGE and "recipe" not in info.provenance:
        return (
            f"images of {side} pixels are larger than those that most networks were trained on; networks of VOC's "
            "classes find most with `image_size=513`"
        )
    return ""


def checked(settings: PredictionSettings, info: ModelInfo) -> PredictionSettings:
    """Return the settings with scales as floats, and with an export's runtime in place of "auto".

    Raises RecipeError for values of other types and out of range, and for others than an export's graph computes.
    """
    settings = replace(settings, **{name: _plain(value) for name, value in vars(settings).items()})
    kinds = (("pad", Pad), ("precision", Precision), ("engine", EngineName))
    for name, choices in kinds if info.export is None else kinds[:1]:
        if (value := getattr(settings, name)) not in get_args(choices):
            raise RecipeError(f"`{name}`: expected {' or '.join(get_args(choices))}, got {value!r}")
    tile, size, scales, crf = settings.tile, settings.image_size, settings.scales, settings.crf
    if not (tile in ("auto", "off") or (isinstance(tile, int) and tile >= 1 and not isinstance(tile, bool))):
        raise RecipeError(f"`tile`: expected auto, off or a number of pixels, at least 1, got {tile!r}")
    if not isinstance(size, int) or isinstance(size, bool) or not SIDE.holds(size):
        raise RecipeError(f"`image_size`: expected {SIDE.expected} pixels, got {size!r}")
    for name in ("flip", "crf_adaptive"):
        if not isinstance(value := getattr(settings, name), bool):
            raise RecipeError(f"`{name}`: expected True or False, got {value!r}")
    if isinstance(scales, str) or not isinstance(scales, Iterable):
        raise RecipeError(f"`scales`: expected numbers in a list, such as [0.5, 0.75, 1], got {scales!r}")
    if not isinstance(crf, CrfParams | None):
        raise RecipeError(f"`crf`: expected CrfParams or None, got {crf!r}")
    if settings.crf_adaptive and crf is None:
        raise RecipeError("`crf_adaptive`: expected a CRF with it, got none; use `crf=True`, or leave it out")
    for wrong in () if crf is None else beyond_limits(crf):
        raise RecipeError(f"`crf`: {wrong}")
    settings = replace(settings, scales=checked_scales(scales, "`scales`: "))
    if (export := info.export) is None:
        return settings
    fixed = own_settings(info)
    settings = replace(settings, engine=fixed.engine if settings.engine == "auto" else settings.engine)
    if isinstance(settings.tile, int):
        raise RecipeError(f"`tile`: this {export.words} computes whole images only, got {settings.tile}; leave it out")
    for name in ("pad", "scales", "flip", "precision", "engine"):
        expected, got = getattr(fixed, name), getattr(settings, name)
        if got != expected:
            raise RecipeError(
                f"`{name}`: this {export.words} was exported with {name} {_word(expected)}, which cannot be changed "
                f"afterwards, got {_word(got)}; leave it out, or export the weights again"
            )
    return settings


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python, and anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def weights_recipe(info: ModelInfo) -> Recipe:
    """Return the sections [data], [eval] and [crf] of the recipe that the weights were trained with.

    What it leaves open is the architecture's: a CRF's parameters, and scales, times that of the training.
    """
    stored, architecture = info.provenance.get("recipe") or {}, ARCHITECTURES[info.architecture]
    found = recipe_from_dict({key: stored[key] for key in RECIPE_SECTIONS if key in stored}, "the weights' recipe")
    if not found.eval.scales:
        scales = tuple(found.data.scale * scale for scale in architecture.scales)
        found = found.with_settings(eval={"scales": scales})
    return found if "crf" in stored else replace(found, crf=PRESETS[architecture.crf])


def parse_crf_params(text: str, base: CrfParams) -> CrfParams:
    """Return CRF parameters: of a preset's name, of the best row of a search's table, or ``base`` with changes.

    Changes are ``key=value`` separated by commas. Raises RecipeError for any other text.
    """
    if text in PRESETS:
        return PRESETS[text]
    if os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises for texts that are too long for a path
        return best_of_table(Path(text))
    if "=" not in text:
        known = ", ".join(PRESETS)
        raise RecipeError(f"expected {known}, the table of a search, or KEY=VALUE,..., got {text!r}")
    changes: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if not key:
            raise RecipeError(f"expected KEY=VALUE between commas, got {part!r}")
        if key in changes:
            raise RecipeError(f"expected each key once, got {key} twice")
        try:
            changes[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            changes[key] = value
    try:
        return recipe_from_dict({"crf": {**asdict(base), **changes}}, "`crf`").crf
    except RecipeError as error:
        raise RecipeError(str(error).replace("`crf`: crf.", "").removeprefix("`crf`: ")) from None


def parse_scales(text: str) -> tuple[float, ...]:
    """Return the scales in a text like ``0.5,0.75,1``; raises RecipeError where one is not above 0 and at most 4."""
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(f"expected numbers separated by commas, such as 0.5,0.75,1, got {text!r}") from None
    return checked_scales(scales)


def parse_tile(text: str) -> Tile:
    """Return auto, off or a number of pixels; raises RecipeError for another text."""
    if text in ("auto", "off"):
        return cast(Tile, text)
    try:
        side = int(text) if text.isascii() and text.isdigit() else 0
    except ValueError:  # of some thousand digits
        side = 0
    if side < 1:
        raise RecipeError(f"expected auto, off or a number of pixels, at least 1, got {text!r}")
    return side


def checked_scales(scales: Iterable[float], where: str = "") -> tuple[float, ...]:
    """Return the scales as floats; raises RecipeError where one is not above 0 and at most 4."""
    numbers = list(scales)
    if not numbers:
        raise RecipeError(f"{where}expected {FACTORS.expected}, got none")
    try:
        return recipe_from_dict({"eval": {"scales": numbers}}, "").eval.scales
    except RecipeError as error:
        raise RecipeError(where + str(error).rpartition("eval.scales: ")[2]) from None


def expected_score(info: ModelInfo, split: str, images: int, settings: PredictionSettings) -> Expect | None:
    """Return the score that the weights' recipe expects here.

    It is known for the recipe's whole validation split (by the number of images), with the recipe's own scales
    and padding, and without a CRF; None for anything else.
    """
    stored, expect = info.provenance.get("recipe") or {}, info.provenance.get("expect")
    if not expect or expect["images"] != images or split != stored.get("data", {}).get("val_split", "val"):
        return None
    usual = weights_recipe(info).eval
    if (settings.scales, settings.flip, settings.crf) != (usual.scales, usual.flip, None):
        return None
    if settings.image_size != own_settings(info).image_size or usual.pad not in ("auto", settings.pad):
        return None
    return Expect(expect["miou"], expect["tolerance"], expect["images"], expect["source"])
