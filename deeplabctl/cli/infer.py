"""``deeplabctl infer``: segment pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption, WeightsOption

if TYPE_CHECKING:
    from deeplabctl.inputs import Job
    from deeplabctl.prediction import Segmenter


def infer(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders, or patterns in quotes.")],
    weights: WeightsOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the masks.")] = Path("masks"),
    overlay: Annotated[bool, typer.Option("--overlay", help="Draw the classes over each picture, too.")] = False,
    pad: Annotated[
        str, typer.Option("--pad", metavar="paper|tight", help="Test size: 513, or the next 8k + 1.")
    ] = "tight",
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment pictures: a palette PNG of class ids for each, of the picture's own size and in VOC's colours."""
    from deeplabctl.inputs import find_images, plan_outputs
    from deeplabctl.origins import read_network
    from deeplabctl.reporting import Advanced, Finished, Note, Started
    from deeplabctl.weights import find_weights

    if pad not in ("paper", "tight"):
        raise typer.BadParameter(f"expected paper or tight, got {pad!r}", param_hint="--pad")
    console = Console(json, quiet, debug)
    with console.errors():
        jobs = plan_outputs(find_images(inputs), out, overlay=overlay, overwrite=overwrite)
        path = find_weights(weights)
        network = read_network(path)
        done: list[dict[str, Any]] = []
        failed: list[str] = []
        with console.reporter() as report:
            report(Note(f"weights: {path}"))
            from deeplabctl.cli.start import start_tensorflow

            start_tensorflow()
            from deeplabctl.errors import DeepLabError
            from deeplabctl.prediction import Segmenter

            segmenter = Segmenter.from_network(network, pad)
            report(Started("segmenting", len(jobs), "pictures"))
            for job in jobs:
                try:
                    done.append(_segment(segmenter, job))
                except DeepLabError as error:
                    failed.append(str(error))
                    report(Note(str(error), warning=True))
                report(Advanced(1))
            report(Finished())
        for entry in done:
            console.say(_line(entry))
        console.document({"images": done, "failed": failed, "weights": str(path)})
        if failed:
            print_error(f"{len(failed)} of {len(jobs)} pictures failed, the first: {failed[0]}")
            raise typer.Exit(1)


def _segment(segmenter: Segmenter, job: Job) -> dict[str, Any]:
    """Segment a picture, write what is made of it, and return what it shows."""
    import numpy as np

    from deeplabctl.data.images import read_image, write_mask, write_picture
    from deeplabctl.render import overlay, with_legend

    begin = time.perf_counter()
    image = read_image(job.image)
    label = segmenter.label(image)
    classes = segmenter.info.classes
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
        "seconds": time.perf_counter() - begin,
    }


def _line(entry: dict[str, Any]) -> str:
    shares = ", ".join(f"{found['name']} {found['share']:.1%}" for found in entry["classes"])
    written = entry["mask"] if entry["overlay"] is None else f"{entry['mask']} and {entry['overlay']}"
    return f"{entry['image']} ({entry['width']}x{entry['height']}) -> {written}: {shares}"
