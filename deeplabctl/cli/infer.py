"""``deeplabctl infer``: segment images and videos."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl import choices
from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.formatting import with_options
from deeplabctl.cli.options import (
    OUTPUT,
    PREDICTION,
    CrfOptions,
    DefaultWeightsOption,
    ImageOptions,
    OverwriteOption,
    is_given,
    section,
)
from deeplabctl.errors import DeepLabError
from deeplabctl.reporting import area, counted, duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deeplabctl.prediction.outputs.output import Written
    from deeplabctl.prediction.outputs.plan import OutputRequest, Plan
    from deeplabctl.prediction.ray_cluster import RayRequest
    from deeplabctl.prediction.settings import SettingsRequest

EXAMPLES = """
Examples
  # masks/photo.png and masks/photo_overlay.png, with the newest run's weights
  deeplabctl infer photo.jpg --overlay

  # with published weights, which are fetched once
  deeplabctl infer photo.jpg --weights deeplabv3-mnv2-voc

  # a folder, with sharper borders, and a page that shows all results
  deeplabctl infer photos --crf --out labels --contact-sheet

  # continue after an interruption
  deeplabctl infer photos --out labels --contact-sheet --skip-existing

  # outlines to correct in labelme, and COCO's annotations
  deeplabctl infer photos --format mask --format labelme --format coco

  # on the machines of a Ray cluster
  deeplabctl infer photos --weights runs/mine --ray head:6379

  # in a pipe
  deeplabctl infer - < photo.jpg > mask.png
