"""Segment the pictures of a plan: reading, the network and writing run beside each other, a few pictures at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from deeplabctl.data.images import memory_to_read, read_image
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.outputs.picture_files import Failure, PictureResult, result_of_mask, write_files
from deeplabctl.prediction.outputs.plan import PictureJob, Plan, VideoJob
from deeplabctl.prediction.outputs.run_files import RunFiles, RunOutput, run_files
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.video import VideoResult, result_of_videos_masks
from deeplabctl.reporting import Note, Reporter, duration, task

_AHEAD = 4  # pictures that are read, and that are written, beside those of the threads
Found = TypeVar("Found")
Shown = Callable[[PictureResult | VideoResult, float], None]  # with the seconds since the result before


@dataclass
class Summary:
    """Count what a run has done; ``failed`` are the errors of the pictures and videos that have no files."""

    done: int = 0
    failed: list[str] = field(default_factory=list)


def run(
    plan: Plan,
    pictures: Iterable[PictureResult | Failure],
    videos: Iterable[VideoResult | Failure],
    classes: Sequence[str],
    report: Reporter,
    show: Shown,
    *,
    outputs: Sequence[RunOutput] = (),
) -> Summary:
    """Take the results of a plan's pictures and videos, which are computed meanwhile, and write the files of the run.

    ``pictures`` are the results of ``plan.todo`` in order, as `segment_pictures` yields them, and ``videos`` those of
    ``plan.videos_todo``. Each is handed to ``show`` as it comes, images also to ``outputs``. Pictures that are done
    already are taken from their masks where the files of the run need them. Raises OutputError if those cannot be
    written.
    """
    summary, begin = Summary(), time.monotonic()
    if plan.done:
        report(Note(f"{len(plan.done)} of {len(plan.jobs)} are there already: skipped"))
    with run_files(plan, classes, outputs) as files:
        take = _taking(summary, files, classes, report, show)
        done_pictures = [job for job in plan.pictures if job in plan.done and files.needed]
        done_videos = [job for job in plan.videos if job in plan.done and files.needed]
        of_mask = partial(result_of_mask, classes=classes, with_segments=plan.coco is not None)
        old = map_ahead(of_mask, done_pictures, ahead=_AHEAD)
        old_videos = (result_of_videos_masks(job, classes) for job in done_videos)
        with task(report, "segmenting", len(plan.todo), "images") as advance:
            for result, is_new in _in_order(plan.pictures, plan.done, iter(pictures), old):
                take(result, is_new)
                if is_new:
                    advance()
        seconds = time.monotonic() - begin
        if summary.done > 1:
            report(Note(f"{summary.done} images in {duration(seconds)}, {summary.done / seconds:.1f} images/s"))
        for video, is_new in _in_order(plan.videos, plan.done, iter(videos), old_videos):
            take(video, is_new)
    return summary


def _taking(
    summary: Summary, files: RunFiles, classes: Sequence[str], report: Reporter, show: Shown
) -> Callable[[PictureResult | VideoResult | Failure, bool], None]:
    """Return what takes a result: into the files of the run, and to who waits for it if it is new."""
    before = time.monotonic()

    def take(result: PictureResult | VideoResult | Failure, is_new: bool) -> None:
        nonlocal before
        if isinstance(result, Failure):
            summary.failed.append(result.message)
            report(Note(result.message, warning=True))
            return
        if isinstance(result, PictureResult):
            files.add(result)
        else:
            files.add_line(result.to_dict(classes))
        if is_new:
            summary.done += 1
            now = time.monotonic()
            show(result, now - before)
            before = now

    return take


def _in_order(
    jobs: Iterable[PictureJob | VideoJob],
    done: frozenset[PictureJob | VideoJob],
    new: Iterator[Found],
    old: Iterator[Found],
) -> Iterator[tuple[Found, bool]]:
    """Yield the results of all jobs in order, and whether they are new; of those that are done if there are ``old``."""
    for job in jobs:
        if job not in done:
            yield next(new), True
        elif (result := next(old, None)) is not None:
            yield result, False


def segment_pictures(
    segmenter: Segmenter, jobs: Iterable[PictureJob], *, with_segments: bool = False, batch_size: int | None = None
) -> Iterator[PictureResult | Failure]:
    """Segment pictures and write their files; yields, in order, what was seen in each, or why it failed.

    Pictures are read and written in threads while the network computes others. ``with_segments`` finds COCO's segments.
    """
    jobs = list(jobs)
    with_scores = any(job.scores is not None for job in jobs)
    read = map_ahead(_read, jobs, ahead=_AHEAD, size=lambda job: memory_to_read(job.image))
    segmented = segmenter.segment(read, scores=with_scores, batch_size=batch_size)
    write = partial(_write, classes=segmenter.info.classes, with_segments=with_segments)
    yield from map_ahead(write, segmented, ahead=_AHEAD, size=_memory_to_write, prompt=True)


def _read(job: PictureJob) -> Result[PictureJob]:
    try:
        return Result(job, read_image(job.image))
    except DataError as error:
        return Result(job, error=error)
    except MemoryError:
        return Result(job, error=_too_large(job))


def _write(result: Result[PictureJob], classes: Sequence[str], with_segments: bool) -> PictureResult | Failure:
    job, image = result.item, result.image
    if image is None or result.error is not None:
        where = "" if image is None else f"image {job.image}: "  # errors of reading name the file
        return Failure(job, f"{where}{result.error}")
    try:
        return write_files(job, image, result.found(), result.scores, classes, with_segments=with_segments)
    except DeepLabError as error:
        return Failure(job, str(error))
    except MemoryError:
        return Failure(job, str(_too_large(job)))


def _memory_to_write(result: Result[PictureJob]) -> int:
    scores = 0 if result.scores is None else result.scores.nbytes
    return 48 * result.pixels + 3 * scores  # an overlay is drawn in floats


def _too_large(job: PictureJob) -> DataError:
    return DataError(f"image {job.image}: there is not enough memory for a picture of this size; make it smaller")
