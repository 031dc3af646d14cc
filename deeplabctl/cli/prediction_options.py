"""Read the options of eval and infer that say how a network is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deeplabctl.cli.console import usage_errors

if TYPE_CHECKING:
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.network.keras_model import Precision
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.prediction.settings import Engine, Pad, PredictionSettings, SettingsRequest
    from deeplabctl.reporting import Reporter
    from deeplabctl.weights.fitting import Network


def read_settings(
    pad: Pad | None,
    scales: str | None,
    flip: bool | None,
    crf: bool,
    crf_adaptive: bool,
    crf_params: str | None,
    engine: Engine,
    precision: Precision | None = None,
    tile: str = "auto",
) -> SettingsRequest:
    """Return what the options ask for; a usage error if one cannot be read."""
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.prediction.settings import SettingsRequest, parse_crf_params, parse_scales, parse_tile

    if engine == "numba" and precision not in (None, "float32"):
        raise typer.BadParameter("the engine numba computes in float32 only", param_hint="--precision")
    with usage_errors("--scales"):
        scale_list = None if scales is None else parse_scales(scales)
    with usage_errors("--tile"):
        tile_side = parse_tile(tile)
    if crf_params:
        with usage_errors("--crf-params"):
            parse_crf_params(crf_params, CrfParams())
    return SettingsRequest(pad, scale_list, flip, crf_params or crf or None, crf_adaptive, precision, engine, tile_side)


def load_segmenter(network: Network, settings: PredictionSettings, report: Reporter) -> Segmenter:
    """Load what computes a network, and the CRF's kernels, with notes of what takes a while."""
    from deeplabctl.jit import start_without_blas
    from deeplabctl.prediction.engines import report_compiling, with_engine
    from deeplabctl.prediction.segmenter import Segmenter

    settings = with_engine(settings)
    if settings.engine == "tensorflow":
        from deeplabctl.cli.tensorflow_startup import start_tensorflow

        start_tensorflow()
    elif network.export is None:
        start_without_blas()
    report_compiling(settings.engine, report)
    load_crf_kernels(settings.crf, report)
    segmenter = Segmenter.from_network(network, settings)
    if network.export is not None:
        segmenter.prepare()  # its runtime may be missing
    return segmenter


def load_crf_kernels(crf: CrfParams | None, report: Reporter) -> None:
    """Load the CRF's kernels if a CRF is used, with a note if that takes a while."""
    if crf is None:
        return
    from deeplabctl.crf import compile_kernels
    from deeplabctl.jit import are_compiled
    from deeplabctl.reporting import Note

    if not are_compiled("crf"):
        report(Note("compiling the dense CRF (once on this machine, about 10 s)"))
    compile_kernels()
