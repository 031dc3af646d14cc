"""Print what infer has found: a line for each picture as it comes, or one JSON document at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.cli.console import Console
from deeplabctl.cli.formatting import duration, with_options

if TYPE_CHECKING:
    from deeplabctl.prediction.job import Summary
    from deeplabctl.prediction.outputs.picture_files import PictureResult
    from deeplabctl.prediction.outputs.plan import Plan
    from deeplabctl.prediction.video import VideoResult

_FILES = ("mask", "scores", "labelme", "overlay")
_NAMES = {"areas": "areas", "coco": "COCO", "class_names": "class names", "page": "contact sheet"}


@dataclass
class Results:
    """Print results as they come; what the JSON document needs is kept for it."""

    console: Console
    classes: tuple[str, ...]
    images: list[dict[str, Any]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)

    def show(self, result: PictureResult | VideoResult, seconds: float) -> None:
        """Take a result, with the seconds that it took."""
        entry = result.to_dict(self.classes)
        if self.console.json and "video" in entry:
            self.videos.append(entry)
        elif self.console.json:
            self.images.append({**entry, "seconds": seconds})
        else:
            self.console.say(_line(entry))

    def finish(self, plan: Plan, summary: Summary, weights: Path, settings: dict[str, Any]) -> None:
        """Print the files of the run, or the JSON document."""
        files = {name: str(path) for name in _NAMES if (path := getattr(plan, name)) is not None}
        for name, path in files.items():
            self.console.say(f"{_NAMES[name]} {path}")
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


def _line(entry: dict[str, Any]) -> str:
    shares = ", ".join(f"{found['name']} {found['share']:.1%}" for found in entry["classes"])
    *others, last = [path for name in _FILES if (path := entry.get(name)) is not None] or [""]
    written = f"{', '.join(others)} and {last}" if others else last
    size = f"{entry['width']}x{entry['height']}"
    if "video" in entry:
        size += f", {entry['frames']} frames, {duration(entry['seconds'])}"
    return f"{entry.get('image') or entry['video']} ({size}){written and f' -> {written}'}: {shares}"
