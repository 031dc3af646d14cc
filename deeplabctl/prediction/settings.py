"""Say how a network is applied: test size, scales, mirroring, the dense CRF, the number format and the engine."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, cast, get_args

from deeplabctl.crf.params import PRESETS, CrfParams
from deeplabctl.crf.search_grid import best_of_table
from deeplabctl.errors import RecipeError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import Precision
from deeplabctl.recipe import Expect, Recipe, recipe_from_dict
from deeplabctl.weights.model_info import ExportPrecision, ModelInfo, Runtime

Pad = Literal["paper", "tight"]
Engine = Literal["auto", "tensorflow", "numba"]
Tile = int | Literal["auto", "off"]


@dataclass(frozen=True)
class PredictionSettings:
    """Hold how a network is applied to an image."""

    pad: Pad = "tight"  # test size: "paper" (513) or "tight" (the next 8k + 1)
    scales: tuple[float, ...] = (1.0,)  # of the image; the largest of the upsampled logits counts
    flip: bool = False  # take the mean with the mirrored image's logits
    crf: CrfParams | None = None  # refine the scores with the dense CRF
    crf_adaptive: bool = False  # labels that are weak in the whole image send no messages
    precision: Precision | ExportPrecision = "float32"  # of the network; of an export, its own
    engine: Engine | Runtime = "auto"  # "auto": numba on CPUs, TensorFlow on GPUs, or an export's own runtime
    tile: Tile = "auto"  # compute tiles with so many pixels on a side, and put them together; "auto": of large images

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        crf = None if self.crf is None else {**asdict(self.crf), "adaptive": self.crf_adaptive}
        common = {"pad": self.pad, "scales": list(self.scales), "flip": self.flip, "crf": crf}
        return common | {"precision": self.precision, "engine": self.engine, "tile": self.tile}

    def __str__(self) -> str:
        """Return the settings in words, without what is off."""
        words = [f"test size {self.pad}"]
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


@dataclass(frozen=True)
class SettingsRequest:
    """Hold what a user asks for; None leaves a setting to the recipe that the weights were trained with.

    ``crf`` is True for the recipe's parameters, or parameters, or a text that `parse_crf_params` reads; False for no
    CRF. ``crf_adaptive`` alone asks for a CRF, too.
    """

    pad: Pad | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    crf: CrfParams | str | bool | None = None
    crf_adaptive: bool | None = None
    precision: Precision | None = None
    engine: Engine | None = None
    tile: Tile | None = None

    def resolve(self, info: ModelInfo, *, is_voc: bool = False) -> PredictionSettings:
        """Return the settings to use; raises RecipeError for values that are not possible.

        Where neither the user nor the recipe names a test size, it is "paper" for VOC's classes and else "tight". What
        an export fixes is as it has it.
        """
        if info.export is not None:
            return self.change(usual_settings(info), info)
        self._check()
        recipe = weights_recipe(info)
        usual: Pad = "paper" if is_voc else "tight"
        pad = self.pad or (usual if recipe.eval.pad == "auto" else recipe.eval.pad)
        scales = recipe.eval.scales if self.scales is None else checked_scales(self.scales)
        flip = recipe.eval.flip if self.flip is None else self.flip
        crf, precision = self._crf(recipe.crf, None), self.precision or "float32"
        engine, tile = self.engine or "auto", self.tile or "auto"
        return PredictionSettings(pad, scales, flip, crf, bool(self.crf_adaptive), precision, engine, tile)

    def change(self, settings: PredictionSettings, info: ModelInfo) -> PredictionSettings:
        """Return settings with what is asked for in place of their own; raises RecipeError as `resolve` does."""
        self._check()
        changed = PredictionSettings(
            pad=self.pad or settings.pad,
            scales=settings.scales if self.scales is None else checked_scales(self.scales),
            flip=settings.flip if self.flip is None else self.flip,
            crf=self._crf(weights_recipe(info).crf, settings.crf),
            crf_adaptive=settings.crf_adaptive if self.crf_adaptive is None else self.crf_adaptive,
            precision=self.precision or settings.precision,
            engine=self.engine or settings.engine,
            tile=self.tile or settings.tile,
        )
        return as_exported(changed, info)

    def _crf(self, usual: CrfParams, before: CrfParams | None) -> CrfParams | None:
        """Return the CRF's parameters: as asked for, else as before; ``usual`` are those of the recipe."""
        if isinstance(self.crf, CrfParams):
            return self.crf
        if isinstance(self.crf, str):
            return parse_crf_params(self.crf, usual)
        if self.crf is None and not self.crf_adaptive:
            return before
        return None if self.crf is False else before or usual

    def _check(self) -> None:
        """Raise RecipeError for a value of another type, or one that there is not."""
        _check_choice("pad", self.pad, get_args(Pad))
        _check_choice("precision", self.precision, get_args(Precision))
        _check_choice("engine", self.engine, get_args(Engine))
        if not (self.tile in (None, "auto", "off") or (isinstance(self.tile, int) and self.tile >= 1)):
            raise RecipeError(f"`tile`: expected auto, off or a number of pixels, at least 1, got {self.tile!r}")
        for name in ("flip", "crf_adaptive"):
            if not isinstance(value := getattr(self, name), bool | None):
                raise RecipeError(f"`{name}`: expected True or False, got {value!r}")
        if not isinstance(self.crf, CrfParams | str | bool | None):
            raise RecipeError(f"`crf`: expected True or False, CrfParams, or a text such as bi_w=5, got {self.crf!r}")


