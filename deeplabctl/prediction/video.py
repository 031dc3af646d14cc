"""Segment videos frame by frame: a video with the overlay, and one of the masks, of the same frames and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from deeplabctl.arrays import Image, Label
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.parallel import map_ahead
from deeplabctl.prediction.outputs.picture_files import Failure, check_class_ids, classes_in_json, count_pixels
from deeplabctl.prediction.outputs.plan import VideoJob
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.video_files import Timing, VideoReader, VideoWriter, lossless_writer, overlay_writer
from deeplabctl.render import overlay
from deeplabctl.reporting import Reporter, task

_AHEAD = 2  # frames that are converted, and that are drawn, beside those of the threads


@dataclass(frozen=True)
class VideoResult:
    """Hold what was seen in a video: the pixels of each class id in all of its frames, the largest first."""

    job: VideoJob
    height: int
    width: int
    frames: int
    seconds: float
    pixels: dict[int, int]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the video, its files and its classes as JSON has them."""
        job = self.job
        return {
            "video": str(job.video),
            "overlay": str(job.overlay),
            "mask": None if job.mask is None else str(job.mask),
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "seconds": self.seconds,
            "classes": classes_in_json(self.pixels, classes),
        }


def segment_videos(
    segmenter: Segmenter, jobs: Iterable[VideoJob], report: Reporter, *, batch_size: int | None = None
) -> Iterator[VideoResult | Failure]:
    """Segment videos and write their files; yields, in order, what was seen in each, or why it failed."""
    for job in jobs:
        try:
            yield segment_video(segmenter, job, report, batch_size=batch_size)
        except DeepLabError as error:
            yield Failure(job, str(error))


def segment_video(
    segmenter: Segmenter, job: VideoJob, report: Reporter, *, batch_size: int | None = None
) -> VideoResult:
    """Segment a video, frame by frame and upright, and write its files, each whole or not at all.

    They have the frames of the video and their times. Raises DataError for a video that cannot be read or segmented,
    and OutputError for files that cannot be written.
    """
    classes = segmenter.info.classes
    pixels: Counter[int] = Counter()
    with ExitStack() as stack:
        video = stack.enter_context(VideoReader.open(job.video))
        read = map_ahead(video.upright, video.frames(), ahead=_AHEAD)
        segmented = segmenter.segment((Result(time, image) for time, image in read), batch_size=batch_size)
        drawn = map_ahead(lambda result: _draw(result, classes), segmented, ahead=_AHEAD)
        writers: list[VideoWriter] = []
        count, end, size = 0, Fraction(0), (0, 0)
        with task(report, f"segmenting {job.video.name}", video.expected_frames, "frames") as advance:
            for time, *pictures in drawn:
                if not writers:
                    writers, size = _open_writers(stack, job, video, pictures), pictures[1].shape
                if pictures[1].shape != size:
                    raise DataError(f"{job.video}: expected frames of one size, got another in frame {count + 1}")
                for writer, picture in zip(writers, pictures, strict=False):
                    writer.write(time, picture)
                pixels.update(count_pixels(pictures[1]))
                count, end = count + 1, time.end
                advance()
    if not count:
        raise DataError(f"{job.video}: expected a video with frames, got none")
    return VideoResult(job, *size, count, round(float(end), 3), dict(pixels.most_common()))


def result_of_videos_masks(job: VideoJob, classes: Sequence[str]) -> VideoResult | Failure:
    """Return what is seen in the masks of a video that was segmented before; a Failure if they do not fit."""
    assert job.mask is not None
    pixels: Counter[int] = Counter()
    count, end, size = 0, Fraction(0), (0, 0)
    try:
        with VideoReader.open(job.mask) as video:
            for time, frame in video.frames():
                label = frame.to_ndarray(format="gray")
                pixels.update(count_pixels(label))
                count, end, size = count + 1, time.end, label.shape
        check_class_ids(job.mask, pixels or {0: 0}, classes)
    except DataError as error:
        return Failure(job, f"{error}; use `overwrite` to segment it again")
    return VideoResult(job, *size, count, round(float(end), 3), dict(pixels.most_common()))


def _draw(result: Result[Timing], classes: Sequence[str]) -> tuple[Timing, Image, Label]:
    if result.error is not None or result.image is None:
        raise DataError(f"frame at {float(result.item.begin):.2f} s: {result.error}")
    label = result.found()
    return result.item, overlay(result.image, label, classes), label


def _open_writers(
    stack: ExitStack, job: VideoJob, video: VideoReader, pictures: Sequence[Image | Label]
) -> list[VideoWriter]:
    height, width = pictures[1].shape
    writers = [stack.enter_context(overlay_writer(job.overlay, video, height, width))]
    if job.mask is not None:
        writers.append(stack.enter_context(lossless_writer(job.mask, video, height, width)))
    return writers


def check_videos(paths: Sequence[Path]) -> None:
    """Raise DataError if there are videos, and the package that reads them is missing."""
    if not paths:
        return
    try:
        import av  # noqa: F401
    except ImportError:
        raise DataError(f"{paths[0]} is a video, which needs PyAV; pip install 'deeplabctl[video]'") from None