"""
CLUSTER = section("Cluster")


def _checked_address(address: str | None) -> str | None:
    if address and not re.fullmatch(r"local|auto|(ray://)?[^\s/]+:\d+", address):
        raise typer.BadParameter(
            f"expected local, auto, HOST:PORT, ray://HOST:PORT, or nothing after it, got {address!r}; "
            "put inputs before --ray"
        )
    return address


RayOption = Annotated[
    str | None,
    CLUSTER(
        "--ray [ADDRESS]",
        "Spread the images over a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local starts Ray on "
        "this machine. Without an address: $RAY_ADDRESS, else local.",
        callback=_checked_address,
    ),
]
RayWorkersOption = Annotated[
    int | None,
    CLUSTER(
        "--ray-workers N",
        "Networks in the cluster, which divide its CPUs. Default: one for each machine, or for each GPU.",
        min=1,
    ),
]


if TYPE_CHECKING:
    Format = str
else:
    Format = StrEnum("Format", {name: name for name in choices.OUTPUT_FORMATS})  # typer takes lists of no other choices
MASK = Format("mask")
_ANNOTATIONS = ", ".join(name for name in choices.OUTPUT_FORMATS if name in choices.ANNOTATIONS)


def infer(
    *,
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Images, folders of images, or patterns in quotes ('*.jpg'); videos; - for one image from stdin, "
            "whose mask goes to stdout.",
        ),
    ],
    weights: DefaultWeightsOption = None,
    prediction: ImageOptions,
    batch_size: Annotated[
        int | None,
        PREDICTION(
            "--batch-size N",
            "Images of equal size in a TensorFlow batch. Default: 8 on GPUs, else 1.",
            min=1,
        ),
    ] = None,
    crf: CrfOptions,
    out: Annotated[Path, OUTPUT("--out DIR", "Folder for the results.")] = Path("masks"),
    formats: Annotated[
        list[Format],
        OUTPUT(
            "--format NAME",
            "What to write; may be repeated: mask (PNG) and scores (npz) for each image; json and csv (areas) for all; "
            f"annotations: {_ANNOTATIONS}.",
        ),
    ] = [MASK],  # noqa: B006 - typer only reads it
    overlay: Annotated[bool, OUTPUT("--overlay", "Also draw the classes over each image.")] = False,
    contact_sheet: Annotated[bool, OUTPUT("--contact-sheet", "Also make a page of all results, index.html.")] = False,
    skip_existing: Annotated[bool, OUTPUT("--skip-existing", "Skip images whose output files all exist.")] = False,
    overwrite: OverwriteOption = False,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    console: Console,
) -> None:
    """Segment images and videos.

    Writes a mask for each image: a PNG of its size whose pixel values are class ids, shown in the classes' colours.
    """
    from deeplabctl.cli.prediction_options import read_settings

    request = read_settings(prediction, crf)
    of_options = zip(choices.OUTPUT_OPTIONS, (overlay, contact_sheet), strict=True)
    names = (*map(str, formats), *(name for name, is_asked_for in of_options if is_asked_for))
    _check_together(names, skip_existing, overwrite)
    if "-" in inputs:
        _check_stdin(context, inputs)
        _segment_stdin(request, weights, console)
        return
    from deeplabctl.prediction.outputs.plan import OutputRequest

    outputs = OutputRequest(out, names, overwrite, skip_existing)
    failed, plan = _segment(inputs, weights, request, outputs, batch_size, _read_ray(ray, ray_workers), console)
    if failed:
        total = counted(len(plan.jobs), "input" if plan.videos else "image")
        print_error(failed[0] if len(plan.jobs) == 1 else f"{len(failed)} of {total} failed, the first: {failed[0]}")
        raise typer.Exit(1)


def _segment(
    inputs: list[str],
    weights: str | None,
    request: SettingsRequest,
    outputs: OutputRequest,
    batch_size: int | None,
    ray: RayRequest | None,
    console: Console,
) -> tuple[list[str], Plan]:
    """Segment all inputs; returns the errors, and what there was to do."""
    from deeplabctl.cli.prediction_options import find_network, load_segmenter
    from deeplabctl.errors import DataError
    from deeplabctl.prediction.engines import with_engine
    from deeplabctl.prediction.inputs import find_images
    from deeplabctl.prediction.outputs.plan import plan_outputs
    from deeplabctl.prediction.run import run, segment_images
    from deeplabctl.prediction.settings import resolve, unknown_size
    from deeplabctl.prediction.video import check_videos, segment_videos
    from deeplabctl.reporting import Event, Note
    from deeplabctl.reports.contact_sheet import page_of_results

    notes: list[Event] = []
    plan = plan_outputs(find_images(inputs, notes.append), outputs)
    check_videos([job.source for job in plan.videos])
    if plan.videos and ray is not None:
        raise DataError(f"{plan.videos[0].source} is a video: expected images only with `ray`; leave it out")
    with console.reporter() as report, ExitStack() as stack:
        for note in notes:
            report(note)
        path, network = find_network(weights, report)
        settings, classes = resolve(request, network.info), network.info.classes
        results = _Results(console, classes, settings.image_size)
        images: Iterable[Written] = ()
        videos: Iterable[Written] = ()
        if plan.todo and ray is not None:
            from deeplabctl.prediction.ray_cluster import on_ray

            spread = on_ray(network, settings, plan, ray, report, batch_size=batch_size)
            settings, images = stack.enter_context(spread)
        elif plan.todo or plan.videos_todo:
            segmenter = load_segmenter(network, settings, report)
            segmenter.largest_batch(batch_size)  # refused before any work
            images = segment_images(segmenter, plan.todo, plan.outputs, batch_size=batch_size)
            videos = segment_videos(segmenter, plan.videos_todo, report, batch_size=batch_size)
        page = plan.run_files.get("page")
        pages = [page_of_results(page, classes, f"{path}; {settings}")] if page else []
        failed = run(plan, images, videos, classes, report, results.show, pages=pages)
        if warning := unknown_size(results.longest, settings, network.info):
            report(Note(warning, warning=True))
    results.finish(plan, failed, path, with_engine(settings, network.info).to_dict())
    return failed, plan


@dataclass
class _Results:
    """Print results as they come; what the JSON document needs is kept for it."""

    console: Console
    classes: tuple[str, ...]
    image_size: int  # of the settings
    longest: int = 0  # side of an image
    images: list[dict[str, Any]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)

    def show(self, written: Written, seconds: float) -> None:
        """Take a result, with the seconds that it took."""
        self.longest = max(self.longest, *written.size)
        if not self.console.json:
            if not self.console.quiet:
                self.console.say(_line(written, self.classes, self.image_size))
        elif written.job.is_video:
            self.videos.append(written.to_dict(self.classes))
        else:
            self.images.append({**written.to_dict(self.classes), "seconds": seconds})

    def finish(self, plan: Plan, failed: list[str], weights: Path, settings: dict[str, Any]) -> None:
        """Print the files of the run, or the JSON document."""
        files = {name: str(path) for name, path in plan.run_files.items()}
        for output in plan.outputs:
            if output.run and not self.console.quiet:
                self.console.say(f"{output.run.words} {files[output.run.name]}")
        self.console.document(
            {
                "images": self.images,
                "videos": self.videos,
                "skipped": [str(job.source) for job in plan.jobs if job in plan.done],
                "failed": [with_options(message) for message in failed],
                "files": files,
                "weights": str(weights),
                "settings": settings,
            }
        )


def _line(written: Written, classes: tuple[str, ...], image_size: int) -> str:
    """Return a result in a line, the files of options of their own behind those of --format."""
    from deeplabctl.data.images import working_size
    from deeplabctl.prediction.outputs import OUTPUTS

    job, (height, width) = written.job, written.size
    computed = working_size(written.size, image_size)
    listed = sorted((output for output in OUTPUTS if output.listed), key=lambda output: output.has_option)
    *others, last = [str(job.files[output.name]) for output in listed if output.name in job.files] or [""]
    files = f"{', '.join(others)} and {last}" if others else last
    size = f"{width}x{height}" + (f", computed at {computed[1]}x{computed[0]}" if computed != written.size else "")
    if job.is_video:
        size += f", {counted(written.frames, 'frame')}, {duration(written.seconds)}"
    shares = ", ".join(f"{found['name']} {area(found['share'])}" for found in written.to_dict(classes)["classes"])
    return f"{job.source} ({size}){files and f' -> {files}'}: {shares}"


def _check_together(names: Sequence[str], skip_existing: bool, overwrite: bool) -> None:
    """Refuse options that contradict each other."""
    if not skip_existing:
        return
    if overwrite:
        raise typer.BadParameter("cannot be used together with --overwrite", param_hint="--skip-existing")
    if option := _needs_masks(names):
        raise typer.BadParameter(
            f"{option} takes skipped images from their masks: add --format mask", param_hint="--skip-existing"
        )


def _needs_masks(names: Sequence[str]) -> str:
    """Return the option of a file of all images that is asked for without masks; "" if there is none."""
    from deeplabctl.prediction.outputs import OUTPUTS

    whole = [each.name for each in OUTPUTS if each.run and each.run.images and each.name in names]
    return choices.OUTPUT_OPTIONS.get(whole[0], f"--format {whole[0]}") if whole and MASK not in names else ""


def kept(values: Mapping[str, Any]) -> str:
    """Return what is kept of a run with these arguments that Ctrl-C ends, and how it goes on."""
    if "-" in values["inputs"]:
        return "no mask was written"
    fix = "continue with --skip-existing"
    if values["overwrite"]:
        fix = "run the same command again"
    elif _needs_masks([*values["formats"], *(["thumbnail"] if values["contact_sheet"] else [])]):
        fix = "run it again with --overwrite (a run with --format mask can be continued)"
    return f"the files of finished images are complete; {fix}"


def _check_stdin(context: typer.Context, inputs: list[str]) -> None:
    """Refuse what cannot be combined with an image from stdin."""
    if len(inputs) > 1:
        raise typer.BadParameter("- is one image from stdin, and cannot be combined with others", param_hint="INPUT")
    for option in context.command.params:
        is_of_files = getattr(option, "rich_help_panel", "") in ("Output", "Cluster") or option.name in (
            "batch_size",
            "json",
        )
        if is_of_files and is_given(context, option.name):
            raise typer.BadParameter("cannot be used with -, whose mask goes to stdout", param_hint=option.opts[0])


def _segment_stdin(request: SettingsRequest, weights: str | None, console: Console) -> None:
    """Read an image of any format from stdin, and write its mask, a PNG, to stdout."""
    from deeplabctl.cli.prediction_options import find_network, load_segmenter
    from deeplabctl.data.images import decode_image
    from deeplabctl.data.labels import mask_bytes
    from deeplabctl.errors import DataError, OutputError
    from deeplabctl.prediction.settings import resolve, unknown_size
    from deeplabctl.reporting import Note

    with console.reporter() as report:
        if sys.__stdout__ is None or sys.stdout.isatty():
            got = "closed" if sys.__stdout__ is None else "a terminal"
            raise OutputError(f"stdout is {got}: expected a file or a pipe for the mask, a PNG; add > mask.png")
        if sys.__stdin__ is None or sys.stdin.isatty():
            got = "closed" if sys.__stdin__ is None else "a terminal"
            raise DataError(f"stdin is {got}: expected an image from a file or a pipe; add < photo.jpg")
        try:
            image = decode_image(_read_stdin(), "stdin", say=lambda text: report(Note(text, warning=True)))
        except MemoryError:
            raise DataError("stdin: there is not enough memory for this image; make it smaller") from None
        network = find_network(weights, report)[1]
        segmenter = load_segmenter(network, resolve(request, network.info), report)
        sys.stdout.buffer.write(mask_bytes(segmenter.label(image), segmenter.info.classes))
        sys.stdout.buffer.flush()
        if failure := getattr(getattr(sys.stdout.buffer, "raw", None), "failure", ""):
            raise OutputError(f"cannot write the mask to stdout: {failure}; choose another file")
        if warning := unknown_size(max(image.shape[:2]), segmenter.settings, network.info):
            report(Note(warning, warning=True))


def _read_stdin() -> bytes:
    """Read all of stdin, but no more than a quarter of the memory."""
    from deeplabctl.errors import DataError
    from deeplabctl.parallel import memory_limit

    content, most = bytearray(), memory_limit() // 4
    try:
        while block := sys.stdin.buffer.read(1 << 20):
            content += block
            if len(content) > most:
                raise DataError(f"stdin: expected an image of at most {most >> 20:,} MiB, got more; give a smaller one")
    except OSError as error:  # a folder, for example
        raise DataError(f"cannot read stdin: {error.strerror}; add < photo.jpg") from None
    return bytes(content)


def _read_ray(address: str | None, workers: int | None) -> RayRequest | None:
    """Return what the options ask for; a usage error if one needs the other, DeepLabError without the package."""
    if address is None:
        if workers is not None:
            raise typer.BadParameter("requires --ray", param_hint="--ray-workers")
        return None
    if find_spec("ray") is None:
        raise DeepLabError("`ray` needs the package ray: pip install 'deeplabctl[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # it would print warnings on stdout; its logs have them
    from deeplabctl.prediction.ray_cluster import RayRequest

    return RayRequest(address or os.environ.get("RAY_ADDRESS") or "local", workers)
