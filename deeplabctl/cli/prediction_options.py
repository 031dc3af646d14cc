"""Read the options of eval and infer that say how a network is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deeplabctl.cli.console import usage_errors

if TYPE_CHECKING:
    from deeplabctl.network.keras_model import Precision
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.prediction.settings import EngineName, Pad, PredictionSettings, SettingsRequest
    from deeplabctl.reporting import Reporter
    from deeplabctl.weights.fitting import ExportedNetwork, Network


def read_settings(
    pad: Pad | None,
    scales: str | None,
    flip: bool | None,
    crf: bool,
    crf_adaptive: bool,
    crf_params: str | None,
    engine: EngineName,
    precision: Precision | None = None,
    tile: str = "auto",
) -> SettingsRequest:
    """Return what the options ask for; a usage error if one cannot be read."""
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.prediction.engines import ENGINES
    from deeplabctl.prediction.settings import SettingsRequest, parse_crf_params, parse_scales, parse_tile

    chosen = next((each for each in ENGINES if each.name == engine), None)
    if chosen is not None and precision is not None and precision not in chosen.precisions:
        formats = " and ".join(chosen.precisions)
        raise typer.BadParameter(f"the engine {engine} computes in {formats} only", param_hint="--precision")
    with usage_errors("--scales"):
        scale_list = None if scales is None else parse_scales(scales)
    with usage_errors("--tile"):
        tile_side = parse_tile(tile)
    if crf_params:
        with usage_errors("--crf-params"):
            parse_crf_params(crf_params, CrfParams())
    return SettingsRequest(
        pad=pad, scales=scale_list, flip=flip, crf=crf_params or crf or None, crf_adaptive=crf_adaptive,
        precision=precision, engine=engine, tile=tile_side,
    )  # fmt: skip


def load_segmenter(network: Network | ExportedNetwork, settings: PredictionSettings, report: Reporter) -> Segmenter:
    """Load what computes a network, and the CRF's kernels, with notes of what takes a while."""
    from deeplabctl.jit import are_compiled, start_without_blas
    from deeplabctl.prediction.engines import report_compiling
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.reporting import Note

    segmenter = Segmenter.from_network(network, settings)
    if segmenter.engine.loads_tensorflow:
        from deeplabctl.cli.tensorflow_startup import start_tensorflow

        start_tensorflow()
    elif segmenter.engine.kernels:
        start_without_blas()
    report_compiling(segmenter.engine, report)
    if settings.crf is not None:
        from deeplabctl.crf import compile_kernels

        if not are_compiled("crf"):
            report(Note("compiling the dense CRF (once on this machine, about 10 s)"))
        compile_kernels()
    segmenter.prepare()
    return segmenter
