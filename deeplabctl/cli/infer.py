"""``deeplabctl infer``: segment images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.formatting import with_options
from deeplabctl.cli.options import (
    PAD_HELP,
    CrfAdaptiveOption,
    CrfOption,
    CrfParamsOption,
    DebugOption,
    EngineOption,
    FlipOption,
    JsonOption,
    OverwriteOption,
    Pad,
    PrecisionOption,
    QuietOption,
    ScalesOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from deeplabctl.arrays import Image, Label
    from deeplabctl.prediction.pictures import PictureJob
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.reporting import Reporter

EXAMPLES = """
Examples
  # masks/photo.png and masks/photo_overlay.png, with the newest run's weights
  deeplabctl infer photo.jpg --overlay

  # a folder, with sharper borders
  deeplabctl infer photos --weights runs/mine --crf --out labels
"""


def infer(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Images, folders of images, or patterns in quotes, as '*.jpg'.")
    ],
    weights: WeightsOption = None,
    pad: Annotated[Pad, typer.Option("--pad", help=PAD_HELP, rich_help_panel="Prediction")] = "tight",
    scales: ScalesOption = None,
    flip: FlipOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = None,
    crf: CrfOption = False,
    crf_adaptive: CrfAdaptiveOption = False,
    crf_params: CrfParamsOption = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the masks.", rich_help_panel="Output")
    ] = Path("masks"),
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Also draw the classes over each image.", rich_help_panel="Output"),
    ] = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment images.

    Writes a mask for each: a PNG of the image's size whose pixel values are class ids, shown in VOC's colours.
    """
    from deeplabctl.cli.prediction_options import load_segmenter, read_settings
    from deeplabctl.prediction.pictures import find_images, plan_outputs
    from deeplabctl.reporting import Note
    from deeplabctl.weights.locating import find_weights
    from deeplabctl.weights.networks import read_network

    request = read_settings(pad, scales, flip, crf, crf_adaptive, crf_params, engine, precision)
    console = Console(json, quiet, debug)
    with console.errors():
        jobs = plan_outputs(find_images(inputs), out, overlay=overlay, overwrite=overwrite)
        path = find_weights(weights)
        network = read_network(path)
        settings = request.resolve(network.info)
        with console.reporter() as report:
            report(Note(f"weights: {path}"))
            segmenter = load_segmenter(network, settings, report)
            done, failed = _segment_all(segmenter, jobs, report)
        for entry in done:
            console.say(_line(entry))
        console.document(
            {"images": done, "failed": failed, "weights": str(path), "settings": segmenter.applied.to_dict()}
        )
        if failed:
            print_error(f"{len(failed)} of {len(jobs)} images failed, the first: {failed[0]}")
            raise typer.Exit(1)


def _segment_all(
    segmenter: Segmenter, jobs: list[PictureJob], report: Reporter
) -> tuple[list[dict[str, Any]], list[str]]:
    """Segment images and write masks and overlays; returns what the images show, and the errors of the others."""
    from deeplabctl.data.images import read_image
    from deeplabctl.errors import DataError, DeepLabError
    from deeplabctl.reporting import Note, task

    done: list[dict[str, Any]] = []
    failed: list[str] = []
    with task(report, "segmenting", len(jobs), "images") as advance:

        def fail(error: DeepLabError) -> None:
            failed.append(with_options(str(error)))
            report(Note(str(error), warning=True))
            advance()

        def fail_to_segment(tag: tuple[PictureJob, Image], error: DataError) -> None:
            fail(DataError(f"image {tag[0].image}: {error}"))

        def fail_for_memory(job: PictureJob) -> None:
            fail(
                DataError(f"image {job.image}: there is not enough memory for a picture of this size; make it smaller")
            )

        def images() -> Iterator[tuple[tuple[PictureJob, Image], Image]]:
            for job in jobs:
                try:
                    image = read_image(job.image)
                except DeepLabError as error:
                    fail(error)
                except MemoryError:
                    fail_for_memory(job)
                else:
                    yield (job, image), image

        begin = time.perf_counter()
        for (job, image), label in segmenter.labels(images(), fail_to_segment):
            try:
                entry = _write(job, image, label, segmenter.info.classes)
            except DeepLabError as error:
                fail(error)
                continue
            except MemoryError:
                fail_for_memory(job)
                continue
            now = time.perf_counter()
            done.append({**entry, "seconds": now - begin})
            begin = now
            advance()
    return done, failed


def _write(job: PictureJob, image: Image, label: Label, classes: tuple[str, ...]) -> dict[str, Any]:
    """Write the mask and the overlay of an image, and return what it shows, as JSON has it."""
    from deeplabctl.data.images import write_mask, write_picture
    from deeplabctl.prediction.segmentation import class_shares
    from deeplabctl.render import overlay_with_legend

    write_mask(job.mask, label)
    if job.overlay is not None:
        write_picture(job.overlay, overlay_with_legend(image, label, classes))
    return {
        "image": str(job.image),
        "mask": str(job.mask),
        "overlay": None if job.overlay is None else str(job.overlay),
        "width": image.shape[1],
        "height": image.shape[0],
        "classes": [
            {"id": index, "name": classes[index], "share": share} for index, share in class_shares(label).items()
        ],
    }


def _line(entry: dict[str, Any]) -> str:
    shares = ", ".join(f"{found['name']} {found['share']:.1%}" for found in entry["classes"])
    written = entry["mask"] if entry["overlay"] is None else f"{entry['mask']} and {entry['overlay']}"
    return f"{entry['image']} ({entry['width']}x{entry['height']}) -> {written}: {shares}"
