"""Write the file that the VOC evaluation server expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from deeplabctl.arrays import Label
from deeplabctl.data.dataset import Dataset, lacks_label
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import mask_bytes
from deeplabctl.data.layout import IMAGES, SET_SUFFIXES
from deeplabctl.errors import DataError
from deeplabctl.evaluation.network import map_reading
from deeplabctl.files import composed, file_names, whole_file
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.reporting import Reporter, task


@contextmanager
def voc_zip(path: Path, split: str) -> Iterator[Callable[[str, Label], None]]:
    """Yield a function that adds the label (H, W) of an id; the zip file is there, whole, when the block ends.

    It holds ``results/VOC2012/Segmentation/comp6_<split>_cls/<id>.png``, palette PNGs of the images' own size, as the
    VOC 2012 development kit lays them out. comp6 is the competition that allows data beside VOC's. An id that comes
    again, as of an image that its list has twice, is not written again.
    """
    with whole_file(path) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:  # PNGs are compressed already
        written: set[str] = set()

        def add(name: str, label: Label) -> None:
            if name not in written:
                written.add(name)
                archive.writestr(f"results/VOC2012/Segmentation/comp6_{split}_cls/{name}.png", mask_bytes(label))

        yield add


def unlabelled_images(dataset: Dataset, split: str) -> list[tuple[str, Path]] | None:
    """Return (id, image) of a split without a single label, as VOC's test; None for any other split."""
    if not all(map(lacks_label, dataset.entries(split))):
        return None
    names = [name for name in file_names(dataset.root / IMAGES) if name.lower().endswith(SET_SUFFIXES)]
    images = {composed(Path(name).stem): dataset.root / IMAGES / name for name in names}
    ids = dataset.list_file(split).read_text("utf-8-sig").split()
    return [(name, images[composed(name)]) for name in ids]


def segment_images(
    segmenter: Segmenter, images: Sequence[tuple[str, Path]], add: Callable[[str, Label], None], report: Reporter
) -> None:
    """Segment (id, image) and hand over (id, label); raises DataError for an image that cannot be segmented."""
    with task(report, "segmenting", len(images), "images") as advance:
        for result in segmenter.segment(map_reading(lambda item: Result(item, read_image(item[1])), images)):
            name, path = result.item
            if result.error is not None:
                raise DataError(f"image {path}: {result.error}")
            add(name, result.found())
            advance()
