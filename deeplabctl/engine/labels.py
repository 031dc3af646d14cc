"""Make labels and scores of coarse logits: numpy in, numpy out, compiled kernels in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplabctl.arrays import Float32, Label, Scores
from deeplabctl.engine.layers import padded
from deeplabctl.engine.workers import Workers

Size = tuple[int, int]


def resized(images: Sequence[Float32], size: Size, workers: Workers) -> Float32:
    """Return the largest at each place of images (h, w, C), resized with aligned corners (Caffe's INTERP)."""
    from deeplabctl.engine.fusing import resize_rows

    channels = images[0].shape[2]
    result = np.zeros((*size, padded(channels)), np.float32)
    for number, image in enumerate(images):
        wide = _widened(image)

        def resize(rows: tuple[int, int], work: Float32, wide: Float32 = wide, is_larger: bool = number > 0) -> None:
            resize_rows(wide, size, *rows, result, is_larger)

        workers.run(resize, workers.ranges(size[0]))
    return result[..., :channels]


def fused(
    coarse: Sequence[Sequence[Float32]], full: Size, size: Size, workers: Workers, *, with_scores: bool
) -> tuple[Label, Scores]:
    """Return the label (H, W) of an image of a size and its scores (H, W, C); without scores the second is empty.

    ``coarse`` has the logits (h, w, C) of every scale, for the image and perhaps for its mirrored twin. They are
    upsampled to the padded size ``full``. The largest of the scales counts, and then the mean of both images.
    """
    from deeplabctl.engine.fusing import fuse_rows

    classes = coarse[0][0].shape[2]
    shapes = np.array([logits.shape[:2] for logits in coarse[0]], np.int64)
    flat = np.concatenate([_widened(logits).ravel() for image in coarse for logits in image])
    label = np.zeros(size, np.uint8)
    scores = np.zeros((*size, classes) if with_scores else (0, 0, 0), np.float32)

    def fuse(rows: tuple[int, int], work: Float32) -> None:
        fuse_rows(flat, shapes, padded(classes), len(coarse) > 1, full, classes, *rows, label, scores)

    workers.run(fuse, workers.ranges(size[0]))
    return label, scores


def _widened(values: Float32) -> Float32:
    """Return a copy of an array with as many channels as vectors need."""
    wide = np.zeros((*values.shape[:2], padded(values.shape[2])), np.float32)
    wide[..., : values.shape[2]] = values
    return wide
