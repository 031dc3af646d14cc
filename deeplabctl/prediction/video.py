"""Segment videos frame by frame: files with the overlay and the masks, of the same frames and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from deeplabctl.arrays import Image, Label
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.outputs import OUTPUTS
from deeplabctl.prediction.outputs.output import Job, VideoFile, Written
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter, count_pixels
from deeplabctl.prediction.video_files import Timing, VideoReader, Write
from deeplabctl.reporting import Reporter, task

_AHEAD = 2  # frames that are converted, and that are drawn, beside those of the threads
ROOM = 1 << 30  # bytes that both may take: more frames would only wait, for the network or the file


def segment_videos(
    segmenter: Segmenter, jobs: Iterable[Job], report: Reporter, *, batch_size: int | None = None
) -> Iterator[Written]:
    """Segment videos and write their files; yields, in order, what was seen in each, or why it failed."""
    for job in jobs:
        try:
            yield segment_video(segmenter, job, report, batch_size=batch_size)
        except DeepLabError as error:
            yield Written(job, error=str(error))


def segment_video(segmenter: Segmenter, job: Job, report: Reporter, *, batch_size: int | None = None) -> Written:
    """Segment a video, frame by frame and upright, and write its files, each whole or not at all.

    They have the frames of the video and their times. Raises DataError for a video that cannot be read or segmented,
    and OutputError for files that cannot be written.
    """
    classes, seen = segmenter.info.classes, _Seen()
    files = [(each.video, job.files[each.name]) for each in OUTPUTS if each.video and each.name in job.new_files]
    with ExitStack() as stack:
        video = stack.enter_context(VideoReader.open(job.source))
        read = map_ahead(video.upright, video.frames(), ahead=_AHEAD, size=video.memory_to_convert, room=ROOM)
        found = segmenter.segment((Result(time, image) for time, image in read), batch_size=batch_size)
        draw = partial(_draw, source=job.source, files=[file for file, _ in files], classes=classes)
        drawn = map_ahead(draw, found, ahead=_AHEAD, size=lambda result: 48 * result.pixels, room=ROOM)
        writers: list[Write] = []
        with task(report, f"segmenting {job.source.name}", video.expected_frames, "frames") as advance:
            for time, label, frames in drawn:
                if not writers:
                    writers = [stack.enter_context(file.writer(path, video, *label.shape)) for file, path in files]
                elif label.shape != seen.size:
                    raise DataError(f"{job.source}: expected frames of one size, got another in frame {seen.count + 1}")
                for write, frame in zip(writers, frames, strict=True):
                    write(time, frame)
                seen.add(time, label)
                advance()
        notes = video.notes
    return replace(seen.written(job), note=f"{job.source}: {'; '.join(notes)}" if notes else "")


def written_before(job: Job, classes: Sequence[str]) -> Written:
    """Return what is seen in the masks of a video that was segmented before; an error if they do not fit."""
    mask, seen = job.files["mask"], _Seen()
    try:
        with VideoReader.open(mask) as video:
            for time, frame in video.frames():
                seen.add(time, frame.to_ndarray(format="gray"))
            if notes := video.notes:
                raise DataError(f"{mask}: {'; '.join(notes)}")
        check_class_ids(mask, seen.pixels, classes)
    except DataError as error:
        return Written(job, error=f"{error}; use `overwrite` to segment it again")
    return seen.written(job)


class _Seen:
    """Count the frames of a video, and the pixels of their classes."""

    def __init__(self) -> None:
        self.pixels: Counter[int] = Counter()
        self.count, self.begin, self.end, self.size = 0, Fraction(0), Fraction(0), (0, 0)

    def add(self, time: Timing, label: Label) -> None:
        self.pixels.update(count_pixels(label))
        self.begin = self.begin if self.count else time.begin  # cut from a longer video, it may be late
        self.count, self.end, self.size = self.count + 1, time.end, label.shape

    def written(self, job: Job) -> Written:
        pixels, seconds = dict(self.pixels.most_common()), round(float(self.end - self.begin), 3)
        return Written(job, self.size, pixels, frames=self.count, seconds=seconds)


def _draw(
    result: Result[Timing], source: Path, files: Sequence[VideoFile], classes: Sequence[str]
) -> tuple[Timing, Label, list[Image | Label]]:
    if result.error is not None or result.image is None:
        raise DataError(f"{source}: frame at {float(result.item.begin):.2f} s: {result.error}")
    label = result.found()
    return result.item, label, [file.frame(result.image, label, classes) for file in files]


def check_class_ids(mask: Path, pixels: dict[int, int], classes: Sequence[str]) -> None:
    """Raise DataError for a mask with ids that are not of these classes."""
    if (largest := max(pixels)) >= len(classes):
        raise DataError(f"{mask} is of another network: expected class ids below {len(classes)}, got {largest}")


def check_videos(paths: Sequence[Path]) -> None:
    """Raise DataError if there are videos, and the package that reads them is missing."""
    if not paths:
        return
    try:
        import av  # noqa: F401
    except ImportError:
        raise DataError(f"{paths[0]} is a video, which needs PyAV; pip install 'deeplabctl[video]'") from None
