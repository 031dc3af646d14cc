"""Export a network: write its graph, run that on images, compare it with the network, and only then keep it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deeplabctl import choices
from deeplabctl.arrays import Image
from deeplabctl.data.dataset import SHAPES, Dataset, open_dataset, spread_evenly
from deeplabctl.data.images import read_working_image
from deeplabctl.data.layout import LISTS
from deeplabctl.errors import DataError, OutputError, RecipeError, WeightsError
from deeplabctl.export.formats import Graph, Writer
from deeplabctl.files import check_new_file, check_new_folder, check_writable, has_content, whole_file, whole_folder
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.architecture import PAPER_SIZE
from deeplabctl.prediction.inputs import find_images
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest, resolve
from deeplabctl.reporting import Note, Reporter, counted, silent, task
from deeplabctl.run_layout import BEST, LAST
from deeplabctl.weights.fitting import Network, open_network, read_network
from deeplabctl.weights.hub import HubAddress
from deeplabctl.weights.locating import find_weights, open_weights
from deeplabctl.weights.model_info import ExportFacts, ModelInfo
from deeplabctl.weights.published import published
from deeplabctl.weights.sources import READERS
from deeplabctl.weights.sources.exports import is_saved_model

WRITERS: dict[choices.ExportFormat, Writer] = {
    name: choices.load(kind.writer) for name, kind in choices.EXPORTS.items()
}


@dataclass(frozen=True)
class Agreement:
    """Hold how far an export computes what its network does."""

    labels: float  # share of the pixels with the same label
    scores: float  # largest difference of two scores
    pixels: int
    images: int
    source: str  # of the images
    engine: str  # that computed the network, in float32

    @property
    def percent(self) -> str:
        """Return the share of the labels in percent with three digits, rounded down: only all labels are 100%."""
        return "100" if self.labels == 1 else f"{int(self.labels * 100_000) / 1000:.3f}"


@dataclass(frozen=True)
class ExportRequest:
    """Hold what a user asks for; None leaves the choice to the weights."""

    format: choices.ExportFormat
    weights: str | None = None  # None: the best of the newest run
    precision: choices.ExportPrecision = "float32"
    out: str | Path | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    calibrate: str | None = None  # images for int8; None: those that the weights were trained on
    images: str | None = None  # to compare on; None: validation images of the training's data set
    least_agreement: float | None = None  # share of the labels; None: LEAST_AGREEMENT
    overwrite: bool = False


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
    if request.format not in WRITERS:
        raise RecipeError(f"`to`: expected {' or '.join(WRITERS)}, got {request.format!r}")
    writer, reader = WRITERS[request.format], READERS[request.format]
    if request.precision not in writer.precisions:
        more = [f"`to={name}`" for name, each in WRITERS.items() if {*each.precisions} > {*writer.precisions}]
        raise RecipeError(f"a {reader.words} has no {request.precision}; use {' or '.join([*more, 'float16'])}")
    if request.calibrate is not None and request.precision != "int8":
        raise RecipeError("`calibrate` is for int8 only; leave it out, or ask for `int8`")
    writer.check_packages(reader.words)
    path = find_weights(request.weights, report=report)
    file = open_weights(path)
    if file.info is not None and file.info.export is not None:
        raise WeightsError(
            f"weights {path}: expected weights to export, got an export; give those that it was made from"
        )
    ending = "" if request.precision == "float32" else f"-{request.precision}"
    out = Path(request.out or f"{_name(request.weights, path)}{ending}{reader.suffix}")
    _check_out(out, None if writer.is_folder else reader.suffix, overwrite=request.overwrite)
    if out.resolve() == path.resolve():
        raise OutputError(f"{out} is the file that is read and would be lost; choose another `out`")
    network = read_network(file, report)
    source = {"weights": str(path), "weights_sha256": file.sha256}
    info = dataclasses.replace(network.info, provenance=network.info.provenance | source)
    wanted = SettingsRequest(pad="tight", scales=request.scales, flip=request.flip, crf=False)
    settings = resolve(wanted, info)
    calibration = images_to_calibrate(info, request.calibrate, report) if request.precision == "int8" else None
    images = images_to_compare(info, request.images, report)
    return ExportPlan(request, path, dataclasses.replace(network, info=info), settings, out, images, calibration)


def write_export(plan: ExportPlan, report: Reporter = silent) -> ExportedModel:
    """Write an export, run it by its own runtime and compare it with the network as `infer` computes it.

    Raises OutputError, and leaves nothing behind, where fewer labels agree than must.
    """
    info, request, settings = plan.network.info, plan.request, plan.settings
    images = plan.images.compared(settings.image_size)
    facts = ExportFacts(request.format, request.precision, settings.scales, settings.flip, settings.image_size)
    calibration: Sequence[Image] = ()
    if plan.calibration is not None:
        calibration = plan.calibration.calibrated(settings.image_size)
        report(Note(f"calibrating on {counted(len(calibration), 'image')}: {plan.calibration.source}"))
    network = Segmenter.from_network(plan.network, settings)
    writer = WRITERS[request.format]
    with whole_folder(plan.out, overwrite=request.overwrite) if writer.is_folder else whole_file(plan.out) as temporary:
        nodes = ARCHITECTURES[info.architecture].graph(plan.network.weights)
        writer.write(Graph(info.architecture, nodes, facts, calibration), temporary)
        file = READERS[request.format](temporary)
        info = file.write_facts(dataclasses.replace(info, export=facts))
        exported = Segmenter.from_network(open_network(temporary))
        agreement = compare(network, exported, images, plan.images.source, report)
        _check_agreement(plan, agreement)
        facts = dataclasses.replace(facts, agreement=asdict(agreement))
        info = file.write_facts(dataclasses.replace(info, export=facts))
        written = open_weights(temporary).info
        assert written is not None
        assert written.export == info.export
        size = sum(file.stat().st_size for file in (temporary, *temporary.rglob("*")) if file.is_file())
    return ExportedModel(plan.out, info, agreement, size)


def export(request: ExportRequest, report: Reporter = silent) -> ExportedModel:
    """Export a network; raises DeepLabError for what cannot be done."""
    return write_export(plan_export(request, report), report)


def _name(given: str | None, path: Path) -> str:
    """Return the name of weights: the published one, a repository's, a run's, or the file's without its suffix."""
    if given is not None and given in published():
        return given
    if address := HubAddress.read(given or ""):
        return address.repo.rpartition("/")[2]
    is_run = path.name in (BEST, LAST)
    return path.resolve().parent.name if is_run else re.sub(r"(?<=.)(\.tar)?\.\w+$", "", path.name)


