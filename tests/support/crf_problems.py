"""Make images with energies and scores for tests of the dense CRF."""

import numpy as np
import scipy.special

from deeplabctl.crf import CrfParams, refine


def problem(height, width, labels, seed=0, kind="photo"):
    """Return an image of two smooth areas with some noise (or flat, or all noise) and energies that follow it badly."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    side = (np.hypot(y - height / 3, x - width / 2) < max(height, width) / 3).astype(int)
    noise = {"photo": 6, "flat": 0, "noise": 120}[kind]
    colours = np.array([[60, 90, 120], [180, 140, 70]])[side if kind == "photo" else 0 * side]
    image = np.clip(colours + rng.integers(-noise, noise + 1, (height, width, 3)), 0, 255).astype(np.uint8)
    energy = rng.normal(0, 1.5, (height, width, labels)).astype(np.float32)
    energy[..., :2] -= 2 * np.stack([1 - side, side], -1)
    return image, energy


def with_weak_labels(height=61, width=83, labels=21):
    """Return an image and scores with three labels that compete and others that are nowhere likely."""
    image, energy = problem(height, width, labels)
    energy[..., 3:] += 4
    return image, scipy.special.softmax(-energy, -1)


def refine_energy(image, energy, params=CrfParams(), **options):  # noqa: B008
    """Refine the scores whose negative logarithms are energies."""
    return refine(image, scipy.special.softmax(-energy.astype(float), -1).astype(np.float32), params, **options)
