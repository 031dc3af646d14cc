"""Write the files of a whole run while its pictures come: areas as JSON Lines, COCO's annotations."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from deeplabctl.classes import format_classes
from deeplabctl.data.exporting.coco import categories
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
            self._coco.add(result)
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


class CocoFile:
    """Write COCO's document, whose annotations come with the pictures, and the pictures after all annotations."""

    def __init__(self, file: TextIO, images: TextIO, root: Path) -> None:
        self._file, self._images, self._root = file, images, root
        self._pictures = self._annotations = 0

    def add(self, result: PictureResult) -> None:
        """Add a picture and its segments; ids count from 1."""
        name = Path(os.path.relpath(result.job.image.absolute(), self._root)).as_posix()
        image = {"id": self._pictures + 1, "file_name": name, "width": result.width, "height": result.height}
        self._images.write(_entry(image, is_first=self._pictures == 0))
        self._pictures += 1
        for segment in result.segments:
            annotation = {
                "id": self._annotations + 1,
                "image_id": self._pictures,
                "category_id": segment["class_id"],
                "iscrowd": 0,
                **{key: segment[key] for key in ("area", "bbox", "segmentation")},
            }
            self._file.write(_entry(annotation, is_first=self._annotations == 0))
            self._annotations += 1


@contextmanager
def coco_file(path: Path, classes: Sequence[str], pictures: Sequence[Path]) -> Iterator[CocoFile]:
    """Yield what takes the pictures of a COCO document; it names them by their paths from the folder of them all."""
    root = Path(os.path.commonpath([picture.absolute().parent for picture in pictures])) if pictures else Path()
    with path.open("w", encoding="utf-8") as file, tempfile.TemporaryFile("w+", dir=path.parent) as images:
        head = {"info": {"description": "segmented by deeplabctl"}, "categories": categories(classes)}
        file.write(f'{json.dumps(head)[:-1]},\n"annotations": [')
        yield CocoFile(file, images, root)
        file.write('\n],\n"images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write("\n]}\n")


def _entry(value: dict[str, Any], *, is_first: bool) -> str:
    return ("\n" if is_first else ",\n") + json.dumps(value)
