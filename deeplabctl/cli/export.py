"""``deeplabctl export``: write a network for other runtimes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.choices import EXPORTS, LEAST_AGREEMENT, ExportFormat
from deeplabctl.cli.console import Console, usage_errors
from deeplabctl.cli.formatting import argument
from deeplabctl.cli.options import OUTPUT, FlipOption, NetworkArgument, OverwriteOption, ScalesOption, section
from deeplabctl.reporting import counted

if TYPE_CHECKING:
    from deeplabctl.export.exporter import ExportedModel, ExportPlan

EXAMPLES = """
Examples
  # mine.onnx, which onnxruntime runs, with the weights of runs/mine
  deeplabctl export runs/mine --to onnx

  # a quarter of the size, calibrated on the images of the training
  deeplabctl export runs/mine --to tflite --int8

  # exports are weights
  deeplabctl infer photos --weights mine.onnx
"""
COMPARISON = section("Comparison")
EXPORT = section("Export")


def export(
    weights: NetworkArgument = None,
    to: Annotated[
        ExportFormat | None,
        EXPORT("--to", "Format: a TensorFlow SavedModel (a folder), ONNX, or TFLite, which LiteRT runs."),
    ] = None,
    float16: Annotated[bool, EXPORT("--float16", "Store the weights as float16: half the size.")] = False,
    int8: Annotated[
        bool,
        EXPORT("--int8", "Store and compute in int8, calibrated on images: a quarter of the size. Not for SavedModel."),
    ] = False,
    calibrate: Annotated[
        str | None,
        EXPORT(
            "--calibrate DATA|DIR",
            "Images for --int8: a data set, of which the training split is used, or a folder. Default: what "
            "the weights were trained on.",
        ),
    ] = None,
    scales: ScalesOption = None,
    flip: FlipOption = None,
    images: Annotated[
        str | None,
        COMPARISON(
            "--images DATA|DIR",
            "Images on which the export is compared with the network: a data set, of which val is used, or a folder. "
            "Default: the data set that the weights were trained on, else the built-in one.",
        ),
    ] = None,
    least_agreement: Annotated[
        float | None,
        COMPARISON(
            "--least-agreement SHARE",
            f"Share of the labels that must be the network's. Default: {LEAST_AGREEMENT['float32']}, with float16 "
            f"{LEAST_AGREEMENT['float16']}, with int8 {LEAST_AGREEMENT['int8']}.",
            min=0,
            max=1,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        OUTPUT(
            "--out PATH",
            "File or, for a SavedModel, folder to write. Default: the name of the weights, in this folder.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Export a network for other runtimes.

    The file takes RGB images of any size and gives class ids and scores: preprocessing, scales and upsampling are
    inside. It is run by its own runtime on images and compared with the network before it is kept.
    """
    if to is None:
        *others, last = EXPORTS
        raise typer.BadParameter(f"expected a format: {', '.join(others)} or {last}", param_hint="--to")
    if int8 and float16:
        raise typer.BadParameter("expected --int8 or --float16, not both", param_hint="--int8")
    from deeplabctl.export.exporter import ExportRequest, plan_export, write_export
    from deeplabctl.prediction.settings import parse_scales
    from deeplabctl.reporting import Note

    with usage_errors("--scales"):
        scale_list = None if scales is None else parse_scales(scales)
    request = ExportRequest(
        to, weights, "int8" if int8 else "float16" if float16 else "float32", out, scale_list, flip, calibrate,
        images, least_agreement, overwrite,
    )  # fmt: skip
    with console.reporter() as report:
        plan = plan_export(request, report)
        report(Note(f"weights: {plan.path}"))
        _load(plan)
        exported = write_export(plan, report)
    _say(console, exported)


def _load(plan: ExportPlan) -> None:
    """Load TensorFlow, if it writes the format or computes the network, without what it writes to the terminal."""
    from deeplabctl.export.exporter import WRITERS
    from deeplabctl.network.tensorflow_startup import start_tensorflow
    from deeplabctl.prediction.engines import engine_class

    if WRITERS[plan.request.format].loads_tensorflow or engine_class(plan.settings, plan.network.info).loads_tensorflow:
        start_tensorflow()


def _say(console: Console, exported: ExportedModel) -> None:
    info, agreement, facts = exported.info, exported.agreement, exported.info.export
    assert facts is not None
    console.say(
        f"{exported.path}: {facts.words} of {exported.bytes / 1e6:.1f} MB, {facts.precision}, {info.architecture} of "
        f"width {info.width:g}, {len(info.classes)} classes"
    )
    console.say(
        f"run by {facts.runtime} on {counted(agreement.images, 'image')} ({agreement.source}): "
        f"{agreement.percent}% of {agreement.pixels:,} labels are the network's, "
        f"scores differ by {agreement.scores:.1g} at most"
    )
    if facts.image_size:
        console.say(
            f"photos of more than {facts.image_size} pixels must be scaled down first: deeplabctl does this, other "
            "programs must do it themselves"
        )
    console.next(f"infer IMAGE --weights {argument(exported.path)} --overlay")
    console.document(
        {
            "model": str(exported.path),
            "format": facts.format,
            "precision": facts.precision,
            "bytes": exported.bytes,
            "architecture": info.architecture,
            "width": info.width,
            "classes": list(info.classes),
            "scales": list(facts.scales),
            "flip": facts.flip,
            "image_size": facts.image_size,
            "agreement": asdict(agreement),
        }
    )
