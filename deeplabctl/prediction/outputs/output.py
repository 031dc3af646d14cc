"""Say what an output is: a file that is made of each image or video, one of the whole run, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.choices import OUTPUT_OPTIONS
from deeplabctl.errors import OutputError
from deeplabctl.files import write_text
from deeplabctl.prediction.video_files import VideoReader, Write

_TAIL = 1 << 16  # bytes in which the end of a file is looked for: other programs may have added to it


@dataclass(frozen=True, eq=False)
class Job:
    """Name an image or a video, and the files that are made of it, by the names of their outputs."""

    source: Path
    files: Mapping[str, Path]
    listed: tuple[str, ...]  # the outputs that JSON lists, also those that are not asked for
    is_video: bool = False
    kept: frozenset[str] = frozenset()  # the outputs whose files are there and stay as they are

    @property
    def new_files(self) -> dict[str, Path]:
        """Return the files that are to be written."""
        return {name: path for name, path in self.files.items() if name not in self.kept}


@dataclass(frozen=True)
class Labelled:
    """Hold an image whose files are to be written."""

    job: Job
    image: Image  # (H, W, 3) uint8 RGB
    label: Label  # (H, W) uint8
    scores: Scores | None  # (H, W, C) float32, if an output needs them
    classes: Sequence[str]


@dataclass(frozen=True)
class Written:
    """Hold what was seen in an image or a video whose files were written, or the ``error`` for which they were not."""

    job: Job
    size: tuple[int, int] = (0, 0)  # height, width
    pixels: dict[int, int] = field(default_factory=dict)  # of each class id, the largest first; in all frames
    parts: dict[str, Any] = field(default_factory=dict)  # what the files of the run need, by the names of their outputs
    frames: int = 0
    seconds: float = 0.0  # that a video lasts
    error: str = ""
    note: str = ""  # on what was assumed, or left out

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the image or the video, its files and its classes as JSON has them."""
        job, total = self.job, sum(self.pixels.values())
        files = {name: str(job.files[name]) if name in job.files else None for name in job.listed}
        video = {"frames": self.frames, "seconds": self.seconds} if job.is_video else {}
        found = [
            {"id": index, "name": classes[index], "pixels": count, "share": count / total}
            for index, count in self.pixels.items()
        ]
        kind = "video" if job.is_video else "image"
        size = {"width": self.size[1], "height": self.size[0]}
        return {kind: str(job.source), **files, **size, **video, "classes": found}


Add = Callable[[Written], object]


class RunFile(NamedTuple):
    """Describe the file of a whole run."""

    file: str
    name: str  # in JSON
    words: str
    images: bool = False  # it shows all images; skipped ones are read from masks
    videos: bool = False
    settings: str = ""  # a second file, in the same folder; in JSON the name has "_settings" behind it


class VideoFile(NamedTuple):
    """Describe the file of a video."""

    file: str  # named after the video, {stem}
    writer: Callable[[Path, VideoReader, int, int], AbstractContextManager[Write]]  # of frames (height, width)
    frame: Callable[[Image, Label, Sequence[str]], Image | Label]  # of an image, its label and the classes


class Output:
    """Describe an output; a subclass has only what it declares.

    Files of images are named after them, ``{stem}`` or the whole ``{name}``; all files are written whole or not at all.
    """

    listed: ClassVar[bool] = True  # in JSON
    image_file: ClassVar[str] = ""
    video: ClassVar[VideoFile | None] = None
    needs_scores: ClassVar[bool] = False
    marks: ClassVar[tuple[bytes, bytes]] = (b"", b"")  # with which a file begins and ends
    may_be_empty: ClassVar[bool] = False
    run: ClassVar[RunFile | None] = None

    def __init__(self, name: str) -> None:
        self.name = name  # in --format and in JSON
        self.has_option = name in OUTPUT_OPTIONS

    def write(self, path: Path, labelled: Labelled) -> None:
        """Write the file of an image; raises OutputError."""

    def part(self, label: Label, classes: Sequence[str]) -> Any:
        """Return what the file of the run needs of an image; None if that is in `Written` already."""

    @contextmanager
    def run_writer(self, path: Path, jobs: Sequence[Job], classes: Sequence[str]) -> Iterator[Add]:
        """Yield what adds images and videos, in order, to the file of the run, which is there when the block ends."""
        text = self.run_text(path, classes)
        yield lambda written: None
        if text:
            write_text(path, text)

    def run_text(self, path: Path, classes: Sequence[str]) -> str:
        """Return the text of the run's file where it depends on the classes only, before any work."""
        return ""

    def is_there(self, path: Path, *, is_video: bool = False) -> bool:
        """Tell whether the file of an image or a video is there, and neither empty nor, as far as marks tell, cut off.

        What another program wrote in its place is somebody's work, and there. Raises OutputError if it is unreadable.
        """
        begin, end = (b"", b"") if is_video else self.marks
        try:
            with path.open("rb") as file:
                head, size = file.read(len(begin)), file.seek(0, 2)
                file.seek(max(0, size - _TAIL))
                return self.may_be_empty or (
                    size > 0 and (not begin.startswith(head.strip(b"\0")) or end in file.read())
                )
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}; move it, or choose another `out`") from None