def usual_settings(info: ModelInfo) -> PredictionSettings:
    """Return the settings of a network where no recipe says others: its architecture's, or an export's own."""
    if (export := info.export) is None:
        return PredictionSettings(scales=ARCHITECTURES[info.architecture].scales)
    return PredictionSettings("tight", export.scales, export.flip, precision=export.precision, engine=export.runtime)


def as_exported(settings: PredictionSettings, info: ModelInfo) -> PredictionSettings:
    """Return the settings, with the engine "auto" replaced if they are for an export.

    Raises RecipeError for others than the export's graph computes.
    """
    if (export := info.export) is None:
        return settings
    fixed = usual_settings(info)
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


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


class SettingsOptions(TypedDict, total=False):
    """Name the settings that calls take; they are those of `SettingsRequest`."""

    pad: Pad | None
    scales: Sequence[float] | None
    flip: bool | None
    crf: CrfParams | str | bool | None
    crf_adaptive: bool | None
    precision: Precision | None
    engine: Engine | None
    tile: Tile | None


def read_options(options: SettingsOptions) -> SettingsRequest:
    """Return the request that a call's settings make; raises TypeError for one that there is not."""
    known = SettingsOptions.__annotations__
    if unknown := [name for name in options if name not in known]:
        raise TypeError(f"there is no setting {unknown[0]!r}; there are {', '.join(known)}")
    request = SettingsRequest(**cast(dict[str, Any], options))
    scales = options.get("scales")
    if scales is None:
        return request
    if isinstance(scales, str) or not isinstance(scales, Iterable):
        raise RecipeError(f"`scales`: expected numbers in a list, as [0.5, 0.75, 1], got {scales!r}")
    return replace(request, scales=tuple(scales))


def _check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise RecipeError(f"`{name}`: expected {' or '.join(choices)}, got {value!r}")


def weights_recipe(info: ModelInfo) -> Recipe:
    """Return the sections [eval] and [crf] of the recipe that the weights were trained with; the rest is default.

    What it leaves open, scales and a CRF's parameters, are the architecture's.
    """
    stored, architecture = info.provenance.get("recipe") or {}, ARCHITECTURES[info.architecture]
    found = recipe_from_dict({key: stored[key] for key in ("eval", "crf") if key in stored}, "the weights' recipe")
    if not found.eval.scales:
        found = found.with_settings(eval={"scales": architecture.scales})
    return found if "crf" in stored else replace(found, crf=PRESETS[architecture.crf])


def parse_crf_params(text: str, base: CrfParams) -> CrfParams:
    """Return CRF parameters: of a preset's name, of the best row of a search's table, or ``base`` with changes.

    Changes are ``key=value`` separated by commas. Raises RecipeError for any other text.
    """
    if text in PRESETS:
        return PRESETS[text]
    if "=" not in text:
        if os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises for texts that are too long for a path
            return best_of_table(Path(text))
        known = ", ".join(PRESETS)
        raise RecipeError(f"expected {known}, the table of a search, or KEY=VALUE,..., got {text!r}")
    changes: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        try:
            changes[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = value
    return recipe_from_dict({"crf": {**asdict(base), **changes}}, "CRF parameters").crf


def parse_scales(text: str) -> tuple[float, ...]:
    """Return the scales in a text like ``0.5,0.75,1``; raises RecipeError where one is not above 0 and at most 4."""
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(f"expected numbers separated by commas, as in 0.5,0.75,1, got {text!r}") from None
    return checked_scales(scales)


def parse_tile(text: str) -> Tile:
    """Return auto, off or a number of pixels; raises RecipeError for another text."""
    if text in ("auto", "off"):
        return cast(Tile, text)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise RecipeError(f"expected auto, off or a number of pixels, at least 1, got {text!r}")
    return int(text)


def checked_scales(scales: tuple[float, ...]) -> tuple[float, ...]:
    """Return the scales as floats; raises RecipeError where one is not above 0 and at most 4."""
    if not scales:
        raise RecipeError("scales: expected numbers above 0, at most 4, got none")
    return recipe_from_dict({"eval": {"scales": list(scales)}}, "scales").eval.scales


def expected_score(info: ModelInfo, split: str, images: int, settings: PredictionSettings) -> Expect | None:
    """Return the score that the weights' recipe expects here.

    It is known for the recipe's whole validation split (by the number of images), with the recipe's own scales and
    without a CRF; None for anything else.
    """
    stored, expect = info.provenance.get("recipe") or {}, info.provenance.get("expect")
    if not expect or expect["images"] != images or split != stored.get("data", {}).get("val_split", "val"):
        return None
    usual = weights_recipe(info).eval
    if (settings.scales, settings.flip, settings.crf) != (usual.scales, usual.flip, None):
        return None
    return Expect(expect["miou"], expect["tolerance"], expect["images"], expect["source"])
