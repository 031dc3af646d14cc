"""Find pictures to try a network on: of the data set that it was trained on, else drawn ones."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from deeplabctl.data.dataset import Dataset, open_dataset
from deeplabctl.data.locate import SHAPES
from deeplabctl.data.shapes import draw_sample
from deeplabctl.errors import DataError
from deeplabctl.files import read_small_file
from deeplabctl.serve.limits import Limits
from deeplabctl.serve.pictures import FORMATS, check_picture
from deeplabctl.serve.request_error import RequestError
from deeplabctl.weights.model_info import ModelInfo

COUNT = 6
_SEED = 5  # of the drawn ones; the built-in data set has 0


@dataclass(frozen=True)
class Example:
    """Hold the file of a picture."""

    content: bytes
    media_type: str


def find_examples(info: ModelInfo, limits: Limits, pad: str) -> list[Example]:
    """Return validation pictures of the weights' data set if it is there, else pictures like the built-in set's.

    They are read once and kept in memory; a picture that the service itself would refuse is left out.
    """
    data = str(info.provenance.get("data") or SHAPES)
    found: list[Example] = []
    if data != SHAPES:
        recipe = info.provenance.get("recipe") or {}
        found = _of_dataset(data, recipe.get("data", {}).get("val_split", "val"), limits, pad)
    return found or [_drawn(index) for index in range(COUNT)]


def _of_dataset(data: str, split: str, limits: Limits, pad: str) -> list[Example]:
    try:
        dataset: Dataset = open_dataset(Path(data))
        samples = dataset.samples(split)
    except DataError:  # moved, or changed since
        return []
    spread = samples[:: max(1, len(samples) // COUNT)][:COUNT]
    return [example for sample in spread if (example := _read(sample.image, limits, pad))]


def _read(path: Path, limits: Limits, pad: str) -> Example | None:
    try:
        content = read_small_file(path)
        kind = check_picture(content, limits, pad)
    except (OSError, RequestError):
        return None
    return Example(content, FORMATS.get(kind, FORMATS["JPEG"])) if len(content) <= limits.max_body else None


def _drawn(index: int) -> Example:
    buffer = io.BytesIO()
    PIL.Image.fromarray(draw_sample(_SEED, index)[0]).save(buffer, "JPEG", quality=95, subsampling=0)
    return Example(buffer.getvalue(), FORMATS["JPEG"])
