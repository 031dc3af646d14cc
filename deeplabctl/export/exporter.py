"""Export a network: write its graph, run that on images, compare it with the network, and only then keep it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl import choices
from deeplabctl.arrays import Image
from deeplabctl.errors import OutputError, RecipeError, WeightsError
from deeplabctl.export.formats import WRITERS, Graph, Writer
from deeplabctl.export.images import ExampleImages, images_to_calibrate, images_to_compare
from deeplabctl.files import check_new_file, check_new_folder, check_writable, has_content, whole_file, whole_folder
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest, resolve
from deeplabctl.reporting import Note, Reporter, counted, silent, task
from deeplabctl.weights.fitting import Network, open_network, read_network
from deeplabctl.weights.locating import BEST, LAST, find_weights, open_weights
from deeplabctl.weights.model_info import ExportFacts, ExportPrecision, ModelInfo
from deeplabctl.weights.sources.exports import EXPORTS, is_saved_model

# Of the labels, at least. Sums in another order change labels at ties only; float16 and int8 round the weights.
LEAST_AGREEMENT: dict[ExportPrecision, float] = {"float32": 0.9999, "float16": 0.999, "int8": 0.99}


@dataclass(frozen=True)
class Agreement:
    """Hold how far an export computes what its network does."""

    labels: float  # share of the pixels with the same label
    scores: float  # largest difference of two scores
    pixels: int
    images: int
    source: str  # of the images
    engine: str  # that computed the network, in float32

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class ExportRequest:
    """Hold what a user asks for; None leaves the choice to the weights."""

    format: choices.ExportFormat
    weights: str | None = None  # None: the best of the newest run
    precision: ExportPrecision = "float32"
    out: Path | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    calibrate: str | None = None  # images for int8; None: those that the weights were trained on
    images: str | None = None  # to compare on; None: validation images of the training's data set
    least_agreement: float | None = None  # share of the labels; None: LEAST_AGREEMENT
    overwrite: bool = False
    weights_url: str | None = None  # another address of published weights


@dataclass(frozen=True)
class ExportPlan:
    """Hold an export whose files and settings were all checked."""

    request: ExportRequest
    path: Path  # of the weights
    network: Network
    settings: PredictionSettings
    out: Path
    images: ExampleImages
    calibration: ExampleImages | None


@dataclass(frozen=True)
class ExportedModel:
    """Hold the facts of a file that was exported, run and compared."""

    path: Path
    info: ModelInfo
    agreement: Agreement
    bytes: int


def plan_export(request: ExportRequest, report: Reporter = silent) -> ExportPlan:
    """Check what is asked for and read the weights, without TensorFlow; raises DeepLabError for what cannot be done."""
    writer = WRITERS[request.format]
    if request.precision not in writer.precisions:
        raise RecipeError(
            f"a {choices.EXPORTS[request.format].words} has no int8; use `to=onnx` or `to=tflite`, or float16"
        )
    if request.calibrate is not None and request.precision != "int8":
        raise RecipeError("`calibrate` is for int8 only; leave it out, or ask for `int8`")
    writer.check_packages()
    path = find_weights(request.weights, report=report, url=request.weights_url)
    file = open_weights(path)
    if file.info is not None and file.info.export is not None:
        raise WeightsError(
            f"weights {path}: expected weights to export, got an export; give those that it was made from"
        )
    out = request.out or Path(_name(path) + ("" if request.precision == "float32" else f"-{request.precision}"))
    out = out if request.out else out.with_name(out.name + writer.suffix)
    _check_out(out, writer, overwrite=request.overwrite)
    network = read_network(file)
    source = {"weights": str(path), "weights_sha256": file.sha256}
    info = dataclasses.replace(network.info, provenance=network.info.provenance | source)
    wanted = SettingsRequest(pad="tight", scales=request.scales, flip=request.flip, crf=False)
    settings = resolve(wanted, info)
    calibration = None
    if request.precision == "int8":
        calibration = images_to_calibrate(info, request.calibrate, report)
    images = images_to_compare(info, request.images, report)
    return ExportPlan(request, path, dataclasses.replace(network, info=info), settings, out, images, calibration)


def write_export(plan: ExportPlan, report: Reporter = silent) -> ExportedModel:
    """Write an export, run it by its own runtime and compare it with the network as `infer` computes it.

    Raises OutputError, and leaves nothing behind, where fewer labels agree than must.
    """
    info, request = plan.network.info, plan.request
    images = plan.images.compared(plan.settings.image_size)
    facts = ExportFacts(request.format, request.precision, plan.settings.scales, plan.settings.flip)
    calibration: Sequence[Image] = (
        () if plan.calibration is None else plan.calibration.calibrated(plan.settings.image_size)
    )
    if plan.calibration is not None:
        report(Note(f"calibrating on {counted(len(calibration), 'image')}: {plan.calibration.source}"))
    network = Segmenter.from_network(plan.network, plan.settings)
    with _whole(plan) as temporary:
        nodes = ARCHITECTURES[info.architecture].graph(plan.network.weights)
        WRITERS[request.format].write(Graph(info.architecture, nodes, facts, calibration), temporary)
        file = EXPORTS[request.format](temporary)
        info = file.write_facts(dataclasses.replace(info, export=facts))
        exported = Segmenter.from_network(open_network(temporary))
        agreement = compare(network, exported, images, plan.images.source, report)
        _check_agreement(plan, agreement)
        facts = dataclasses.replace(facts, agreement=agreement.to_dict())
        info = file.write_facts(dataclasses.replace(info, export=facts))
        assert open_weights(temporary).info == info
        size = sum(file.stat().st_size for file in (temporary, *temporary.rglob("*")) if file.is_file())
    return ExportedModel(plan.out, info, agreement, size)


def export(request: ExportRequest, report: Reporter = silent) -> ExportedModel:
    """Export a network; raises DeepLabError for what cannot be done."""
    return write_export(plan_export(request, report), report)


def _name(path: Path) -> str:
    """Return the name of weights: a run's, or the file's without its suffix."""
    return path.resolve().parent.name if path.name in (BEST, LAST) else path.stem


def _check_out(out: Path, writer: Writer, *, overwrite: bool) -> None:
    if not writer.is_folder:
        check_new_file(out, overwrite=overwrite, suffixes=(writer.suffix,))
    else:
        check_new_folder(out, overwrite=overwrite)
        if has_content(out) and not is_saved_model(out):
            raise OutputError(f"{out}: expected a SavedModel to replace, got something else; choose another folder")
        check_writable(out.absolute().parent)


def _whole(plan: ExportPlan) -> AbstractContextManager[Path]:
    if WRITERS[plan.request.format].is_folder:
        return whole_folder(plan.out, overwrite=plan.request.overwrite)
    return whole_file(plan.out)


def _check_agreement(plan: ExportPlan, agreement: Agreement) -> None:
    precision = plan.request.precision
    least = plan.request.least_agreement
    least = LEAST_AGREEMENT[precision] if least is None else least
    if not agreement.labels >= least:
        other = {"int8": "calibrate on other images, use float16", "float16": "use float32"}.get(precision, "")
        raise OutputError(
            f"cannot write {plan.out}: expected {100 * least:g} % of the labels to be the network's, got "
            f"{100 * agreement.labels:.4g} % on {counted(agreement.images, 'image')} ({agreement.source}); nothing was "
            f"written; {other}{', ' if other else ''}or accept fewer: `least_agreement`"
        )


def compare(
    network: Segmenter, exported: Segmenter, images: Sequence[Image], source: str, report: Reporter
) -> Agreement:
    """Compare labels and scores on images; raises DataError for one that is too large."""
    equal = pixels = 0
    largest = 0.0
    with task(report, "comparing", len(images), "images") as advance:
        for image in images:
            expected, got = network.predict(image), exported.predict(image)
            equal += int(np.count_nonzero(expected.label == got.label))
            pixels += got.label.size
            difference = float(np.abs(expected.scores - got.scores).max())
            largest = max(largest, difference if np.isfinite(difference) else np.inf)
            advance()
    return Agreement(equal / pixels, largest, pixels, len(images), source, network.applied.engine)
