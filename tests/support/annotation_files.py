"""Write small images with annotations of other programs, and turn them into data sets."""

import base64
import io
import json

import numpy as np
from PIL import Image

from deeplabctl.data.convert import write_dataset
from deeplabctl.data.formats import read_annotations
from deeplabctl.data.formats.annotations import ImportSettings
from deeplabctl.data.labels import read_label
from deeplabctl.reporting import Note

SIZE = (12, 16)  # height, width


def write_image(path, *, size=SIZE, shade=90, exif=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(shade).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(values).save(path, **({"exif": exif} if exif else {}))
    return path


def exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_base64(mask):
    buffer = io.BytesIO()
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_coco(folder, annotations, images=("a.jpg",)):
    """Write images and an instances.json whose annotations belong to the first image; returns the JSON file."""
    for name in images:
        write_image(folder / "images" / name, shade=len(name))
    document = {
        "images": [
            {"id": number + 7, "file_name": name, "height": 12, "width": 16} for number, name in enumerate(images)
        ],
        "categories": [{"id": 3, "name": "tree"}, {"id": 1, "name": "car"}],
        "annotations": [{"id": number, "image_id": 7, **entry} for number, entry in enumerate(annotations)],
    }
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json"


def write_labelme(folder, shapes, name="a", **more):
    """Write an image and its labelme file; returns the folder."""
    if "imageData" not in more:
        write_image(folder / f"{name}.jpg", shade=ord(name))
    folder.mkdir(exist_ok=True)
    document = {
        "version": "5.5.0", "flags": {}, "imagePath": f"{name}.jpg", "imageData": None, "imageHeight": 12,
        "imageWidth": 16, "shapes": [{"group_id": None, "flags": {}, **shape} for shape in shapes],
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(document | more))
    return folder


def convert(source, out, *, val=0.0, seed=None, max_side=0, overwrite=False, **settings):
    """Turn annotations into a data set; returns what was written, and the texts of all notes."""
    events = []
    annotations = read_annotations(source, ImportSettings(**settings), events.append)
    written = write_dataset(annotations, out, events.append, val=val, seed=seed, max_side=max_side, overwrite=overwrite)
    return written, [event.text for event in events if isinstance(event, Note)]


def written_label(out, name="a"):
    """Read a label of a data set that `convert` has written."""
    return read_label(out / "SegmentationClass" / f"{name}.png")
