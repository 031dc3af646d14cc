"""Name programs whose own files are not read, by what these have in them, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_HEAD = 1 << 16  # bytes of a file that show what it is
_PROGRAMS = (
    (b'"schema_ref"', "V7's Darwin JSON", "make COCO's JSON of it (darwin convert coco), and use `crowds=objects`"),
    (b'"export_format_version"', "Hasty's JSON", "export the project as COCO"),
    (b'"task_attributes"', "a release of Segments.ai", "export it with its SDK (export_dataset) as coco-instance"),
    (b'"source-ref"', "a manifest of SageMaker Ground Truth", "name its PNGs after their images, and use their folder"),
    (b'"Labeled Data"', "an export of Labelbox", "make COCO's JSON of it"),
    (b'"data_row"', "an export of Labelbox", "make COCO's JSON of it"),
    (b'"poly2d"', "Scalabel's JSON, as of BDD100K", "make masks of it (python -m bdd100k.label.to_mask)"),
    (b'"jsonResponse"', "Kili's JSON", "export the project as COCO"),
    (b'"className"', "SuperAnnotate's JSON", "make COCO's JSON of it with its SDK (export_annotation)"),
    (b'"FeatureCollection"', "GeoJSON, as of QuPath", "export labeled images as PNG"),
    (b"<bndbox>", "VOC's boxes", "annotate outlines or masks"),
)
_ARRAYS = (".npy", ".npz", ".mat", ".h5", ".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm")


def other_program(paths: Iterable[Path]) -> str:
    """Say what the first of these files is that is known, or else JSON, and what to do; nothing if none is."""
    unknown = ""
    for path in filter(Path.is_file, paths):
        if path.name.lower().endswith(_ARRAYS):
            return f"arrays ({path.name}); save each mask as a PNG of class ids, named after its image"
        with path.open("rb") as file:
            head = file.read(_HEAD)
        for mark, content, advice in _PROGRAMS:
            if mark in head:
                return f"{content} ({path.name}); {advice}"
        if path.suffix.lower() == ".json":
            unknown = unknown or f"JSON of an unknown program ({path.name}); export the annotations as COCO"
    return unknown
