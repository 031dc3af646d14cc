"""Plan the files of a run before it starts: their names, which images have theirs already, what must not be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deeplabctl.errors import OutputError
from deeplabctl.files import check_folder, check_free, check_writable, remove_unfinished
from deeplabctl.prediction.inputs import is_video
from deeplabctl.prediction.outputs import OUTPUTS
from deeplabctl.prediction.outputs.output import Job, Output


@dataclass(frozen=True)
class OutputRequest:
    """Say what to write, by the names of outputs, and where.

    Files that exist are an error, or replaced (``overwrite``), or kept (``skip_existing``): images that have all of
    their own are skipped.
    """

    out: Path
    formats: tuple[str, ...] = ("mask",)
    overwrite: bool = False
    skip_existing: bool = False

    def outputs(self) -> tuple[Output, ...]:
        """Return what is asked for."""
        return tuple(output for output in OUTPUTS if output.name in self.formats)


@dataclass(frozen=True)
class Plan:
    """Hold what there is to do: the jobs with those that are ``done`` and are skipped, and the files of the whole run.

    ``run_files`` are by their names in JSON.
    """

    images: tuple[Job, ...]
    videos: tuple[Job, ...]
    outputs: tuple[Output, ...]
    run_files: dict[str, Path]
    done: frozenset[Job] = frozenset()

    @property
    def jobs(self) -> list[Job]:
        """Return all images, then all videos."""
        return [*self.images, *self.videos]

    @property
    def todo(self) -> list[Job]:
        """Return the images that are to be segmented."""
        return [job for job in self.images if job not in self.done]

    @property
    def videos_todo(self) -> list[Job]:
        """Return the videos that are to be segmented."""
        return [job for job in self.videos if job not in self.done]

    def files(self) -> Iterator[tuple[Path, Path]]:
        """Yield each file with the image or video that it is made of, and those of the whole run with themselves."""
        yield from ((path, path) for path in self.run_files.values())
        yield from ((path, job.source) for job in self.jobs for path in job.files.values())


def plan_outputs(inputs: Sequence[Path], request: OutputRequest) -> Plan:
    """Name the files of each image and video in the folder ``out``, all after its stem, and those of the run.

    Raises OutputError if two of them, or one and an input, would be the same file; if one exists already, unless the
    request says otherwise; for what cannot be written of a video; and where nothing can be written. What killed
    processes left of the files is removed.
    """
    check_folder(request.out)
    outputs, out = request.outputs(), request.out
    jobs = [_video_job(path, outputs, out) if is_video(path) else _image_job(path, outputs, out) for path in inputs]
    of_run = [output.run for output in outputs if output.run]
    run_files = {run.name: out / run.file for run in of_run}
    run_files |= {f"{run.name}_settings": out / run.settings for run in of_run if run.settings}
    if request.skip_existing:
        jobs = [replace(job, kept=_kept(job)) for job in jobs]
    images, videos = (tuple(job for job in jobs if job.is_video == kind) for kind in (False, True))
    plan = Plan(images, videos, outputs, run_files)
    _check_names(plan, inputs)
    if request.skip_existing:
        plan = replace(plan, done=frozenset(job for job in jobs if not job.new_files))
        if not any(job.kept for job in jobs):  # so files of a run are not of one that is continued
            for path in plan.run_files.values():
                is_empty = path.is_file() and not path.stat().st_size  # as where all images failed
                check_free(path, overwrite=is_empty, others="or `out` for another folder")
    else:
        others = "`skip_existing` to keep it, or `out` for another folder"
        for path, _ in plan.files():
            check_free(path, overwrite=request.overwrite, others=others)
    if plan.run_files or len(plan.done) < len(jobs):
        for folder in dict.fromkeys(path.parent for path, _ in plan.files()):
            check_writable(folder)
        remove_unfinished(path for path, _ in plan.files())
    return plan


def _image_job(image: Path, outputs: Sequence[Output], out: Path) -> Job:
    files = {
        each.name: out / each.image_file.format(stem=image.stem, name=image.name) for each in outputs if each.image_file
    }
    return Job(image, files, tuple(each.name for each in OUTPUTS if each.image_file and each.listed))


def _video_job(video: Path, outputs: Sequence[Output], out: Path) -> Job:
    """Return the job of a video, whose overlay is always written, and comes first in JSON."""
    able = [each for each in OUTPUTS if each.video or (each.run and each.run.videos)]
    if wrong := next((each for each in outputs if each not in able), None):
        names = " or ".join(each.name for each in able if not each.has_option)
        got = wrong.run.words if wrong.has_option and wrong.run else wrong.name
        raise OutputError(f"{video} is a video: expected the format {names}, got {got}; leave the video out")
    of_videos = [(each, each.video.file) for each in reversed(OUTPUTS) if each.video]
    wanted = [(each.name, file) for each, file in of_videos if each in outputs or each.has_option]
    files = {name: out / file.format(stem=video.stem) for name, file in wanted}
    return Job(video, files, tuple(each.name for each, _ in of_videos), is_video=True)


def _kept(job: Job) -> frozenset[str]:
    """Return the outputs whose files are there."""
    of_job = [output for output in OUTPUTS if output.name in job.files]
    return frozenset(each.name for each in of_job if each.is_there(job.files[each.name], is_video=job.is_video))


def _check_names(plan: Plan, inputs: Iterable[Path]) -> None:
    """Raise OutputError if two files would have one name, or one the name of an input."""
    taken: dict[Path, Path] = {}
    for target, source in plan.files():
        if (other := taken.setdefault(target, source)) != source:
            if other == target:
                raise OutputError(f"{source} would be written to {target}, a file of the whole run; rename it")
            raise OutputError(f"{other} and {source} would both be written to {target}; give each its own `out`")
    sources = {path.resolve() for path in inputs}
    for target in taken:
        if target.resolve() in sources:
            raise OutputError(f"{target} is one of the images and would be overwritten; choose another `out`")
