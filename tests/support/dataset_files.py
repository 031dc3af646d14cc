"""Make small data sets for the tests."""

from functools import partial

import numpy as np
from PIL import Image

from deeplabctl.data.labels import write_mask


def make_dataset(root, *, train=4, val=2, size=(60, 80), classes=("background", "disc", "square"), seed=0):
    """Write a data set of noise with a rectangle of a class in it; returns the root."""
    rng = np.random.default_rng(seed)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = {"train": [f"t{n}" for n in range(train)], "val": [f"v{n}" for n in range(val)]}
    for split, ids in names.items():
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))
        for name in ids:
            label = np.zeros(size, np.uint8)
            kind = int(rng.integers(1, len(classes)))
            top, left = int(rng.integers(0, size[0] // 2)), int(rng.integers(0, size[1] // 2))
            label[top : top + 26, left : left + 30] = 255
            label[top + 2 : top + 24, left + 2 : left + 28] = kind
            image = rng.integers(0, 90, (*size, 3)).astype(np.uint8)
            image[label == kind, (kind - 1) % 3] += 150
            Image.fromarray(image).save(root / "JPEGImages" / f"{name}.png")
            write_mask(root / "SegmentationClass" / f"{name}.png", label)
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    return root


def draw_few_shapes(patch, train=2, val=1):
    """Let the built-in set have few images: drawing all of them takes seconds."""
    from deeplabctl.data.shapes import write_shapes

    patch.setattr("deeplabctl.data.dataset.write_shapes", partial(write_shapes, train=train, val=val))
