"""A segmenter whose network is a rule that a person can check: the class of a pixel is its brightness."""

from types import SimpleNamespace

import numpy as np

CLASSES = ("background", "dark", "light", "white")


def expected_label(image):
    """Return the label (H, W) uint8 of an image (H, W, 3): four steps of brightness."""
    return (image.mean(-1) // 64).astype(np.uint8)


class BrightnessNet:
    """Stand in for a Segmenter; counts the images that it has taken."""

    def __init__(self):
        self.info = SimpleNamespace(classes=CLASSES)
        self.taken = 0

    def segment(self, results, *, scores=False, batch_size=None):
        for result in results:
            if result.error is None:
                self.taken += 1
                result.label = expected_label(result.image)
                result.scores = one_hot(result.label) if scores else None
            yield result


def one_hot(label):
    """Return scores (H, W, C) float32: 0.7 for the label's class, 0.1 for the others."""
    return np.where(label[..., None] == np.arange(len(CLASSES)), 0.7, 0.1).astype(np.float32)