def _check_out(out: Path, suffix: str | None, *, overwrite: bool) -> None:
    """Raise OutputError where a file with this suffix, or (None) a SavedModel, cannot be written."""
    if suffix is not None:
        check_new_file(out, overwrite=overwrite, suffixes=(suffix,))
    else:
        check_new_folder(out, overwrite=overwrite)
        if has_content(out) and not is_saved_model(out):
            raise OutputError(f"{out}: expected a SavedModel to replace, got something else; choose another folder")
        check_writable(out.absolute().parent)


def _check_agreement(plan: ExportPlan, agreement: Agreement) -> None:
    precision, least = plan.request.precision, plan.request.least_agreement
    least = choices.LEAST_AGREEMENT[precision] if least is None else least
    if not agreement.labels >= least:
        other = {"int8": "calibrate on other images, use float16", "float16": "use float32"}.get(precision, "")
        raise OutputError(
            f"cannot write {plan.out}: expected {100 * least:g}% of the labels to be the network's, got "
            f"{agreement.percent}% on {counted(agreement.images, 'image')} ({agreement.source}); nothing was "
            f"written; {other}{', ' if other else ''}or lower `least_agreement`"
        )


def compare(
    network: Segmenter, exported: Segmenter, images: Sequence[Image], source: str, report: Reporter
) -> Agreement:
    """Compare labels and scores on images; raises DataError for one that is too large.

    A label whose scores are not finite, as after an overflow, counts as different.
    """
    equal = pixels = 0
    largest = 0.0
    with task(report, "comparing", len(images), "images") as advance:
        for image in images:
            expected, got = network.predict(image), exported.predict(image)
            difference = np.abs(expected.scores - got.scores).max(-1)
            equal += int(np.count_nonzero((expected.label == got.label) & np.isfinite(difference)))
            pixels += got.label.size
            largest = max(largest, float(difference.max()) if np.isfinite(difference).all() else np.inf)
            advance()
    return Agreement(equal / pixels, largest, pixels, len(images), source, network.applied.engine)


