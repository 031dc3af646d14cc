"""``deeplabctl infer``: segment pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.options import (
    CrfAdaptiveOption,
    CrfOption,
    CrfParamsOption,
    DebugOption,
    FlipOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    ScalesOption,
    WeightsOption,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from deeplabctl.prediction.pictures import Job
    from deeplabctl.prediction.segmenter import Segmenter
    from deeplabctl.prediction.settings import Inference
    from deeplabctl.reporting import Reporter


def infer(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders, or patterns in quotes.")],
    weights: WeightsOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the masks.")] = Path("masks"),
    overlay: Annotated[bool, typer.Option("--overlay", help="Draw the classes over each picture, too.")] = False,
    pad: Annotated[
        str, typer.Option("--pad", metavar="paper|tight", help="Test size: 513, or the next 8k + 1.")
    ] = "tight",
    scales: ScalesOption = None,
    flip: FlipOption = None,
    crf: CrfOption = False,
    crf_adaptive: CrfAdaptiveOption = False,
    crf_params: CrfParamsOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment pictures: a palette PNG of class ids for each, of the picture's own size and in VOC's colours."""
    from deeplabctl.cli.prediction_options import read_wishes, settle_wishes
    from deeplabctl.prediction.pictures import find_images, plan_outputs
    from deeplabctl.reporting import Note
    from deeplabctl.weights.fitting import find_weights
    from deeplabctl.weights.reading import read_network

    wishes = read_wishes(pad, scales, flip, crf, crf_adaptive, crf_params)
    console = Console(json, quiet, debug)
    with console.errors():
        jobs = plan_outputs(find_images(inputs), out, overlay=overlay, overwrite=overwrite)
        path = find_weights(weights)
        network = read_network(path)
        inference = settle_wishes(wishes, network.info)
        with console.reporter() as report:
            report(Note(f"weights: {path}"))
            from deeplabctl.cli.tensorflow_startup import start_tensorflow

            start_tensorflow()
            from deeplabctl.prediction.segmenter import Segmenter

            segmenter = Segmenter.from_network(network, inference.pad, inference.scales, inference.flip)
            done, failed = _segment_all(segmenter, jobs, inference, report)
        for entry in done:
            console.say(_line(entry))
        console.document({"images": done, "failed": failed, "weights": str(path), "settings": inference.to_dict()})
        if failed:
            print_error(f"{len(failed)} of {len(jobs)} pictures failed, the first: {failed[0]}")
            raise typer.Exit(1)


def _segment_all(
    segmenter: Segmenter, jobs: list[Job], inference: Inference, report: Reporter
) -> tuple[list[dict[str, Any]], list[str]]:
    """Segment pictures and write what is made of them; returns what they show, and what went wrong with others."""
    from deeplabctl.data.images import read_image
    from deeplabctl.errors import DeepLabError
    from deeplabctl.prediction.segmenter import segment_many
    from deeplabctl.reporting import Advanced, Finished, Note, Started

    done: list[dict[str, Any]] = []
    failed: list[str] = []

    def fail(error: DeepLabError) -> None:
        failed.append(str(error))
        report(Note(str(error), warning=True))
        report(Advanced(1))

    def pictures() -> Iterator[tuple[tuple[Job, npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]]:
        for job in jobs:
            try:
                image = read_image(job.image)
            except DeepLabError as error:
                fail(error)
            else:
                yield (job, image), image

    from deeplabctl.cli.prediction_options import prepare_crf

    prepare_crf(inference.crf, report)
    report(Started("segmenting", len(jobs), "pictures"))
    begin = time.perf_counter()
    for (job, image), label in segment_many(segmenter, pictures(), inference.crf, adaptive=inference.adaptive):
        try:
            entry = _write(job, image, label, segmenter.info.classes)
        except DeepLabError as error:
            fail(error)
            continue
        now = time.perf_counter()
        done.append({**entry, "seconds": now - begin})
        begin = now
        report(Advanced(1))
    report(Finished())
    return done, failed


def _write(
    job: Job, image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Write what is made of a picture, and return what it shows."""
    import numpy as np

    from deeplabctl.data.images import write_mask, write_picture
    from deeplabctl.render import overlay, with_legend

    write_mask(job.mask, label)
    if job.overlay is not None:
        write_picture(job.overlay, with_legend(overlay(image, label, classes), [label], classes))
    counts = np.bincount(label.ravel(), minlength=len(classes))
    return {
        "image": str(job.image),
        "mask": str(job.mask),
        "overlay": None if job.overlay is None else str(job.overlay),
        "width": image.shape[1],
        "height": image.shape[0],
        "classes": [
            {"id": int(index), "name": classes[index], "share": float(counts[index] / label.size)}
            for index in np.argsort(-counts, kind="stable")
            if counts[index]
        ],
    }


def _line(entry: dict[str, Any]) -> str:
    shares = ", ".join(f"{found['name']} {found['share']:.1%}" for found in entry["classes"])
    written = entry["mask"] if entry["overlay"] is None else f"{entry['mask']} and {entry['overlay']}"
    return f"{entry['image']} ({entry['width']}x{entry['height']}) -> {written}: {shares}"
