"""Print what infer has found: a line for each image as it comes, or one JSON document at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.cli.console import Console
from deeplabctl.cli.formatting import duration, with_options

if TYPE_CHECKING:
    from deeplabctl.prediction.outputs.output import Written
    from deeplabctl.prediction.outputs.plan import Plan
    from deeplabctl.prediction.run import Summary


@dataclass
class Results:
    """Print results as they come; what the JSON document needs is kept for it."""

    console: Console
    classes: tuple[str, ...]
    images: list[dict[str, Any]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)

    def show(self, written: Written, seconds: float) -> None:
        """Take a result, with the seconds that it took."""
        if not self.console.json:
            self.console.say(_line(written, self.classes))
        elif written.job.is_video:
            self.videos.append(written.to_dict(self.classes))
        else:
            self.images.append({**written.to_dict(self.classes), "seconds": seconds})

    def finish(self, plan: Plan, summary: Summary, weights: Path, settings: dict[str, Any]) -> None:
        """Print the files of the run, or the JSON document."""
        files = {name: str(path) for name, path in plan.run_files.items()}
        for output in plan.outputs:
            if output.run:
                self.console.say(f"{output.run.words} {files[output.run.name]}")
        self.console.document(
            {
                "images": self.images,
                "videos": self.videos,
                "skipped": [str(job.source) for job in plan.jobs if job in plan.done],
                "failed": [with_options(message) for message in summary.failed],
                "files": files,
                "weights": str(weights),
                "settings": settings,
            }
        )


def _line(written: Written, classes: tuple[str, ...]) -> str:
    """Return a result in a line, the files of options of their own behind those of --format."""
    from deeplabctl.prediction.outputs import OUTPUTS

    job, (height, width) = written.job, written.size
    listed = sorted((output for output in OUTPUTS if output.listed), key=lambda output: output.has_option)
    *others, last = [str(job.files[output.name]) for output in listed if output.name in job.files] or [""]
    files = f"{', '.join(others)} and {last}" if others else last
    size = f"{width}x{height}"
    if job.is_video:
        size += f", {written.frames} frames, {duration(written.seconds)}"
    shares = ", ".join(f"{found['name']} {found['share']:.1%}" for found in written.to_dict(classes)["classes"])
    return f"{job.source} ({size}){files and f' -> {files}'}: {shares}"
