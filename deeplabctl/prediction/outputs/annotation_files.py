"""Write what other programs read: areas as JSON Lines and as a table, and annotations in their formats."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from deeplabctl.arrays import Label, Size
from deeplabctl.class_files import format_classes
from deeplabctl.data.formats.coco import coco_file, segments
from deeplabctl.data.formats.cvat import cvat_file, cvat_shapes
from deeplabctl.data.formats.label_studio import label_studio_file, label_studio_result, label_studio_settings
from deeplabctl.data.formats.labelme import labelme_document
from deeplabctl.data.formats.supervisely import supervisely_document, supervisely_meta
from deeplabctl.data.formats.via import via_file, via_regions
from deeplabctl.data.formats.yolo import yolo_settings, yolo_text
from deeplabctl.files import whole_file, write_text
from deeplabctl.prediction.outputs.output import Add, Job, Labelled, Output, RunFile, Written


class Areas(Output):
    """JSON Lines: for each image or video its files, its size and the areas of its classes."""

    run = RunFile("areas.jsonl", "areas", "areas", images=True, videos=True)

    @contextmanager
    def run_writer(self, path: Path, jobs: Sequence[Job], classes: Sequence[str]) -> Iterator[Add]:
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            yield lambda written: file.write(json.dumps(written.to_dict(classes)) + "\n")


class Table(Output):
    """A CSV file: for each image or video a line for each class, also for those that are not in it."""

    run = RunFile("areas.csv", "table", "table", images=True, videos=True)

    @contextmanager
    def run_writer(self, path: Path, jobs: Sequence[Job], classes: Sequence[str]) -> Iterator[Add]:
        with (
            whole_file(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["file", "width", "height", "class", "pixels", "percent"])

            def add(written: Written) -> None:
                total = max(sum(written.pixels.values()), 1)
                for index, name in enumerate(classes):
                    count = written.pixels.get(index, 0)
                    cells = [written.job.source, *written.size[::-1], name, count, f"{100 * count / total:.4f}"]
                    table.writerow(cells)

            yield add


class _Form(NamedTuple):
    part: Callable[[Label, Sequence[str]], Any]  # of an image, from its label and the classes
    file: Callable[[Path, Sequence[str], Sequence[Path]], AbstractContextManager[Callable[[Path, Size, Any], None]]]


class _Annotations(Output):
    """Annotations of all images in one file."""

    form: ClassVar[_Form]

    def part(self, label: Label, classes: Sequence[str]) -> Any:
        return self.form.part(label, classes)

    @contextmanager
    def run_writer(self, path: Path, jobs: Sequence[Job], classes: Sequence[str]) -> Iterator[Add]:
        with whole_file(path) as temporary, self.form.file(temporary, classes, [job.source for job in jobs]) as add:
            yield lambda written: add(written.job.source, written.size, written.parts[self.name])


class CocoOutput(_Annotations):
    """COCO's annotations of all images, named by their paths from the folder that all are in; ids count from 1."""

    run, form = RunFile("coco.json", "coco", "COCO", images=True), _Form(segments, coco_file)


class CvatOutput(_Annotations):
    """CVAT's XML with a mask for each class in an image, named as in COCO's file."""

    run, form = RunFile("cvat.xml", "cvat", "CVAT", images=True), _Form(cvat_shapes, cvat_file)


class LabelmeOutput(Output):
    """Outlines that labelme opens, for each image, and the names of the classes for all."""

    image_file = "{stem}.json"
    run = RunFile("classes.txt", "class_names", "class names")

    def write(self, path: Path, labelled: Labelled) -> None:
        source = labelled.job.source
        document = labelme_document(labelled.label, labelled.classes, source, path.parent)
        write_text(path, json.dumps(document) + "\n")

    def run_text(self, path: Path, classes: Sequence[str]) -> str:
        return format_classes(classes, path)


class YoloOutput(Output):
    """YOLO's text for each image, and the data.yaml for a set in which the images lie in ``images``."""

    image_file, may_be_empty = "labels/{stem}.txt", True  # without objects
    run = RunFile("data.yaml", "yolo_settings", "YOLO")

    def write(self, path: Path, labelled: Labelled) -> None:
        write_text(path, yolo_text(labelled.label, labelled.classes))

    def run_text(self, path: Path, classes: Sequence[str]) -> str:
        return yolo_settings(classes)


class LabelStudioOutput(_Annotations):
    """Label Studio's tasks with predictions, and the labelling settings of a project that takes them."""

    run = RunFile("labelstudio.json", "labelstudio", "Label Studio", images=True, settings="labelstudio.xml")
    form = _Form(label_studio_result, label_studio_file)

    @contextmanager
    def run_writer(self, path: Path, jobs: Sequence[Job], classes: Sequence[str]) -> Iterator[Add]:
        with super().run_writer(path, jobs, classes) as add:
            yield add
        write_text(path.with_suffix(".xml"), label_studio_settings(classes))


class SuperviselyOutput(Output):
    """Supervisely's annotations of each image, and the meta.json of the project, whose images lie in dataset/img."""

    image_file = "dataset/ann/{name}.json"
    run = RunFile("meta.json", "supervisely_meta", "Supervisely")

    def write(self, path: Path, labelled: Labelled) -> None:
        write_text(path, json.dumps(supervisely_document(labelled.label, labelled.classes)) + "\n")

    def run_text(self, path: Path, classes: Sequence[str]) -> str:
        return json.dumps(supervisely_meta(classes)) + "\n"


class ViaOutput(_Annotations):
    """A project of VIA with the outlines of all images."""

    run, form = RunFile("via.json", "via", "VIA", images=True), _Form(via_regions, via_file)
