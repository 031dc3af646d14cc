"""Hold what a network makes of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.data.images import write_mask
from deeplabctl.render import overlay, overlay_with_legend


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Hold a picture's label and scores, of the picture's own upright size."""

    image: Image  # (H, W, 3) uint8 RGB
    label: Label  # (H, W) uint8 class ids
    scores: Scores  # (H, W, C) float32 after softmax; the CRF's marginals where it is used
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the size and what is seen, in a line."""
        height, width = self.label.shape
        seen = ", ".join(f"{name} {share:.1%}" for name, share in self.areas.items())
        return f"<Segmentation of {width}x{height} pixels: {seen}>"

    @property
    def areas(self) -> dict[str, float]:
        """Return the share of the picture that each class takes, the largest first, without those that are absent."""
        return {self.classes[index]: share for index, share in class_shares(self.label).items()}

    def overlay(self, *, legend: bool = True) -> PillowImage.Image:
        """Draw the classes' colours over the picture, with a legend below it."""
        draw = overlay_with_legend if legend else overlay
        return PillowImage.fromarray(draw(self.image, self.label, self.classes))

    def save(self, path: str | Path) -> None:
        """Write the label as an 8-bit palette PNG in VOC's colours, whole or not at all; pixel value = class id."""
        write_mask(Path(path), self.label)


def class_shares(label: Label) -> dict[int, float]:
    """Return the share of a label that each class id in it takes, the largest first."""
    counts = np.bincount(label.ravel())
    order = np.argsort(-counts, kind="stable")
    return {int(index): float(counts[index] / label.size) for index in order if counts[index]}
