"""Segment the images and videos of a plan: reading, the network and writing run beside each other, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial

from deeplabctl.arrays import Label
from deeplabctl.data.findings import FindingError
from deeplabctl.data.images import memory_to_read, read_image
from deeplabctl.data.labels import read_label_and_palette
from deeplabctl.data.palettes import Palettes
from deeplabctl.errors import DataError, DeepLabError, OutputError
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.outputs.output import Add, Job, Labelled, Output, Written
from deeplabctl.prediction.outputs.plan import Plan
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter, count_pixels
from deeplabctl.prediction.video import check_class_ids, written_before
from deeplabctl.reporting import Note, Reporter, counted, duration, task

_AHEAD = 4  # images that are read, and that are written, beside those of the threads
Show = Callable[[Written, float], None]  # with the seconds since the result before


def run(
    plan: Plan,
    images: Iterable[Written],
    videos: Iterable[Written],
    classes: Sequence[str],
    report: Reporter,
    show: Show,
    *,
    pages: Sequence[AbstractContextManager[Add]] = (),
) -> list[str]:
    """Take the results of a plan's images and videos, which are computed meanwhile, and write the files of the run.

    Returns the errors of the images and videos that have no files.

    ``images`` are the results of ``plan.todo`` in order, as `segment_images` yields them, and ``videos`` those of
    ``plan.videos_todo``. Each is handed to ``show`` as it comes, images also to ``pages``, which are written at the
    end. Images that are done already are taken from their masks where the files of the run need them. Raises
    OutputError if those cannot be written.
    """
    begin = last = time.monotonic()
    done, failed = 0, list[str]()
    if plan.done:
        report(Note(f"{len(plan.done)} of {len(plan.jobs)} already done: skipped"))
    if kept := sum(len(job.kept) for job in plan.jobs if job not in plan.done):
        report(Note(f"kept: {counted(kept, 'file')} that the other images already have"))
    _check_texts(plan, classes)

    def take(written: Written, adds: Sequence[Add], *, is_new: bool) -> None:
        nonlocal last, done
        if written.note:
            report(Note(written.note, warning=True))
        if written.error:
            failed.append(written.error)
            if len(plan.jobs) > 1:  # of a single image it is the command's own error
                report(Note(written.error, warning=True))
            return
        for add in adds:
            add(written)
        if is_new:
            done += 1
            now = time.monotonic()
            show(written, now - last)
            last = now

    with ExitStack() as stack:
        for results in (images, videos):
            if isinstance(results, Generator):
                stack.callback(results.close)  # after an error, its threads would go on
        adds = {each.run: stack.enter_context(each.run_writer(plan.run_files[each.run.name], plan.images, classes))
                for each in plan.outputs if each.run}  # fmt: skip
        of_images = [*(adds[file] for file in adds if file.images), *(stack.enter_context(page) for page in pages)]
        of_videos = [adds[file] for file in adds if file.videos]
        read_masks = any(file.images for file in adds)
        old = [job for job in plan.images if job in plan.done and read_masks]
        before = map_ahead(partial(_written_before, outputs=plan.outputs, classes=classes), old, ahead=_AHEAD)
        with task(report, "segmenting", len(plan.todo), "images") as advance:
            for written, is_new in _in_order(plan.images, plan.done, iter(images), before):
                take(written, of_images, is_new=is_new)
                if is_new:
                    advance()
        if done > 1:
            seconds = time.monotonic() - begin
            report(Note(f"{counted(done, 'image')} in {duration(seconds)}, {done / seconds:.1f} images/s"))
        old = [job for job in plan.videos if job in plan.done and read_masks]
        before = (written_before(job, classes) for job in old)
        for written, is_new in _in_order(plan.videos, plan.done, iter(videos), before):
            take(written, of_videos, is_new=is_new)
    return failed


def _check_texts(plan: Plan, classes: Sequence[str]) -> None:
    """Raise OutputError where files are kept, and one that depends on the classes only has another content."""
    for output in plan.outputs if any(job.kept for job in plan.jobs) else ():
        if output.run is None:
            continue
        path = plan.run_files[output.run.name]
        text = output.run_text(path, classes).encode("utf-8", "backslashreplace").decode()  # as `write_text` does
        if text and path.is_file() and path.read_text("utf-8", "replace") != text:
            raise OutputError(
                f"{path}: expected the content that this network gives it, got another; move it, or use `overwrite`"
            )


def _in_order(
    jobs: Iterable[Job], done: frozenset[Job], new: Iterator[Written], old: Iterator[Written]
) -> Iterator[tuple[Written, bool]]:
    """Yield the results of all jobs in order, and whether they are new; of those that are done if there are ``old``."""
    for job in jobs:
        if job not in done:
            yield next(new), True
        elif (written := next(old, None)) is not None:
            yield written, False


def segment_images(
    segmenter: Segmenter, jobs: Iterable[Job], outputs: Sequence[Output], *, batch_size: int | None = None
) -> Iterator[Written]:
    """Segment images and write their files; yields, in order, what was seen in each, or why it failed.

    Images are read and written in threads while the network computes others.
    """
    scores = any(output.needs_scores for output in outputs)
    read = map_ahead(_read, jobs, ahead=_AHEAD, size=lambda job: memory_to_read(job.source))
    found = segmenter.segment(read, scores=scores, batch_size=batch_size)
    write = partial(_write, outputs=outputs, classes=segmenter.info.classes)
    yield from map_ahead(write, found, ahead=_AHEAD, size=_memory_to_write, prompt=True)


def _read(job: Job) -> Result[Job]:
    notes: list[str] = []
    try:
        return Result(job, read_image(job.source, notes.append), note="; ".join(notes))
    except DataError as error:
        return Result(job, error=error)
    except MemoryError:
        return Result(job, error=_too_large(job))


def _write(result: Result[Job], outputs: Sequence[Output], classes: Sequence[str]) -> Written:
    job, image = result.item, result.image
    if image is None or result.error is not None:
        where = "" if image is None else f"image {job.source}: "  # errors of reading name the file
        return Written(job, error=f"{where}{result.error}")
    try:
        label = _from_mask(job, classes) if "mask" in job.kept else result.found()
        if label.shape != image.shape[:2]:
            raise DataError(
                f"{job.files['mask']} is not of the size of {job.source}; use `overwrite` to segment it again"
            )
        labelled = Labelled(job, image, label, result.scores, classes)
        for output in reversed(outputs):
            if output.name in job.new_files:
                output.write(job.files[output.name], labelled)
        return replace(_in_label(job, labelled.label, outputs, classes), note=result.note)
    except DeepLabError as error:
        return Written(job, error=str(error))
    except MemoryError:
        return Written(job, error=str(_too_large(job)))


def _in_label(job: Job, label: Label, outputs: Sequence[Output], classes: Sequence[str]) -> Written:
    height, width = label.shape
    parts = {output.name: part for output in outputs if (part := output.part(label, classes)) is not None}
    return Written(job, (height, width), count_pixels(label), parts)


def _written_before(job: Job, outputs: Sequence[Output], classes: Sequence[str]) -> Written:
    """Return what is seen in the mask of an image that was segmented before; an error if it does not fit."""
    try:
        return _in_label(job, _from_mask(job, classes), outputs, classes)
    except DataError as error:
        return Written(job, error=str(error))


def _from_mask(job: Job, classes: Sequence[str]) -> Label:
    """Return the label of an image that was segmented before; raises DataError if it does not fit."""
    mask = job.files["mask"]
    palettes = Palettes(classes)
    try:
        label, palette = read_label_and_palette(mask)
        check_class_ids(mask, count_pixels(label), classes)
        palettes.add(mask, count_pixels(label), palette)
        if wrong := palettes.finding(len(classes)):
            raise FindingError(wrong)
    except DataError as error:
        raise DataError(f"{error}; use `overwrite` to segment it again") from None
    return label


def _memory_to_write(result: Result[Job]) -> int:
    scores = 0 if result.scores is None else result.scores.nbytes
    return 48 * result.pixels + 3 * scores  # more than an overlay and its PNG take


def _too_large(job: Job) -> DataError:
    return DataError(f"image {job.source}: there is not enough memory for an image of this size; make it smaller")
