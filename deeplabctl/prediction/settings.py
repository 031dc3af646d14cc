"""Settle how a network is applied: test size, scales, mirroring and the dense CRF."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplabctl.crf.params import PRESETS, CrfParams
from deeplabctl.crf.search_grid import best_of_table
from deeplabctl.errors import RecipeError
from deeplabctl.recipe import Expect, Recipe, recipe_from_dict
from deeplabctl.weights.fitting import ModelInfo


@dataclass(frozen=True)
class Inference:
    """Hold how a network is applied to an image."""

    pad: str = "tight"  # "paper" (513) or "tight" (the next 8k + 1)
    scales: tuple[float, ...] = (1.0,)  # the largest of the upsampled logits counts
    flip: bool = False  # the mean with the mirrored image's logits
    crf: CrfParams | None = None
    adaptive: bool = False  # the CRF stops filtering labels that no pixel takes

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON knows them."""
        crf = None if self.crf is None else {**asdict(self.crf), "adaptive": self.adaptive}
        return {"pad": self.pad, "scales": list(self.scales), "flip": self.flip, "crf": crf}

    def __str__(self) -> str:
        """Return the settings in words; what is off goes without saying."""
        words = [f"test size {self.pad}"]
        if self.scales != (1.0,):
            words.append(f"scales {', '.join(f'{scale:g}' for scale in self.scales)}")
        if self.flip:
            words.append("with the mirrored image")
        if (crf := self.crf) is not None:
            kind = "adaptive CRF" if self.adaptive else "CRF"
            words.append(
                f"{kind} with bi_w {crf.bi_w:g}, bi_xy_std {crf.bi_xy_std:g}, bi_rgb_std {crf.bi_rgb_std:g}, "
                f"pos_w {crf.pos_w:g}, pos_xy_std {crf.pos_xy_std:g}"
            )
        return "; ".join(words)


@dataclass(frozen=True)
class Wishes:
    """Hold what a user says of the inference; None leaves it to the weights' recipe, else to the default."""

    pad: str | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    crf: bool = False
    crf_params: str | None = None
    adaptive: bool = False


def settle(wishes: Wishes, info: ModelInfo, *, is_voc: bool, tight: bool = False) -> Inference:
    """Return the inference to use: as wished, else as the recipe has it that the weights were trained with.

    A test size that neither settles is "paper" for VOC's classes and "tight" otherwise; ``tight`` makes it tight where
    it is not wished otherwise. Raises RecipeError for CRF parameters that are none.
    """
    recipe = recipe_of(info)
    pad = wishes.pad or ("tight" if tight else recipe.eval.pad)
    if pad == "auto":
        pad = "paper" if is_voc else "tight"
    crf = None
    if wishes.crf or wishes.adaptive or wishes.crf_params:
        crf = parse_crf_params(wishes.crf_params, recipe.crf) if wishes.crf_params else recipe.crf
    return Inference(
        pad,
        recipe.eval.scales if wishes.scales is None else wishes.scales,
        recipe.eval.flip if wishes.flip is None else wishes.flip,
        crf,
        wishes.adaptive,
    )


def recipe_of(info: ModelInfo) -> Recipe:
    """Return the sections [eval] and [crf] of the recipe that the weights were trained with; the rest is default."""
    stored = info.provenance.get("recipe") or {}
    return recipe_from_dict({key: stored[key] for key in ("eval", "crf") if key in stored}, "the weights' recipe")


def parse_crf_params(text: str, base: CrfParams) -> CrfParams:
    """Return CRF parameters: of a preset's name, of the best row of a search's table, or ``base`` with changes.

    Changes are ``key=value`` with commas between them. Raises RecipeError for what is none of these.
    """
    if text in PRESETS:
        return PRESETS[text]
    if "=" not in text:
        if Path(text).is_file():
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
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"expected numbers with commas between them, as in 0.5,0.75,1, got {text!r}") from None
    return recipe_from_dict({"eval": {"scales": scales}}, "scales").eval.scales


def expected_score(info: ModelInfo, split: str, images: int, inference: Inference) -> Expect | None:
    """Return the score that the weights' recipe leads one to expect here.

    That is about the recipe's validation split, whole (by the number of images), with the recipe's own scales and
    without a CRF; None for anything else.
    """
    stored, expect = info.provenance.get("recipe") or {}, info.provenance.get("expect")
    if not expect or expect["images"] != images or split != stored.get("data", {}).get("val_split", "val"):
        return None
    usual = recipe_of(info).eval
    if (inference.scales, inference.flip, inference.crf) != (usual.scales, usual.flip, None):
        return None
    return Expect(expect["miou"], expect["tolerance"], expect["images"], expect["source"])
