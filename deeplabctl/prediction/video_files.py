"""Read and write videos with PyAV, frame by frame, each frame with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from deeplabctl.arrays import Image, Label, Size
from deeplabctl.errors import DataError
from deeplabctl.files import whole_file

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

_BT709 = 1  # of the primaries, the transfer function and the matrix of colours, as H.264 numbers them


@dataclass(frozen=True)
class Timing:
    """Hold when a frame is shown, in units of ``base`` seconds."""

    pts: int
    duration: int
    base: Fraction

    @property
    def begin(self) -> Fraction:
        """Return the seconds at which the frame appears."""
        return self.pts * self.base

    @property
    def end(self) -> Fraction:
        """Return the seconds at which it disappears."""
        return (self.pts + self.duration) * self.base


Write = Callable[[Timing, Image | Label], None]  # a frame, (H, W, 3) uint8 RGB or (H, W) uint8 values, with its time


class VideoReader:
    """Read the frames of the video stream that players show: the default one or else the first, and no cover image."""

    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        if not container.streams.video:
            raise DataError(f"cannot read {path}: expected a video, got no images in it; leave the file out")
        self._path, self._container = path, container
        self._stream = cast("VideoStream", container.streams.best("video"))
        self._stream.thread_type = "SLICE"
        self.rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.time_base = self._stream.time_base or 1 / self.rate
        self.aspect: Fraction | None = self._stream.sample_aspect_ratio or None  # of a pixel; `frames` turns it
        self._lost, self._first_lost, self._end = 0, Fraction(0), Fraction(0)  # frames; seconds

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open a video; raises DataError for what cannot be read."""
        import av

        try:
            container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise _unreadable(path, error) from None
        with container:
            yield cls(path, container)

    @property
    def expected_frames(self) -> int:
        """Return how many frames there are, as the file says, or as its length suggests."""
        return self._stream.frames or max(1, round(self._length * self.rate))

    @property
    def _length(self) -> Fraction:
        """Return the seconds that the frames take, as the file says; 0 where it does not."""
        stream, container = self._stream.duration or 0, self._container.duration or 0  # which may have a longer sound
        begin = 0 if stream else max(0, self._stream.start_time or 0)  # Matroska's duration counts from 0
        lengths = (stream * self.time_base, Fraction(container, 1_000_000) - begin * self.time_base)
        return min((length for length in lengths if length > 0), default=Fraction(0))

    def frames(self) -> Iterator[tuple[Timing, av.VideoFrame]]:
        """Yield the frames with their times, which grow; those that are damaged are left out.

        Raises DataError for a file without a frame that can be decoded. `notes` says afterwards what was lost.
        """
        usual = max(1, round(1 / self.rate / self.time_base))
        pts, begin = -usual, None
        for frame in self._decoded():
            pts = pts + usual if frame.pts is None else max(frame.pts, pts + 1)
            if begin is None:
                begin = pts
                if self.aspect and _turn(frame)[0]:
                    self.aspect = 1 / self.aspect
            time = Timing(pts, frame.duration or usual, self.time_base)
            self._end = time.end - begin * self.time_base
            yield time, frame

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield the frames that are not damaged; where several were decoded at once, one would take others with it."""
        import av

        packets, reason = self._container.demux(self._stream), "no frame can be decoded"
        while True:
            try:
                for frame in next(packets).decode():
                    if frame.is_corrupt:
                        self._lose()
                    else:
                        yield cast("av.VideoFrame", frame)
            except StopIteration:
                break
            except av.InvalidDataError as error:
                reason = error.strerror or str(error)
                self._lose()
            except (av.FFmpegError, OSError) as error:
                raise _unreadable(self._path, error) from None
        if not self._end:
            raise _unreadable(self._path, reason)

    def _lose(self) -> None:
        self._first_lost = self._first_lost if self._lost else self._end
        self._lost += 1

    @property
    def notes(self) -> list[str]:
        """Return, after `frames`, what was chosen among the file's streams, and what was lost, a line each."""
        found = []
        others = [each for each in self._container.streams.video if each != self._stream and each.frames != 1]
        if others:
            width, height = self._stream.width, self._stream.height
            found.append(f"{len(others) + 1} video streams: using that of {width}x{height} pixels")
        if self._lost:
            found.append(f"damaged frames are left out, the first at {float(self._first_lost):.1f} s")
        if self._end < self._length - max(3 / self.rate, self._length / 50):
            found.append(f"cut off: frames end after {float(self._end):.1f} of {float(self._length):.1f} s")
        return found

    @staticmethod
    def memory_to_convert(item: tuple[Timing, av.VideoFrame]) -> int:
        """Return about how many bytes `upright` takes for a frame, with the frame."""
        return 12 * int(item[1].width * item[1].height)

    @staticmethod
    def upright(item: tuple[Timing, av.VideoFrame]) -> tuple[Timing, Image]:
        """Return a frame as (H, W, 3) uint8 RGB, turned and mirrored as the file says that it is shown."""
        time, frame = item
        is_transposed, down, right = _turn(frame)
        image = frame.to_ndarray(format="rgb24")
        image = image.swapaxes(0, 1) if is_transposed else image
        return time, np.ascontiguousarray(image[::down, ::right])


