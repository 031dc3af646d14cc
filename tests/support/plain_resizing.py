"""Resize step by step, as an oracle."""

import numpy as np


def linear(x, height, width):
    """Resize (h, w, C) bilinearly with aligned corners, in float64, by the formula of Caffe's INTERP layer."""

    def along(x, new):
        at = np.arange(new) * ((len(x) - 1) / (new - 1) if new > 1 else 0)
        low = np.minimum(at.astype(int), len(x) - 1)
        share = (at - low).reshape(-1, 1, 1)
        return x[low] * (1 - share) + x[np.minimum(low + 1, len(x) - 1)] * share

    return along(along(x.astype(float), height).swapaxes(0, 1), width).swapaxes(0, 1)
