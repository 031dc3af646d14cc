"""Write the files of a whole run while its pictures come: areas as JSON Lines, COCO's annotations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TextIO

from deeplabctl.classes import format_classes
from deeplabctl.data.formats.coco import CocoFile, coco_file
from deeplabctl.files import whole_file, write_text
from deeplabctl.prediction.outputs.picture_files import PictureResult
from deeplabctl.prediction.outputs.plan import Plan


class RunOutput(Protocol):
    """A file about all the images of a run, such as a page."""

    def add(self, result: PictureResult) -> None:
        """Add an image; they come in order."""

    def finish(self) -> None:
        """Write the file; raises OutputError where the system refuses."""


class RunFiles:
    """Take the results of a run, in order."""

    def __init__(
        self, classes: Sequence[str], areas: TextIO | None, coco: CocoFile | None, outputs: Sequence[RunOutput]
    ) -> None:
        self._classes, self._areas, self._coco, self._outputs = classes, areas, coco, outputs

    @property
    def needed(self) -> bool:
        """Tell whether there is a file that takes results."""
        return not (self._areas is None and self._coco is None and not self._outputs)

    def add(self, result: PictureResult) -> None:
        """Add a picture to each of the files."""
        self.add_line(result.to_dict(self._classes))
        if self._coco is not None:
            self._coco.add(result.job.image, (result.height, result.width), result.segments)
        for output in self._outputs:
            output.add(result)

    def add_line(self, entry: dict[str, Any]) -> None:
        """Add a picture or a video to the JSON Lines."""
        if self._areas is not None:
            self._areas.write(json.dumps(entry) + "\n")


@contextmanager
def run_files(plan: Plan, classes: Sequence[str], outputs: Sequence[RunOutput]) -> Iterator[RunFiles]:
    """Yield what takes the results of a run; its files are there, whole, when the block ends without an error.

    Raises OutputError where the system refuses.
    """
    names = format_classes(classes, plan.class_names) if plan.class_names else ""  # refused before any work
    with ExitStack() as stack:
        areas = coco = None
        if plan.areas is not None:
            temporary = stack.enter_context(whole_file(plan.areas))
            areas = stack.enter_context(temporary.open("w", encoding="utf-8"))
        if plan.coco is not None:
            temporary = stack.enter_context(whole_file(plan.coco))
            coco = stack.enter_context(coco_file(temporary, classes, [job.image for job in plan.pictures]))
        yield RunFiles(classes, areas, coco, outputs)
        if plan.class_names is not None:
            write_text(plan.class_names, names)
        for output in outputs:
            output.finish()
