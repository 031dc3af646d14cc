"""Plan the files of a run before it starts: their names, which pictures have theirs already, what must not be."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from deeplabctl.errors import OutputError
from deeplabctl.files import check_folder, check_new_file, unfinished_target
from deeplabctl.prediction.inputs import is_video

Format = Literal["mask", "scores", "labelme", "json", "coco"]
_OF_PICTURES_ONLY = ("scores", "labelme", "coco")
_ENDS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".json": b"}\n"}  # of whole files


@dataclass(frozen=True)
class OutputRequest:
    """Say what to write, and where: formats, an overlay of each picture, a page that shows all of them.

    Files that exist are an error, or replaced (``overwrite``), or kept where a picture has all of its own
    (``skip_existing``).
    """

    out: Path
    formats: tuple[Format, ...] = ("mask",)
    overlay: bool = False
    contact_sheet: bool = False
    overwrite: bool = False
    skip_existing: bool = False


@dataclass(frozen=True)
class PictureJob:
    """Name a picture and the files that are made of it."""

    image: Path
    mask: Path | None = None
    overlay: Path | None = None
    scores: Path | None = None
    labelme: Path | None = None
    thumbnail: Path | None = None

    @property
    def source(self) -> Path:
        """Return the picture."""
        return self.image

    def files(self) -> list[Path]:
        """Return the files that are made."""
        return _paths(self, but="image")


@dataclass(frozen=True)
class VideoJob:
    """Name a video and the videos that are made of it."""

    video: Path
    overlay: Path
    mask: Path | None = None

    @property
    def source(self) -> Path:
        """Return the video."""
        return self.video

    def files(self) -> list[Path]:
        """Return the files that are made."""
        return _paths(self, but="video")


@dataclass(frozen=True)
class Plan:
    """Hold what there is to do, and the files of the whole run.

    ``done`` are the jobs whose files are all there, if they are to be skipped. The other jobs are in ``pictures`` and
    ``videos``, which have those that are done, too.
    """

    pictures: tuple[PictureJob, ...]
    videos: tuple[VideoJob, ...]
    done: frozenset[PictureJob | VideoJob]
    areas: Path | None = None
    coco: Path | None = None
    page: Path | None = None
    class_names: Path | None = None

    @property
    def jobs(self) -> list[PictureJob | VideoJob]:
        """Return all pictures, then all videos."""
        return [*self.pictures, *self.videos]

    @property
    def todo(self) -> list[PictureJob]:
        """Return the pictures that are to be segmented."""
        return [job for job in self.pictures if job not in self.done]

    @property
    def videos_todo(self) -> list[VideoJob]:
        """Return the videos that are to be segmented."""
        return [job for job in self.videos if job not in self.done]

    def run_files(self) -> list[Path]:
        """Return the files of the whole run."""
        return [path for path in (self.areas, self.coco, self.page, self.class_names) if path is not None]


def plan_outputs(inputs: Sequence[Path], request: OutputRequest) -> Plan:
    """Name the files of each picture and video in the folder ``out``, all after its stem, and those of the run.

    Raises OutputError if two of them, or one and a picture, would be the same file; if one exists already, unless the
    request says otherwise; and for what cannot be written of a video.
    """
    check_folder(request.out)
    videos = [path for path in inputs if is_video(path)]
    pictures = [path for path in inputs if path not in set(videos)]
    jobs = tuple(_picture_job(path, request) for path in pictures)
    video_jobs = tuple(_video_job(path, request) for path in videos)
    plan = Plan(jobs, video_jobs, frozenset(), **_run_files(request))
    _check_names(plan, inputs)
    if request.skip_existing:
        remove_unfinished(_all_files(plan))
        done = frozenset(job for job in plan.jobs if all(is_whole(path) for path in job.files()))
        return Plan(jobs, video_jobs, done, **_run_files(request))
    for path in _all_files(plan):
        check_new_file(path, overwrite=request.overwrite)
    return plan


def remove_unfinished(files: Iterable[Path]) -> None:
    """Remove what killed processes left of these files under temporary names."""
    targets = set(files)
    for folder in {path.parent for path in targets}:
        if not folder.is_dir():
            continue
        for path in folder.glob(".*"):
            if unfinished_target(path) in targets:
                path.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Tell whether a file is there to its end, without reading all of it.

    This program writes files whole or not at all; other programs and full disks may cut them.
    """
    try:
        if path.suffix == ".npz":
            return zipfile.is_zipfile(path)
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            return size > 0 and file.read().endswith(_ENDS.get(path.suffix, b""))
    except OSError:
        return False


def _picture_job(image: Path, request: OutputRequest) -> PictureJob:
    out, stem, formats = request.out, image.stem, request.formats
    return PictureJob(
        image,
        mask=out / f"{stem}.png" if "mask" in formats else None,
        overlay=out / f"{stem}_overlay.png" if request.overlay else None,
        scores=out / f"{stem}.npz" if "scores" in formats else None,
        labelme=out / f"{stem}.json" if "labelme" in formats else None,
        thumbnail=out / "thumbnails" / f"{stem}.jpg" if request.contact_sheet else None,
    )


def _video_job(video: Path, request: OutputRequest) -> VideoJob:
    if wrong := [name for name in request.formats if name in _OF_PICTURES_ONLY]:
        raise OutputError(
            f"{video} is a video: expected the formats mask and json, got {wrong[0]}; leave the video out"
        )
    mask = request.out / f"{video.stem}_masks.mkv" if "mask" in request.formats else None
    return VideoJob(video, request.out / f"{video.stem}_overlay.mp4", mask)


def _run_files(request: OutputRequest) -> dict[str, Path | None]:
    out, formats = request.out, request.formats
    return {
        "areas": out / "areas.jsonl" if "json" in formats else None,
        "coco": out / "coco.json" if "coco" in formats else None,
        "page": out / "index.html" if request.contact_sheet else None,
        "class_names": out / "classes.txt" if "labelme" in formats else None,
    }


def _check_names(plan: Plan, inputs: Iterable[Path]) -> None:
    """Raise OutputError if two files would have one name, or one the name of an input."""
    sources = {path.resolve() for path in inputs}
    taken: dict[Path, Path] = {path: path for path in plan.run_files()}
    for source, files in _files_by_source(plan):
        for target in files:
            if (other := taken.setdefault(target, source)) != source:
                if other == target:
                    raise OutputError(f"{source} would be written to {target}, a file of the whole run; rename it")
                raise OutputError(f"{other} and {source} would both be written to {target}; give each its own `out`")
    for target in taken:
        if target.resolve() in sources:
            raise OutputError(f"{target} is one of the pictures and would be overwritten; choose another `out`")


def _files_by_source(plan: Plan) -> Iterator[tuple[Path, list[Path]]]:
    yield from ((job.source, job.files()) for job in plan.jobs)


def _all_files(plan: Plan) -> Iterator[Path]:
    for _, files in _files_by_source(plan):
        yield from files
    yield from plan.run_files()


def _paths(job: PictureJob | VideoJob, *, but: str) -> list[Path]:
    values = (getattr(job, field.name) for field in fields(job) if field.name != but)
    return [path for path in values if path is not None]
