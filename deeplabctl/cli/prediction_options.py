"""Read the options of eval and infer that say how a network is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.prediction.settings import Inference, Wishes
    from deeplabctl.reporting import Reporter
    from deeplabctl.weights.fitting import ModelInfo


def read_wishes(
    pad: str | None, scales: str | None, flip: bool | None, crf: bool, adaptive: bool, crf_params: str | None
) -> Wishes:
    """Return what the options say; a usage error where one cannot be read."""
    from deeplabctl.errors import RecipeError
    from deeplabctl.prediction.settings import Wishes, parse_scales

    if pad not in (None, "paper", "tight"):
        raise typer.BadParameter(f"expected paper or tight, got {pad!r}", param_hint="--pad")
    try:
        chosen = None if scales is None else parse_scales(scales)
    except RecipeError as error:
        raise typer.BadParameter(str(error), param_hint="--scales") from None
    return Wishes(pad, chosen, flip, crf, crf_params, adaptive)


def settle_wishes(wishes: Wishes, info: ModelInfo, *, is_voc: bool = False, tight: bool = False) -> Inference:
    """Return the inference to use; a usage error where --crf-params names none."""
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.errors import RecipeError
    from deeplabctl.prediction.settings import parse_crf_params, settle

    if wishes.crf_params:
        try:
            parse_crf_params(wishes.crf_params, CrfParams())
        except RecipeError as error:
            raise typer.BadParameter(str(error), param_hint="--crf-params") from None
    return settle(wishes, info, is_voc=is_voc, tight=tight)


def prepare_crf(crf: CrfParams | None, report: Reporter) -> None:
    """Load the CRF's kernels where a CRF is wished for, and say so where that takes a while."""
    if crf is None:
        return
    from deeplabctl.crf import compile_kernels
    from deeplabctl.crf.compiling import are_compiled
    from deeplabctl.reporting import Note

    if not are_compiled():
        report(Note("compiling the dense CRF (once on this machine, about 10 s)"))
    compile_kernels()
