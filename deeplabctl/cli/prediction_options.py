"""Read the options of eval, infer and serve that say which network is used, and how it is applied."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from deeplabctl.choices import DEFAULT_WEIGHTS
from deeplabctl.cli.console import usage_errors
from deeplabctl.cli.options import CrfOptions, PredictionOptions

if TYPE_CHECKING:
    from pathlib import Path

    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest
    from deeplabctl.reporting import Reporter
    from deeplabctl.weights.fitting import ExportedNetwork, Network


def read_settings(options: PredictionOptions, crf: CrfOptions) -> SettingsRequest:
    """Return what the options ask for; a usage error if one cannot be read."""
    from deeplabctl.crf.params import CrfParams
    from deeplabctl.prediction.engines import ENGINES
    from deeplabctl.prediction.settings import SettingsRequest, parse_crf_params, parse_scales, parse_tile

    chosen = next((each for each in ENGINES if each.name == options.engine), None)
    if chosen is not None and options.precision is not None and options.precision not in chosen.precisions:
        formats = " and ".join(chosen.precisions)
        raise typer.BadParameter(f"the engine {options.engine} computes in {formats} only", param_hint="--precision")
    with usage_errors("--scales"):
        scale_list = None if options.scales is None else parse_scales(options.scales)
    with usage_errors("--tile"):
        tile_side = parse_tile(options.tile)
    if crf.crf_params is not None:
        with usage_errors("--crf-params"):
            parse_crf_params(crf.crf_params, CrfParams())
    wanted = (crf.crf or None) if crf.crf_params is None else crf.crf_params
    return SettingsRequest(
        pad=options.pad, scales=scale_list, flip=options.flip, crf=wanted,
        crf_adaptive=crf.crf_adaptive, precision=options.precision, engine=options.engine, tile=tile_side,
        image_size=options.image_size,
    )  # fmt: skip


def find_network(given: str | None, report: Reporter) -> tuple[Path, Network | ExportedNetwork]:
    """Find and open the weights that are given, else the newest run's, else published ones, and say which they are."""
    from deeplabctl.reporting import Note
    from deeplabctl.weights.fitting import open_network
    from deeplabctl.weights.locating import find_weights

    path = find_weights(given, default=DEFAULT_WEIGHTS, report=report)
    network = open_network(path, report)
    report(Note(f"weights: {path}"))
    return path, network


def load_segmenter(network: Network | ExportedNetwork, settings: PredictionSettings, report: Reporter) -> Segmenter:
    """Load what computes a network, and the CRF's kernels, with notes of what takes a while."""
    from deeplabctl.jit import are_compiled, leave_out_blas
    from deeplabctl.prediction.engines import report_compiling
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.reporting import Note

    segmenter = Segmenter.from_network(network, settings)
    if segmenter.engine_class.loads_tensorflow:
        from deeplabctl.network.tensorflow_startup import start_tensorflow

        # Images have many sizes: cuDNN chooses its algorithms by rules, and does not try all of them for each size.
        os.environ.setdefault("TF_CUDNN_USE_AUTOTUNE", "0")
        start_tensorflow()
    leave_out_blas()
    report_compiling(segmenter.engine_class, settings, report)
    if settings.crf is not None:
        from deeplabctl.crf import compile_kernels

        if not are_compiled("crf"):
            report(Note("compiling the dense CRF (once on this machine, about 10 s)"))
        compile_kernels()
    segmenter.prepare()
    return segmenter