COMPARED, CALIBRATED = 8, 32  # images, at most
_LARGEST = 1024  # pixels of a side; larger images are cut


@dataclass(frozen=True)
class ExampleImages:
    """Name image files, and where they are from in words."""

    files: tuple[Path, ...]
    source: str

    def compared(self, max_side: int = 0) -> list[Image]:
        """Return images to compare on, at their working size: every second one cut to another size, odd or even.

        Raises DataError for one that cannot be read.
        """
        files = spread_evenly(self.files, COMPARED)
        images = [_cut(read_working_image(path, max_side), _LARGEST, _LARGEST) for path in files]
        for n in range(1, len(images), 2):
            height, width = images[n].shape[:2]
            images[n] = _cut(images[n], max(1, height * 4 // 5 - n), max(1, width * 3 // 4 + n // 2))
        return images

    def calibrated(self, max_side: int = 0) -> list[Image]:
        """Return images to calibrate on, at their working size, and all of one size of at most 513 pixels."""
        images = [read_working_image(path, max_side) for path in spread_evenly(self.files, CALIBRATED)]
        height, width = (min(PAPER_SIZE, *(image.shape[axis] for image in images)) for axis in (0, 1))
        return [_cut(image, height, width) for image in images]


def images_to_compare(info: ModelInfo, given: str | None, report: Reporter) -> ExampleImages:
    """Return the given images, else validation images of the training's data set, else those of the built-in one.

    ``given`` is a data set in VOC layout, "shapes", or images as `find_images` takes them. Raises DataError.
    """
    return _images(given or _trained_on(info) or SHAPES, lambda dataset: "val", report)


def images_to_calibrate(info: ModelInfo, given: str | None, report: Reporter) -> ExampleImages:
    """Return the given images, of a data set its training split; by default those that the weights were trained on.

    Raises DataError where there are none.
    """
    trained_on = _trained_on(info)
    if given is None and trained_on is None:
        raise DataError(
            "calibration: expected the data set that the weights were trained on, which is not known or no longer "
            "there; name one, or a folder of images: `calibrate`"
        )
    split = info.provenance.get("split") if given is None else None
    return _images(
        given or trained_on or SHAPES,
        lambda dataset: split if split in dataset.splits else dataset.training_split,
        report,
    )


def _trained_on(info: ModelInfo) -> str | None:
    """Return the data set that the weights were trained on, where it is still there."""
    data = info.provenance.get("data")
    return data if isinstance(data, str) and (data == SHAPES or _is_dataset(data)) else None


def _is_dataset(name: str) -> bool:
    return os.path.isdir(Path(name) / LISTS)  # noqa: PTH112 - Path.is_dir raises for names that are too long


def _images(name: str, choose: Callable[[Dataset], str], report: Reporter) -> ExampleImages:
    """Return the images of a data set's split, or those of a folder."""
    if name != SHAPES and not _is_dataset(name):
        return ExampleImages(tuple(find_images([name], report)), name)
    dataset = open_dataset(name, report)
    if (split := choose(dataset)) not in dataset.splits:
        raise DataError(f"data set {name}: expected the split {split}, got {', '.join(dataset.splits) or 'none'}")
    return ExampleImages(tuple(sample.image for sample in dataset.samples(split)), f"{split} of {name}")


def _cut(image: Image, height: int, width: int) -> Image:
    """Return the middle of an image, at most of this size."""
    top, left = (max(0, side - most) // 2 for side, most in zip(image.shape[:2], (height, width), strict=True))
    return image[top : top + height, left : left + width]
