"""Find images to try a network on: of the data set that it was trained on."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from deeplabctl.arrays import Image
from deeplabctl.data.dataset import Sample, open_dataset, spread_evenly
from deeplabctl.data.images import read_working_image
from deeplabctl.data.shapes import CLASSES, draw_sample
from deeplabctl.errors import DataError
from deeplabctl.files import read_small_file
from deeplabctl.prediction.settings import own_settings
from deeplabctl.serve import Limits
from deeplabctl.serve.uploads import FORMATS, RequestError, check_image
from deeplabctl.weights.model_info import ModelInfo

COUNT = 6
_SIDE = 1600  # pixels of the longer side that fill a screen; phones' photos would take the page tens of megabytes
_SEED = 5  # of the drawn ones; the built-in data set has 0


@dataclass(frozen=True)
class Example:
    """Hold the file of an image."""

    content: bytes
    media_type: str


def find_examples(info: ModelInfo, limits: Limits, pad: str) -> list[Example]:
    """Return validation images of the weights' data set if it is there; of the built-in one's classes, drawn images.

    They are read once and kept in memory; an image that the service itself would refuse is left out. Large photos are
    made smaller if the network works on photos at a size of its own.
    """
    if info.classes == CLASSES:
        return [_jpeg(draw_sample(_SEED, index)[0]) for index in range(COUNT)]
    data, known = info.provenance.get("data"), own_settings(info).image_size
    side = max(_SIDE, known) if known else 0
    samples: list[Sample] = []
    if data:
        recipe = info.provenance.get("recipe") or {}
        with suppress(DataError, OSError):  # moved, changed, or closed to this user since
            samples = open_dataset(Path(str(data))).samples(recipe.get("data", {}).get("val_split", "val"))
    spread = spread_evenly(samples, COUNT)
    return [example for sample in spread if (example := _read(sample.image, limits, info.architecture, pad, side))]


def _read(path: Path, limits: Limits, architecture: str, pad: str, side: int) -> Example | None:
    try:
        content = read_small_file(path)
        kind = check_image(content, limits, architecture, pad)
        if 0 < side < max(PIL.Image.open(io.BytesIO(content)).size):
            return _jpeg(read_working_image(path, side))
    except (DataError, OSError, RequestError):
        return None
    return Example(content, FORMATS.get(kind, FORMATS["JPEG"])) if len(content) <= limits.max_body else None


def _jpeg(image: Image) -> Example:
    content = io.BytesIO()
    PIL.Image.fromarray(image).save(content, "JPEG", quality=95, subsampling=0)
    return Example(content.getvalue(), FORMATS["JPEG"])