def _turn(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """Return how a frame is shown: whether rows and columns change places, and then their order, 1 or -1 of each.

    A display matrix (ISO/IEC 14496-12: a b u, c d v, x y w) shows the point (p, q) at (a p + c q + x, b p + d q + y).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    is_transposed = abs(b) + abs(c) > abs(a) + abs(d)
    right, down = (c, b) if is_transposed else (a, d)
    return is_transposed, -1 if down < 0 else 1, -1 if right < 0 else 1


@contextmanager
def overlay_writer(path: Path, video: VideoReader, height: int, width: int) -> Iterator[Write]:
    """Yield what writes RGB frames as H.264 in MP4, which plays everywhere; odd sides grow by a pixel.

    The file is there, whole, when the block ends without an error. Raises OutputError where the system refuses.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"  # FFmpeg's own, in builds without the other
    options = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
    size, movie = (height + height % 2, width + width % 2), {"movflags": "+faststart"}
    with _writer(path, video, codec, size, ("rgb24", "yuv420p"), options, movie) as (write, context):
        context.color_range, context.colorspace = 1, _BT709
        context.color_primaries = context.color_trc = _BT709
        yield write


@contextmanager
def lossless_writer(path: Path, video: VideoReader, height: int, width: int) -> Iterator[Write]:
    """Yield what writes class ids as grey values: lossless, FFV1 in Matroska, whose times are in milliseconds."""
    with _writer(path, video, "ffv1", (height, width), ("gray", "gray"), {"level": "3"}, {}) as (write, _):
        yield write


@contextmanager
def _writer(
    path: Path, video: VideoReader, codec: str, size: Size, formats: tuple[str, str], options: dict[str, str],
    container_options: dict[str, str],
) -> Iterator[tuple[Write, Any]]:  # fmt: skip
    """Yield what writes frames, and the encoder; ``formats`` are those of the frames' pixels and of the video's."""
    import av
    from av.codec.context import Flags

    with whole_file(path) as temporary, av.open(str(temporary), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=video.rate, options=options)
        (stream.height, stream.width), stream.pix_fmt = size, formats[1]
        stream.time_base = stream.codec_context.time_base = video.time_base
        stream.codec_context.flags |= Flags.frame_duration  # else that of the last frame is guessed
        if video.aspect:
            stream.codec_context.sample_aspect_ratio = video.aspect

        def write(time: Timing, pixels: Image | Label) -> None:
            edges = [(0, stream.height - pixels.shape[0]), (0, stream.width - pixels.shape[1])]
            pixels = np.pad(pixels, edges + [(0, 0)] * (pixels.ndim - 2), mode="edge")
            frame = av.VideoFrame.from_ndarray(pixels, format=formats[0])
            if formats[0] != formats[1]:
                frame = frame.reformat(format=formats[1], dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.duration, frame.time_base = time.pts, time.duration, time.base
            container.mux(stream.encode(frame))

        yield write, stream.codec_context
        container.mux(stream.encode())  # what the encoder holds back


def _unreadable(path: Path, error: object) -> DataError:
    got = f"one that is damaged or truncated ({getattr(error, 'strerror', None) or error})"
    return DataError(f"cannot read {path}: expected a complete video, got {got}")
